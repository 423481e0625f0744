"""Every parameter of every action: name, type, default, bounds, what may be searched, and what it does.

This table is the single truth. `model/spec.py` resolves specs against it and `model/generate.py` writes
`schemas/` and `references/spec_template_*.yaml` from it. Names and defaults follow NVIDIA TAO's
deformable_detr specs, so that an existing TAO spec file runs unchanged; what is ours says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

ACTIONS = ("train", "evaluate", "inference", "export", "quantize", "gen_trt_engine", "deploy")
MANDATORY = "???"  # OmegaConf's mark for "must be given"
INF = float("inf")
BATCH = "dataset.batch_size"
VAL_SHARE = 0.2  # of the training images, held out where there is no validation set
# Score from which a detection counts, where neither a person nor the model file says one.
UNMEASURED_THRESHOLD = 0.5
ANY_BATCH = ("evaluate", "inference", "export", "gen_trt_engine")  # actions that take -1 for it
# Leaves of an action that name the model file it works on: the first that is given; the last one takes a checkpoint.
MODEL_FILES = {
    "evaluate": ("trt_engine", "checkpoint"),
    "inference": ("trt_engine", "checkpoint"),
    "export": ("checkpoint",),
    "quantize": ("model_path",),
    "deploy": ("checkpoint",),
}
ONNX_FILES = {"gen_trt_engine": ("onnx_file",)}  # of one that takes no checkpoint


@dataclass(frozen=True)
class Param:
    """One leaf. `type` is TAO's word for it (its JSON Schema type is derived in `generate.py`)."""

    name: str
    type: str
    default: Any
    doc: str
    minimum: float | None = None
    maximum: float | None = None
    enum: tuple[Any, ...] | None = None
    pattern: str | None = None  # a string outside the enum that matches is valid too
    item: str | None = None  # element type of a list: int, float, string, source
    item_minimum: float | None = None  # of the elements of a list of numbers
    min_items: int = 0
    no_zero: bool = False  # of an integer from -1, which stands for something else
    nullable: bool = False
    math_cond: str | None = None
    depends_on: str | None = None
    parent_param: bool = False
    automl: bool | None = None
    option_weights: tuple[float, ...] | None = None
    popular: bool = False
    search: dict[str, Any] | None = None  # where to look: {low, high, log}; bounds only say what is valid
    active_when: dict[str, list[Any]] | None = (
        None  # matters only while that other leaf has one of these values
    )
    dead: bool = False  # cannot act; the doc says why, and values other than the default are refused
    actions: tuple[str, ...] = ACTIONS
    example: str = ""  # of a string with a unit

    @property
    def free_text(self) -> bool:
        """Whether any text is a value, which may be a secret."""
        return self.type == "string" and not self.enum and not self.example


# One parameter a line reads like the table it is.
# fmt: off
SOURCE = {"image_dir": "", "json_file": ""}
SCALES = [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]
GCVIT_SIZES = ("xxtiny", "xtiny", "tiny", "small", "base", "large", "large_384")
GCVIT = tuple(f"{word}_{size}" for word in ("gc_vit", "gcvit") for size in GCVIT_SIZES)  # TAO's names and NVIDIA's own
RESNETS = ("resnet_18", "resnet_34", "resnet_50", "resnet_101")
DILATED = RESNETS[2:]  # torchvision has no dilation of the basic blocks of the others
NO_PATHS = {"train.pretrained_model_path": [""], "model.pretrained_backbone_path": [""]}
CROP_PIPELINE = {"dataset.augmentation.fixed_random_crop": [None]}

DATASET = (
    Param("dataset.train_data_sources", "list", [SOURCE], "Training sets: folder or archive of images, COCO file.", item="source", automl=False),
    Param("dataset.val_data_sources", "list", [SOURCE], "Validation sets, same form; empty: a seeded fifth of the training images.", item="source", automl=False),
    Param("dataset.test_data_sources", "collection", SOURCE, "Test set, used by evaluate only.", automl=False),
    Param("dataset.infer_data_sources", "collection", {"classmap": "", "image_dir": [""]}, "Images for inference (folders, archives or files); classmap: one class name per line, line 1 is id 1.", automl=False),
    Param("dataset.quant_calibration_data_sources", "collection", SOURCE, "Images that calibrate quantization.", automl=False),
    Param("dataset.num_classes", "int", 91, "Largest category id + 1: labels are raw category ids and there is no background logit.", 1, INF, math_cond=">0"),
    Param("dataset.eval_class_ids", "list", [1], "Category ids that count in validation and evaluation; null or empty: all.", item="int", nullable=True, automl=False),
    Param("dataset.strict", "bool", False, "Refuse data that would be mended: empty boxes, boxes beyond the border or there twice, images that cannot be read, copies of an image in two splits. Ours.", automl=False),
    Param("dataset.mended_share", "float", 0.05, "Share of a file's boxes that may be mended, and of its images that may be left out where they cannot be read (each is counted and said); one always may. Ours.", 0.0, 1.0, automl=False),
    Param("dataset.allow_leaks", "bool", False, "Keep validation and test images that are training images too; else they are left out, and named. Ours.", automl=False),
    Param("dataset.match_classes_by_name", "bool", False, "Sources that give the same class another category id are brought to the training set's ids by name; else refused. Ours.", automl=False),
    Param("dataset.max_image_pixels", "int", 178956970, "Images of more pixels (width times height) are refused, as a guard against files that unpack to fill the memory. Ours.", 1, INF, automl=False),
    Param("dataset.batch_size", "int", 4, "Images per step and process; evaluate and inference take -1, a batch of any size in NVIDIA's files for an engine, as the default; export and gen_trt_engine do not read it.", 1, INF, automl=True),
    Param("dataset.workers", "int", 8, "Loader processes per rank; never more than the machine has cores. 0: each process reads its own images.", 0, INF, automl=True),
    Param("dataset.pin_memory", "bool", True, "Page-locked host memory for copies to a GPU."),
    Param("dataset.dataset_type", "categorical", "serialized", "serialized: annotations held once in compact arrays shared by the workers; default: each worker holds its own.", enum=("serialized", "default")),
    Param("dataset.train_sampler", "categorical", "default_sampler", "Order of training images. default_sampler: all once, shuffled; non_uniform_sampler: the same, each of several processes keeping to its own share of them (with one process no difference); uniform_sampler: each source equally often, images drawn with replacement.", enum=("default_sampler", "non_uniform_sampler", "uniform_sampler")),
    Param("dataset.augmentation.scales", "list_2", SCALES, "Short sides in px that training images are resized to, one drawn per image.", item="int", item_minimum=1, min_items=1, automl=False),
    Param("dataset.augmentation.random_resize_max_size", "int", 1333, "Longest side in px after a resize.", 1, INF),
    Param("dataset.augmentation.train_random_resize", "list", [400, 500, 600], "Short sides in px of the resize before a random crop.", item="int", item_minimum=1, automl=False),
    Param("dataset.augmentation.train_random_crop_min", "int", 384, "Smallest side of a random crop in px.", 32, INF, parent_param=True, automl=True, search={"low": 256, "high": 576, "log": True}, active_when=CROP_PIPELINE),
    Param("dataset.augmentation.train_random_crop_max", "int", 600, "Largest side of a random crop in px.", 32, 1333, math_cond="> depends_on", depends_on="dataset.augmentation.train_random_crop_min", automl=True, search={"low": 400, "high": 900, "log": True}, active_when=CROP_PIPELINE),
    Param("dataset.augmentation.fixed_random_crop", "int", 1024, "Large-scale jitter: resize by 0.1 to 2, crop to a square of this many px; replaces the resize-and-crop pipeline. null: off.", 1, INF, nullable=True),
    Param("dataset.augmentation.fixed_padding", "bool", True, "Pad every training batch to the largest size that its orientations can take, so that memory stays level."),
    Param("dataset.augmentation.horizontal_flip_prob", "float", 0.5, "Probability of a left-right flip in training.", 0.0, 1.0, automl=True),
    Param("dataset.augmentation.test_random_resize", "int", 800, "Short side in px of validation and test images.", 32, INF, automl=False),
    Param("dataset.augmentation.input_mean", "list", [0.485, 0.456, 0.406], "RGB mean of pixels scaled to 0-1.", item="float", automl=False),
    Param("dataset.augmentation.input_std", "list", [0.229, 0.224, 0.225], "RGB standard deviation of pixels scaled to 0-1.", item="float", automl=False),
)

MODEL = (
    Param("model.backbone", "categorical", "resnet_50", "Feature extractor; also timm/<name>: any of timm's with maps of the strides asked for.", enum=(*GCVIT, *RESNETS), pattern=r"^timm/.+"),
    Param("model.backbone_norm", "categorical", "auto", "Batch norms of the backbone: frozen (needs pretrained weights), batch or, in a ResNet, group; auto: frozen with pretrained weights, else batch. GCViT has none. Ours.", enum=("auto", "frozen", "batch", "group"), automl=False),
    Param("model.pretrained_backbone_path", "string", "", "Weights of the backbone alone (torchvision, timm or TAO names)."),
    Param("model.train_backbone", "bool", True, "false: the whole backbone stays as loaded."),
    Param("model.return_interm_indices", "list", [1, 2, 3, 4], "Backbone stages used as feature levels (0 has stride 4, 3 has stride 32); 4 adds a stride-64 convolution on top.", item="int", automl=False),
    Param("model.num_feature_levels", "int", 4, "Feature levels; must equal len(model.return_interm_indices).", 1, 5, automl=False),
    Param("model.dilation", "bool", False, "Dilate the last stage of a resnet_50 or resnet_101 instead of striding it (DC5).", active_when={"model.backbone": list(DILATED)}),
    Param("model.hidden_dim", "int", 256, "Width C of the transformer; a multiple of model.nheads and of 32.", automl=False),
    Param("model.nheads", "int", 8, "Attention heads M."),
    Param("model.enc_layers", "int", 6, "Encoder layers.", 1, 12, automl=True, search={"low": 3, "high": 9, "log": True}),
    Param("model.dec_layers", "int", 6, "Decoder layers.", 1, 12, automl=True, search={"low": 3, "high": 9, "log": True}),
    Param("model.dim_feedforward", "int", 1024, "Width of the feed-forward blocks.", 1),
    Param("model.enc_n_points", "int", 4, "Sampling points per head and level in the encoder.", 1),
    Param("model.dec_n_points", "int", 4, "Sampling points per head and level in the decoder.", 1),
    Param("model.dropout_ratio", "float", 0.3, "Dropout in the transformer (the paper uses 0.1).", 0.0, 1.0),
    Param("model.num_queries", "int", 300, "Object queries Q.", 100, 900, parent_param=True, automl=True, search={"low": 150, "high": 900, "log": True}),
    Param("model.num_select", "int", 300, "Detections kept per image: the best scores over queries and classes; < num_queries * num_classes, of one class at most num_queries.", 1, 1000, depends_on="model.num_queries", automl=True, search={"low": 100, "high": 900, "log": True}),
    Param("model.with_box_refine", "bool", True, "Each decoder layer refines the boxes of the one before.", automl=False),
    Param("model.two_stage", "bool", False, "Queries start at the encoder's best cells, not at learned points (paper, A.4); needs model.with_box_refine. Ours.", active_when={"model.with_box_refine": [True]}),
    Param("model.mixed_selection", "bool", False, "With model.two_stage: positions from the encoder, contents learned (DINO, arXiv:2203.03605). Ours.", active_when={"model.two_stage": [True]}),
    Param("model.look_forward_twice", "bool", False, "Gradients of a layer's boxes reach the layer before (DINO, arXiv:2203.03605). Ours.", active_when={"model.with_box_refine": [True]}),
    Param("model.denoising_queries", "int", 0, "Extra decoder queries of the training that restore noised objects (DN-DETR, arXiv:2203.01305, contrastive as in DINO); at least two an object, 0: none. Ours.", 0),
    Param("model.denoising_label_noise", "float", 0.5, "Twice the share of noised objects given a random class. Ours.", 0.0, 1.0),
    Param("model.denoising_box_noise", "float", 1.0, "How far noised corners move, in halves of the box's side; negatives up to twice that. Ours.", 0.0, 1.0, math_cond="> 0.0"),
    Param("model.hybrid_queries", "int", 0, "Extra queries of the training that are matched with every object several times (H-DETR, arXiv:2207.13080); 0: none. Ours.", 0, automl=False),
    Param("model.hybrid_repeat", "int", 6, "How many of model.hybrid_queries each object is matched with. Ours.", 1, automl=False),
    Param("model.class_loss", "categorical", "focal", "focal, or varifocal: the score to learn is the box's IoU (arXiv:2008.13367, as in RT-DETR, arXiv:2304.08069). Ours.", enum=("focal", "varifocal")),
    Param("model.aux_loss", "bool", True, "Supervise every decoder layer, not the last alone."),
    Param("model.loss_types", "list", ["labels", "boxes"], "Loss terms: labels (focal), boxes (L1 and GIoU).", item="string", automl=False),
    Param("model.cls_loss_coef", "float", 2.0, "Weight of the focal loss, and of its matching cost.", 0.0, INF),
    Param("model.bbox_loss_coef", "float", 5.0, "Weight of the L1 box loss, and of its matching cost.", 0.0, INF),
    Param("model.giou_loss_coef", "float", 2.0, "Weight of the GIoU loss, and of its matching cost.", 0.0, INF),
    Param("model.focal_alpha", "float", 0.25, "Weight of positives in the focal loss; negatives have the rest to 1.", 0.0, 1.0, math_cond="> 0.0"),
    Param("model.tao_compat", "bool", False, "Ignore the padding mask in attention, as TAO does; for weights trained there. Ours.", automl=False),
    Param("model.exact_padding", "bool", False, "Outside training, each image passes backbone and projections at its own size, so that padding a batch changes no detection; the published network's borders and group norms see the padding. Ours."),
    Param("model.clip_max_norm", "float", 0.1, "Without effect, as in TAO, where nothing reads it, and refused when set: train.clip_grad_norm clips.", dead=True),
    Param("model.dld_model_dir_path", "string", "", "Without effect, as in TAO, where nothing reads it, and refused when set: distillation is not offered.", dead=True),
    Param("model.backbone_names", "list", ["backbone.0"], "Parameters whose name contains one of these train at train.optim.lr_backbone.", item="string", automl=False),
    Param("model.linear_proj_names", "list", ["reference_points", "sampling_offsets"], "Parameters whose name contains one of these train at lr * train.optim.lr_linear_proj_mult.", item="string", automl=False),
)

TRAIN = (
    Param("train.recipe", "categorical", "default", "Settings that are not written out take this recipe's values: dino learns fastest, tao as in NVIDIA's toolkit, published as in the paper's repository; default: this table's, but automl run takes dino's, from a detector of one's own where that was trained so. Ours.", enum=("default", "dino", "tao", "published"), automl=False),
    Param("train.num_epochs", "int", 10, "Passes over the training set.", 1, INF, popular=True),
    Param("train.patience", "int", 0, "Training ends when so many validated epochs in a row bring neither a new best val_mAP nor a new lowest val_loss, counted anew where the rates drop; 0: never. Ours.", 0, automl=False),
    Param("train.validation_interval", "int", 1, "Epochs between validations; the last epoch is always validated.", 1, popular=True),
    Param("train.checkpoint_interval", "int", 1, "Epochs (or steps) between checkpoints.", 1, popular=True),
    Param("train.checkpoint_interval_unit", "categorical", "epoch", "Unit of train.checkpoint_interval.", enum=("epoch", "step")),
    Param("train.num_gpus", "int", 1, "GPUs of one training; on a machine without, the CPU trains.", 1, popular=True),
    Param("train.gpu_ids", "list", [0], "Which GPUs, as the driver numbers them.", item="int", item_minimum=0, automl=False, popular=True),
    Param("train.num_nodes", "int", 1, "Machines of one training, started once on each with WORLD_SIZE, NODE_RANK, MASTER_ADDR, MASTER_PORT set, or by torchrun.", 1, popular=True),
    Param("train.accelerator", "categorical", "auto", "auto: GPU where there is one, else CPU. Ours.", enum=("auto", "gpu", "cpu")),
    Param("train.distributed_strategy", "categorical", "ddp", "How several GPUs share a training.", enum=("ddp", "fsdp")),
    Param("train.precision", "categorical", "fp32", "Number format of a training step; sampling locations and losses stay fp32, and so do validations.", enum=("fp16", "bf16", "fp32")),
    Param("train.activation_checkpoint", "bool", True, "Recompute transformer activations in the backward pass: less memory, about a third more time."),
    Param("train.clip_grad_norm", "float", 0.1, "Largest L2 norm of the gradient; 0: no clipping.", 0.0),
    Param("train.seed", "int", 1234, "Seed of weights, data order and augmentation; -1: a new one each time, printed and recorded.", -1, INF),
    Param("train.ema_decay", "float", 0.0, "Validate and keep a moving average of the weights with this decay, shorter in the first steps (arXiv:1703.01780); 0: none. Ours.", 0.0, 0.99999),
    Param("train.elastic", "bool", False, "Half of the steps train the network with fewer decoder layers, queries and pixels, drawn anew each, so that the smaller forms that deploy cuts out lose less; the whole network may lose a little. Ours.", automl=False),
    Param("train.cudnn.benchmark", "bool", False, "Let cuDNN time its algorithms and keep the fastest."),
    Param("train.cudnn.deterministic", "bool", True, "Only deterministic cuDNN algorithms."),
    Param("train.freeze", "list", [], "Dotted module paths whose parameters and norm statistics do not train, such as backbone or transformer.encoder.", item="string", automl=False),
    Param("train.start", "categorical", "auto", "What training starts from: coco (the published detectors), imagenet (the backbone alone), scratch, or the path or URL of weights in any layout, fitted to this network; auto: coco where it fits, else imagenet, else scratch, by what is on this machine or can be fetched. The two paths to pretrained weights win. Ours.", enum=("auto", "coco", "imagenet", "scratch"), pattern=r"^.+$", active_when=NO_PATHS, automl=False),
    Param("train.pretrained_model_path", "string", "", "Weights to start from (own, official, Hugging Face or TAO names); class heads are left out when the class count differs."),
    Param("train.resume_training_checkpoint_path", "string", "", "A checkpoint to go on from: weights, optimizer, schedule and epoch."),
    Param("train.input_height", "int", None, "With input_width: every image becomes exactly this high, aspect not kept. null: published resizing.", 1, nullable=True),
    Param("train.input_width", "int", None, "With input_height: every image becomes exactly this wide.", 1, nullable=True),
    Param("train.is_dry_run", "bool", False, "Build everything, run one batch of training and of validation, save nothing."),
    Param("train.results_dir", "string", "", "Where this action writes; empty: <results_dir>/train."),
    Param("train.verbose", "bool", False, "Print the model's layers before training."),
    Param("train.optim.optimizer", "categorical", "AdamW", "Optimizer.", enum=("AdamW", "SGD")),
    Param("train.optim.lr", "float", 2e-4, "Learning rate of the transformer and heads.", 0.0, 0.01, math_cond="> 0.0", automl=True, search={"low": 4e-5, "high": 1e-3, "log": True}),
    Param("train.optim.lr_backbone", "float", 2e-5, "Learning rate of the backbone.", 0.0, 1e-3, math_cond="> 0.0", automl=True, search={"low": 4e-6, "high": 1e-4, "log": True}),
    Param("train.optim.lr_linear_proj_mult", "float", 0.1, "Learning rate of sampling offsets and reference points, as a factor of lr.", 0.0, 1.0, math_cond="> 0.0", automl=True, search={"low": 0.03, "high": 1.0, "log": True}),
    Param("train.optim.momentum", "float", 0.9, "Momentum of SGD.", 0.0, 1.0, math_cond="> 0.0", automl=True, search={"low": 0.8, "high": 0.99, "log": False}, active_when={"train.optim.optimizer": ["SGD"]}),
    Param("train.optim.weight_decay", "float", 1e-4, "Weight decay of every parameter.", 0.0, 0.1, math_cond="> 0.0", automl=True, search={"low": 1e-5, "high": 1e-3, "log": True}),
    Param("train.optim.lr_scheduler", "categorical", "MultiStep", "Learning-rate schedule: drops after whole epochs (MultiStep, StepLR), or a cosine that ends at 0 with the last step (arXiv:1608.03983; ours).", enum=("MultiStep", "StepLR", "Cosine")),
    Param("train.optim.warmup_steps", "int", 0, "Optimizer steps over which the rates rise linearly from nothing (arXiv:1706.02677). Ours.", 0),
    Param("train.optim.lr_steps", "list_2", [40], "Epochs at which MultiStep multiplies the rates by lr_decay; automl run takes about 80 % of the epochs unless they are set.", item="int", item_minimum=1, automl=False, active_when={"train.optim.lr_scheduler": ["MultiStep"]}),
    Param("train.optim.lr_step_size", "int", 40, "Epochs between drops of StepLR.", 1, 10000, math_cond="> 0", automl=True, active_when={"train.optim.lr_scheduler": ["StepLR"]}),
    Param("train.optim.lr_decay", "float", 0.1, "Factor of each drop.", 0.0, 1.0, math_cond="> 0.0", automl=True, search={"low": 0.03, "high": 0.5, "log": True}, active_when={"train.optim.lr_scheduler": ["MultiStep", "StepLR"]}),
    Param("train.optim.monitor_name", "categorical", "val_loss", "Without effect, and refused when set: no schedule here looks at a metric, and checkpoints are kept whatever it is.", enum=("val_loss", "train_loss"), dead=True),
)

QUANTIZE = (
    Param("quantize.model_path", "string", "", "The .onnx file to quantize, or a .pth file, which says the rest and is exported first."),
    Param("quantize.results_dir", "string", "", "Where this action writes; empty: <results_dir>/quantize."),
    Param("quantize.backend", "categorical", "onnxruntime", "Library that quantizes: onnxruntime, which is ours and the way to an INT8 engine; TAO's others are refused, with the reason.", enum=("modelopt.pytorch", "torchao", "modelopt.onnx", "onnxruntime")),
    Param("quantize.mode", "categorical", "static_ptq", "Weights alone, or weights and activations (needs calibration images).", enum=("static_ptq", "weight_only_ptq")),
    Param("quantize.algorithm", "categorical", "minmax", "How activation ranges are found; minmax and max are one, percentile is ours, the rest is refused.", enum=("minmax", "max", "entropy", "percentile", "awq_clip", "awq_lite", "awq_full", "rtn_dq"), active_when={"quantize.mode": ["static_ptq"]}),
    Param("quantize.calibration_images", "int", 100, "Images that calibrate, drawn from the sources, always the same ones; fewer where there are fewer. Ours.", 1),
    Param("quantize.max_drop", "float", 0.01, "mAP on dataset.val_data_sources that quantizing may cost: the layers that move the outputs most stay in floating point until it holds; null: no limit. Ours.", 0.0, 1.0, nullable=True),
    Param("quantize.layers", "list", [], "Layers to quantize: patterns over module names, Conv2d or Linear; empty: every one but the heads.", automl=False),
    *(Param(f"quantize.default_{of}_dtype", "categorical", "native", "Without effect, as in TAO, whose backends pass it over too: quantize.layers says what is quantized, a word tells it.", enum=("native", "int8", "fp8_e4m3fn", "fp8_e5m2"), automl=False) for of in ("layer", "activation")),
    Param("quantize.skip_names", "list", [], "Module name patterns left in full precision; each must match.", item="string", automl=False),
    Param("quantize.device", "string", "cuda", "Device of the calibration: cuda, cuda:1 or cpu; the CPU where ONNX Runtime has no GPU.", active_when={"quantize.mode": ["static_ptq"]}),
    Param("quantize.backend_kwargs", "collection", {}, "Further arguments of onnxruntime.quantization.quantize_static, such as reduce_range or extra_options.", automl=False),
)

COMMON = (
    Param("results_dir", "string", "", "Folder of all results."),
    Param("encryption_key", "string", "", "Passphrase that training encrypts its checkpoints with (AES-256-GCM) and the other actions read them with, or @FILE that holds it; empty: what the environment variable DETR_ENCRYPTION_KEY holds (either), else none. Exported files are not encrypted."),
    Param("model_name", "string", "", "A label, written into status.json."),
    Param("wandb.enable", "bool", False, "Training logs to Weights & Biases when it is installed and somebody is logged in; else it says why not."),
    Param("wandb.project", "string", "TAO Toolkit", "W&B project."),
    Param("wandb.entity", "string", "", "W&B entity."),
    Param("wandb.group", "string", "", "W&B group."),
    Param("wandb.name", "string", "TAO Toolkit Training", "W&B run name."),
    Param("wandb.run_id", "string", "", "W&B run to go on with."),
    Param("wandb.tags", "list", ["tao-toolkit"], "W&B tags.", item="string", automl=False),
    Param("wandb.reinit", "bool", False, "W&B: allow several runs in one process."),
    Param("wandb.save_code", "bool", False, "W&B: upload the code."),
    Param("wandb.sync_tensorboard", "bool", False, "W&B: mirror TensorBoard."),
)


def _devices(action: str) -> tuple[Param, ...]:
    only = (action,)
    return (
        Param(f"{action}.num_gpus", "int", 1, "GPUs to use, a process each; without a GPU one process on the CPU.", 1, popular=True, actions=only),
        Param(f"{action}.gpu_ids", "list", [0], "Which GPUs, as many as num_gpus; [0]: the first ones.", item="int", item_minimum=0, automl=False, popular=True, actions=only),
        Param(f"{action}.num_nodes", "int", 1, "Machines to use, started once on each with WORLD_SIZE, NODE_RANK, MASTER_ADDR, MASTER_PORT set, or by torchrun.", 1, popular=True, actions=only),
        Param(f"{action}.batch_size", "int", -1, "Images per step; -1: dataset.batch_size.", -1, no_zero=True, actions=only),
        Param(f"{action}.checkpoint", "string", MANDATORY, "The .pth or .onnx file to run.", actions=only),
        Param(f"{action}.trt_engine", "string", "", "The TensorRT or TensorRT-RTX engine to run; it goes before a checkpoint.", actions=only),
        Param(f"{action}.results_dir", "string", "", f"Where this action writes; empty: <results_dir>/{action}.", actions=only),
    )


EVALUATE = (
    *_devices("evaluate"),
    Param("evaluate.conf_threshold", "float", 0.0, "Detections below this score are not counted.", 0.0, 1.0, actions=("evaluate",)),
    Param("evaluate.split", "categorical", "test", "Which set is scored: dataset.test_data_sources or dataset.val_data_sources. Ours.", enum=("test", "val"), actions=("evaluate",)),
    Param("evaluate.beside", "string", "", "A second model file, built, sized and normalised as it says itself, that is scored on the same images, its classes matched by name; a difference of more than 0.005 mAP is said. Ours.", actions=("evaluate",)),
    Param("evaluate.input_height", "int", None, "With input_width: images are resized to exactly this size. null: as the file fixes it, or the model was validated (train.input_*, else short side test_random_resize).", 1, nullable=True, actions=("evaluate",)),
    Param("evaluate.input_width", "int", None, "With input_height: exact width.", 1, nullable=True, actions=("evaluate",)),
)

INFERENCE = (
    *_devices("inference"),
    Param("inference.conf_threshold", "float", None, f"Detections below this score are not written. null: the model file's own, the best F1 on validation; {UNMEASURED_THRESHOLD} where it has none.", 0.0, 1.0, nullable=True, actions=("inference",)),
    Param("inference.input_height", "int", None, "Height in px that images are resized to, with input_width; null: as the file fixes it, or the model was validated.", 32, nullable=True, actions=("inference",)),
    Param("inference.input_width", "int", None, "Width in px that images are resized to; null: see input_height.", 32, nullable=True, actions=("inference",)),
    Param("inference.color_map", "collection", {}, "Class name -> colour of its boxes; a class not named gets a fixed colour of its own.", automl=False, actions=("inference",)),
    Param("inference.outline_width", "int", 3, "Line width of drawn boxes in px.", 1, actions=("inference",)),
    Param("inference.is_internal", "bool", False, "Write results into one folder per image folder.", actions=("inference",)),
)


def _export(name: str, kind: str, default: Any, doc: str, minimum: float | None = None, **rest: Any) -> Param:
    return Param(f"export.{name}", kind, default, doc, minimum, actions=("export",), **rest)


EXPORT = (
    _export("checkpoint", "string", MANDATORY, "The .pth file to export."),
    _export("onnx_file", "string", MANDATORY, "The .onnx file to write; must not exist yet."),
    _export("results_dir", "string", "", "Where this action writes; empty: <results_dir>/export."),
    _export("input_height", "int", None, "Height in px of the graph's input; null, with input_width: the size that most images had when the model was validated.", 32, nullable=True),
    _export("input_width", "int", None, "Width in px of the graph's input; null: see input_height.", 32, nullable=True),
    _export("conf_threshold", "float", None, "Score threshold that the file tells; null: the best F1 on validation, none where the file has another input size than that had. Of a run, inference.conf_threshold where it is set. Ours.", 0.0, maximum=1.0, nullable=True),
    _export("input_channel", "ordered_int", 3, "Channels of the graph's input.", minimum=1, enum=(1, 3)),
    _export("batch_size", "int", -1, "Batch of the graph; -1: dynamic.", -1, no_zero=True),
    _export("opset_version", "int", 17, "ONNX opset of the file, checked after writing.", 1),
    _export("format", "categorical", "onnx", "onnx; openvino: also the same graph in OpenVINO's form, .xml and .bin beside it (pip install 'detr-automl[openvino]'), ours; xdl needs NVIDIA's own tools.", enum=("onnx", "openvino", "xdl")),
    _export("gpu_id", "int", 0, "Without effect, and refused when set: the graph is traced on the CPU, where ONNX Runtime's numbers are compared with torch's.", dead=True),
    _export("on_cpu", "bool", False, "true says what always is: the export is on the CPU."),
    _export("serialize_nvdsinfer", "bool", False, "Also write DeepStream's labels.txt and nvdsinfer_config.yaml."),
    _export("pre_post", "bool", False, "A graph that stands alone: uint8 RGB [B, H, W, 3] of any size in; boxes in px, scores and labels out. Ours."),
    _export("verbose", "bool", False, "Print the graph as text, without its weights."),
)


def _gen_trt_engine(name: str, kind: str, default: Any, doc: str, minimum: float | None = None, **rest: Any) -> Param:
    return Param(f"gen_trt_engine.{name}", kind, default, doc, minimum, actions=("gen_trt_engine",), **rest)


GEN_TRT_ENGINE = (
    _gen_trt_engine("onnx_file", "string", MANDATORY, "The .onnx file to build from."),
    _gen_trt_engine("trt_engine", "string", MANDATORY, "The engine file to write."),
    _gen_trt_engine("results_dir", "string", "", "Where this action writes; empty: <results_dir>/gen_trt_engine."),
    _gen_trt_engine("builder", "categorical", "auto", "auto: TensorRT; tensorrt_rtx builds without a GPU and is taken only when named. Ours.", enum=("auto", "tensorrt", "tensorrt_rtx")),
    _gen_trt_engine("gpu_id", "int", 0, "GPU that TensorRT builds on, and for.", 0, popular=True),
    _gen_trt_engine("batch_size", "int", -1, "-1: the profile below; else a fixed batch.", -1, no_zero=True, popular=True),
    _gen_trt_engine("input_channel", "ordered_int", 3, "Channels that the file's input must have.", minimum=1, enum=(1, 3)),
    _gen_trt_engine("input_height", "int", None, "Height in px that the file's input must have; null: whatever it has.", 1, nullable=True),
    _gen_trt_engine("input_width", "int", None, "Width in px that the file's input must have; null: whatever it has.", 1, nullable=True),
    _gen_trt_engine("rtx_targets", "list", ["SM89"], "Compute capabilities that a tensorrt_rtx engine is for: SM75, SM80, SM86, SM89, SM120, or CURRENT, the GPU here. Ours.", item="string", automl=False, active_when={"gen_trt_engine.builder": ["tensorrt_rtx"]}),
    _gen_trt_engine("timing_cache", "string", "", "File that keeps the builder's timings."),
    _gen_trt_engine("verbose", "bool", False, "Print the builder's log."),
    _gen_trt_engine("tensorrt.data_type", "categorical", "FP32", "Number format baked into the engine.", enum=("FP32", "FP16", "INT8")),
    _gen_trt_engine("tensorrt.workspace_size", "int", 1024, "Builder workspace in MB; 0: TensorRT's default.", 0),
    _gen_trt_engine("tensorrt.min_batch_size", "int", 1, "Smallest batch of the profile.", 1, popular=True),
    _gen_trt_engine("tensorrt.opt_batch_size", "int", 1, "Batch the engine is tuned for.", 1, popular=True),
    _gen_trt_engine("tensorrt.max_batch_size", "int", 1, "Largest batch of the profile.", 1, popular=True),
    _gen_trt_engine("tensorrt.layers_precision", "list", [], "pattern:fp32 or pattern:fp16 for nodes that keep more precision.", item="string", automl=False),
    _gen_trt_engine("tensorrt.calibration.cal_image_dir", "list", MANDATORY, "Image folders for INT8 calibration.", item="string", automl=False),
    _gen_trt_engine("tensorrt.calibration.cal_cache_file", "string", MANDATORY, "File that keeps the calibrated ranges, read again while graph, images and preprocessing are the same; empty: none."),
    _gen_trt_engine("tensorrt.calibration.cal_batch_size", "int", 1, "Images per calibration batch.", 1, popular=True),
    _gen_trt_engine("tensorrt.calibration.cal_batches", "int", 1, "Calibration batches.", 1, popular=True),
)


def _deploy(name: str, kind: str, default: Any, doc: str, minimum: float | None = None, **rest: Any) -> Param:
    return Param(f"deploy.{name}", kind, default, doc, minimum, actions=("deploy",), **rest)


# An action of ours: one trained network, smaller and faster without training it again.
DEPLOY = (
    _deploy("checkpoint", "string", MANDATORY, "The .pth file whose operating points are measured."),
    _deploy("results_dir", "string", "", "Where this action writes; empty: <results_dir>/deploy."),
    _deploy("target", "categorical", "cpu", "What runs the files that are timed: ONNX Runtime on a cpu or gpu, tensorrt, openvino; all but cpu write to a folder of their name in results_dir.", enum=("cpu", "gpu", "tensorrt", "openvino")),
    _deploy("conf_threshold", "float", None, "Score threshold that the chosen file tells; null: the best F1 of that form on validation. Of a run, inference.conf_threshold where it is set.", 0.0, maximum=1.0, nullable=True),
    _deploy("max_latency", "string", "", "The chosen point takes at most this long from image file to boxes, such as 15ms.", example="15ms"),
    _deploy("min_map", "float", None, "The chosen point has at least this mAP on validation; alone: the fastest of those.", 0.0, maximum=1.0, nullable=True),
    _deploy("max_size", "string", "", "The chosen point's file is at most this large, such as 20MB.", example="20MB"),
    _deploy("dec_layers", "list", [], "Numbers of decoder layers to measure; empty: all, two thirds and a third of them.", item="int", item_minimum=1, automl=False),
    _deploy("num_queries", "list", [], "Numbers of queries to measure; empty: all, a half and a quarter of them.", item="int", item_minimum=1, automl=False),
    _deploy("sizes", "list", [], "Input sizes to measure, such as 640x480 (width x height); empty: as validated, and three quarters of it.", item="string", automl=False),
    _deploy("precisions", "list", ["FP32", "FP16", "INT8"], "Number formats to measure.", item="string", automl=False),
    _deploy("points", "int", None, "Measure so many of the combinations: the first, then always one that differs most; null: all. What was measured before stays in the table.", 1, nullable=True),
    _deploy("max_time", "string", "", "Begin no more points that by the forecast would end, with all that follows, after this time, such as 10min. The least is one input size and number of queries, and the export; where that is longer it is said. The next run goes on.", example="10min"),
    _deploy("calibration_images", "int", 100, "Training images that calibrate INT8, always the same ones; fewer where there are fewer.", 1),
    _deploy("rounds", "int", 3, "Times that every point has its turn on the clock.", 1),
    _deploy("runs", "int", 10, "Images timed at a turn, after a few that are not.", 1),
)

# Backends of `quantize` that this version has not, and why.
NOT_HERE = {
    "torchao": "its files run in torch alone, where they are slower, and neither ONNX nor TensorRT take them",
    "modelopt.pytorch": "NVIDIA ModelOpt is not part of this version",
    "modelopt.onnx": "NVIDIA ModelOpt is not part of this version",
}

# What `train.recipe` sets where a spec says nothing: departures from the defaults above, which are `default`'s.
RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    # DINO's additions (arXiv:2203.03605). The evidence: studies/bccd_from_scratch.
    "dino": {
        "model.two_stage": True, "model.mixed_selection": True, "model.look_forward_twice": True,
        "model.denoising_queries": 100, "model.dropout_ratio": 0.0,
    },
    # NVIDIA TAO 6.25 as it trains (its dataclass defaults).
    "tao": {
        "model.dropout_ratio": 0.3, "model.tao_compat": True, "model.look_forward_twice": False,
        "model.denoising_queries": 0, "model.hybrid_queries": 0, "model.class_loss": "focal",
        "model.two_stage": False, "train.optim.lr_scheduler": "MultiStep", "train.optim.warmup_steps": 0,
        "train.ema_decay": 0.0,
    },
    # fundamentalvision/Deformable-DETR, main.py's arguments: 50 epochs, one drop, crops to 480-800 px.
    "published": {
        "model.dropout_ratio": 0.1, "model.with_box_refine": False, "model.look_forward_twice": False,
        "model.denoising_queries": 0, "model.hybrid_queries": 0, "model.class_loss": "focal",
        "model.two_stage": False, "model.num_select": 100, "train.num_epochs": 50,
        "train.optim.lr_scheduler": "MultiStep", "train.optim.lr_steps": [40], "train.optim.warmup_steps": 0,
        "train.ema_decay": 0.0, "dataset.batch_size": 2, "dataset.augmentation.fixed_random_crop": None,
        "dataset.augmentation.fixed_padding": False,
    },
}

PARAMETERS: tuple[Param, ...] = (
    *DATASET, *MODEL, *TRAIN, *QUANTIZE, *COMMON, *EVALUATE, *INFERENCE, *EXPORT, *GEN_TRT_ENGINE, *DEPLOY,
)
# fmt: on


def model_file(action: str, section: Mapping[str, Any]) -> str:
    """The model file that an action's section of a spec names; "" for none."""
    named = [section.get(leaf) for leaf in {**MODEL_FILES, **ONNX_FILES}.get(action, ())]
    return next((str(path) for path in named if path and path != MANDATORY), "")


def default_of(name: str) -> Any:
    """The default of one parameter."""
    return next(p.default for p in PARAMETERS if p.name == name)


def of_action(action: str) -> tuple[Param, ...]:
    """The parameters that an action's spec may hold, in table order."""
    return tuple(
        replace(p, minimum=-1, no_zero=True, math_cond=None) if p.name == BATCH and action in ANY_BATCH else p
        for p in PARAMETERS
        if action in p.actions
    )

"""Train schemas in the two dialects, written for the tests: what detectors, segmenters, classifiers, readers of text,
pose, re-identification, actions, point clouds, depth and language models declare, with the oddities of real ones.

A model is {dotted name: leaf}; `document` nests it and adds the lists and the default tree that TAO's exports carry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

INF = float("inf")
Leaf = dict[str, Any]


def leaf(kind: str, default: Any = ..., low: Any = None, high: Any = None, **more: Any) -> Leaf:
    """A leaf that is not searched; `...` is no default, None no bound, `cond` and `on` are short for long keys."""
    keys = {"type": kind, "default": default, "minimum": low, "maximum": high}
    found = {k: v for k, v in keys.items() if v is not (... if k == "default" else None)}
    long = {"cond": "math_cond", "on": "automl_enabled"}
    return {**found, **{long.get(k, k): v for k, v in more.items()}}


def real(default: Any = ..., low: Any = 0.0, high: Any = INF, **more: Any) -> Leaf:
    """A searched float."""
    return leaf("float", default, low, high, **{"on": True, **more})


def whole(default: Any = ..., low: Any = 1, high: Any = INF, **more: Any) -> Leaf:
    """A searched int."""
    return leaf("int", default, low, high, **{"on": True, **more})


def flag(default: bool = True, **more: Any) -> Leaf:
    """A searched bool."""
    return leaf("bool", default, **{"on": True, **more})


def pick(default: Any, *options: Any, kind: str = "categorical", **more: Any) -> Leaf:
    """A choice, not searched unless `on`."""
    return leaf(kind, default, enum=list(options), **more)


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{dotted name: value} -> nested mappings."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *sections, last = name.split(".")
        node = tree
        for key in sections:
            node = node.setdefault(key, {})
        node[last] = value
    return tree


def document(leaves: Mapping[str, Leaf], action: str = "train") -> dict[str, Any]:
    """The model as TAO exports it: sections are disabled objects with enabled children, metadata strays among the
    properties, and the defaults are there twice."""

    def section(node: Mapping[str, Any]) -> Leaf:
        leaf_keys = {k for k, v in node.items() if isinstance(v.get("type"), str) or "anyOf" in v}
        children = {k: v if k in leaf_keys else section(v) for k, v in node.items()}
        return {
            "type": "collection",
            "automl_enabled": False,
            "properties": {**children, "automl_disabled_parameters": []},
        }

    searched = [name for name, node in leaves.items() if node.get("automl_enabled") in (True, "TRUE", "true")]
    sections = {".".join(name.split(".")[:i]) for name in leaves for i in range(1, name.count(".") + 1)}
    off = [n for n, node in leaves.items() if node.get("automl_enabled") in (False, "FALSE")]
    return {
        "type": "object",
        "automl_default_parameters": searched,
        "automl_disabled_parameters": sorted(sections) + off,
        "default": nested({n: node["default"] for n, node in leaves.items() if "default" in node}),
        "popular": {"train": {"num_epochs": 10}},
        "required": [],
        "x_tao_schema": {"action": action, "schema_action": action},
        "properties": {
            **section(nested(leaves))["properties"],
            "automl_default_parameters": searched,
            "automl_disabled_parameters": sorted(sections),
        },
    }


OPTIM: dict[str, Leaf] = {
    "train.num_epochs": leaf("int", 10, 1, INF),
    "train.num_gpus": leaf("int", 1, 1),
    "train.seed": leaf("int", 1234, -1),
    "train.precision": pick("fp32", "fp32", "fp16", "bf16"),
    "train.optim.optimizer": pick("AdamW", "AdamW", "SGD"),
    "train.optim.lr": real(2e-4, 0, 1.0, cond="> 0.0"),
    "train.optim.lr_backbone": real(2e-5, 0, 1.0, cond="> 0.0"),
    "train.optim.momentum": real(0.9, 0.0, 1.0, cond="> 0.0"),
    "train.optim.weight_decay": real(1e-4, 0, 1.0, cond="> 0.0"),
    "train.optim.lr_scheduler": pick("MultiStep", "MultiStep", "StepLR"),
    "train.optim.lr_steps": leaf("list", [11]),
    "train.optim.lr_step_size": whole(11, 1, INF, cond="> 0"),
    "train.optim.lr_decay": real(0.1, 0.0, 1.0, cond="> 0.0"),
    "train.clip_grad_norm": leaf("float", 0.1),
    "dataset.batch_size": whole(4),
    "dataset.workers": whole(8),
    "wandb.tags": leaf("list", ["tao-toolkit"]),
    "evaluate.conf_threshold": leaf("float", 0.0, 0.0, 1.0),
}
CROPS: dict[str, Leaf] = {
    "dataset.augmentation.scales": leaf("list", [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]),
    "dataset.augmentation.horizontal_flip_prob": real(0.5, 0.0, 1.0),
    "dataset.augmentation.train_random_crop_min": whole(384, 1, INF, parent_param="TRUE"),
    "dataset.augmentation.train_random_crop_max": whole(
        600, 1, INF, cond="> depends_on", depends_on="dataset.augmentation.train_random_crop_min"
    ),
    "dataset.augmentation.fixed_random_crop": leaf("int", None, nullable=True),
}
QUERIES: dict[str, Leaf] = {
    "dataset.num_classes": leaf("int", 91, 1, INF),
    "model.num_queries": whole(300, 1, INF, parent_param="TRUE"),
    "model.num_select": whole(300, 1, INF, depends_on="model.num_queries"),
    "model.enc_layers": whole(6, 1, None),
    "model.dec_layers": whole(6, 1, None),
}

DINO = {
    **OPTIM,
    **CROPS,
    **QUERIES,
    "model.backbone": pick("resnet_50", "resnet_50", "fan_tiny", "vit_large_nvdinov2", "swin_tiny_224_1k"),
    "model.hidden_dim": leaf("int", 256, 1),
    "model.nheads": leaf("int", 8),
    "model.dropout_ratio": leaf("float", 0.0, 0.0, 1.0),
    "model.dn_number": leaf("int", 100, 0),
    "model.cls_loss_coef": leaf("float", 2.0, 0.0),
    "model.return_interm_indices": leaf("list", [1, 2, 3, 4]),
    "train.optim.lr_linear_proj_mult": real(0.1, 0.0, 1.0, cond="> 0.0"),
    "train.optim.layer_decay": leaf("float", 0.65),
}
RTDETR = {
    **OPTIM,
    "dataset.num_classes": leaf("int", 80, 1, INF),
    "model.num_queries": whole(300, 1, 10000, parent_param="TRUE"),
    "model.num_select": whole(300, 1, INF, depends_on="model.num_queries"),
    "model.enc_layers": whole(1, 1, None),
    "model.dec_layers": whole(6, 1, None),
    "dataset.augmentation.multi_scales": leaf("list", [480, 512, 544, 576, 608, 640, 640, 640, 672]),
    "dataset.augmentation.horizontal_flip_prob": real(0.5, 0.0, 1.0),
    "train.enable_ema": flag(False),
    "train.ema.decay": leaf("float", 0.999, 0.0, 1.0),
    "train.optim.lr_backbone": real(1e-5, 0.0, 1.0, cond="> 0"),
}
GROUNDING_DINO = {
    **OPTIM,
    **CROPS,
    "model.num_queries": leaf("int", 900, 1, INF, parent_param="TRUE", automl_enabled=False),
    "model.num_select": whole(300, 1, INF, depends_on="model.num_queries"),
    "model.enc_layers": whole(6, 1, None),
    "dataset.max_labels": leaf("int", 50, 1),
    "model.text_encoder_type": leaf("string", "bert-base-uncased"),
}
MASK2FORMER = {
    **OPTIM,
    "model.mask_former.hidden_dim": whole(256, 8, INF, cond="/ 8"),
    "model.mask_former.nheads": whole(8, 1, INF),
    "model.mask_former.dropout": real(0.0, 0.0, 1.0),
    "model.mask_former.num_object_queries": whole(100, 1, INF),
    "model.mask_former.dec_layers": whole(10, 1, INF),
    "model.mask_former.class_weight": real(2.0, 0.0, INF, cond="> 0.0"),
    "model.mask_former.importance_sample_ratio": real(0.75, 0.0, 1.0),
    "model.sem_seg_head.num_classes": leaf("int", 150, 1),
    "train.optim.backbone_multiplier": real(0.1, 0.0, 1.0, cond="> 0.0"),
    "train.optim.milestones": leaf("list", [88, 96]),
    "train.optim.gamma": leaf("float", 0.1),
    "dataset.augmentation.train_min_size": leaf("list", [640]),
}
SEGFORMER = {
    **OPTIM,
    "train.optim.optim": pick("adamw", "adamw", "adam", "sgd"),
    "train.optim.betas": leaf("list", [0.9, 0.999], on=True),
    "train.optim.policy": pick("linear", "linear", "step"),
    "dataset.segment.batch_size": whole(8),
    "dataset.segment.augmentation.random_flip.enable": flag(),
    "dataset.segment.augmentation.random_flip.vflip_probability": real(0.5, 0.0, 1.0),
    "dataset.segment.augmentation.random_rotate.enable": flag(),
    "dataset.segment.augmentation.random_rotate.angle_list": leaf("list", [90, 180, 270]),
    "dataset.segment.augmentation.random_color.brightness": real(0.3, 0.0, 2.0, cond="> 0.0"),
    "dataset.segment.augmentation.random_color.hue": real(0.0, 0.0, 0.5, cond="> 0.0"),
    "dataset.segment.augmentation.with_scale_random_crop.scale_range": leaf("list_2", [1.0, 1.2], 1.0, 3.0),
    "model.decode_head.dropout_ratio": real(0.1, 0.0, 1.0),
}
CLASSIFICATION = {
    **OPTIM,
    "train.optim.betas": leaf("list", [0.9, 0.999], on=True),
    "train.optim.optim": pick("adamw", "adamw", "sgd"),
    "model.backbone.type": pick("fan_small_12_p4_hybrid", "fan_small_12_p4_hybrid", "resnet_50", on=True),
    "model.backbone.freeze_backbone": flag(False),
    "model.head.topk": leaf("list", [1, 5]),
    "model.head.loss.label_smooth_val": real(0.1, 0.0, 1.0),
    "dataset.augmentation.mixup_alpha": real(0.4, 0.0, 1.0),
    "distill.teacher.backbone.freeze_norm": flag(False),
    "train.classify.cls_weight[1]": real(10.0, 0.0, INF, cond="> 0.0"),
    "train.classify.cls_weight": leaf("list", [1.0, 10.0]),
}
OCDNET = {
    **OPTIM,
    "model.backbone": pick("deformable_resnet18", "deformable_resnet18", "deformable_resnet50", "fan_tiny_8_p4_hybrid"),
    "model.fpn_in_channels": leaf("int", 256),
    "train.optimizer.type": pick("Adam", "Adam", "SGD"),
    "train.optimizer.args.lr": real(1e-3, 0.0, INF, cond=">0"),
    "train.optimizer.args.momentum": real(0.0, 0.0, INF, cond=">=0"),
    "train.optimizer.args.weight_decay": real(0.0, 0.0, INF, cond=">=0"),
    "train.lr_scheduler.args.warmup_epoch": whole(3, 0, INF),
    "train.loss.alpha": real(5.0, 0.0, INF, cond="> 0"),
    "train.loss.beta": real(10.0, 0.0, INF, cond="> 0"),
    "train.loss.ohem_ratio": real(3.0, 0.0, INF, cond="> 0"),
    "train.post_processing.args.thresh": real(0.3, 0.0, 1.0),
    "dataset.train_dataset.loader.batch_size": whole(20),
    "dataset.validate_dataset.loader.batch_size": whole(1),
}  # fmt: skip
OCRNET = {
    "model.TPS": flag(False),
    "model.backbone": pick("ResNet", "ResNet", "ResNet2X", "FAN"),
    "model.feature_channel": leaf("int", 512),
    "model.sequence": pick("BiLSTM", "BiLSTM"),
    "model.hidden_size": leaf("int", 256),
    "model.quantize": leaf("bool", False),
    "model.input_width": leaf("int", 100, 4),
    "model.input_height": leaf("int", 32, 32),
    "model.patch": whole(16, 2, 64, depends_on="model.input_height,model.input_width"),
    "dataset.max_label_length": leaf("int", 25, 1),
    "dataset.batch_size": whole(16),
    "dataset.workers": whole(4, 0),
    "dataset.augmentation.aug_prob": real(0.0, 0.0, 1.0),
    "train.optim.name": pick("adadelta", "adadelta", "adam"),
    "train.optim.lr": real(1.0, 0.0, INF, cond="> 0.0"),
    "train.optim.momentum": real(0.9, 0.0, 1.0, cond="> 0.0"),
    "train.optim.weight_decay": real(5e-4, 0.0, INF, cond=">= 0.0"),
    "train.clip_grad_norm": leaf("float", 5.0),
}
POSE = {
    "model.model_type": pick("ST-GCN", "ST-GCN"),
    "model.dropout": real(0.5, 0.0, 1.0),
    "dataset.random_choose": flag(False),
    "dataset.random_move": flag(False),
    "dataset.window_size": leaf("int", -1),
    "dataset.batch_size": whole(64),
    "train.optim.lr": real(0.1, 0.0, INF, cond="> 0.0"),
    "train.optim.momentum": real(0.9, 0.0, INF, cond="> 0.0"),
    "train.optim.nesterov": flag(),
    "train.optim.weight_decay": real(1e-4, 0.0, INF, cond="> 0.0"),
    "train.optim.lr_scheduler": pick("MultiStep", "AutoReduce", "MultiStep"),
    "train.optim.patience": whole(1, 1),
    "train.optim.min_lr": real(1e-4, 0.0, INF, cond=">=0.0"),
    "train.optim.lr_steps": leaf("list", [10, 60]),
    "train.optim.lr_decay": real(0.1, 0.0, INF, cond="> 0.0"),
    "train.grad_clip": leaf("float", 0.0),
    "train.num_epochs": leaf("int", 70, 1),
}
REID = {
    "train.num_epochs": leaf("int", 120, 1),
    "model.backbone": pick("resnet_50", "resnet_50", "swin_tiny_patch4_window7_224"),
    "model.neck": pick("bnneck", "bnneck", "no"),
    "model.feat_dim": leaf("int", 256),
    "dataset.prob": real(0.5, 0.0, 1.0),
    "dataset.re_prob": real(0.5, 0.0, 1.0),
    "dataset.padding": whole(10, 1),
    "dataset.num_instances": leaf("int", 4, 1),
    "dataset.batch_size": whole(64),
    "train.optim.name": pick("Adam", "Adam", "SGD"),
    "train.optim.base_lr": real(3.5e-4, 0.0, INF, cond="> 0.0"),
    "train.optim.bias_lr_factor": real(1.0, 0.0, INF, cond="> 0"),
    "train.optim.weight_decay": real(5e-4, 0.0, INF, cond="> 0.0"),
    "train.optim.weight_decay_bias": real(5e-4, 0.0, INF, cond="> 0.0"),
    "train.optim.warmup_factor": real(0.01, 0.0, INF, cond="> 0.0"),
    "train.optim.warmup_iters": whole(10, 0),
    "train.optim.momentum": real(0.9, 0.0, 1.0, cond="> 0.0"),
    "train.optim.center_lr": real(0.5, 0.0, INF),
    "train.optim.triplet_loss_margin": real(0.3, 0.0, INF),
    "train.optim.gamma": real(0.1, 0.0, INF),
    "train.optim.lr_steps": leaf("list_2", [40, 70], on=True),
}
ACTION = {
    "model.model_type": pick("joint", "joint", "rgb", "of", kind="ordered"),
    "model.rgb_seq_length": leaf("int", 3, 1),
    "model.num_fc": leaf("ordered_int", 64, enum=[32, 64, 128]),
    "model.dropout_ratio": real(0.5, 0.0, 1.0),
    "dataset.sample_rate": whole(1, 1),
    "dataset.batch_size": whole(32),
    "dataset.workers": whole(8),
    "dataset.augmentation_config.horizontal_flip_prob": real(0.5, 0.0, 1.0),
    "dataset.augmentation_config.train_crop_type": pick("random_crop", "random_crop", "multi_scale_crop", "no_crop"),
    "dataset.augmentation_config.scales": leaf("list", [1.0]),
    "train.optim.lr": real(5e-4, 0.0, INF, cond="> 0.0"),
    "train.optim.momentum": real(0.9, 0.0, 1.0, cond="> 0.0"),
    "train.optim.weight_decay": real(5e-4, 0.0, INF, cond="> 0.0"),
    "train.optim.lr_scheduler": pick("MultiStep", "AutoReduce", "MultiStep"),
    "train.optim.lr_steps": leaf("list", [5, 15, 20]),
    "train.optim.lr_decay": real(0.1, 0.0, 1.0, cond="> 0.0"),
    "train.num_epochs": leaf("int", 20, 1),
}  # fmt: skip
POINTPILLARS = {
    "dataset.point_feature_encoding.used_feature_list": leaf("list", ["x", "y", "z", "intensity"]),
    "dataset.data_processor.0.shuffle": leaf("bool", True),
    "model.dense_head.loss_config.cls_weight": real(1.0, 0.0, INF, cond="> 0.0"),
    "model.post_processing.score_thresh": leaf("float", 0.1, 0.0, 1.0),
    "train.batch_size": whole(4),
    "train.num_epochs": leaf("int", 80, 1),
    "train.optimizer": leaf("string", "adam_onecycle"),
    "train.lr": real(0.003, 0.0, INF, cond="> 0.0"),
    "train.weight_decay": real(0.01, 0.0, INF, cond="> 0.0"),
    "train.momentum": real(0.9, 0.0, 1.0, cond="> 0.0"),
    "train.moms": leaf("list_2", [0.95, 0.85]),
    "train.pct_start": real(0.4, 0.0, 1.0, cond="> 0.0 <= 1.0"),
    "train.div_factor": real(10.0, 0.0, INF, cond="> 0"),
    "train.decay_step_list": leaf("list_2", [35, 45], on=True),
    "train.lr_decay": real(0.1, 0.0, 1.0, cond="> 0.0"),
    "train.lr_clip": real(1e-7, 0.0, INF, cond="> 0.0"),
    "train.lr_warmup": flag(False),
    "train.warmup_epoch": whole(1, 0),
    "train.grad_norm_clip": real(10.0, 0.0, INF),
    "train.tcp_port": leaf("int", 18888, 0, 10),
}
CHANGENET = {
    **OPTIM,
    "model.decode_head.feature_strides": leaf("list", [4, 8, 16, 32]),
    "model.classify.train_margin_euclid": real(2.0, 0.0, INF, cond="> 0.0"),
    "model.classify.difference_module": pick("learnable", "euclidean", "learnable"),
    "model.classify.embed_dec": leaf("int", 30, 1),
    "dataset.segment.batch_size": whole(16),
    "dataset.classify.augmentation_config.augment": flag(False),
    "train.classify.cls_weight[0]": real(1.0, 0.0, INF, cond="> 0.0"),
    "train.classify.cls_weight[1]": real(10.0, 0.0, INF, cond="> 0.0"),
    "train.classify.cls_weight": leaf("list", [1.0, 10.0]),
    "train.segment.weights": leaf("list", [0.5, 0.5, 0.5, 0.8, 1.0]),
}
DEPTH = {
    **OPTIM,
    "model.max_depth": leaf("float", 80.0, 1.0),
    "model.corr_levels": whole(2, 1, 4),
    "model.train_iters": whole(22, 1, INF),
    "model.n_gru_layers": whole(3, 1, 4, cond=">= 1"),
    "dataset.train_dataset.augmentation.min_scale": leaf("float", -0.2, 0.2, 1.0),
    "dataset.train_dataset.augmentation.max_scale": real(0.4, 0.0, 1.0, cond="> 0.0"),
    "dataset.train_dataset.augmentation.h_flip_prob": real(0.5, 0.0, 1.0),
    "dataset.train_dataset.augmentation.eraser_aug_prob": real(0.5, 0.0, 1.0),
    "dataset.train_dataset.augmentation.color_aug_brightness": real(0.4, 0.0, 1.0),
    "dataset.train_dataset.augmentation.color_aug_hue_range": leaf("list", [-0.027, 0.027]),
    "dataset.test_dataset.augmentation.h_flip_prob": real(0.5, 0.0, 1.0),
    "dataset.infer_dataset.augmentation.h_flip_prob": real(0.5, 0.0, 1.0),
    "train.optim.warmup_steps": whole(20, 0),
}
EFFICIENTDET = {
    "model.name": pick("efficientdet-d0", *(f"efficientdet-d{i}" for i in range(6))),
    "model.aspect_ratios": leaf("string", "[(1.0, 1.0), (1.4, 0.7), (0.7, 1.4)]"),
    "model.anchor_scale": whole(4, 1, 8),
    "model.max_instances_per_image": leaf("int", 100, 1),
    "data.image_size": leaf("string", "512x512"),
    "dataset.augmentation.rand_hflip": flag(True),
    "dataset.augmentation.random_crop_min_scale": real(0.1, 0.0, 1.0, cond="> 0.0"),
    "dataset.augmentation.random_crop_max_scale": real(
        2.0, 0.1, INF, cond="> depends_on", depends_on="dataset.augmentation.random_crop_min_scale"
    ),
    "train.batch_size": whole(8),
    "train.num_epochs": leaf("int", 10, 1),
    "train.l2_weight_decay": real(4e-5, 0.0, INF, cond="> 0.0"),
    "train.l1_weight_decay": real(0.0, 0.0, INF, cond=">= 0.0"),
    "train.clip_gradients_norm": real(10.0, 0.0, INF, cond="> 0.0"),
    "train.moving_average_decay": real(0.9999, 0.0, 1.0, cond="> 0.0"),
    "train.label_smoothing": real(0.0, 0.0, 1.0),
    "train.iou_loss_type": pick(None, "giou", "diou", None),
    "train.optimizer.name": pick("sgd", "sgd"),
    "train.optimizer.momentum": real(0.9, 0.0, 1.0, cond="> 0.0"),
    "train.lr_schedule.name": pick("cosine", "cosine"),
    "train.lr_schedule.warmup_epoch": whole(5, 0),
    "train.lr_schedule.warmup_init": real(1e-4, 0.0, INF, cond="> 0.0"),
    "train.lr_schedule.learning_rate": real(0.2, 0.0, INF, cond="> 0.0"),
    "train.lr_schedule.annealing_epoch": whole(10, 1),
}
RETINANET = {
    "training_config.batch_size_per_gpu": whole("8", "1", "Infinity", on="TRUE"),
    "training_config.num_epochs": leaf("int", 100, 1),
    "training_config.learning_rate.soft_start_annealing_schedule.min_learning_rate": real("4e-5", "0.0", "inf", on="TRUE", cond="> 0.0"),
    "training_config.learning_rate.soft_start_annealing_schedule.max_learning_rate": real(
        "1.5e-2", "0", "inf", on="TRUE", cond=">depends_on",
        depends_on="training_config.learning_rate.soft_start_annealing_schedule.min_learning_rate",
    ),
    "training_config.learning_rate.soft_start_annealing_schedule.soft_start": real(0.1, 0.0, 1.0, on="TRUE", cond="> 0.0 < 1.0"),
    "training_config.learning_rate.soft_start_annealing_schedule.annealing": real(
        0.3, 0.0, 1.0, cond="< 1.0",
        depends_on="> training_config.learning_rate.soft_start_annealing_schedule.soft_start",
    ),
    "training_config.regularizer.weight": real(2e-5, 0.0, INF),
    "retinanet_config.n_kernels": whole(1, 1, 4),
    "retinanet_config.feature_size": whole(256, 32, 1024, cond="/32"),
    "retinanet_config.focal_loss_alpha": real(0.25, 0.0, 1.0, cond="> 0.0 < 1.0"),
    "retinanet_config.focal_loss_gamma": real(2.0, 0.0, INF, cond="> 0.0"),
    "retinanet_config.arch": leaf("string", "resnet", enum=["resnet", "vgg", "darknet"], on="TRUE"),
    "retinanet_config.nlayers": leaf("ordered_int", 18, enum=[10, 18, 34, 50, 101], on="TRUE"),
    "retinanet_config.freeze_blocks": leaf("list_1_backbone", [0], enum=[0, 1, 2, 3], on="TRUE"),
    "augmentation_config.output_width": leaf("int", 960, 32, cond="/ 32", on=True),
    "augmentation_config.output_height": whole(544, 32, 2048, cond="/ 32"),
    "augmentation_config.hue": real(0.1, 0.0, 1.0),
    "augmentation_config.zoom": leaf("list_1_normal", [1.0], 0.5, 2.0, on=True),
}  # fmt: skip
LANGUAGE = {
    "train.epoch": whole(10, 1, 20, parent_param="TRUE"),
    "train.optm_lr": {"anyOf": [{"type": "number"}, {"type": "array"}], "default": [1e-6, 1e-5], "minimum": 0.0, "maximum": INF, "automl_enabled": True},
    "train.optm_warmup_epochs": {"anyOf": [{"type": "integer"}, {"type": "number"}], "default": 0, "minimum": 0, "maximum": INF, "math_cond": "/ 2", "depends_on": "train.epoch", "automl_enabled": True},
    "train.optm_decay_type": pick("linear", "linear", "sqrt", "cosine", "none", on=True, option_weights=[0.1, 0.1, 0.4, 0.4]),
    "train.optm_betas": leaf("list", [0.9, 0.999], [0.8, 0.9], [0.95, 0.999], on=True),
    "train.fp8.enable_fp8": leaf("bool", False),
    "policy.model_max_length": whole(4096, 1, None, cond="^ 2"),
    "policy.lora.r": whole(8, 1, 256, cond="^ 2"),
    "policy.lora.lora_alpha": whole(8, 1, 1024, cond="^2 >= 4"),
    "policy.lora.lora_dropout": real(0.0, 0.0, 0.1),
    "policy.lora.target_modules": leaf("subset_list", ["q_proj", "v_proj"], enum=["q_proj", "k_proj", "v_proj", "o_proj", "all-linear"], on=True, depends_on="policy.lora.modules_to_save"),
    "policy.lora.modules_to_save": leaf("optional_list", [], enum=["visual"], on=True, parent_param="TRUE"),
    "policy.lora.alpha_pattern": leaf("dict", {}, on=True),
    "policy.lora": leaf("collection", None),
    "custom.vision.fps": whole(..., 1, 3),
}  # fmt: skip
del LANGUAGE["policy.lora"]

ODDITIES = {
    "train.absent_target": whole(5, 1, 100, cond="< depends_on", depends_on="train.nowhere"),
    "train.disabled_target": whole(5, 1, 100, cond="<= depends_on", depends_on="train.limit"),
    "train.limit": leaf("int", 40, on=False),
    "train.two_targets": whole(4, 1, 100, cond="<depends_on", depends_on="train.width, train.height"),
    "train.width": whole(32, 8, 128),
    "train.height": whole(48, 16, 256),
    "train.not_zero": whole(1, -4, 4, cond="!= 0"),
    "train.open": real(0.5, 0, 1, cond=">0 <1"),
    "train.edge": real(1.0, 0, 1, cond="> 0.0 <= 1.0"),
    "train.same_as": whole(32, 1, 256, cond="== depends_on", depends_on="train.width"),
    "train.other_than": whole(3, 1, 6, cond="!= depends_on", depends_on="train.one_of"),
    "train.one_of": leaf("ordered_int", 2, enum=[1, 2, 4], on=True),
    "train.no_default": real(..., 0.1, 10.0),
    "train.no_bounds": leaf("float", 3.0, on=True),
    "train.no_bounds_int": leaf("int", 3, on=True),
    "train.negative": real(-0.5, -1.0, 0.0, cond="< 0"),
    "train.far_default": real(50.0, 0.0, 1.0),
    "train.default_text": real("abc", 0.0, 1.0),
    "train.missing": whole("???", 1, 9),
    "train.no_maximum": whole(6, 1, None),
    "train.no_minimum": real(0.1, None, 0.5),
    "train.huge": real(1e6, 0.0, 1e308),
    "train.tiny": real(1e-12, 0.0, 1e-3, cond="> 0"),
    "train.null_default": leaf("float", None, 0.0, 1.0, on=True),
    "train.bool_words": leaf("bool", "TRUE", on="TRUE"),
    "train.bool_enum": leaf("categorical", True, enum=["true", "false"], on=True),
    "train.mangled": leaf("categorical", "KL", enum=["\nKL(KLdivergence)", "CE"], on=True),
    "train.one_option": leaf("categorical", "a", enum=["a"], on=True),
    "train.default_not_in_enum": pick("MultiStepLR", "MultiStep", "AutoReduce", on=True),
    "train.chain_a": real(1.0, 0.0, 10.0, cond="< depends_on", depends_on="train.chain_b"),
    "train.chain_b": real(2.0, 0.0, 10.0, cond="< depends_on", depends_on="train.chain_c"),
    "train.chain_c": real(3.0, 0.0, 10.0),
    "train.power_chain": whole(16, 1, 512, cond="^ 2 >= 4"),
    "train.even_below": whole(8, 2, 512, cond="/ 2 < depends_on", depends_on="train.power_chain"),
    "train.free_text": leaf("string", "abc", on=True),
    "train.empty_list": leaf("list", [], on=True),
    "train.words": leaf("list", ["a", "b"], on=True),
    "train.three": leaf("list_3", [0.1, 0.2, 0.3], 0.0, 1.0, on=True),
    "train.mapping": leaf("dict", {"a": 1}, on=True),
    "train.odd.name[0].x": real(0.1, 0.0, 1.0),
    "train.odd.with space": real(0.1, 0.0, 1.0),
    "train.multiple_of": leaf("int", 10, 0, 100, multipleOf=5, on=True),
    "train.infinite_default": real(INF, 0.0, INF),
    "train.weighted": pick("b", "a", "b", "c", on=True, option_weights=["0.2", 0, 3]),
    "train.batch_of_three": whole(3, 1, 64),
    "train.batch_capped": whole(4, 3, 6),
}

STANDARD = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "rate": {"type": "number", "exclusiveMinimum": 0, "maximum": 0.1, "default": 0.001, "automl_enabled": True},
        "layer": {"type": "object", "properties": {
            "width": {"type": "integer", "minimum": 8, "maximum": 512, "multipleOf": 8, "default": 64, "automl_enabled": True},
            "activation": {"enum": ["relu", "gelu", None], "default": "relu", "automl_enabled": True},
        }},
    },
    "properties": {
        "optimizer": {"oneOf": [{"const": "adam"}, {"const": "sgd"}], "default": "adam", "automl_enabled": True},
        "lr": {"$ref": "#/$defs/rate"},
        "decay": {"$ref": "#/$defs/rate", "default": 1e-4},
        "first": {"$ref": "#/$defs/layer"},
        "second": {"allOf": [{"$ref": "#/$defs/layer"}], "default": {"width": 128}},
        "crop": {"anyOf": [{"type": "integer", "minimum": 32, "maximum": 512}, {"type": "null"}], "default": 224, "automl_enabled": True},
        "dropout": {"type": ["number", "null"], "minimum": 0, "exclusiveMaximum": 1, "default": 0.1, "automl_enabled": True},
        "epochs": {"type": "integer", "minimum": 1, "default": 20},
        "sizes": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 64}, "default": [4, 2], "minItems": 2, "maxItems": 2, "automl_enabled": True},
        "metrics": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True, "default": ["a"], "minItems": 1, "automl_enabled": True},
        "flag": {"type": "boolean", "default": False, "automl_enabled": True},
        "fixed": {"const": 3, "automl_enabled": True},
        "quarter": {"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.25, "default": 0.5, "automl_enabled": True},
    },
}  # fmt: skip

MODELS = {
    name.lower(): document(globals()[name])
    for name in (
        "DINO", "RTDETR", "GROUNDING_DINO", "MASK2FORMER", "SEGFORMER", "CLASSIFICATION", "OCDNET", "OCRNET", "POSE", "REID",
        "ACTION", "POINTPILLARS", "CHANGENET", "DEPTH", "EFFICIENTDET", "RETINANET", "LANGUAGE", "ODDITIES",
    )
}  # fmt: skip
MODELS["pointpillars retrain"] = document(POINTPILLARS, "retrain")
MODELS["standard"] = STANDARD

"""TensorRT engines: built strongly typed from an ONNX whose number format is baked in, which TensorRT 10 and 11
take alike. TensorRT-RTX, a sibling product, builds without a GPU."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from model.deploy.card import beside_engine, read
from model.deploy.runner import Runner
from model.errors import ModelError, NotRunnable, UserError

INSTALL = {"tensorrt": "pip install 'tensorrt-cu13>=10.13,<12'", "tensorrt_rtx": "pip install tensorrt-rtx"}


def available(builder: str, running: bool = False) -> tuple[Any, str | None]:
    """(module, None), or (None, what is missing) for `tensorrt` or `tensorrt_rtx` to build, or to run, here."""
    try:
        module = importlib.import_module(builder)
    except ImportError as error:
        return None, f"the package {builder.replace('_', '-')} ({INSTALL[builder]}; {error})"
    if (running or builder == "tensorrt") and not torch.cuda.is_available():
        return (
            None,
            "an NVIDIA GPU, which engines run on" if running else "an NVIDIA GPU, which TensorRT builds on",
        )
    return module, None


def choose_gpu(builder: str, gpu_id: int) -> None:
    """Make a GPU the one that is built on; TensorRT-RTX builds for its `rtx_targets` and needs none. Raises
    `UserError` for one that is not there."""
    count = torch.cuda.device_count()
    if builder == "tensorrt" and count:
        if gpu_id >= count:
            raise UserError(f"gen_trt_engine.gpu_id must be below {count}, the GPUs here, but got {gpu_id}")
        torch.cuda.set_device(gpu_id)


def build(trt: Any, onnx_file: Path, engine_file: Path, section: Mapping[str, Any]) -> dict[str, Any]:
    """Parse and build; writes `engine_file` and what it is into `<engine>.json`. Returns {"layers", "bytes",
    "version", "builder"}.

    Raises `ModelError` with the parser's own messages.
    """
    logger = trt.Logger(trt.Logger.VERBOSE if section["verbose"] else trt.Logger.ERROR)
    builder = trt.Builder(logger)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx_file.read_bytes()):
        problems = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise ModelError(f"{onnx_file}: the parser refuses it: {problems}")
    config = _config(trt, builder, network, section)
    cache = _timing_cache(config, section["timing_cache"])
    blob = builder.build_serialized_network(network, config)
    if blob is None:
        raise ModelError(
            f"{onnx_file}: the builder made no engine; set gen_trt_engine.verbose to see its log"
        )
    engine_file.parent.mkdir(parents=True, exist_ok=True)
    engine_file.write_bytes(bytes(blob))
    if cache is not None:
        Path(section["timing_cache"]).write_bytes(bytes(config.get_timing_cache().serialize()))
    made = {"layers": network.num_layers, "bytes": engine_file.stat().st_size, "version": trt.__version__}
    made["builder"] = trt.__name__
    beside_engine(engine_file).write_text(json.dumps(read(onnx_file).entries() | made, indent=1) + "\n")
    return made


def _config(trt: Any, builder: Any, network: Any, section: Mapping[str, Any]) -> Any:
    config = builder.create_builder_config()
    workspace = section["tensorrt"]["workspace_size"]
    if workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace << 20)
    if hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and then FP32 is not
    tensor = network.get_input(0)
    if tensor.shape[0] == -1:
        profile, rest = builder.create_optimization_profile(), tuple(tensor.shape[1:])
        sizes = batch_profile(section)
        profile.set_shape(tensor.name, *((size, *rest) for size in sizes))
        config.add_optimization_profile(profile)
    if trt.__name__ == "tensorrt_rtx":
        targets = [_target(trt, name) for name in section["rtx_targets"]]
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            config.set_compute_capability(target, index)
    return config


def _target(trt: Any, name: str) -> Any:
    known = [n for n in trt.ComputeCapability.__members__ if n not in ("NONE",)]
    if name not in known:
        raise UserError(
            f"gen_trt_engine.rtx_targets must hold {', '.join(known)}, but got {name}; {trt.__name__} "
            f"{trt.__version__} builds for no others"
        )
    return getattr(trt.ComputeCapability, name)


def batch_profile(section: Mapping[str, Any], fixed: int | None = None) -> tuple[int, int, int]:
    """(min, opt, max) batch. Raises `UserError` unless they ascend, and unless all are the graph's `fixed` batch."""
    sizes = tuple(section["tensorrt"][f"{name}_batch_size"] for name in ("min", "opt", "max"))
    if section["batch_size"] > 0:
        sizes = (section["batch_size"],) * 3
    if list(sizes) != sorted(sizes):
        raise UserError(f"gen_trt_engine.tensorrt: min <= opt <= max batch size must hold, but got {sizes}")
    if fixed is not None and set(sizes) != {fixed}:
        raise UserError(
            f"gen_trt_engine.onnx_file has a fixed batch of {fixed}, so min, opt and max batch size must be {fixed}, "
            f"but got {sizes}; export.batch_size=-1 makes a graph of any batch"
        )
    return sizes[0], sizes[1], sizes[2]


def _timing_cache(config: Any, path: str) -> Any:
    if not path:
        return None
    known = Path(path).read_bytes() if Path(path).is_file() else b""
    cache = config.create_timing_cache(known)
    config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


class TrtRunner(Runner):
    """Runs an engine of TensorRT or TensorRT-RTX, whichever built it, on torch's CUDA tensors."""

    def __init__(self, path: str, device: torch.device | None = None) -> None:
        if not Path(path).is_file():
            raise UserError(f"{path}: no such engine")
        self.card, builder = read(path), builder_of(path)
        trt, missing = available(builder, running=True)
        if missing:
            raise NotRunnable(f"{path}: running an engine needs {missing}")
        if device is not None:
            torch.cuda.set_device(device)
        self.engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(
            Path(path).read_bytes()
        )
        if self.engine is None:
            raise UserError(
                f"{path}: {builder} {trt.__version__} cannot load this engine; build it anew with this version"
            )
        self.context = self.engine.create_execution_context()
        shape = tuple(self.engine.get_tensor_shape("inputs"))
        self.size = (int(shape[2]), int(shape[3]))
        self.most = int(self.engine.get_tensor_profile_shape("inputs", 0)[2][0])

    def infer(self, images: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        parts = [self._infer(part) for part in images.cuda().contiguous().split(self.most)]
        return {name: torch.cat([part[name] for part in parts]) for name in ("pred_logits", "pred_boxes")}

    def _infer(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        self.context.set_input_shape("inputs", tuple(images.shape))
        self.context.set_tensor_address("inputs", images.data_ptr())
        outputs = {}
        for name in ("pred_logits", "pred_boxes"):
            outputs[name] = torch.empty(tuple(self.context.get_tensor_shape(name)), device="cuda")
            self.context.set_tensor_address(name, outputs[name].data_ptr())
        stream = torch.cuda.current_stream()
        self.context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()
        return {name: value.cpu() for name, value in outputs.items()}


def builder_of(engine: str) -> str:
    """Which library built an engine: as `<engine>.json` says, else TensorRT."""
    sidecar = beside_engine(engine)
    recorded = json.loads(sidecar.read_text()) if sidecar.is_file() else {}
    return str(recorded.get("builder", "tensorrt"))

"""TensorRT engines: built strongly typed from an ONNX whose number format is baked in, which TensorRT 10 and 11
take alike. TensorRT-RTX, a sibling product, builds without a GPU."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from model.deploy.runners import Runner
from model.errors import ModelError, NotRunnable, UserError

RTX_COMPUTE = "SM89"  # RTX engines name the GPUs they are for; Ada is the floor of today's


def available(builder: str) -> tuple[Any, str | None]:
    """(module, None), or (None, what is missing) for `tensorrt` or `tensorrt_rtx` on this machine."""
    try:
        module = importlib.import_module(builder)
    except ImportError as error:
        return None, f"the package {builder.replace('_', '-')} ({error})"
    if builder == "tensorrt" and not torch.cuda.is_available():
        return None, "an NVIDIA GPU, which TensorRT builds on"
    return module, None


def build(trt: Any, onnx_file: Path, engine_file: Path, section: Mapping[str, Any]) -> dict[str, Any]:
    """Parse and build; writes `engine_file`. Returns {"layers", "bytes", "version"}.

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
    if trt.__name__ == "tensorrt_rtx" and hasattr(config, "set_compute_capability"):
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, RTX_COMPUTE), 0)
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
    return {"layers": network.num_layers, "bytes": engine_file.stat().st_size, "version": trt.__version__}


def batch_profile(section: Mapping[str, Any]) -> tuple[int, int, int]:
    """(min, opt, max) batch. Raises `UserError` unless they ascend."""
    if section["batch_size"] > 0:
        return (section["batch_size"],) * 3
    sizes = tuple(section["tensorrt"][f"{name}_batch_size"] for name in ("min", "opt", "max"))
    if list(sizes) != sorted(sizes):
        raise UserError(f"gen_trt_engine.tensorrt: min <= opt <= max batch size must hold, but got {sizes}")
    return sizes[0], sizes[1], sizes[2]


def _timing_cache(config: Any, path: str) -> Any:
    if not path:
        return None
    known = Path(path).read_bytes() if Path(path).is_file() else b""
    cache = config.create_timing_cache(known)
    config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


class TrtRunner(Runner):
    """Runs a TensorRT engine on torch's CUDA tensors."""

    def __init__(self, path: str) -> None:
        trt, missing = available("tensorrt")
        if missing:
            raise NotRunnable(f"{path}: running an engine needs {missing}")
        if not Path(path).is_file():
            raise UserError(f"{path}: no such engine")
        self.engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(
            Path(path).read_bytes()
        )
        if self.engine is None:
            raise UserError(
                f"{path}: TensorRT {trt.__version__} cannot load this engine; build it anew with this version"
            )
        self.context = self.engine.create_execution_context()
        shape = tuple(self.engine.get_tensor_shape("inputs"))
        self.size, self.classes = (int(shape[2]), int(shape[3])), []
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

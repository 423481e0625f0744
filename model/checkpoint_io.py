"""How Lightning writes and reads our checkpoint files, in the clear and encrypted."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.strategies.model_parallel import _load_checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.strategies import ModelParallelStrategy

from model import checkpoint as ckpt
from model.encryption import decrypt, encrypt, is_encrypted, passphrase


class Checkpoints(TorchCheckpointIO):
    """Files that are written beside where they go, whole or not at all; encrypted where `key` is a passphrase (see
    `encryption.passphrase`). Lightning's own go by the temporary folder, which needs room for them then, and where
    that is another disk the move may leave a part of one under its name."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        plain = io.BytesIO()
        torch.save(checkpoint, plain)
        secret = passphrase(self.key)
        ckpt.write(Path(path), encrypt(plain.getvalue(), self.key) if secret else plain.getbuffer())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """To the CPU, unless told otherwise: on GPUs every process would put its copy on the first."""
        return ckpt.read(path, self.key, map_location or "cpu")


class Fsdp(ModelParallelStrategy):
    """FSDP2 over all processes, with one file a checkpoint. Lightning's reads it past the `Checkpoints`."""

    def __init__(self, processes: int, key: str) -> None:
        super().__init__(processes, tensor_parallel_size=1, save_distributed_checkpoint=False)
        self.key = key

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        if not is_encrypted(checkpoint_path):
            return super().load_checkpoint(checkpoint_path, weights_only)
        state: dict[str, Any] = {"state_dict": self.model}
        state |= {f"optimizer_{n}": optimizer for n, optimizer in enumerate(self.optimizers)}
        with open(os.memfd_create("checkpoint"), "wb") as memory:  # never in the clear on a disk
            memory.write(decrypt(checkpoint_path, self.key))
            memory.flush()
            path = Path(f"/proc/self/fd/{memory.fileno()}")
            return _load_checkpoint(path, state, optimizer_states_from_list=True, weights_only=True)

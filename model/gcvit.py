"""GCViT feature extractors (Hatamizadeh et al. 2022, arXiv:2206.09959) for images of any size.

Attention runs in windows; every second block asks with queries that one pass over the whole map has produced. Parameter
names are those of NVIDIA's checkpoints. As in TAO's detectors a map is padded to whole windows and the global queries
are resized to a window; at 224x224 neither changes anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

DROP_PATH = 0.2  # of the last block, rising from 0 (TAO's value for every size)
POOLINGS = (3, 2, 1, 0)  # halvings from a level's map at 224x224 (56, 28, 14, 7) to a window of 7


@dataclass(frozen=True)
class Size:
    """`width` of level 0, doubled from level to level; `window` in cells; `layer_scale`: initial gamma or None."""

    width: int
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    mlp_ratio: int
    layer_scale: float | None = None
    window: tuple[int, int, int, int] = (7, 7, 14, 7)

    @property
    def widths(self) -> list[int]:
        return [self.width * 2**level for level in range(4)]


SIZES = {
    "gc_vit_xxtiny": Size(64, (2, 2, 6, 2), (2, 4, 8, 16), 3),
    "gc_vit_xtiny": Size(64, (3, 4, 6, 5), (2, 4, 8, 16), 3),
    "gc_vit_tiny": Size(64, (3, 4, 19, 5), (2, 4, 8, 16), 3),
    "gc_vit_small": Size(96, (3, 4, 19, 5), (3, 6, 12, 24), 2, 1e-5),
    "gc_vit_base": Size(128, (3, 4, 19, 5), (4, 8, 16, 32), 2, 1e-5),
    "gc_vit_large": Size(192, (3, 4, 19, 5), (6, 12, 24, 48), 2, 1e-5),
    "gc_vit_large_384": Size(192, (3, 4, 19, 5), (6, 12, 24, 48), 2, 1e-5, (12, 12, 24, 12)),
}


def size_name(backbone: str) -> str | None:
    """The name in SIZES of gc_vit_tiny or, as NVIDIA writes it, gcvit_tiny; None for other backbones."""
    name = re.sub(r"^gcvit_", "gc_vit_", backbone)
    return name if name in SIZES else None


_TIMM = (  # (ours, timm's), applied in this order
    (
        r"^levels\.(\d)\.downsample\.",
        lambda m: f"stages.{int(m[1]) + 1}.downsample.",
    ),  # there before the next level
    (r"^levels\.", "stages."),
    (r"^patch_embed\.proj\.", "stem.conv1."),
    (r"^patch_embed\.conv_down\.", "stem.down."),
    (r"^norm3\.", "stages.3.norm."),
    (r"(?=relative_position_)", "rel_pos."),
    (r"gamma([12])", r"ls\1.gamma"),
    (r"q_global_gen\.to_q_global\.(\d)\.conv\.", lambda m: f"global_block.blocks.conv{int(m[1]) + 1}."),
    (r"(down|downsample)\.conv\.", r"\1.conv_block."),
    (r"(conv\d|conv_block)\.0\.", r"\1.conv_dw."),
    (r"(conv\d|conv_block)\.2\.fc\.0\.", r"\1.se.fc1."),
    (r"(conv\d|conv_block)\.2\.fc\.2\.", r"\1.se.fc2."),
    (r"(conv\d|conv_block)\.3\.", r"\1.conv_pw."),
)


def timm_name(name: str) -> str:
    """Our (NVIDIA's) name of a weight -> the one in timm's gcvit models."""
    for ours, theirs in _TIMM:
        name = re.sub(ours, theirs, name)
    return name


def from_timm(
    wanted: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """timm's weights under our names and in our shapes; it lacks the norms of the earlier levels' maps."""
    found = {n: weights[timm_name(n)].reshape(v.shape) for n, v in wanted.items() if timm_name(n) in weights}
    return found | {n: v for n, v in wanted.items() if n.endswith("relative_position_index")}


class SqueezeExcite(nn.Module):
    """Channels weighed by what the whole map holds."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = width // 4
        self.fc = nn.Sequential(
            nn.Linear(width, inner, bias=False), nn.GELU(), nn.Linear(inner, width, bias=False), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.fc(x.mean((2, 3)))[..., None, None]


def _fused_convolutions(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
        nn.GELU(),
        SqueezeExcite(width),
        nn.Conv2d(width, width, 1, bias=False),
    )


class Halving(nn.Module):
    """[B, H, W, C] -> [B, ceil(H/2), ceil(W/2), out]."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.conv = _fused_convolutions(width)
        self.reduction = nn.Conv2d(width, out, 3, stride=2, padding=1, bias=False)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm1(x).permute(0, 3, 1, 2).contiguous()
        x = self.reduction(x + self.conv(x))
        return self.norm2(x.permute(0, 2, 3, 1))


class PatchEmbed(nn.Module):
    """[B, 3, H, W] -> [B, H/4, W/4, C]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.conv_down = Halving(width, width)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv_down(self.proj(images).permute(0, 2, 3, 1))


class Extract(nn.Module):
    """One step from a level's map to its global queries; `halve` pools."""

    def __init__(self, width: int, halve: bool) -> None:
        super().__init__()
        self.conv, self.halve = _fused_convolutions(width), halve

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.conv(x)
        return F.max_pool2d(x, 3, stride=2, padding=1) if self.halve else x


class GlobalQueries(nn.Module):
    """[B, H, W, C] -> one window of queries for the whole map, [B, M, N, C / M] with N cells in a window."""

    def __init__(self, width: int, level: int, window: int, heads: int) -> None:
        super().__init__()
        halvings = POOLINGS[level]
        if (level, window) == (2, 14):  # the map at 224x224 is one window already
            halvings = 0
        steps = [True] * halvings or [False]
        self.to_q_global = nn.Sequential(*(Extract(width, halve) for halve in steps))
        self.window, self.heads = window, heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.to_q_global(x.permute(0, 3, 1, 2).contiguous())
        side = (self.window, self.window)
        if (x.shape[2], x.shape[3]) != side:
            x = F.interpolate(x, size=side, mode="bicubic")
        B, C, _, _ = x.shape
        return x.view(B, self.heads, C // self.heads, -1).transpose(2, 3)


class WindowAttention(nn.Module):
    """windows [B * n, N, C] -> the same; with `uses_global` the queries come from the whole map."""

    relative_position_index: torch.Tensor

    def __init__(self, width: int, heads: int, window: int, uses_global: bool) -> None:
        super().__init__()
        self.heads, self.uses_global = heads, uses_global
        self.qkv, self.proj = nn.Linear(width, (2 if uses_global else 3) * width), nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        cells = torch.stack(
            torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        ).flatten(1)
        apart = cells[:, :, None] - cells[:, None, :] + window - 1
        self.register_buffer("relative_position_index", apart[0] * (2 * window - 1) + apart[1])

    def forward(self, x: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        total, N, C = x.shape
        parts = self.qkv(x).view(total, N, -1, self.heads, C // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        k, v = parts[-2:]
        q = parts[0]
        if self.uses_global:
            n = total // queries.shape[0]
            q = queries[:, None].expand(-1, n, -1, -1, -1).reshape(total, *queries.shape[1:])
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None].to(x.dtype))
        return self.proj(x.transpose(1, 2).reshape(total, N, C))


class Mlp(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, size: Size, level: int, uses_global: bool, drop_path: float) -> None:
        super().__init__()
        width = size.widths[level]
        self.window = size.window[level]
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = WindowAttention(width, size.heads[level], self.window, uses_global)
        self.mlp = Mlp(width, width * size.mlp_ratio)
        self.drop_path = StochasticDepth(drop_path, "row")
        self.gamma1 = self.gamma2 = None
        if size.layer_scale is not None:
            self.gamma1 = nn.Parameter(torch.full((width,), size.layer_scale))
            self.gamma2 = nn.Parameter(torch.full((width,), size.layer_scale))

    def forward(self, x: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        attended = self._in_windows(self.norm1(x), queries)
        x = x + self.drop_path(attended if self.gamma1 is None else self.gamma1 * attended)
        processed = self.mlp(self.norm2(x))
        return x + self.drop_path(processed if self.gamma2 is None else self.gamma2 * processed)

    def _in_windows(self, x: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        B, H, W, C = x.shape
        w = self.window
        x = F.pad(x, (0, 0, 0, -W % w, 0, -H % w))
        rows, columns = x.shape[1] // w, x.shape[2] // w
        x = x.view(B, rows, w, columns, w, C).transpose(2, 3).reshape(B * rows * columns, w * w, C)
        x = self.attn(x, queries).view(B, rows, columns, w, w, C).transpose(2, 3)
        return x.reshape(B, rows * w, columns * w, C)[:, :H, :W]


class Level(nn.Module):
    """[B, H, W, C] -> the next level's input and this level's map."""

    def __init__(self, size: Size, level: int, last: bool, drop_paths: list[float]) -> None:
        super().__init__()
        width, window = size.widths[level], size.window[level]
        self.blocks = nn.ModuleList(
            Block(size, level, index % 2 == 1, drop) for index, drop in enumerate(drop_paths)
        )
        self.downsample = None if last else Halving(width, 2 * width)
        self.q_global_gen = GlobalQueries(width, level, window, size.heads[level])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        queries = self.q_global_gen(x)
        for block in self.blocks:
            x = block(x, queries)
        return (x if self.downsample is None else self.downsample(x)), x


class GCViT(nn.Module):
    """images [B, 3, H, W] -> {stage: [B, C, H / 4 / 2^stage, ...]} of the asked stages, each normalised."""

    def __init__(self, size: Size, stages: list[int], checkpointing: bool) -> None:
        super().__init__()
        self.stages, self.checkpointing = stages, checkpointing
        self.patch_embed = PatchEmbed(size.width)
        blocks = sum(size.depths)
        drops = iter(DROP_PATH * block / (blocks - 1) for block in range(blocks))
        top = max(stages)
        self.levels = nn.ModuleList(
            Level(size, level, level == top, [next(drops) for _ in range(size.depths[level])])
            for level in range(top + 1)
        )
        for stage in stages:
            self.add_module(f"norm{stage}", nn.LayerNorm(size.widths[stage]))
        self.apply(_initialise)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        x, found = self.patch_embed(images), {}
        for stage, level in enumerate(self.levels):
            if self.checkpointing and self.training and torch.is_grad_enabled():
                x, here = checkpoint(level, x, use_reentrant=False)
            else:
                x, here = level(x)
            if stage in self.stages:
                found[str(stage)] = self.get_submodule(f"norm{stage}")(here).permute(0, 3, 1, 2).contiguous()
        return found


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, WindowAttention):
        nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)

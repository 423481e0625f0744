"""The deformable transformer: encoder over all levels, decoder over queries, boxes refined layer by layer
(Zhu et al. 2020, arXiv:2010.04159). Parameter names are the published ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from model.boxes import inverse_sigmoid
from model.ops import ms_deform_attn
from model.position import sine_of_boxes

Shapes = Sequence[tuple[int, int]]


class Dropout(nn.Dropout):
    """nn.Dropout with a mask drawn faster on a CPU: torch draws one double an element, on one thread, which is a sixth
    of a training step. 16 bits an element are enough; the expectation is exact for the rate that they round to."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dropped = round(self.p * 2**16)
        if not self.training or x.device.type != "cpu" or not 0 < dropped < 2**16:
            return super().forward(x)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        drawn = words.view(torch.int16)[: x.numel()].view(x.shape)
        kept = torch.ge(drawn, dropped - 2**15, out=torch.empty_like(x))
        return x * kept.mul_(1 / (1 - dropped / 2**16))


class MSDeformAttn(nn.Module):
    """Each query looks at P points around its reference on each of L levels, M heads."""

    def __init__(self, channels: int, levels: int, heads: int, points: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(channels, heads * levels * points * 2)
        self.attention_weights = nn.Linear(channels, heads * levels * points)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self.reset()

    def reset(self) -> None:
        """Point p of head m starts p+1 cells from the reference, in the head's direction; all weigh the same."""
        M, L, P = self.heads, self.levels, self.points
        angle = torch.arange(M, dtype=torch.float32) * (2 * math.pi / M)
        direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
        direction = direction / direction.abs().max(-1, keepdim=True).values
        steps = torch.arange(1, P + 1, dtype=torch.float32)[None, None, :, None]
        with torch.no_grad():
            nn.init.zeros_(self.sampling_offsets.weight)
            self.sampling_offsets.bias.copy_(
                (direction[:, None, None, :] * steps).expand(M, L, P, 2).flatten()
            )
            for layer in (self.attention_weights,):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
            for layer in (self.value_proj, self.output_proj):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def repeat_per_point(self, xy: torch.Tensor) -> torch.Tensor:
        """[B, Q, L, 2] -> [B, Q, 1, L*P*2]. Broadcast over a last dimension of 2 instead, CPUs take seven times as
        long to work out the locations: as long as to sample there."""
        return xy[:, :, :, None].expand(-1, -1, -1, self.points, -1).flatten(2)[:, :, None]

    def forward(
        self, query: torch.Tensor, reference: torch.Tensor, memory: torch.Tensor, shapes: Shapes,
        padding: torch.Tensor | None,
    ) -> torch.Tensor:  # fmt: skip
        """query [B, Q, C]; reference [B, Q, L, 2] points or [B, Q, L, 4] boxes, 0-1 of the padded map; memory
        [B, S, C]; padding [B, S] bool or None. Returns [B, Q, C]."""
        B, Q, _ = query.shape
        M, L, P = self.heads, self.levels, self.points
        value = self.value_proj(memory)
        if padding is not None:
            value = value.masked_fill(padding[..., None], 0.0)
        value = value.view(B, value.shape[1], M, -1)
        offsets = self.sampling_offsets(query).view(B, Q, M, L * P * 2).float()
        weights = self.attention_weights(query).view(B, Q, M, L * P).float().softmax(-1).view(B, Q, M, L, P)
        if reference.shape[-1] == 2:
            cell = [size for h, w in shapes for size in (1 / w, 1 / h) * P]
            cells = torch.tensor(cell, dtype=torch.float32, device=query.device)
            locations = torch.addcmul(self.repeat_per_point(reference), offsets, cells)
        else:
            centre, extent = reference[..., :2], reference[..., 2:]
            locations = torch.addcmul(
                self.repeat_per_point(centre), offsets, self.repeat_per_point(extent * (0.5 / P))
            )
        locations = locations.view(B, Q, M, L, P, 2)
        return self.output_proj(ms_deform_attn(value, shapes, locations, weights))


class EncoderLayer(nn.Module):
    def __init__(self, model: Mapping[str, Any]) -> None:
        super().__init__()
        channels, dropout = model["hidden_dim"], model["dropout_ratio"]
        self.self_attn = MSDeformAttn(
            channels, model["num_feature_levels"], model["nheads"], model["enc_n_points"]
        )
        self.dropout1, self.norm1 = Dropout(dropout), nn.LayerNorm(channels)
        self.linear1, self.dropout2 = nn.Linear(channels, model["dim_feedforward"]), Dropout(dropout)
        self.linear2, self.dropout3 = nn.Linear(model["dim_feedforward"], channels), Dropout(dropout)
        self.norm2 = nn.LayerNorm(channels)

    def forward(
        self, x: torch.Tensor, position: torch.Tensor, reference: torch.Tensor, shapes: Shapes,
        padding: torch.Tensor | None,
    ) -> torch.Tensor:  # fmt: skip
        x = self.norm1(x + self.dropout1(self.self_attn(x + position, reference, x, shapes, padding)))
        return self.norm2(x + self.dropout3(self.linear2(self.dropout2(F.relu(self.linear1(x))))))


class DecoderLayer(nn.Module):
    def __init__(self, model: Mapping[str, Any]) -> None:
        super().__init__()
        channels, dropout = model["hidden_dim"], model["dropout_ratio"]
        self.cross_attn = MSDeformAttn(
            channels, model["num_feature_levels"], model["nheads"], model["dec_n_points"]
        )
        self.dropout1, self.norm1 = Dropout(dropout), nn.LayerNorm(channels)
        self.self_attn = nn.MultiheadAttention(channels, model["nheads"], dropout=dropout, batch_first=True)
        self.dropout2, self.norm2 = Dropout(dropout), nn.LayerNorm(channels)
        self.linear1, self.dropout3 = nn.Linear(channels, model["dim_feedforward"]), Dropout(dropout)
        self.linear2, self.dropout4 = nn.Linear(model["dim_feedforward"], channels), Dropout(dropout)
        self.norm3 = nn.LayerNorm(channels)

    def forward(
        self, x: torch.Tensor, position: torch.Tensor, reference: torch.Tensor, memory: torch.Tensor,
        shapes: Shapes, padding: torch.Tensor | None, blocked: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """x, position [B, Q, C]; blocked [Q, Q] bool, True where a query (row) may not see another, or None."""
        q = x + position
        x = self.norm2(x + self.dropout2(self.self_attn(q, q, x, attn_mask=blocked, need_weights=False)[0]))
        x = self.norm1(x + self.dropout1(self.cross_attn(x + position, reference, memory, shapes, padding)))
        return self.norm3(x + self.dropout4(self.linear2(self.dropout3(F.relu(self.linear1(x))))))


class Stack(nn.Module):
    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


class Transformer(nn.Module):
    """Everything between the projected feature maps and the per-layer query states."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        super().__init__()
        channels = model["hidden_dim"]
        self.checkpointing, self.tao_compat = model["activation_checkpoint"], model["tao_compat"]
        self.encoder = Stack([EncoderLayer(model) for _ in range(model["enc_layers"])])
        self.decoder = Stack([DecoderLayer(model) for _ in range(model["dec_layers"])])
        self.level_embed = nn.Parameter(torch.empty(model["num_feature_levels"], channels))
        if model["two_stage"]:
            self.enc_output, self.enc_output_norm = nn.Linear(channels, channels), nn.LayerNorm(channels)
            self.pos_trans = nn.Linear(2 * channels, 2 * channels)
            self.pos_trans_norm = nn.LayerNorm(2 * channels)
        else:
            self.reference_points = nn.Linear(channels, 2)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, MSDeformAttn):
                module.reset()
        if not model["two_stage"]:
            nn.init.zeros_(self.reference_points.bias)
        nn.init.normal_(self.level_embed)

    def encode(
        self, maps: list[torch.Tensor], masks: list[torch.Tensor], positions: list[torch.Tensor], padded: bool
    ) -> tuple[torch.Tensor, Shapes, torch.Tensor, torch.Tensor | None]:
        """maps, positions [B, C, H, W] and masks [B, H, W] (True: padding) per level -> memory [B, S, C], the
        levels' (H, W), valid ratios [B, L, 2], padding [B, S] or None."""
        shapes = [(m.shape[-2], m.shape[-1]) for m in maps]
        x = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=1)
        position = torch.cat(
            [p.flatten(2).transpose(1, 2) + self.level_embed[i] for i, p in enumerate(positions)], dim=1
        )
        ratios = torch.stack([valid_ratio(mask) for mask in masks], dim=1)
        padding = (
            torch.cat([mask.flatten(1) for mask in masks], dim=1) if padded and not self.tao_compat else None
        )
        reference = encoder_reference(shapes, ratios)
        for layer in self.encoder.layers:
            x = self._run(layer, x, position.to(x.dtype), reference, shapes, padding)
        return x, shapes, ratios, padding

    def _run(self, layer: nn.Module, *args: Any) -> Any:
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(layer, *args, use_reentrant=False)
        return layer(*args)

    def encoder_proposals(
        self, memory: torch.Tensor, shapes: Shapes, ratios: torch.Tensor, padding: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Two-stage (paper, A.4): every cell of the memory [B, S, C] as a candidate -> its features [B, S, C] and the
        logits [1 or B, S, 4], fp32, of a box around its centre; +inf, and features of nothing, on padding and where
        the box comes within 0.01 of the border. Boxes grow with the level: 0.05 * 2^level."""
        centres = cell_centres(shapes, ratios)
        sides = torch.cat(
            [centres.new_full((h * w, 2), 0.05 * 2.0**level) for level, (h, w) in enumerate(shapes)]
        )
        boxes = torch.cat([centres, sides.expand_as(centres)], dim=-1)
        usable = ((boxes > 0.01) & (boxes < 0.99)).all(-1, keepdim=True)
        if padding is not None:
            usable = usable & ~padding[..., None]
        features = self.enc_output_norm(self.enc_output(memory.masked_fill(~usable, 0.0)))
        return features, torch.log(boxes / (1 - boxes)).masked_fill(~usable, float("inf"))

    def embed_boxes(self, boxes_cxcywh: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Two-stage: boxes [B, Q, 4] 0-1 -> the queries' position and content [B, Q, C]."""
        waves = sine_of_boxes(boxes_cxcywh, self.level_embed.shape[1])
        position, content = self.pos_trans_norm(self.pos_trans(waves)).chunk(2, dim=-1)
        return position, content

    def decode(
        self, queries: torch.Tensor, position: torch.Tensor, reference: torch.Tensor, memory: torch.Tensor,
        shapes: Shapes, ratios: torch.Tensor, padding: torch.Tensor | None, refine: nn.ModuleList | None,
        look_forward_twice: bool, blocked: torch.Tensor | None = None, layers: int | None = None,
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:  # fmt: skip
        """queries, position [B, Q, C]; reference [B, Q, 2 or 4] -> per layer the states and the reference that
        the layer's box is an offset to. With `refine` (one box head a layer) each layer moves the reference.
        blocked [Q, Q] bool: which queries (columns) a query (row) may not see. `layers`: only the first ones."""
        states, references = [], []
        for index, layer in enumerate(list(self.decoder.layers)[:layers]):
            scale = torch.cat([ratios, ratios], dim=-1) if reference.shape[-1] == 4 else ratios
            references.append(reference)
            at = reference.detach() if look_forward_twice else reference
            at = at[:, :, None] * scale[:, None]
            queries = self._run(layer, queries, position, at, memory, shapes, padding, blocked)
            states.append(queries)
            if refine is not None:
                moved = refined(refine[index](queries), reference.detach())
                reference = moved if look_forward_twice else moved.detach()
        return states, references


def refined(delta: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """delta [..., 4] added to a reference [..., 2 or 4] in logit space -> box cxcywh, in fp32."""
    delta = delta.float()
    base = inverse_sigmoid(reference.float())
    if reference.shape[-1] == 2:
        return torch.cat([delta[..., :2] + base, delta[..., 2:]], dim=-1).sigmoid()
    return (delta + base).sigmoid()


def valid_ratio(mask: torch.Tensor) -> torch.Tensor:
    """mask [B, H, W], True on padding (which lies at the bottom and right) -> the share (x, y) [B, 2] that is not."""
    return torch.stack([(~mask[:, 0, :]).float().mean(1), (~mask[:, :, 0]).float().mean(1)], dim=-1)


def cell_centres(shapes: Shapes, ratios: torch.Tensor) -> torch.Tensor:
    """Every cell's centre (x, y) [B, S, 2], 0-1 over the valid part of its own level."""
    points = []
    for level, (h, w) in enumerate(shapes):
        y, x = torch.meshgrid(
            torch.arange(h, dtype=torch.float32, device=ratios.device) + 0.5,
            torch.arange(w, dtype=torch.float32, device=ratios.device) + 0.5,
            indexing="ij",
        )
        own = ratios[:, None, level] * torch.tensor([w, h], dtype=torch.float32, device=ratios.device)
        points.append(torch.stack([x.flatten(), y.flatten()], dim=-1)[None] / own)
    return torch.cat(points, dim=1)


def encoder_reference(shapes: Shapes, ratios: torch.Tensor) -> torch.Tensor:
    """Every cell's centre [B, S, L, 2]: 0-1 over its own level's valid part, then scaled to each target level's."""
    return cell_centres(shapes, ratios)[:, :, None] * ratios[:, None]

"""Deformable DETR whole: backbone, projections, transformer, heads."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from model.backbone import build_backbone
from model.denoising import HYBRID, MATCHED, Denoising, Noised, attention_mask
from model.elastic import Subnet
from model.position import sine_embedding, sine_of_boxes
from model.transformer import Shapes, Transformer, refined

PRIOR = 0.01  # probability that an untrained class head gives to every class


def _projection(width: int, channels: int, kernel: int, stride: int) -> nn.Sequential:
    """A backbone map to the transformer's width."""
    convolution = nn.Conv2d(width, channels, kernel, stride=stride, padding=kernel // 2)
    nn.init.xavier_uniform_(convolution.weight)
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return nn.Sequential(convolution, nn.GroupNorm(32, channels))


class MLP(nn.Module):
    """Three linear layers with ReLU between."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(channels, width) for width in (channels, channels, out))

    @property
    def last(self) -> nn.Linear:
        layer = self.layers[-1]
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class DeformableDETR(nn.Module):
    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__()
        model = {**spec["model"], "activation_checkpoint": spec["train"]["activation_checkpoint"]}
        channels, classes = model["hidden_dim"], spec["dataset"]["num_classes"]
        self.aux_loss, self.look_forward_twice = model["aux_loss"], model["look_forward_twice"]
        self.refine, self.two_stage = model["with_box_refine"], model["two_stage"]
        self.exact_padding = model["exact_padding"]
        backbone = build_backbone(spec)
        self.backbone = nn.Sequential(backbone)
        self.extra_level = 4 in model["return_interm_indices"]
        projections = [_projection(width, channels, 1, 1) for width in backbone.channels]
        if self.extra_level:
            projections.append(_projection(backbone.channels[-1], channels, 3, 2))
        self.input_proj = nn.ModuleList(projections)
        self.transformer = Transformer(model)
        self.num_queries = model["num_queries"]
        # Learned: position and content, in this order; the content alone with mixed selection; neither when two-stage.
        self.query_embed = None
        if not self.two_stage:
            self.query_embed = nn.Embedding(self.num_queries, 2 * channels)
        elif model["mixed_selection"]:
            self.query_embed = nn.Embedding(self.num_queries, channels)
        self._build_heads(channels, classes, model["dec_layers"] + int(self.two_stage))
        # Of the training alone: a file of weights may lack them.
        self.denoising = Denoising(model, classes) if model["denoising_queries"] else None
        self.hybrid_queries, self.hybrid_embed = model["hybrid_queries"], None
        if self.hybrid_queries and self.query_embed is not None:
            self.hybrid_embed = nn.Embedding(self.hybrid_queries, self.query_embed.embedding_dim)
        self.train()

    def train(self, mode: bool = True) -> DeformableDETR:
        """Norms of parts that do not train keep their statistics and go by them, as in an evaluation: else a frozen
        backbone would follow the batches all the same."""
        super().train(mode)
        if mode:
            _keep_statistics(self)
        return self

    def _build_heads(self, channels: int, classes: int, count: int) -> None:
        """One class and one box head per decoder layer, copies with box refinement, else one shared module; the
        last of a two-stage model rates the encoder's cells."""
        class_head, box_head = nn.Linear(channels, classes), MLP(channels, 4)
        nn.init.constant_(class_head.bias, -math.log((1 - PRIOR) / PRIOR))
        nn.init.zeros_(box_head.last.weight)
        nn.init.zeros_(box_head.last.bias)
        later = copy.deepcopy if self.refine else (lambda module: module)
        self.class_embed = nn.ModuleList([class_head, *(later(class_head) for _ in range(count - 1))])
        self.bbox_embed = nn.ModuleList([box_head, *(later(box_head) for _ in range(count - 1))])
        if not self.two_stage:  # learned points start as boxes of sigmoid(-2) = 12 % of the image
            nn.init.constant_(box_head.last.bias[2:], -2.0)

    def forward(
        self,
        images: torch.Tensor,
        mask: torch.Tensor | None = None,
        targets: list[dict[str, Any]] | None = None,
        chosen: torch.Tensor | None = None,
        subnet: Subnet | None = None,
    ) -> dict[str, Any]:
        """images [B, 3, H, W] normalised; mask [B, H, W] bool, True on padding (at the bottom and right), or None
        without padding; targets (labels, boxes_cxcywh) add the training's own queries, in training mode alone;
        two-stage, chosen [B, Q]: the cells to start from in place of the best, to compare two computations; subnet:
        only its first decoder layers and best or first queries are computed.

        Returns pred_logits [B, Q, K], pred_boxes [B, Q, 4] (cxcywh, 0-1 of the unpadded image); with aux_loss,
        aux_outputs: the same of every earlier decoder layer; two-stage, enc_outputs: the same of the S cells, and
        which of them were `chosen` [B, Q]; Q is S when the maps have fewer cells than there are queries. In training,
        hybrid_outputs and noised_outputs: the same of the extra queries, every layer; and `noised`, what the latter
        were made from.
        """
        memory, shapes, ratios, padding = self.encode(images, mask)
        training = self.training and targets is not None
        queries = subnet.queries if subnet else self.num_queries
        content, position, reference, cells = self.initial_queries(
            memory, shapes, ratios, padding, training, chosen, queries
        )
        counts = {"": min(queries, content.shape[1])}
        counts["hybrid_outputs"] = content.shape[1] - counts[""]
        blocked = noised = None
        if training and self.denoising is not None:
            assert targets is not None
            noised = self.denoising.draw(targets)
            extra = self._start_noised(noised, reference.shape[-1])
            content, position, reference = (
                torch.cat(pair, dim=1) for pair in zip((content, position, reference), extra, strict=True)
            )
            counts["noised_outputs"] = len(noised.group)
        if content.shape[1] > counts[""]:
            blocked = attention_mask(_groups(counts, noised, images.device))
        refine = self.bbox_embed if self.refine else None
        states, references = self.transformer.decode(
            content, position, reference, memory, shapes, ratios, padding, refine, self.look_forward_twice, blocked,
            subnet.layers if subnet else None,
        )  # fmt: skip
        decoded = enumerate(zip(states, references, strict=True))
        layers = [self.predict_layer(i, s, r) for i, (s, r) in decoded]
        layers = layers if self.aux_loss else layers[-1:]
        parts = [_split(layer, list(counts.values())) for layer in layers]
        outputs: dict[str, Any] = dict(parts[-1][0])
        if self.aux_loss:
            outputs["aux_outputs"] = [part[0] for part in parts[:-1]]
        for index, (name, count) in enumerate(counts.items()):
            if name and count:
                outputs[name] = [part[index] for part in parts]
        if noised is not None:
            outputs["noised"] = noised
        if cells is not None:
            outputs["enc_outputs"] = cells
        return outputs

    def encode(
        self, images: torch.Tensor, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, Shapes, torch.Tensor, torch.Tensor | None]:
        """Backbone, projections and encoder; see `Transformer.encode`."""
        padded = mask is not None and bool(mask.any())
        if mask is None:
            mask = torch.zeros(images.shape[0], *images.shape[2:], dtype=torch.bool, device=images.device)
        if padded and self.exact_padding and not self.training:
            maps, masks = self._project_each(images, mask)
        else:
            maps = self.project(images)
            masks = [F.interpolate(mask[None].float(), size=m.shape[-2:])[0].bool() for m in maps]
        positions = [sine_embedding(~m, maps[0].shape[1]) for m in masks]
        return self.transformer.encode(maps, masks, positions, padded)

    def project(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The feature maps [B, C, H, W] of every level, finest first."""
        raw = self.backbone(images)
        maps = [self.input_proj[i](level) for i, level in enumerate(raw)]
        return [*maps, self.input_proj[-1](raw[-1])] if self.extra_level else maps

    def _project_each(
        self, images: torch.Tensor, mask: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The maps of every image without its padding, side by side, and which of their cells are beyond an image."""
        sizes = [(int((~m[:, 0]).sum()), int((~m[0]).sum())) for m in mask]
        each = [self.project(images[i : i + 1, :, :h, :w]) for i, (h, w) in enumerate(sizes)]
        maps, masks = [], []
        for level in zip(*each, strict=True):
            height, width = (max(m.shape[d] for m in level) for d in (2, 3))
            maps.append(torch.cat([F.pad(m, (0, width - m.shape[3], 0, height - m.shape[2])) for m in level]))
            beyond = torch.ones(len(level), height, width, dtype=torch.bool, device=images.device)
            for i, m in enumerate(level):
                beyond[i, : m.shape[2], : m.shape[3]] = False
            masks.append(beyond)
        return maps, masks

    def initial_queries(
        self,
        memory: torch.Tensor,
        shapes: Shapes,
        ratios: torch.Tensor,
        padding: torch.Tensor | None,
        hybrid: bool = False,
        chosen: torch.Tensor | None = None,
        queries: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, torch.Tensor] | None]:
        """What the decoder starts from: content and position [B, Q, C], reference [B, Q, 2 or 4]; and, two-stage,
        logits [B, S, K] and boxes [B, S, 4] of all cells, of which the Q best by class 0 are taken, or those `chosen`
        [B, Q]. With `hybrid` the queries of hybrid matching follow. `queries`: Q, where it is less than all."""
        count = queries or self.num_queries
        embeds = [] if self.query_embed is None else [self.query_embed.weight[:count]]
        if hybrid and self.hybrid_embed is not None:
            embeds.append(self.hybrid_embed.weight)
        learned = torch.cat(embeds).expand(memory.shape[0], -1, -1) if embeds else None
        if not self.two_stage:
            assert learned is not None
            position, content = learned.chunk(2, dim=-1)
            return content, position, self.transformer.reference_points(position).float().sigmoid(), None
        features, proposals = self.transformer.encoder_proposals(memory, shapes, ratios, padding)
        logits = self.class_embed[-1](features)
        boxes = (self.bbox_embed[-1](features).float() + proposals).sigmoid()
        if chosen is None:
            wanted = count + (self.hybrid_queries if hybrid else 0)
            chosen = self._best(logits[..., 0].float(), wanted, padding)
        reference = boxes.gather(1, chosen[..., None].expand(-1, -1, 4)).detach()
        position, content = self.transformer.embed_boxes(reference)
        if self.query_embed is not None and learned is not None:
            content = learned[:, : chosen.shape[1]]
        return content, position, reference, {"pred_logits": logits, "pred_boxes": boxes, "chosen": chosen}

    def _best(self, score: torch.Tensor, count: int, padding: torch.Tensor | None) -> torch.Tensor:
        """The cells [B, Q] with the highest of the scores [B, S]."""
        if self.exact_padding and padding is not None and not self.training:
            # The published network takes cells of padding, too, when there are few better ones.
            score = score.masked_fill(padding, float("-inf"))
        return score.topk(min(count, score.shape[1]), dim=1).indices

    def _start_noised(
        self, noised: Noised, coordinates: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The same of noised objects; `coordinates` of the reference: 2 where the first layer starts from points."""
        assert self.denoising is not None
        boxes = noised.boxes_cxcywh
        if self.denoising.position is None:
            position, _ = self.transformer.embed_boxes(boxes)
        else:
            channels = self.transformer.level_embed.shape[1]
            position = self.denoising.position(sine_of_boxes(boxes, channels))
        return self.denoising.content(noised), position, boxes[..., :coordinates]

    def decode_queries(
        self, memory: torch.Tensor, shapes: Shapes, ratios: torch.Tensor, padding: torch.Tensor | None,
        chosen: torch.Tensor | None = None,
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], dict[str, torch.Tensor] | None]:  # fmt: skip
        """Run the decoder over the encoder's memory [B, S, C]: per layer states [B, Q, C] and reference boxes; and
        the cells, see `initial_queries`."""
        content, position, reference, cells = self.initial_queries(
            memory, shapes, ratios, padding, chosen=chosen
        )
        refine = self.bbox_embed if self.refine else None
        states, references = self.transformer.decode(
            content, position, reference, memory, shapes, ratios, padding, refine, self.look_forward_twice
        )
        return states, references, cells

    def predict_layer(
        self, layer: int, state: torch.Tensor, reference: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """A decoder layer's predictions from its states [B, Q, C] and reference [B, Q, 2 or 4]."""
        boxes = refined(self.bbox_embed[layer](state), reference)
        return {"pred_logits": self.class_embed[layer](state), "pred_boxes": boxes}


def _keep_statistics(module: nn.Module) -> None:
    """Put the norms of parts whose parameters are all frozen into evaluation mode, those without parameters too."""
    parameters = list(module.parameters())
    if not parameters or any(parameter.requires_grad for parameter in parameters):
        for part in module.children():
            _keep_statistics(part)
        return
    for part in module.modules():
        if isinstance(part, _NormBase):  # with statistics: of batches, also over processes, and of instances
            part.eval()


def _split(layer: dict[str, torch.Tensor], counts: list[int]) -> list[dict[str, torch.Tensor]]:
    """A layer's predictions cut into runs of queries."""
    parts = {name: value.split(counts, dim=1) for name, value in layer.items()}
    return [{name: parts[name][i] for name in parts} for i in range(len(counts))]


def _groups(counts: Mapping[str, int], noised: Noised | None, device: torch.device) -> torch.Tensor:
    """The group [Q] of every query, in the order in which they follow each other."""
    groups = [
        torch.full((counts[name],), number, device=device)
        for name, number in (("", MATCHED), ("hybrid_outputs", HYBRID))
    ]
    return torch.cat([*groups, *([noised.group] if noised else [])])

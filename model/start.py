"""Where a training starts: pretrained on COCO, a backbone pretrained on ImageNet, a file of one's own, or nothing.

`settle` decides, read from top to bottom; `fetch` brings what it names to this machine, before the first training and
never in one; `load` fills a detector (by `model/filling.py`) and says what was taken and what starts anew. Importing it
brings in no torch.
"""

from __future__ import annotations

import copy
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from model import hub
from model.checkpoint import best_in
from model.errors import UserError, did_you_mean
from model.hub import HubFile, PublishedFile, Unreachable, WebFile
from model.spec import Spec, get, names_parts, put

if TYPE_CHECKING:
    from torch import nn

# The published models, weights of the paper's repository (44.5, 46.2 and 46.9 AP), at fixed commits.
COCO = {
    "plain": HubFile("SenseTime/deformable-detr", "83ecd26945199939cb82806f988debdb71e6f43e"),
    "refining": HubFile(
        "SenseTime/deformable-detr-with-box-refine", "2e9e461623a8fdc296e19666c46c8a4389a3a6fe"
    ),
    "two-stage": HubFile(
        "SenseTime/deformable-detr-with-box-refine-two-stage", "e74bff70d69f3e825f6cefaf179bfba707f92054"
    ),
}
COCO_BACKBONE, COCO_WIDTH = "resnet_50", 256
# torchvision's files, the one that detectors are mostly built on first; any of them is taken where it is here already.
TORCHVISION = "https://download.pytorch.org/models/"
RESNETS = {
    "resnet_18": ("resnet18-f37072fd.pth",),
    "resnet_34": ("resnet34-b627a593.pth",),
    "resnet_50": ("resnet50-0676ba61.pth", "resnet50-11ad3fa6.pth"),
    "resnet_101": ("resnet101-63fe2227.pth", "resnet101-cd907fc2.pth"),
}
NAMED = ("auto", "coco", "imagenet", "scratch")
PATHS = (
    "train.resume_training_checkpoint_path",
    "train.pretrained_model_path",
    "model.pretrained_backbone_path",
)


@dataclass(frozen=True)
class Start:
    """`kind`: coco, imagenet, file, scratch, given (a backbone's path) or resume. `text`: where training starts, in
    words. `file`: what holds the weights, `path`: where it is on this machine, None while it must be fetched;
    `size`: bytes to fetch, where known. `warning`: what the user should know."""

    kind: str
    text: str
    file: PublishedFile | str | None = None
    path: Path | None = None
    size: int | None = None
    warning: str = ""

    @property
    def missing(self) -> bool:
        return self.file is not None and self.path is None


def settle(spec: Mapping[str, Any], network: bool = True) -> Start:
    """Decide from what the training of a full spec starts. With `network`, servers are asked for what is not on this
    machine (a few seconds where there are none); without, only what is here counts. Raises `UserError` for what
    was asked for and cannot be had."""
    train, asked = spec["train"], str(get(spec, "train.start", "scratch"))
    if given := train["resume_training_checkpoint_path"]:
        path = _existing(given, "train.resume_training_checkpoint_path", "checkpoint")
        return Start("resume", f"goes on from {path}", path=path)
    if given := train["pretrained_model_path"]:
        path = _weights(given, "train.pretrained_model_path")
        return Start("file", f"train.pretrained_model_path: {path}", str(path), path)
    if given := get(spec, "model.pretrained_backbone_path"):
        path = _existing(given, "model.pretrained_backbone_path")
        return Start("given", f"model.pretrained_backbone_path: {path}")
    if asked == "scratch":
        return _scratch(spec, "random weights")
    if asked == "auto":
        return _best(spec, network)
    if asked in NAMED:
        return _published(asked, spec, network)
    return _own(asked, network)


def is_own(spec: Mapping[str, Any]) -> bool:
    """Whether training starts from what a person names, which was made for one network."""
    return any(get(spec, name) for name in PATHS) or str(get(spec, "train.start", "scratch")) not in NAMED


def own_recipe(spec: Mapping[str, Any]) -> str | None:
    """The `train.recipe` that fits the detector which a person starts from: what ours was trained with; where that has
    no name, and of another's, dino where it has two stages, else `default`, as where its file cannot be read. None
    where none is named, a backbone, or a URL, of which nothing is known before it is fetched, and no more after: the
    same command would train another network the second time."""
    named = get(spec, "train.pretrained_model_path") or str(get(spec, "train.start", "scratch"))
    if named in NAMED or get(spec, "train.resume_training_checkpoint_path") or "://" in named:
        return None
    from model import weights

    try:
        begin = settle(spec, network=False)
        told = weights.read_told(begin.path, get(spec, "encryption_key", "")) if begin.path else None
    except UserError:  # told where it is loaded
        return "default"
    if told and not weights.is_detector(told.weights):
        return None
    recorded = str(get((told and told.spec) or {}, "train.recipe", "default"))
    two_stages = told is not None and weights.is_two_stage(told.weights)
    return "dino" if recorded == "default" and two_stages else recorded


def _best(spec: Mapping[str, Any], network: bool) -> Start:
    """COCO's weights where they fit, else ImageNet's, else random ones."""
    reasons = []
    for kind in ("coco", "imagenet") if _coco_fits(spec) else ("imagenet",):
        try:
            return _published(kind, spec, network)
        except UserError as error:
            reasons.append(str(error))
    warning = (
        f"training starts from random weights, which takes many more images and epochs. {reasons[0]}. "
        "train.start=scratch silences this"
    )
    return _scratch(spec, "random weights, for nothing pretrained can be had", warning)


def _scratch(spec: Mapping[str, Any], text: str, warning: str = "") -> Start:
    """Random weights. Raises `UserError` where norms would stay at them; GCViT has none of these."""
    model = spec["model"]
    if model["backbone_norm"] == "frozen" and not model["backbone"].startswith("gc"):
        raise UserError(
            "model.backbone_norm frozen keeps pretrained statistics, but training starts from random weights; set it "
            f"to auto or batch{f'. {warning}' if warning else ''}"
        )
    return Start("scratch", text, warning=warning)


def _published(kind: str, spec: Mapping[str, Any], network: bool) -> Start:
    """The published weights of a kind: what is here, else what a server has. Raises `UserError`."""
    backbone = spec["model"]["backbone"]
    files = [_coco_file(spec)] if kind == "coco" else _imagenet_files(backbone)
    words = "COCO weights" if kind == "coco" else f"ImageNet weights of {backbone}"
    for file in files:
        if path := hub.cached(file):
            return Start(kind, f"{words}, {path}", file, path)
    first = files[0]
    try:
        if not network:
            raise Unreachable(f"a training fetches nothing itself; they are at {first.where}")
        size = hub.size_of(first)
    except Unreachable as error:
        raise Unreachable(_not_here(kind, words, first, spec, str(error))) from None
    text = f"{words}, {first.where} ({hub.megabytes(size)} to fetch before the first training)"
    return Start(kind, text, first, None, size)


def _not_here(kind: str, words: str, file: PublishedFile, spec: Mapping[str, Any], reason: str) -> str:
    folder, model = hub.hub_folder() if isinstance(file, HubFile) else hub.torch_folder(), spec["model"]
    command = f"automl fetch imagenet --set model.backbone={model['backbone']}"
    if kind == "coco":
        refining = f"deformable_detr fetch coco model.with_box_refine={str(model['with_box_refine']).lower()}"
        command = "automl fetch coco" if model["two_stage"] else refining
    return (
        f"train.start {kind}: {words} are not on this machine ({reason}). Where their server can be reached, "
        f"`{command}` brings them; without one, run it on another machine and copy its {folder} here, or name a "
        "weights file by train.start=PATH"
    )


def _coco_fits(spec: Mapping[str, Any]) -> bool:
    return spec["model"]["backbone"] == COCO_BACKBONE and spec["model"]["hidden_dim"] == COCO_WIDTH


def _coco_file(spec: Mapping[str, Any]) -> HubFile:
    model = spec["model"]
    if not _coco_fits(spec):
        raise UserError(
            f"train.start coco needs model.backbone {COCO_BACKBONE} and model.hidden_dim {COCO_WIDTH}, but they are "
            f"{model['backbone']} and {model['hidden_dim']}; train.start imagenet fits every backbone"
        )
    return COCO["two-stage" if model["two_stage"] else "refining" if model["with_box_refine"] else "plain"]


def _imagenet_files(backbone: str) -> list[PublishedFile]:
    """Where weights of this backbone are published, best first. Raises `UserError` when they are not."""
    if backbone in RESNETS:
        return [WebFile(TORCHVISION + name) for name in RESNETS[backbone]]
    import timm

    from model.gcvit import size_name

    gcvit = size_name(backbone)
    name = gcvit.replace("gc_vit_", "gcvit_") if gcvit else backbone.removeprefix("timm/")
    card = timm.models.get_pretrained_cfg(name)
    if card is None or card.custom_load or not (card.hf_hub_id or card.url):
        raise UserError(
            f"train.start imagenet: no weights of {backbone} are published in a form that loads by name; give a file "
            f"of them by model.pretrained_backbone_path, or choose another model.backbone"
        )
    files: list[PublishedFile] = []
    if card.hf_hub_id:
        repo, _, revision = card.hf_hub_id.partition("@")
        names = (card.hf_hub_filename,) if card.hf_hub_filename else HubFile.names
        files.append(HubFile(repo, revision or "main", names))
    return [*files, *([WebFile(str(card.url))] if card.url else [])]


def _own(text: str, network: bool) -> Start:
    """A file or URL that a person names."""
    from model.data.cache import cache_dir
    from model.data.sources import is_url

    if re.fullmatch(r"\w+", text) and not Path(text).exists():
        raise UserError(
            f"train.start must be one of {', '.join(NAMED)}, or a path or URL of weights, but got {text!r}, and "
            f"there is no such file{did_you_mean(text, NAMED)}"
        )
    if not is_url(text) or text.startswith("file://"):
        path = _weights(unquote(text.removeprefix("file://")), "train.start")
        return Start("file", f"weights in {path}", str(path), path)
    if not text.startswith(("http://", "https://")):
        return Start("file", f"weights at {text} (not looked at before they are fetched)", text)
    if not PurePosixPath(urlparse(text).path).name:
        raise UserError(f"train.start: {text.partition('?')[0]} must end in a file's name")
    folder = cache_dir() / "weights" / hashlib.sha256(text.encode()).hexdigest()[:16]
    file = WebFile(text, str(folder))
    if kept := hub.cached(file):
        return Start("file", f"weights of {file.where}, {kept}", file, kept)
    if not network:
        raise Unreachable(f"train.start: {file.where} is not on this machine")
    try:
        size = hub.size_of(file)
    except Unreachable as error:
        raise Unreachable(f"train.start: {error}") from None
    return Start("file", f"weights at {file.where} ({hub.megabytes(size)} to fetch)", file, None, size)


def _weights(text: str, name: str) -> Path:
    """A weights file; of a folder the one of Hugging Face's layout, else the best checkpoint of a run, trial or
    training."""
    path = Path(text).expanduser()
    if not path.is_dir():
        return _existing(text, name)
    published = [path / each for each in HubFile.names if (path / each).is_file()]
    try:
        return published[0] if published else best_in(path)[0]
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def _existing(text: str, name: str, what: str = "weights file") -> Path:
    path = Path(text).expanduser()
    if not path.is_file():
        folder = path if path.is_dir() else path.parent
        near = sorted(p.name for p in folder.glob("*"))[:8] if folder.is_dir() else []
        raise UserError(
            f"{name}: {text} must be a {what}, but {'is a folder' if path.is_dir() else 'there is none'}"
            + (f" ({folder} has {', '.join(near)})" if near else "")
        )
    return path


# ---- before the first training --------------------------------------------------------------------------------


def describe(spec: Mapping[str, Any]) -> dict[str, Any]:
    """{"text": where training starts and, of a person's own file that is here, what is taken of it, "size": bytes to
    fetch or None, "cached": whether nothing is to be fetched, "path": that file, else None}. Raises `UserError` for a
    file that fits nothing of the network, and for names of parts that the network has not."""
    start = settle(spec)
    said = _check_fits(start, spec)
    if names_parts(spec):
        from model.parameter_groups import check_parts

        check_parts(spec)
    own = os.path.abspath(start.path) if isinstance(start.file, str) and start.path else None
    text = "; ".join([start.text, *(line.strip() for line in said[1:])])
    return {"text": text, "size": start.size, "cached": not start.missing, "path": own}


def fetch(
    spec: Mapping[str, Any], say: Callable[[str], None] = print, folder: str | Path | None = None
) -> dict[str, Any]:
    """Bring what the training of a full spec starts from to this machine; with `folder`, which all machines of a
    cluster see, to that folder. Returns {leaf: value} that trainings then need in their specs."""
    start = settle(spec)
    if start.warning:
        say(f"warning: {start.warning}")
    path = fetched(start, say)
    _check_fits(replace(start, path=path), spec)
    if start.kind in ("resume", "given"):
        return {}
    named = "train.pretrained_model_path" if get(spec, "train.pretrained_model_path") else "train.start"
    if path is not None and folder is not None:
        return {named: str(_copied(path, Path(folder)))}
    if isinstance(start.file, str) and start.path is not None:
        return {named: str(start.path.resolve())}  # trials may run elsewhere, and start from the same file
    return {"train.start": get(spec, "train.start") if start.kind == "file" else start.kind}


def _check_fits(start: Start, spec: Mapping[str, Any]) -> list[str]:
    """What a training will say of the file that a person named. Raises `UserError` where it, or his backbone's, does
    not fit the network: better now than in every training."""
    if start.kind == "resume" and start.path is not None:
        from model import checkpoint, resume

        recorded = checkpoint.load(start.path, spec["encryption_key"])
        resume.check(recorded, spec, None, str(start.path))
    named = start.kind == "given" or (start.kind == "file" and start.path is not None)
    if named or (_keeps_parts(spec) and (start.kind == "scratch" or start.path is not None)):
        from model.build import build_model
        from model.parameter_groups import freeze

        detector = build_model(spec)
        freeze(detector, spec["train"]["freeze"])
        return load(detector, start, spec, None)
    return []


def _keeps_parts(spec: Mapping[str, Any]) -> bool:
    """Whether a person wants parts kept as they are loaded, or norms that published weights have not."""
    model = spec["model"]
    return bool(spec["train"]["freeze"]) or not model["train_backbone"] or model["backbone_norm"] == "group"


def with_start(spec: Mapping[str, Any], value: str) -> Spec:
    changed = copy.deepcopy(dict(spec))
    put(changed, "train.start", value)
    return changed


def fetched(start: Start, say: Callable[[str], None]) -> Path | None:
    if start.file is None or start.path is not None:
        return start.path
    if isinstance(start.file, str):
        from model.data.sources import stage_file

        return stage_file(start.file)
    return hub.fetch(start.file, say)


def _copied(path: Path, folder: Path) -> Path:
    target = folder / "start" / path.name
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        shutil.copyfile(path, partial)
        partial.replace(target)
    return target


# ---- in a training --------------------------------------------------------------------------------------------


def settled(spec: Spec) -> tuple[Spec, Start]:
    """The spec of a training that is about to begin, `train.start` no longer `auto`; and its start. A training that
    is resumed starts as its checkpoint did, and needs no file that the first one began from. Asks no server."""
    start = settle(spec, network=False)
    if start.kind == "resume":
        from model import checkpoint

        recorded = checkpoint.load(spec["train"]["resume_training_checkpoint_path"], spec["encryption_key"])[
            "spec"
        ]
        spec = with_start(spec, get(recorded, "train.start", spec["train"]["start"]))
        for name in PATHS[1:]:  # what the norms are, where they are `auto`, hangs on these
            put(spec, name, get(recorded, name, ""))
        return spec, start
    return with_start(spec, start.kind) if start.kind in NAMED else spec, start


def load(
    detector: nn.Module, start: Start, spec: Mapping[str, Any], classes: Sequence[Mapping[str, Any]] | None
) -> list[str]:
    """Fill a detector, its parts frozen, with what it starts from; `classes` are the training's [{"id", "name"}], None
    before they are read. Returns sentences that say what was taken and what starts anew. Raises `UserError` for what
    does not fit at all, and where what starts anew does not train."""
    from model import filling

    if start.kind == "resume":
        return []
    lines, path = [] if start.kind == "given" else [f"start: {start.text}"], None
    if start.kind == "given":
        new = filling.beyond_backbone(detector)
    elif (path := start.path or fetched(start, print)) is None:
        new = list(detector.state_dict())
    else:
        more, new = filling.fill(detector, start.kind, path, spec, classes)
        lines += more
    filling.refuse_random(detector, new, spec, str(path or start.text))
    return lines

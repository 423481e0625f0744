"""What lies in `--data`: the layouts that tools export, found by what is there, and said.

    ours              train/annotations.json, train/images/ (or an archive)
    standard COCO     annotations/instances_train2017.json, train2017/ or images/train2017/
    Roboflow COCO     train/_annotations.coco.json beside the images, valid/
    CVAT, Label Studio, FiftyOne    annotations/instances_default.json, result.json, labels.json
    YOLO              data.yaml, images/ and labels/; or obj.data (convert_yolo.py)
    Pascal VOC        Annotations/, JPEGImages/, ImageSets/ (convert_voc.py)
    KITTI             image_2/, label_2/, or in the places of YOLO (convert_kitti.py)
    one file          of COCO, its images near it; or a data.yaml or obj.data

YOLO, VOC and KITTI become COCO files in the cache; images stay where they are. Any of these may lie in an archive, in
several side by side, or at a URL. What is there and not read is named.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from model.data import convert_kitti, convert_voc, convert_yolo, labels_only, layout_coco, packed
from model.data.archives import ARCHIVES, is_archive
from model.data.cache import all_in_own_words, refusing_in_own_words
from model.data.coco_glance import sniff
from model.data.foreign import ADVICE, LAST, how_it_begins, how_to_export, tool_of
from model.data.images import READ_SUFFIXES, UNREAD, how_to_convert
from model.data.label_files import LabelFiles, Unlabelled, to_coco
from model.data.other_labels import SUFFIXES, Found, form_of, in_pixels, unread_labels
from model.data.sources import is_url, stage_dataset, without_secrets
from model.data.tree import SPLITS, Data, Tree, given, parent
from model.data.unread_splits import unread_splits
from model.errors import UserError, number_of
from model.spec import get

SHOWN = 5
NAMES = 8  # of files in a folder
LOOKED_AT = 200  # files that may be labels
# Annotations in formats that are not read, by the end of the name.
FOREIGN = (
    ".csv",
    ".createml.json",
    ".tfrecord",
    ".record",
    ".ndjson",
    ".jsonl",
    ".parquet",
    ".arrow",
    "annotations.xml",
)
WANTED = (
    "a layout of COCO (train/annotations.json and train/images/, or as Roboflow, CVAT, Label Studio and FiftyOne "
    "export it), YOLO (data.yaml), Pascal VOC or KITTI"
)

OF_YOLO = "a class's number, then the centre and the sides of its box as shares of the image"


def find_data(spec: Mapping[str, Any], data_dir: str | None) -> Data:
    """{"train", "val", "test": [{"image_dir", "json_file"}]}: what the spec names, else what `data_dir` holds, with its
    layout. Raises `UserError` when there is no training set in either."""
    named = {split: _named(spec, split) for split in SPLITS}
    if data_dir is None or all(named.values()):
        if not named["train"]:
            raise UserError("no training data: give --data DIR or dataset.train_data_sources")
        return Data(named)
    found = in_place(data_dir, tuple(split for split in SPLITS if named[split]))
    return replace(found, sources={split: named[split] or found.sources[split] for split in SPLITS})


def _named(spec: Mapping[str, Any], split: str) -> list[dict[str, str]]:
    value = get(spec, f"dataset.{split}_data_sources") or []
    listed = [value] if isinstance(value, Mapping) else list(value)
    return given(listed)


@refusing_in_own_words()
def in_place(place: str, settled: Sequence[str] = (), kitti: convert_kitti.Options | None = None) -> Data:
    """The data in a folder, an archive, a COCO file, a data.yaml or an obj.data, or at the URL of one; `settled` are
    splits that come from elsewhere. With `kitti` it must be KITTI, read by these options. Raises `UserError` for what
    is not there, not a dataset, or half of one."""
    if not is_url(place) and Path(place).is_file():
        if tool := tool_of(Path(place)) or ("CSV" if place.lower().endswith(".csv") else ""):
            raise UserError(f"{place}: is {ADVICE[tool]}")
    path = stage_dataset(place)
    if kitti and path.is_file():
        raise UserError(
            f"{place}: the options of KITTI go with a folder, or an archive, of its images and labels"
        )
    if path.is_file():
        return _described(_of_file(path), place)
    tree = Tree.read(path)
    if inner := _only_archive(tree):
        return in_place(str(inner), settled, kitti)
    if zipped := packed.zipped_documents(tree):
        tree = Tree.read(packed.laid_out(tree, zipped))
    labels_only.refuse(tree)
    tree, found = _read_packed(tree, "train" not in settled, kitti)
    if found is None:
        _refuse_halves(tree, Data({split: [] for split in SPLITS}), ("val",))
        _refuse_without_train(tree, kitti)
        raise UserError(f"no training data: {without_secrets(place)} must hold {WANTED}; {whats_there(tree)}")
    _refuse_halves(tree, found, settled)
    notes = found.notes + tuple(unread_files(tree, found))
    return _described(replace(found, notes=notes, tree=tree), place)


def _read_packed(
    tree: Tree, needs_train: bool, kitti: convert_kitti.Options | None
) -> tuple[Tree, Data | None]:
    """(the tree that was read, its data). Archives that no source has its images in are opened where there is nothing
    without them, or not what their names promise: a val.zip beside train/."""
    found = failed = None
    try:
        found = read(tree, needs_train, kitti)
    except UserError as error:
        failed = error
    used = {s["image_dir"] for sources in (found.sources.values() if found else ()) for s in sources}
    left = [a for a in tree.files(*ARCHIVES) if str(tree.path(a)) not in used]
    if left and (
        found is None or any(split and not found.sources[split] for split in map(tree.split_of, left))
    ):
        inner = Tree.read(packed.laid_out(tree, tree.files(*ARCHIVES)))
        return inner, read(inner, needs_train, kitti)
    if failed:
        raise failed
    notes = tuple(f"{tree.path(archive)}: not read" for archive in left)
    return tree, found and replace(found, notes=found.notes + notes)


def _of_file(path: Path) -> Data:
    if path.suffix.lower() == ".json":
        return layout_coco.one_file(path)
    tree = Tree.read(path.parent)
    labels = _found(partial(convert_yolo.find, file=path), tree)
    if labels is None or not labels.splits.get("train"):
        raise UserError(f"{path}: names no images for training")
    unread = unread_labels(tree, lambda: Found.of(tree, labels), alone=True)
    found = to_coco(replace(labels, notes=labels.notes + unread))
    return replace(found, tree=_around(tree, labels))


def _around(tree: Tree, labels: LabelFiles) -> Tree | None:
    """A tree with the images alone that lie around those of a configuration, which was given alone: others beside it
    may be of other datasets. None where its images lie elsewhere."""
    images = {os.path.realpath(image.parent) for pairs in labels.splits.values() for image, _ in pairs}
    common, root = os.path.commonpath(images), os.path.realpath(tree.root)
    if not f"{common}/".startswith(f"{root}/"):
        return None
    below = common.removeprefix(root).lstrip("/")

    def kept(folder: str, names: list[str]) -> list[str]:
        inside = not below or f"{folder}/".startswith(f"{below}/")
        return [name for name in names if inside or not name.lower().endswith(READ_SUFFIXES)]

    return Tree(tree.root, {folder: kept(folder, names) for folder, names in tree.folders.items()})


READERS: tuple[Callable[[Tree], LabelFiles | None], ...] = (
    convert_yolo.find,
    convert_voc.find,
    convert_kitti.find,
)


def read(tree: Tree, needs_train: bool = True, kitti: convert_kitti.Options | None = None) -> Data | None:
    """The first layout that has something to train on; the others that are there are named. With `kitti` it is that
    one."""
    coco = None if kitti else layout_coco.find(tree)
    if coco and (coco.sources["train"] or not needs_train):
        return replace(coco, notes=coco.notes + unread_labels(tree, lambda: Found.of_coco(tree, coco)))
    for find in _readers(kitti):
        labels = _found(find, tree)
        if labels and (labels.splits.get("train") or not needs_train):
            unread = unread_labels(tree, partial(Found.of, tree, labels))
            found = to_coco(labels)
            left = (
                ()
                if coco is None
                else (f"{tree.root}: its COCO files are not read, none of them is for training",)
            )
            return replace(found, notes=found.notes + unread + left)
    return None


def _readers(kitti: convert_kitti.Options | None) -> tuple[Callable[[Tree], LabelFiles | None], ...]:
    return (partial(convert_kitti.find, options=kitti),) if kitti else READERS


def _found(find: Callable[[Tree], LabelFiles | None], tree: Tree) -> LabelFiles | None:
    try:
        return find(tree)
    except Unlabelled as error:
        raise UserError(f"{error}{how_to_export(tree)}") from None


def _described(found: Data, place: str) -> Data:
    splits = number_of(sum(bool(s) for s in found.sources.values()), "split")
    name = without_secrets(place).rsplit("/", 1)[-1]
    inside = f" in {name}" if is_archive(name) else ""
    notes = tuple(all_in_own_words(found.notes))
    return replace(found, layout=f"{found.layout}{inside}, {splits}", notes=notes)


def _only_archive(tree: Tree) -> Path | None:
    """The archive in a folder that holds nothing else."""
    files = list(tree.files(""))
    return tree.path(files[0]) if len(files) == 1 and is_archive(files[0]) else None


# ---- what is there and not read ---------------------------------------------------------------------------------


def _refuse_halves(tree: Tree, found: Data, settled: Sequence[str]) -> None:
    """Raise `UserError` for images of a split without annotations: a fifth of train must not stand in for them."""
    for folder in split_folders(tree):
        split = tree.split_of(f"{folder}/.")
        if (
            split in ("train", "val")
            and not (split in settled or found.sources[split])
            and not _covered(tree, found, folder)
        ):
            has = _shown_names({*tree.folders[folder], *_below(tree, folder)})
            raise UserError(
                f"{tree.path(folder)}: images for {split}, but no such annotation file as belongs to them "
                f"({folder} has {has or 'nothing'}){_why_unread(tree, found, folder, split)}"
            )


def _refuse_without_train(tree: Tree, kitti: convert_kitti.Options | None) -> None:
    """Raise `UserError` where a layout's labels are for other splits alone."""
    coco = None if kitti else layout_coco.find(tree)
    found = [("COCO", {split for split, sources in coco.sources.items() if sources})] if coco else []
    found += [
        (labels.layout, set(labels.splits)) for find in _readers(kitti) if (labels := _found(find, tree))
    ]
    for layout, splits in found:
        if splits and "train" not in splits:
            raise UserError(
                f"no training data: the {layout} labels in {tree.root} are for {' and '.join(sorted(splits))} alone; "
                "give the folder that holds the others too, or call the one that is for training train"
            )


def _why_unread(tree: Tree, found: Data, folder: str, split: str) -> str:
    """Why the images of a split's folder are not read, and what to do."""
    if found.layout.startswith("YOLO ("):
        return (
            f"; {found.layout[6:-1]} names no images for {split} that are there: give it the place of these, such as "
            f"{split}: {folder}"
        )
    inside = (file for file in tree.files(".json") if file.startswith(f"{folder}/"))
    if found.layout and (file := next((f for f in inside if sniff(tree.path(f))[1]), None)):
        return (
            f"; {file} is a COCO file, but the training images are read as {found.layout}: bring both into one form "
            f"with `deformable_detr convert`, or name {file} in dataset.{split}_data_sources"
        )
    return _what_to_do(tree, folder) or f"; what is read is {WANTED}"


def split_folders(tree: Tree) -> Iterator[str]:
    """The folders that name a split and hold images or archives, at any depth, the upper ones alone."""
    taken: list[str] = []
    for folder in sorted(tree.folders):
        if (
            folder
            and tree.split_of(f"{folder}/.")
            and not any(f"{folder}/".startswith(f"{t}/") for t in taken)
        ):
            within = [f for f in tree.folders if f == folder or f.startswith(f"{folder}/")]
            if any(f in tree.image_folders or tree.archives(f) for f in within):
                taken.append(folder)
                yield folder


def _covered(tree: Tree, found: Data, folder: str) -> bool:
    """Whether a source has its images in, above or below a folder."""
    own = str(tree.path(folder).resolve())
    for sources in found.sources.values():
        for source in sources:
            place = str(Path(source["image_dir"]).resolve())
            if f"{place}/".startswith(f"{own}/") or f"{own}/".startswith(f"{place}/"):
                return True
    return False


def unread_files(tree: Tree, found: Data) -> Iterator[str]:
    """A line for each file that parts the images and is not followed, and one for annotations in formats that are not
    read."""
    lines, known = unread_splits(tree, found)
    yield from lines
    foreign = sorted(set(tree.files(*FOREIGN)) - known)
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        yield f"{tree.path(foreign[0])}{more}: annotations in a format that is not read"


def whats_there(tree: Tree) -> str:
    """What a folder holds, in a few words."""
    foreign = sorted({*tree.files(*FOREIGN), *tree.files(".json", ".xml")})
    text = f"it has {_shown_names({*tree.folders[''], *_below(tree, '')}) or 'nothing'}"
    text += f", of annotations {', '.join(foreign[:3])}" if foreign else ""
    return text + _what_to_do(tree)


def _shown_names(names: Iterable[str]) -> str:
    """The first of the names in a folder, those of images behind the others, which tell more."""
    ordered = sorted(names, key=lambda name: (name.lower().endswith(READ_SUFFIXES), name))
    more = f" and {len(ordered) - NAMES} more" if len(ordered) > NAMES else ""
    return ", ".join(ordered[:NAMES]) + more


def _what_to_do(tree: Tree, images: str = "") -> str:
    """What to do about images that are not read, and how to get labels of those in a folder, or of all, that can be
    read; or nothing."""
    unread = "" if tree.images else next(tree.files(*UNREAD), "")
    said = f"; {unread} is an image: {how_to_convert(unread)}" if unread else ""
    return said + (how_to_export(tree) or labels_only.hint(tree, images) or ("" if unread else _advice(tree)))


def _advice(tree: Tree) -> str:
    """What to do about annotations that are there and cannot be used, or nothing."""
    for file in islice(tree.files(*SUFFIXES), LOOKED_AT):
        if form := form_of(tree.path(file)):
            if form == "YOLO" and in_pixels(tree.path(file)):
                return f"; {file} has boxes in pixels: a line of YOLO must be {OF_YOLO}"
            wanted = (
                "must be called like their image and lie beside it, or in labels/ where it lies in images/"
            )
            placed = _has_its_image(tree, file)
            return f"; {file} looks like {form} labels" + ("" if placed else f": these {wanted}")
    foreign = next(iter(tree.files(*FOREIGN, ".json", ".xml")), "")
    if foreign:
        return f"; {foreign} is {ADVICE['CSV'] if foreign.lower().endswith('.csv') else LAST}"
    return how_it_begins(tree)


def _has_its_image(tree: Tree, file: str) -> bool:
    """Whether a label file lies where labels are looked for."""
    stem, own = Path(file).stem, parent(file)
    twin = "/".join("images" if folder.lower() == "labels" else folder for folder in own.split("/"))
    return any(
        Path(i).stem == stem and (parent(i) in (own, twin) or file.lower().endswith(".xml"))
        for i in tree.images
    )


def _below(tree: Tree, folder: str) -> set[str]:
    """Names of the folders in a folder."""
    start = f"{folder}/" if folder else ""
    return {f.removeprefix(start).split("/")[0] for f in tree.folders if f.startswith(start) and f != folder}

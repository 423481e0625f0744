"""Label files that a layout does not read, found by what they hold: labels of images that it takes as without objects,
of images that it does not use, and second ones of images that have theirs."""

from __future__ import annotations

import filecmp
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from model.data.documents import as_it_is
from model.data.kitti_lines import NUMBERS, is_line, numbers_behind
from model.data.label_files import LabelFiles, refuse
from model.data.paths import UPLOAD, both_ends, find_images, stem_of
from model.data.tree import Data, Tree, parent
from model.data.yolo_names import NAME_FILES, SPARE
from model.errors import UserError, number_of
from model.parameters import default_of

HEAD = 1 << 14  # bytes that tell what a file holds
SUFFIXES = (".txt", ".xml", ".json")
OBJECT = re.compile(rb"<(?:[\w.-]+:)?annotation\b.*<(?:[\w.-]+:)?object\b", re.DOTALL | re.IGNORECASE)
SHAPE = re.compile(rb'"shapes"\s*:\s*\[\s*\{')
COPY = re.compile(
    r"^(?:copy of )?(.+?)(?:[ _-]+\(?copy\)?)?(?: \(\d+\))?$", re.IGNORECASE
)  # of a file, by its stem
UNREAD = {"Labelme": "those of Labelme, which are not read, become COCO with labelme2coco"}
ORPHAN = "; bring it back, or take the label file away"
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Found:
    """What a layout reads: the images that it has labels for, those that it takes as without objects, and its label
    files, all below the tree; and how many images lie elsewhere."""

    layout: str
    labelled: Collection[str]
    bare: Collection[str]
    files: Collection[str] = ()
    elsewhere: int = 0

    @cached_property
    def homes(self) -> set[str]:
        """Folders of the label files."""
        return set(map(parent, self.files))

    @cached_property
    def parts(self) -> set[str]:
        """Parts of the images' folders."""
        return {part for f in set(map(parent, (*self.labelled, *self.bare))) for part in f.split("/")}

    @cached_property
    def of_stem(self) -> dict[str, list[str]]:
        by_stem: dict[str, list[str]] = {}
        for file in self.files:
            by_stem.setdefault(Path(file).stem, []).append(file)
        return by_stem

    @classmethod
    def of(cls, tree: Tree, read: LabelFiles) -> Found:
        pairs = [pair for listed in read.splits.values() for pair in listed]
        labels = [label for _, label in pairs if label]
        return cls(
            read.layout,
            _below(tree, (image for image, label in pairs if label)),
            _below(tree, (image for image, label in pairs if not label)),
            _below(tree, labels),
            len(pairs) - len(_below(tree, (image for image, _ in pairs))),
        )

    @classmethod
    def of_coco(cls, tree: Tree, data: Data) -> Found:
        labelled: set[str] = set()
        bare: set[str] = set()
        elsewhere = 0
        for source in (source for sources in data.sources.values() for source in sources):
            try:
                document = as_it_is(source["json_file"])
            except UserError:
                continue  # told when it is read
            paths = find_images(
                Path(source["image_dir"]), [image["file_name"] for image in document["images"]]
            )
            drawn = {a["image_id"] for a in document["annotations"]}
            for image, path in zip(document["images"], paths, strict=True):
                inside = _below(tree, [path])
                (labelled if image["id"] in drawn else bare).update(inside)
                elsewhere += not inside
        return cls(data.layout, labelled, bare - labelled, elsewhere=elsewhere)


def _below(tree: Tree, paths: Iterable[Path]) -> set[str]:
    """Paths relative to the tree, of those that lie in it."""
    roots = {f"{root}/" for root in (os.path.normpath(tree.root), os.path.realpath(tree.root))}
    normal = [os.path.normpath(path) for path in paths]
    return {path.removeprefix(root) for path in normal for root in roots if path.startswith(root)}


def unread_labels(tree: Tree, find: Callable[[], Found], alone: bool = False) -> tuple[str, ...]:
    """Notes on second label files of labelled images. Raises `UserError` where images that would be taken as without
    objects have labels elsewhere or in another form, and, unless the layout is `alone` meant, where images that it
    does not use have labels of another form. `find` is called only where there are such files."""
    spare = list(_spare(tree))
    if not spare:
        return ()
    found = find()
    used = found.files
    spare = [(file, images) for file, images in spare if file not in used]
    second: dict[tuple[str, str], list[str]] = {}  # (folder, form) -> files of labelled images
    unused: dict[str, list[str]] = {}  # of the layout's form, in folders of none that it reads
    lost, others = [], []
    for file, images in spare:
        image = _nearest(file, images, found)
        if not (form := form_of(tree.path(file))):
            continue
        if image in found.bare:
            lost.append((image, file, form))
        elif image in found.labelled:
            second.setdefault((parent(file), form), []).append(file)
        elif not found.layout.startswith(form):
            others.append((image, file, form))
        elif form == "KITTI" and parent(file) not in found.homes:
            unused.setdefault(parent(file), []).append(file)
    if lost:
        raise UserError(_lost(tree, found.layout, lost))
    folders = {parent(image) for image in (*found.labelled, *found.bare)}
    both = {
        form for _, form in second
    }  # beside the layout's own labels, which may be of fewer images on purpose
    passed = [other for other in others if other[2] in both and parent(other[0]) in folders]
    if len(passed) < len(others) and not alone:
        raise UserError(_two(tree, found, [other for other in others if other not in passed]))
    notes = [
        f"{tree.path(folder)}: not read, {number_of(len(files), f'{form} label file')} of images whose labels are read "
        f"as {found.layout}{_unlike(tree, folder, files, found) if found.layout.startswith(form) else ''}"
        for (folder, form), files in second.items()
    ]
    notes += [
        f"{tree.path(folder)}: not read, {number_of(len(files), 'KITTI label file')} of images that are not used, such "
        f"as {files[0]}"
        for folder, files in unused.items()
    ]
    if passed:
        image, file, form = passed[0]
        text = f"images that {found.layout} does not name have {form} labels, such as {file}: not used"
        notes.append(f"{tree.path(parent(image))}: {len(passed)} {text}")
    return tuple(notes)


def _unlike(tree: Tree, folder: str, files: Collection[str], found: Found) -> str:
    """How many files of a folder hold something else than those of their names that are used: their images may be
    gone."""
    unlike = sum(
        not any(
            _is_the_same(tree.path(file), tree.path(own)) for own in found.of_stem.get(Path(file).stem, ())
        )
        for file in files
    )
    gone = ": are they of images that are gone?" if unlike and _is_beside(folder, found) else ""
    return f"; {unlike} of them unlike these{gone}" if unlike else ""


def _is_beside(folder: str, found: Found) -> bool:
    """Whether a folder is called as one of the labels in use but for one part that its images' folder would share, as
    labels/test is beside labels/train of images/train. Predictions, other boxes of the same images, are not."""
    own = folder.split("/")
    for home in found.homes:
        parts = home.split("/")
        others = [part for part, mine in zip(parts, own, strict=False) if part != mine]
        if len(parts) == len(own) > 1 and len(others) == 1 and others[0] in found.parts:
            return True
    return False


def _lost(tree: Tree, layout: str, lost: list[tuple[str, str, str]]) -> str:
    image, file, form = lost[0]
    return (
        f"{tree.path(image)}: has no labels where {layout} has them, but {tree.path(file)} looks like its labels "
        f"({form}); {number_of(len(lost), 'image')} would be taken as without objects though such a file is there: "
        "bring these labels to the place and the form of the others, or take them away if they are not meant"
    )


def _two(tree: Tree, found: Found, beside: list[tuple[str, str, str]]) -> str:
    image, file, form = beside[0]
    images = len({image for image, _, _ in beside})
    own = len(found.labelled) + len(found.bare) + found.elsewhere
    away = f" ({found.elsewhere} of them outside this folder)" if found.elsewhere else ""
    how = "" if form in UNREAD else " with `deformable_detr convert`"
    return (
        f"{tree.root}: {number_of(own, 'image')}{away} would be read as {found.layout}, but "
        f"not {number_of(images, 'other image')}, such as {image}, whose labels are {form} ({file}); give "
        f"one of the datasets to --data, or bring both into one form{how or f' ({UNREAD[form]})'}"
    )


def _spare(tree: Tree) -> Iterator[tuple[str, list[str]]]:
    """(a file that is called like images and may hold labels, these images)."""
    by_stem: dict[str, list[str]] = {}
    for image in tree.images:
        if image not in tree.masks:
            by_stem.setdefault(stem_of(image), []).append(image)
    for file in tree.files(*SUFFIXES):
        last = file.rsplit("/", 1)[-1].rpartition(".")[0]
        images = by_stem.get(stem_of(last)) or by_stem.get(stem_of(UPLOAD.sub("", last)))
        if images and f"{last}.txt".lower() not in (*NAME_FILES, *SPARE):
            yield file, images


def _nearest(file: str, images: Collection[str], found: Found) -> str:
    """Of images of one stem that which shares most folders with a file, at either end; of two one that has labels."""
    own = tuple(file.split("/")[:-1])

    def near(image: str) -> tuple[int, bool]:
        return sum(both_ends(own, tuple(image.split("/")[:-1]))), image in found.labelled

    return max(images, key=near)


def form_of(path: Path) -> str:
    """The form of the labels of one image in a file, "" where it holds none."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return ""
    if path.suffix.lower() == ".xml":
        return "Pascal VOC" if OBJECT.search(head) else ""
    if path.suffix.lower() == ".json":
        return "Labelme" if SHAPE.search(head) else ""
    try:
        text = head.decode(
            "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", errors="ignore"
        )
    except UnicodeDecodeError:
        return ""
    lines = text.splitlines()[: -1 if len(head) == HEAD else None]
    forms = {_form_of_line(line.split()) for line in lines if line.strip()}
    return forms.pop() if len(forms) == 1 else ""


def in_pixels(path: Path) -> bool:
    """Whether the first line of a file that looks like YOLO's has pixels where shares of the image must stand."""
    first = path.read_text(encoding="utf-8-sig", errors="replace").strip().partition("\n")[0].split()
    return len(first) in (5, 6) and all(map(NUMBER.fullmatch, first)) and max(map(float, first[1:5])) > 2


def _form_of_line(fields: list[str]) -> str:
    """ "0 0.5 0.5 0.1 0.1", or points; with a name for the number too; "Car 0 0 0 1 1 9 9 ..." of 15 fields or 16."""
    if NUMBERS <= numbers_behind(fields) <= NUMBERS + 3 and is_line(fields):  # a score, and two in the type
        return "KITTI"
    behind = next((n for n, field in enumerate(reversed(fields)) if not NUMBER.fullmatch(field)), len(fields))
    numbered = behind == len(fields)
    values = [float(field) for field in fields[len(fields) - behind :]][numbered:]
    if len(values) in (4, 5):
        shares = all(0 <= v <= 1 for v in values)
        whole = numbered and fields[0].replace(".0", "").isdigit()
        return (
            "YOLO" if min(values[2:4]) > 0 and (whole or (shares and len(fields) == len(values) + 1)) else ""
        )
    points = len(values) >= 6 and numbered and fields[0].isdigit() and all(-0.1 <= v <= 2 for v in values)
    return "YOLO" if points else ""


# ---- labels of which there is no image ----------------------------------------------------------------------------


def without_orphans(
    tree: Tree, splits: Mapping[str, list[tuple[Path, Path | None]]], placed: Mapping[Path, Path | None]
) -> tuple[str, ...]:
    """`orphans_left_out` of label files that hold something, lie beside those of the splits, and have no image:
    `placed` are the images that are there, used or not, with the label file that each has in its place. A file may be a
    copy of what one of its name has, or be that of one without; else an image of its name in another place is another.
    """
    used = {label for pairs in splits.values() for _, label in pairs if label is not None}
    of_stem: dict[str, list[Path | None]] = {}
    for image, own in placed.items():
        of_stem.setdefault(image.stem, []).append(own)
    orphans = [
        label
        for folder in sorted({label.parent for label in used})
        for label in sorted(folder.iterdir())
        if label.suffix.lower() == ".txt"
        and label.is_file()
        and not label.name.startswith(".")
        and label not in used
        and not any(_is_the_same(label, own) for own in of_stem.get(label.stem, ()))
        and _holds_labels(label)
    ]
    near = {stem_of(stem): stem for stem in sorted(of_stem)} if orphans else {}
    bare = sum(label is None for pairs in splits.values() for _, label in pairs)
    hints = {label: tree.unread_image(label.stem) or _called_otherwise(label, near) for label in orphans}
    return orphans_left_out(hints, used, bare)


def _is_the_same(label: Path, own: Path | None) -> bool:
    """Whether a label file may be that of an image, or is a copy of it."""
    try:
        return own is None or own == label or filecmp.cmp(label, own, shallow=False)
    except OSError:
        return True  # told when it is read


def orphans_left_out(orphans: Mapping[Path, str], used: Iterable[Path], bare: int) -> tuple[str, ...]:
    """A note on label files that have no image, {file: what to do about it}. Raises `UserError` where they are many
    beside those `used`, and where one may be of an image called otherwise or of the `bare` ones without labels."""
    if not orphans:
        return ()
    stems = {path.stem for path in used}
    alone = [
        label
        for label, hint in orphans.items()
        if hint or (bare and COPY.sub(r"\1", label.stem) not in stems)
    ]
    if alone or len(orphans) > max(1, default_of("dataset.mended_share") * len(stems)):
        refuse([f"{label}: its image is not there{orphans[label] or ORPHAN}" for label in alone or orphans])
    first = next(iter(orphans))
    return (f"{number_of(len(orphans), 'label file')} without an image left out, such as {first}",)


def _called_otherwise(label: Path, stems: Mapping[str, str]) -> str:
    """What to do about a label file whose name differs from an image's in case, in the image's suffix, or in what
    Label Studio puts before it."""
    names = (label.stem, UPLOAD.sub("", label.stem))
    meant = next((stems[stem_of(name)] for name in names if stem_of(name) in stems), "")
    if meant == label.stem:  # in another folder
        return ""
    return f"; if it is of the image {meant}, call it {meant}.txt" if meant else ""


def lost_labels(
    tree: Tree, splits: Mapping[str, list[tuple[Path, Path | None]]], others: Collection[str] = ()
) -> tuple[str, ...]:
    """A note on each folder that holds label files and no image is there for any; `others` are names of files that hold
    something else."""
    used = {label.parent for pairs in splits.values() for _, label in pairs if label is not None}
    stems = {Path(image).stem for image in tree.images}
    lost: Counter[Path] = Counter()
    for below in tree.files(".txt"):
        label = tree.path(below)
        if label.parent in used or label.name.lower() in others or label.stem in stems:
            continue
        lost[label.parent] += _holds_labels(label)
    return tuple(
        f"{folder}: {number_of(count, 'label file')} without images, not read"
        for folder, count in lost.items()
        if count
    )


def _holds_labels(path: Path) -> bool:
    """Whether a text file's first line looks like labels: numbers behind the first field, at least 4."""
    try:
        first = path.read_text(encoding="utf-8-sig").strip().partition("\n")[0].split()
        return len([float(field) for field in first[-4:]]) == 4 and len(first) > 4
    except (OSError, ValueError):
        return False

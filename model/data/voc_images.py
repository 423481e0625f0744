"""Which image a label file of Pascal VOC is of.

Several pictures may have a label's stem: its photo, a mask, an overlay, a small copy. Those that its <filename> names
come first, then those in folders called like its own or plainly (images, JPEGImages), then what its <folder> and
<path> say, then the nearest, then those of its <size>. Where two are left whose pictures differ, it is refused.
"""

from __future__ import annotations

import filecmp
import html
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.data.images import size_in_file
from model.data.label_files import refuse
from model.data.paths import (
    FORMS,
    Resolver,
    both_ends,
    common_end,
    composed,
    plain_stem,
    speaks_of_masks,
    stem_of,
)
from model.data.tree import PLAIN_IMAGES, Tree, parent, says_only, words_of
from model.data.voc_glance import NAMED
from model.errors import number_of

SEGMENTS = ("segmentationclass", "segmentationobject")  # folders of masks begin so
PLAIN = frozenset(PLAIN_IMAGES | {"jpeg"})  # JPEGImages
HEAD = 1 << 12  # bytes in which a label says what it is of
DECLARED = re.compile(rb"<\?xml[^>]*?encoding\s*=\s*[\"']([\w.:-]+)")
SAYS = {
    name: re.compile(NAMED % rb"%s>([^<]*)<" % name, re.IGNORECASE)
    for name in (b"filename", b"folder", b"path", b"width", b"height")
}


@dataclass(frozen=True)
class Said:
    """What a label file says of its image, "" where it does not."""

    name: str = ""  # <filename>
    folders: tuple[str, ...] = ()  # those that <folder> and <path> name
    size: tuple[str, str] = ("", "")  # W, H px

    @classmethod
    def of(cls, path: Path) -> Said:
        try:
            with path.open("rb") as file:
                head = file.read(HEAD)
        except OSError:
            return cls()  # told when it is read
        found = {name: _text(head, says) for name, says in SAYS.items()}
        above = found[b"path"].replace("\\", "/").rpartition("/")[0]
        folders = (found[b"folder"].replace("\\", "/"), above)
        return cls(found[b"filename"], tuple(filter(None, folders)), (found[b"width"], found[b"height"]))

    @property
    def last(self) -> str:
        """The last part of the name, in one case."""
        return FORMS[-1](self.name.replace("\\", "/").rsplit("/", 1)[-1])


def _text(head: bytes, says: re.Pattern[bytes]) -> str:
    match, declared = says.search(head), DECLARED.search(head)
    if not match:
        return ""
    try:
        return html.unescape(match[1].decode(declared[1].decode() if declared else "utf-8")).strip()
    except (LookupError, UnicodeError):
        return html.unescape(match[1].decode(errors="replace")).strip()


@dataclass
class Pairs:
    """{image: its label file}, and the images of the same stems that were not taken."""

    labels: dict[str, str] = field(default_factory=dict)
    passed: dict[str, str] = field(default_factory=dict)  # image -> the one taken in its stead
    orphans: list[Path] = field(default_factory=list)  # label files of no image

    def notes(self) -> tuple[str, ...]:
        """A note on each folder whose pictures are called like images with labels and are of no label themselves."""
        used = {parent(image) for image in self.labels}
        left = {i: taken for i, taken in self.passed.items() if i not in self.labels}
        counts = Counter((parent(image), parent(taken)) for image, taken in left.items())
        return tuple(
            f"{folder or '.'}: {number_of(count, 'picture')} called like images of {taken or '.'}, which the labels "
            "are of, not used"
            for (folder, taken), count in sorted(counts.items())
            if folder not in used or folder == taken
        )


def photos(tree: Tree) -> Iterable[str]:
    """The images that lie in no folder of VOC's masks."""
    return (
        i
        for i in tree.images
        if not any(p.startswith(SEGMENTS) for p in parent(i).casefold().split("/"))
        and not ("segmentation" in parent(i).casefold() and i in tree.masks)
    )


def pairs_of(tree: Tree, labels: Iterable[str]) -> Pairs:
    """Each label file with its image: that of the same stem, else the one that the file names. Raises `UserError` for
    labels of an image that another label has, and of one that cannot be told."""
    by_stem: dict[str, list[str]] = {}
    for image in photos(tree):
        by_stem.setdefault(_stem(image), []).append(image)
    chooser, problems = _Chooser(tree, by_stem), []
    pairs = Pairs()
    for label in labels:
        image, problem = chooser.image_of(label)
        if not image and not problem:
            pairs.orphans.append(tree.path(label))
            continue
        if not problem and (own := pairs.labels.get(image, "")):
            if chooser.is_copy(label, own):
                continue  # noted as a second label file of its image
            problem = f"its image {image} is that of {own} too; keep one"
        if problem:
            problems.append(f"{tree.path(label)}: {problem}")
            continue
        pairs.labels[image] = label
        pairs.passed |= dict.fromkeys((i for i in by_stem.get(_stem(label), ()) if i != image), image)
    for label, image, instead in chooser.strays(pairs):
        problems.append(
            f"{tree.path(label)}: its image is not there: {image} is called like it, but the other labels of "
            f"{parent(label) or '.'} are of images of {parent(instead) or '.'}, which has others of the same names"
        )
    for label, image, other in chooser.contradicted(pairs):
        problems.append(
            f"{tree.path(label)}: may be of {image}, which lies nearest, or of {other} by its <folder> and <path>, "
            "and they differ; correct these, or take one of the images away"
        )
    refuse(problems)
    return pairs


@dataclass
class _Chooser:
    tree: Tree
    by_stem: Mapping[str, list[str]]
    resolver: Resolver | None = None
    look_alikes: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    doubts: list[tuple[str, str, str]] = field(default_factory=list)  # label, its image, the one it speaks of

    def image_of(self, label: str) -> tuple[str, str]:
        """(the image of a label file, what is wrong); both "" where there is none."""
        said = Said.of(self.tree.path(label))
        near = self.by_stem.get(_stem(label), [])
        written = label.rsplit("/", 1)[-1].rpartition(".")[0]
        near = [i for i in near if i.rsplit("/", 1)[-1].rpartition(".")[0] == written] or near
        if not near:
            return self._named(said), ""
        left = self._best(label, said, near)
        if len(left) > 1:
            some = ", ".join(left[:3])
            return "", (
                f"may be of any of {some}, whose pictures differ; keep one of the folders, or say in <folder> which "
                "it is"
            )
        if other := self._another(label, said, left[0]):
            return "", (
                f"may be of {left[0]} by its own name or of {other} by its <filename>, and both are there; rename "
                "it, or correct its <filename>"
            )
        return left[0], ""

    def _named(self, said: Said) -> str:
        self.resolver = self.resolver or Resolver(self.tree.root)
        found = self.resolver.candidates(said.name) if said.name else []
        return "/".join(found[0]) if found else ""

    def _best(self, label: str, said: Said, images: Sequence[str]) -> list[str]:
        """Of images of a label's stem the one that is meant, or those that may be and differ."""
        if len(images) == 1:
            return list(images)
        own = self.tree.split_of(f"{parent(label)}/.")
        of_split = [i for i in images if own is None or self.tree.split_of(f"{parent(i)}/.") in (None, own)]
        named = [i for i in of_split or images if FORMS[-1](i.rsplit("/", 1)[-1]) == said.last]
        wanted = named or of_split or images

        def merit(image: str) -> tuple[int, int, int]:
            return -self._strange(label, image), _agreement(said, image), _shared(label, image)

        left = _most(wanted, merit)
        if len(left) > 1 and not self._same(*left):
            left = _most(left, lambda image: (self._size(image) == said.size,))
        image = left[0]
        if len(left) > 1 and not self._same(*left):
            return left
        self._remember(label, image, images)
        agreed = _agreement(said, image)
        self.doubts += [(label, image, i) for i in wanted if _agreement(said, i) > agreed and _is_told(i)]
        return [image]

    def _remember(self, label: str, image: str, images: Iterable[str]) -> None:
        """Folders that have other pictures of the same names than those that the labels of a folder are of."""
        strange = self._strange(label, image)
        for other in images:
            key = parent(label), parent(other)
            if key not in self.look_alikes and self._strange(label, other) > strange:
                self.look_alikes[key] = ("", "") if self._same(image, other) else (image, other)

    def _strange(self, label: str, image: str) -> int:
        """How many folders of an image neither its label shares nor say only that images lie there. Those that say
        that labels or masks do count even if shared."""
        own, parts = tuple(label.split("/")[:-1]), tuple(image.split("/")[:-1])
        front, end = both_ends(own, parts)
        split = self.tree.split_of(f"{parent(label)}/.")
        apart = parts[front : len(parts) - end]
        strange = sum(not says_only(words_of(p), split, PLAIN) for p in apart)
        return strange + sum(map(speaks_of_masks, parts))

    def _same(self, image: str, *others: str) -> bool:
        path = self.tree.path
        try:
            return all(filecmp.cmp(path(image), path(other), shallow=False) for other in others)
        except OSError:
            return False  # told when it is read

    def is_copy(self, label: str, own: str) -> bool:
        """Whether a label file is another in a second folder, of the same split."""
        (own_name, own_split), (name, split) = (
            (path.rsplit("/", 1)[-1], self.tree.split_of(f"{parent(path)}/.")) for path in (own, label)
        )
        return own_name == name and own_split == split and self._same(label, own)

    def _size(self, image: str) -> tuple[str, str]:
        width, height = size_in_file(self.tree.path(image)) or ("", "")
        return str(width), str(height)

    def _another(self, label: str, said: Said, image: str) -> str:
        """Another image than that of a label's stem which its <filename> names, and whose picture is not the same."""
        named = stem_of(said.name)
        if named in ("", stem_of(image), stem_of(label[:-4])):
            return ""
        others = [i for i in self.by_stem.get(_stem_said(said.name), ()) if stem_of(i) != stem_of(image)]
        if not others:
            return ""
        other = max(others, key=lambda i: _shared(label, i))
        return "" if self._same(image, other) else other

    def strays(self, pairs: Pairs) -> Iterable[tuple[str, str, str]]:
        """(label, its image, an image of the others) of labels whose image is in a folder of look-alikes of the images
        that the other labels of their folder are of."""
        for image, label in pairs.labels.items():
            taken, _ = self.look_alikes.get((parent(label), parent(image)), ("", ""))
            if taken and _stem(image) == _stem(label):
                yield label, image, taken

    def contradicted(self, pairs: Pairs) -> Iterable[tuple[str, str, str]]:
        """Labels whose <folder> and <path> speak of an image that is of no label, and is not the one they got."""
        for label, image, other in self.doubts:
            if other not in pairs.labels and not self._same(image, other):
                yield label, image, other


def _agreement(said: Said, image: str) -> int:
    """How many last folders an image shares with the <folder> or <path> of its label."""
    own = tuple(map(FORMS[-1], image.split("/")[:-1]))
    return max((common_end(own, tuple(map(FORMS[-1], f.split("/")))) for f in said.folders), default=0)


def _is_told(image: str) -> bool:
    """Whether the name of an image's folder says more than that images lie there."""
    return not says_only(words_of(parent(image).rsplit("/", 1)[-1]), None, PLAIN)


def _shared(label: str, image: str) -> int:
    return sum(both_ends(tuple(label.split("/")[:-1]), tuple(image.split("/")[:-1])))


def _most(images: Iterable[str], merit: Callable[[str], tuple[int, ...]]) -> list[str]:
    merits = {image: merit(image) for image in images}
    best = max(merits.values())
    return [image for image, value in merits.items() if value == best]


def _stem(path: str) -> str:
    return composed(path.rsplit("/", 1)[-1].rpartition(".")[0])


def _stem_said(name: str) -> str:
    """The last part of a name, without the suffix of an image."""
    return composed(plain_stem(name.replace("\\", "/").rsplit("/", 1)[-1]))

"""A dataset's folder as it lies on disk: its files, and which split a path speaks of."""

from __future__ import annotations

import filecmp
import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from pathlib import Path, PurePosixPath

from model.data.archives import is_archive
from model.data.cache import cache_dir
from model.data.images import READ_SUFFIXES, UNREAD, how_to_convert, is_drawn
from model.data.paths import FORMS, says_only_masks, speaks_of_masks, stem_of, walk
from model.errors import UserError

SPLITS = ("train", "val", "test")
WORDS = {
    "train": {
        "train", "training", "trainval", "trn", "trainingsdaten", "entrenamiento", "treino", "treinamento",
        "entrainement", "apprentissage", "addestramento", "egitim", "trening",
        *"обучение 训练 训练集 訓練 学習 훈련 학습".split(),
    },
    "val": {
        "val", "valid", "validation", "validate", "validating", "vld", "minival", "dev", "development", "eval",
        "evaluation", "validierung", "validierungsdaten", "validacion", "validacao", "validazione", "convalida",
        "dogrulama", "walidacja", *"валидация 验证 验证集 驗證 検証 검증".split(),
    },
    "test": {
        "test", "testing", "tst", "holdout", "testdaten", "prueba", "pruebas", "teste", "testes", "prova", "essai",
        *"тест тестирование 测试 测试集 測試 テスト 테스트".split(),
    },
}  # fmt: skip
# What may stand beside the word for a split, or without one, in the name of a folder that is meant for it or for all.
PLAIN_IMAGES = {
    "images",
    "image",
    "imgs",
    "img",
    "jpegimages",
    "pictures",
    "photos",
    "data",
    "set",
    "split",
    "dataset",
}
PLAIN = PLAIN_IMAGES | {
    "annotations",
    "annotation",
    "instances",
    "labels",
    "label",
    "result",
    "coco",
    "default",
    "json",
}


def _bare(text: str) -> str:
    """Without accents: validação is validacao."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


WORDS = {split: set(map(_bare, words)) for split, words in WORDS.items()}
_SPLIT = "|".join(sorted((w for words in WORDS.values() for w in words), key=len, reverse=True))
_PLAIN = "|".join(sorted(PLAIN, key=len, reverse=True))
# TrainSet is two words, and so are VOCtrain and valimages.
WORD = re.compile(f"[A-Z]{{2,}}(?=(?:{_SPLIT})(?![a-z]))|[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\\W\\d_A-Za-z]+")
PAIR = re.compile(f"({_SPLIT})({_PLAIN})|({_PLAIN})({_SPLIT})")
KEY = re.compile("[0-9a-f]{32}")  # by which the cache calls what it made
LOOK = re.compile(r"[0-9a-f]{32}\.json")  # what was seen of a folder's images (looks.py)
DOCUMENTS = {
    "data.json",
    *(f"{split}.json" for split in SPLITS),
}  # that are made of label files and of other COCO
Sources = dict[str, list[dict[str, str]]]


def given(sources: Iterable[Mapping[str, str | None]]) -> list[dict[str, str]]:
    """The sources that name something; null means "". Raises `UserError` for images without their annotations."""
    found = [{key: path or "" for key, path in source.items()} for source in sources]
    found = [source for source in found if any(source.values())]
    for source in found:
        if not source.get("json_file"):
            raise UserError(
                f"a data source needs a json_file, but that of image_dir {source['image_dir']} is empty"
            )
    return found


@dataclass(frozen=True)
class Data:
    """Where the data of a run lie: COCO files and their images by split, the layout in words, what a person should
    know of it, and, of a dataset given as a whole, its files, the images of which the notes speak and the label files
    that are read."""

    sources: Sources
    layout: str = ""
    notes: tuple[str, ...] = ()
    tree: Tree | None = field(default=None, compare=False)
    told: frozenset[Path] = field(default=frozenset(), compare=False)
    labels: frozenset[Path] = field(default=frozenset(), compare=False)


@dataclass(frozen=True, eq=False)  # a key by itself
class Tree:
    """All visible files below a folder, `root`; paths in here are relative to it, with `/`."""

    root: Path
    folders: dict[str, list[str]]  # folder -> its file names

    @classmethod
    def read(cls, root: Path) -> Tree:
        """The tree of `root`, or of the only folder in it, as archives often wrap their content."""
        root, folders = Path(root), _without_our_own(Path(root), dict(walk(root)))
        while not folders[""] and len(below := sorted({f.split("/")[0] for f in folders if f})) == 1:
            inner = {f.removeprefix(below[0]).lstrip("/"): names for f, names in folders.items() if f}
            if exact_split(f"{below[0]}/."):
                break  # a split, not a wrapper
            root, folders = root / below[0], inner
        return cls(root, folders)

    def files(self, *suffixes: str) -> Iterator[str]:
        """Paths of the files with one of the suffixes, whatever its case, in order."""
        for folder, names in self.folders.items():
            for name in names:
                if name.lower().endswith(suffixes):
                    yield f"{folder}/{name}" if folder else name

    @cached_property
    def by_last(self) -> dict[str, list[str]]:
        """Files by their last part, decoded and in one case."""
        index: dict[str, list[str]] = {}
        for path in self.files(""):
            index.setdefault(FORMS[-1](path.rsplit("/", 1)[-1]), []).append(path)
        return index

    @cached_property
    def images(self) -> list[str]:
        return list(self.files(*READ_SUFFIXES))

    @cached_property
    def image_folders(self) -> dict[str, int]:
        """Folders that hold images themselves, with how many."""
        counts = {
            f: sum(n.lower().endswith(READ_SUFFIXES) for n in names) for f, names in self.folders.items()
        }
        return {folder: count for folder, count in counts.items() if count}

    @cached_property
    def masks(self) -> frozenset[str]:
        """Images that are labels of others: in a folder whose name speaks of masks, called like an image elsewhere, and
        drawn in few colours where the name says something else too (with_mask may be a class)."""
        near = [image for image in self.images if speaks_of_masks(parent(image))]
        if not near:
            return frozenset()
        photos = {stem_of(image) for image in set(self.images).difference(near)}
        twins = [image for image in near if stem_of(image) in photos]
        first = {parent(image): image for image in reversed(twins)}
        drawn = {f for f, image in first.items() if says_only_masks(f) or is_drawn(self.path(image))}
        return frozenset(image for image in twins if parent(image) in drawn)

    @cached_property
    def _unread(self) -> dict[str, str]:
        """Images of suffixes that are not read, by their stems in one case."""
        return {FORMS[-1](Path(image).stem): image for image in self.files(*UNREAD)}

    def unread_image(self, name: str) -> str:
        """What to do about the image of a name or stem that is there and whose suffix is not read: "; x.heic is there:
        ...", or nothing."""
        last = FORMS[-1](name.replace("\\", "/").rsplit("/", 1)[-1])
        stem = last.removesuffix(Path(last).suffix) if Path(last).suffix in UNREAD else last
        image = self._unread.get(stem)
        return f"; {image} is there: {how_to_convert(image)}" if image else ""

    @cached_property
    def split_names(self) -> SplitNames:
        return SplitNames.of([f"{folder}/." for folder in self.image_folders])

    def split_of(self, path: str) -> str | None:
        """The split that a file names, or a folder given as "folder/."; `SplitNames` says which of several counts."""
        return self.split_names.split_of(path)

    def archives(self, folder: str) -> list[str]:
        return [f"{folder}/{n}" if folder else n for n in self.folders.get(folder, ()) if is_archive(n)]

    def path(self, below: str) -> Path:
        return self.root / below if below else self.root


def _without_our_own(root: Path, folders: dict[str, list[str]]) -> dict[str, list[str]]:
    """Without run folders and the cache, which hold splits of the data and pictures of their own."""
    named = (folder for folder, names in folders.items() if folder and "run.json" in names)
    runs = (folder for folder in named if _is_of_a_run(root / folder / "run.json"))
    cache = os.path.relpath(os.path.realpath(cache_dir()), os.path.realpath(root))
    own = tuple(f"{folder}/" for folder in (*runs, cache, *_made_in_a_cache(folders)))
    return {f: names for f, names in folders.items() if not f"{f}/".startswith(own)}


def _made_in_a_cache(folders: Mapping[str, list[str]]) -> Iterator[str]:
    """Folders that a cache made: called by a key, beside the lock under which they were made or with the documents of
    splits alone, and what was seen of images. The cache may be the dataset's own folder, or lie where it did before
    its place was changed."""
    locks = {f"{f}/{n}".lstrip("/") for f, names in folders.items() for n in names if n.endswith(".lock")}
    for folder, files in folders.items():
        name = folder.rpartition("/")[2]
        if KEY.fullmatch(name) and (f"{folder}.lock" in locks or (files and DOCUMENTS.issuperset(files))):
            yield folder
        elif name == "looks" and files and all(map(LOOK.fullmatch, files)):
            yield folder


def _is_of_a_run(path: Path) -> bool:
    """Whether a run.json is that of a search, and not somebody's own."""
    try:
        text = path.read_bytes()
    except OSError:
        return False
    return all(f'"{key}"'.encode() in text for key in ("request", "study", "model"))


def parent(path: str) -> str:
    """The folder of a path, "" for the root."""
    return path.rpartition("/")[0]


@dataclass(frozen=True)
class SplitNames:
    """How the folders of one dataset name splits, where a path may name several.

    Of train/training/image_2 and val/training/image_2 the outer name tells, as the inner one is the same everywhere; of
    training/train and training/val the inner one, which parts what the outer one holds. Names that tell a split among
    other words (my_val/training) count where they alone tell splits apart. Where the names contradict each other
    (train/val beside test/train), to ask for the split of such a path raises `UserError`."""

    told_by: str = "inner"
    loosely: bool = False

    @classmethod
    def of(cls, folders: Collection[str]) -> SplitNames:
        """How `folders`, those that hold images, name their splits."""
        loose = {_named_outside(folder) for folder in folders} - {()}
        if "train" in {levels[0] for levels in loose} and len({levels[0] for levels in loose}) > 1:
            named = {_named_outside(f) + _named_exactly(f) for f in folders}
            if _told_by(named) == "outer":
                return cls("outer", True)
        return cls(_told_by({_named_exactly(f) for f in folders}))

    def split_of(self, path: str) -> str | None:
        """The split that a path of the dataset names, as `split_of` has it but for paths that name several."""
        named = _named_exactly(path)
        if self.loosely:
            named = _named_outside(path) + named
        if not named:
            return split_of(path)
        if self.told_by == "neither" and len(set(named)) > 1:
            raise UserError(
                f"{path.removesuffix('/.')}: is for {named[0]} by one folder's name and for {named[-1]} by another's; "
                "rename one, or name the images of each split in dataset.train_data_sources and val_data_sources"
            )
        return named[0] if self.told_by == "outer" else named[-1]


def _told_by(named: Set[tuple[str, ...]]) -> str:
    """Which of several splits named by one path counts, the outer or the inner; "neither" where it cannot be told."""
    doubtful = {levels for levels in named if len(set(levels)) > 1}
    outer = {levels[0] for levels in named if levels}
    inner = {levels[-1] for levels in named if len(levels) > 1}
    if not doubtful or len(outer) == 1:
        return "inner"
    if len(inner) == 1 and "train" in outer:
        return "outer"
    held = {(levels[0], levels[-1]) for levels in named if levels}
    return "inner" if all((levels[0], levels[0]) in held for levels in doubtful) else "neither"


def _named_exactly(path: str) -> tuple[str, ...]:
    """The splits of the parts that name one and nothing else, the outermost first."""
    return tuple(split for split, exact in _named_by_parts(path) if exact)


def _named_outside(path: str) -> tuple[str, ...]:
    """The splits of the parts that name one among other words, before the first that names nothing else."""
    return tuple(split for split, _ in takewhile(lambda named: not named[1], _named_by_parts(path)))


def _named_by_parts(path: str) -> Iterator[tuple[str, bool]]:
    """(split, whether the part says nothing else) of the parts that name one, the outermost first."""
    for words in reversed(_words_of_parts(path)):
        if split := _named(words):
            yield split, says_only(words, split)


def split_of(path: str) -> str | None:
    """The split that a path names: by its last part that says nothing else ("train" of "train/test_track/x.jpg", val of
    "annotations/instances_val2017.json"), else by its last part that names one at all. Of train and val together it is
    train (VOC's trainval), of test and dev it is test (COCO's test-dev)."""
    return exact_split(path) or next(filter(None, map(_named, _words_of_parts(path))), None)


def exact_split(path: str) -> str | None:
    """The split of the last part that names one and nothing else."""
    return next(reversed(_named_exactly(path)), None)


def _words_of_parts(path: str) -> list[set[str]]:
    """The last part first, without its suffix."""
    parts = path.split("/")
    parts[-1] = PurePosixPath(parts[-1]).stem
    return [words_of(part) for part in reversed(parts)]


def says_only(words: Set[str], split: str | None, beside: Set[str] = frozenset(PLAIN)) -> bool:
    """Whether words name a split, or none, and nothing that tells one folder or file of it from others."""
    also = WORDS["val"] if split in ("train", "test") else set()  # trainval, test-dev
    return bool(words) and words <= (WORDS[split] | also | beside if split else beside)


def words_of(part: str) -> set[str]:
    """The words of a file's or folder's name, in lower case, without numbers."""
    return {w for word in WORD.findall(_bare(part)) for w in _taken_apart(word.casefold())}


def _taken_apart(word: str) -> tuple[str, ...]:
    pair = PAIR.fullmatch(word)
    return tuple(filter(None, pair.groups())) if pair else (word,)


def _named(words: Set[str]) -> str | None:
    named = [split for split in SPLITS if words & WORDS[split]]
    if len(named) == 1 or named in (["train", "val"], ["val", "test"]):
        return "train" if named[0] == "train" else named[-1]
    return None


def near_namesakes(folder: Path, paths: Collection[Path]) -> dict[Path, Path]:
    """{path: another file called like it and not equal to it}, of those paths that have one: in a folder beside
    `folder` that is not for another split, or below it."""
    if not paths:
        return {}
    real, wanted = folder.resolve(), {path.name for path in paths}
    beside = [f for f in sorted(real.parent.iterdir()) if f.is_dir()]
    places = [f for f in beside if split_of(f"{f.name}/.") in (None, split_of(f"{real.name}/."))]
    files: dict[str, list[Path]] = {name: [f / name for f in places] for name in wanted}
    for below, names in walk(folder):
        for name in wanted.intersection(names):
            files[name].append(folder / below / name)
    others = {path: next((f for f in files[path.name] if _is_another(f, path)), None) for path in paths}
    return {path: other for path, other in others.items() if other is not None}


def _is_another(file: Path, path: Path) -> bool:
    return file.is_file() and file.resolve() != path.resolve() and not filecmp.cmp(file, path, shallow=False)

"""What the category ids of several sources mean together, and the labels that the detector knows them by.

A label is the category id itself while ids are ordinary: whole numbers from 0 of which the largest is below 1,000 or
below twice the number of classes. Other ids (hashes, database keys, texts) are numbered 0, 1, ... in rising order;
such classes carry the id of the files as "category_id" beside their label, and results are written with it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from model.data.document import Document
from model.data.problems import Problems, listed, shown

ORDINARY = 1000
TRIMMED = (
    "objects whose class has blanks around its name, read without them, as of the class that is written so"
)


def outside_id(category: Mapping[str, Any]) -> Any:
    """The id that the files give a class {"id": label, "name"[, "category_id"]}."""
    return category.get("category_id", category["id"])


def outside_ids(categories: Sequence[Mapping[str, Any]]) -> dict[int, Any]:
    """{label: id of the files}."""
    return {int(c["id"]): outside_id(c) for c in categories}


def written_ids(
    categories: Sequence[Mapping[str, Any]], listed: Sequence[tuple[Any, int]], labels: Iterable[int]
) -> dict[int, Any]:
    """{label: the id by which results name it} for one annotation file, `listed` its (category id, label or -1): the
    file's own id of the class, which by name is another than the training set's. A label that the file has no id for
    keeps its own, and is missing here where the file calls another class so."""
    own = {label: i for i, label in reversed(listed) if label >= 0}
    taken, outside = {i for i, _ in listed}, outside_ids(categories)
    found = {label: own.get(label, outside.get(label, label)) for label in labels}
    return {label: i for label, i in found.items() if label in own or i not in taken}


def are_ordinary(ids: Sequence[Any]) -> bool:
    """Whether ids can be labels as they are."""
    whole = all(type(i) is int and i >= 0 for i in ids)
    return whole and max(ids, default=0) < max(ORDINARY, 2 * len(ids))


def labelled(names: Mapping[Any, str]) -> list[dict[str, Any]]:
    """{category id: name} as classes [{"id": label, "name"[, "category_id"]}], by label."""
    if are_ordinary(list(names)):
        return [{"id": i, "name": names[i]} for i in sorted(names)]
    ordered = sorted(names, key=lambda i: (isinstance(i, str), i))
    return [{"id": n, "name": names[i], "category_id": i} for n, i in enumerate(ordered)]


def not_categories(categories: Sequence[Mapping[str, Any]], ids: Iterable[Any] | None) -> str:
    """What is wrong with `dataset.eval_class_ids`; "" where all are categories of the data."""
    known = {outside_id(c): c["name"] for c in categories}
    unknown = sorted(set(ids or []) - set(known))
    if not unknown:
        return ""
    return (
        f"dataset.eval_class_ids: {unknown} are no categories of the data, which have {known}; null means all"
    )


def uncounted(categories: Sequence[Mapping[str, Any]], ids: Collection[Any] | None) -> str:
    """Which classes `dataset.eval_class_ids` leaves out of what is scored, for a person; "" for none."""
    left = [str(c["name"]) for c in categories if ids and outside_id(c) not in ids]
    return f"dataset.eval_class_ids: not scored are {listed(left)}; null counts all" if left else ""


def misfits(
    dataset: Mapping[str, Any], categories: Sequence[Mapping[str, Any]], boxed: Mapping[str, Collection[int]]
) -> list[str]:
    """What of the section `dataset` of a spec contradicts the data: `categories` [{"id": label, "name"[,
    "category_id"]}], and the labels that are `boxed` in "train" and "val"."""
    wrong = []
    labels, ids = {label for each in boxed.values() for label in each}, dataset["eval_class_ids"]
    top = max(labels, default=-1)
    if top >= dataset["num_classes"]:
        ordinary = outside_ids(categories).get(top) == top
        what = "category id" if ordinary else "label of the renumbered classes"
        wrong.append(
            f"dataset.num_classes must be above the largest {what} {top}, but got {dataset['num_classes']}; labels are "
            f"the ids themselves, from 0 on, so that it is at least {top + 1}, however many classes there are"
        )
    if unknown := not_categories(categories, ids):
        return [*wrong, unknown]
    counted = {int(c["id"]) for c in categories if outside_id(c) in (ids or ())}
    if counted and not counted & set(boxed["val"]):
        wrong.append(f"no box of dataset.eval_class_ids {list(ids)} to validate with")
    return wrong


def unlike(a: str, b: str) -> str:
    """How two names differ that look the same, to be put behind a message; "" where they do not look so."""
    if a == b or _looks_like(a) != _looks_like(b):
        return ""
    forms = [_visible(unicodedata.normalize("NFKC", name)) for name in (a, b)]
    hidden = _visible(a) != a or _visible(b) != b
    what = "case" if forms[0] != forms[1] else "characters that are not seen" if hidden else "Unicode form"
    return f"; {a!a} and {b!a} differ in {what} alone"


def look_alikes(names: Iterable[str]) -> list[str]:
    """ "'red' and 'RED' differ in case alone" of names that a reader may take for one."""
    first: dict[str, str] = {}
    return [text[2:] for name in names if (text := unlike(first.setdefault(_looks_like(name), name), name))]


def _looks_like(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", _visible(name)).casefold())


def _visible(name: str) -> str:
    """Without characters that have no width, such as the zero-width space and marks of direction."""
    return "".join(c for c in name if unicodedata.category(c) != "Cf")


@dataclass
class Table:
    """{category id: name} of a training set (or of a checkpoint), and where each was read."""

    by_name_allowed: bool = False
    names: dict[Any, str] = field(default_factory=dict)
    ids: dict[str, Any] = field(default_factory=dict)
    origin: dict[Any, str] = field(default_factory=dict)
    above: dict[str, str] = field(default_factory=dict)  # names left out as placeholders -> where

    @classmethod
    def of(cls, classes: Sequence[Mapping[str, Any]], where: str, by_name: bool = False) -> Table:
        """What a checkpoint or a training set has settled."""
        table = cls(by_name)
        for category in classes:
            table._add(outside_id(category), str(category["name"]), where)
        return table

    def classes(self) -> list[dict[str, Any]]:
        return labelled(self.names)

    def read(
        self, document: Document, problems: Problems, grow: bool, counted: Sequence[Any] = ()
    ) -> list[Any]:
        """For each category of the document the id in this table, None for one that is left out. With `grow` new
        classes are added; else one that has boxes is a problem, unless `counted` (ids that count) does without."""
        if grow and document.placeholder:
            self.above[document.placeholder] = document.where
        used = set(document.category.tolist())
        numbered = {c["name"]: c["id"] for n, c in enumerate(document.categories) if n in used}
        found: list[Any] = []
        for n, category in enumerate(document.categories):
            i, name, boxes = category["id"], category["name"], n in used
            if not boxes and numbered.get(name, i) != i:  # a placeholder beside the class itself
                problems.note(
                    f"{document.where}: category {shown(i)} ({name}) has no boxes and the name of another; left out"
                )
                found.append(None)
                continue
            found.append(self._match(i, name, boxes, document.where, problems, grow, counted))
        return found

    def _match(
        self, i: Any, name: str, boxes: bool, where: str, problems: Problems, grow: bool,
        counted: Sequence[Any],
    ) -> Any:  # fmt: skip
        if self.names.get(i) == name:
            return i
        if name in self.ids and self.by_name_allowed:
            return self.ids[name]
        if name in self.ids:
            if not boxes and i not in self.names:
                return None
            problems.add("class", f"{self._both(i, name, where)}; {BY_NAME}")
        elif i in self.names and not self.by_name_allowed:
            advice = (
                BY_NAME if grow else f"no class of the training set is called {name}"
            )  # by name it is none
            problems.add("class", f"{self._both(i, name, where)}; {advice}")
        elif grow:
            return self._add(i if i not in self.names else self._free(), name, where)
        elif boxes and name in self.above:
            problems.add(
                "class",
                f"{where}: category {shown(i)} ({name}) has boxes here, but none in {self.above[name]}, where it is "
                "the supercategory of all others and so taken for no class; give these boxes one of the others, or, if "
                "it is a class, change the others' supercategory there",
            )
        elif boxes and not (counted and i not in counted):
            known = ", ".join(f"{shown(k)} {v}" for k, v in list(self.names.items())[:20])
            problems.add(
                "class",
                f"{where}: category {shown(i)} ({name}) is not in the training set, which has {known}"
                + next((text for other in self.names.values() if (text := unlike(name, other))), ""),
            )
        elif boxes:
            problems.note(
                f"{where}: category {shown(i)} ({name}) is unknown and does not count; its boxes are left out"
            )
        return None

    def _both(self, i: Any, name: str, where: str) -> str:
        """The contradiction, with both files, ids and names."""
        here = f"category {shown(i)} is {name} in {where}"
        if i in self.names:
            return f"{here}, but {self.names[i]} in {self.origin[i]}{unlike(name, self.names[i])}"
        other = self.ids[name]
        if self.origin[other] == where:
            return f"{where}: categories {shown(other)} and {shown(i)} are both called {name}"
        return f"{here}, but {name} is category {shown(other)} in {self.origin[other]}"

    def _add(self, i: Any, name: str, where: str) -> Any:
        self.names[i], self.origin[i] = name, where
        self.ids.setdefault(name, i)
        return i

    def _free(self) -> int:
        return max((i for i in self.names if isinstance(i, int)), default=-1) + 1


BY_NAME = "set dataset.match_classes_by_name=true if the names are right"

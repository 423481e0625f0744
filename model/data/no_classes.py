"""Names under which tools, and converters of other sets, list regions that are no objects (KITTI's DontCare, VisDrone's
ignored regions): no reader takes their boxes for a class, and all count them in these words."""

from __future__ import annotations

import numpy as np

from model.data.document import Document

NO_CLASSES = {"dontcare", "ignored regions", "__background__"}
LEFT_OUT = "objects called DontCare, ignored regions or __background__ left out, as regions that are no class"


def is_no_class(name: str) -> bool:
    """Whether a name, in any case, is one of those."""
    return name.casefold() in NO_CLASSES


def without_regions(document: Document) -> Document:
    """Without the boxes of such categories. The categories stay: a list of classes may begin with __background__, and
    no id becomes another's."""
    none = np.array([is_no_class(category["name"]) for category in document.categories], bool)[
        document.category
    ]
    return document.with_boxes(~none).counted(LEFT_OUT, none.sum())

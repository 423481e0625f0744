"""Published weights brought to this machine by name, for every training on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from model import start
from model.errors import UserError, did_you_mean
from model.settings import completed
from model.spec import resolve

NAMED = ("coco", "imagenet")


def named(
    what: str,
    partial: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
    engine: bool = True,
) -> str:
    """Fetch `coco` or `imagenet` weights for a (partial) train spec; `engine`: as `automl run` completes it. Returns
    where they are."""
    if what not in NAMED:
        raise UserError(f"fetch: must be {' or '.join(NAMED)}, but got '{what}'{did_you_mean(what, NAMED)}")
    asked = start.with_start(partial or {}, what)
    begin = start.settle(completed(asked) if engine else resolve("train", asked))
    path = start.fetched(begin, say)
    say(f"{begin.text if not begin.missing else path}: ready")
    return str(path)

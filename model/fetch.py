"""Published weights brought to this machine by name, for every training on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from model import start
from model.errors import UserError
from model.settings import completed
from model.spec import resolve


def named(
    what: str,
    partial: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
    engine: bool = True,
) -> str:
    """Fetch `coco` or `imagenet` weights for a (partial) train spec; `engine`: as `automl run` completes it. Returns
    where they are."""
    if what not in ("coco", "imagenet"):
        raise UserError(f"fetch: must be coco or imagenet, but got '{what}'")
    asked = start.with_start(partial or {}, what)
    begin = start.settle(completed(asked) if engine else resolve("train", asked))
    path = start.fetched(begin, say)
    say(f"{begin.text if not begin.missing else path}: ready")
    return str(path)

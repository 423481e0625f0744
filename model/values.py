"""Whether a value is one for its leaf, by the row of `parameters.py` alone, and what it must be."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from model.parameters import MANDATORY, SOURCE, Param


def as_spelled(param: Param, value: Any) -> Any:
    """A choice as its list has it, where only its letters' case is another: NVIDIA's files have `data_type: int8`."""
    choices = [c for c in param.enum or () if isinstance(c, str)]
    if not isinstance(value, str) or value in choices:
        return value
    same = [choice for choice in choices if choice.lower() == value.lower()]
    return same[0] if len(same) == 1 else value


def check_value(param: Param, value: Any) -> str | None:
    """None when `value` is valid for `param`, else what it must be."""
    if value is None:
        return None if param.nullable else _wanted(param)
    if value == MANDATORY and param.default == MANDATORY:
        return None
    if param.enum is not None and value not in param.enum:
        if not (param.pattern and isinstance(value, str) and re.match(param.pattern, value)):
            return f"one of {', '.join(map(str, param.enum))}{_or_else(param)}"
    if not _has_type(param, value):
        return _wanted(param)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not _in_bounds(param, value):
        return _wanted(param)
    return None


def _or_else(param: Param) -> str:
    return {"model.backbone": ", or timm/<name>"}.get(param.name, "")


_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,), "ordered_int": (int,), "float": (int, float), "bool": (bool,), "string": (str,),
    "categorical": (str,), "list": (list,), "list_2": (list,), "collection": (dict,),
}  # fmt: skip
_ITEMS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "string": (str,)}


def _has_type(param: Param, value: Any) -> bool:
    if not isinstance(value, _TYPES[param.type]) or (isinstance(value, bool) and param.type != "bool"):
        return False
    if isinstance(value, list) and param.item == "source":
        return all(isinstance(v, dict) and set(v) == set(SOURCE) and _texts(v, SOURCE) for v in value)
    if isinstance(value, list) and param.item:
        return len(value) >= param.min_items and all(_is_item(param, each) for each in value)
    if isinstance(value, dict) and param.default:
        return set(value) <= set(param.default) and _texts(value, param.default)
    return _finite(value)


def _is_item(param: Param, value: Any) -> bool:
    if not isinstance(value, _ITEMS[str(param.item)]) or isinstance(value, bool) or value == MANDATORY:
        return False
    low = param.item_minimum
    return _finite(value) and (low is None or (isinstance(value, int | float) and value >= low))


def _texts(source: Mapping[str, Any], default: Mapping[str, Any]) -> bool:
    """Whether every value is text, a list of text where the default has one, or null for none."""
    values = [
        v
        for key, value in source.items()
        for v in (value if isinstance(value, list) and isinstance(default[key], list) else [value])
    ]
    return all(v is None or (isinstance(v, str) and v != MANDATORY) for v in values)


def _finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _in_bounds(param: Param, value: float) -> bool:
    if param.no_zero and value == 0:
        return False
    above_zero = (param.math_cond or "").replace(" ", "") not in (">0", ">0.0") or value > 0
    low = param.minimum is None or value >= param.minimum
    return above_zero and low and (param.maximum is None or value <= param.maximum)


def _bound(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _wanted(param: Param) -> str:
    words = {"int": "an integer", "ordered_int": "an integer", "float": "a number", "bool": "true or false"}
    text = words.get(param.type, f"a {param.type}") + (
        f" with a unit, such as {param.example}" if param.example else ""
    )
    if param.type.startswith("list"):
        text = f"a list of {f'{param.min_items} or more ' * (param.min_items > 0)}{param.item or 'value'}s"
    if param.item_minimum is not None:
        text += f" from {_bound(param.item_minimum)}"
    if param.item == "source":
        text += f", each a mapping of {' and '.join(SOURCE)} to a path"
    if param.type == "collection" and param.default:
        text = f"a mapping with the keys {', '.join(param.default)}"
    if param.no_zero:
        text = "-1 or an integer from 1"
    elif param.minimum is not None or param.maximum not in (None, float("inf")):
        opening = "(" if param.math_cond and ">" in param.math_cond and param.minimum == 0 else "["
        top = "inf)" if param.maximum in (None, float("inf")) else f"{_bound(param.maximum)}]"
        text += f" in {opening}{'-inf' if param.minimum is None else _bound(param.minimum)}, {top}"
    return text + (" or null" if param.nullable else "")

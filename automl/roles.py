"""Members of a role (sampler, scheduler) by name, ours and those of other packages, with options in the text:
`tpe:n_startup_trials=5`. Ours come first, so nothing that is installed can change what a name of ours means."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from automl.documents import load_yaml
from automl.errors import UserError, did_you_mean

Maker = Callable[..., Any]
# What other programs have under names that are none here.
ELSEWHERE = {
    "bayesian": "; fgp, the default, and gp are such samplers",
    "hyperband": "; the schedulers halving and asha are its kind",
    "bohb": "; --sampler tpe --scheduler halving is its kind",
    "pbt": "; nothing here changes settings within a training, and fgp, the default, decides which goes on",
}
OFFERED = ("view",)  # given to a maker that takes it


def build(option: str, text: str, own: Mapping[str, Maker], group: str, **context: Any) -> Any:
    """Call the maker that `text` names with its options and `context`. Raises `UserError` for an unknown name, an
    unknown option or a value the maker refuses."""
    maker, options = _parse(option, text, own, group)
    taken = inspect.signature(maker).parameters
    context = {name: value for name, value in context.items() if name in taken or name not in OFFERED}
    try:
        return maker(**context, **options)
    except Exception as error:  # of ours ValueError; another package's may raise anything
        raise UserError(f"{option} {text}: {type(error).__name__}: {error}") from None


def _parse(option: str, text: str, own: Mapping[str, Maker], group: str) -> tuple[Maker, dict[str, Any]]:
    name, colon, rest = text.partition(":")
    others = {} if name in own else {point.name: point for point in entry_points(group=group)}
    if name not in own and name not in others:
        known = [*own, *sorted(others)]
        hint = ELSEWHERE.get(name.lower()) or did_you_mean(name.lower(), known)
        raise UserError(f"{option} must be one of {', '.join(known)}, but got '{name}'{hint}")
    if colon and not rest.strip():
        raise UserError(
            f"{option} {text}: after the colon come options, NAME=VALUE; without any leave it out"
        )
    maker = own[name] if name in own else _loaded(option, others[name])
    options = {}
    parameters = inspect.signature(maker).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    taken = {
        n: p.default
        for n, p in parameters.items()
        if n not in ("seed", "self", *OFFERED) and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    for pair in filter(None, rest.split(",")):
        key, equals, value = pair.partition("=")
        if not equals and key in taken:
            raise UserError(f"{option} {text}: {key} needs a value: {key}=VALUE")
        if not equals or (key not in taken and not anything):
            takes = f"takes {', '.join(taken)}" if taken else "takes no options"
            raise UserError(f"{option} {text}: {name} {takes}, but got '{pair}'{did_you_mean(key, taken)}")
        options[key] = _value(f"{option} {name}:{key}", value, taken.get(key))
    return maker, options


def _loaded(option: str, point: EntryPoint) -> Maker:
    try:
        maker: Maker = point.load()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{option} {point.name}: {point.value} of another package cannot be imported: {why}"
        ) from None
    return maker


def _value(where: str, text: str, default: Any) -> Any:
    """The text as what the default is: true or false, a whole number from 0, a number; else as YAML has it."""
    value = load_yaml(text, where)
    kind: Any = type(default) if isinstance(default, (bool, int, float)) else object
    right = type(value) is kind or kind is object or (kind is float and type(value) is int)
    if not right or (kind is int and value < 0):
        words = {bool: "true or false", int: "a whole number from 0", float: "a number"}
        raise UserError(f"{where} must be {words[kind]}, but got '{text}'")
    return value

"""A model's own Python: imported, called, and believed as far as references/trial_contract.md says what it gives."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from automl import faults, spec
from automl.errors import AutoMLError, UserError

if TYPE_CHECKING:
    from automl.bundle import ModelBundle


def load(target: str, where: str) -> Callable[..., Any]:
    """The function `module:function`; `where` is how messages call it. Raises `UserError` when it is not there, and so
    does the function returned where the model's code fails, unless with an error that carries an exit code."""
    module, _, name = target.partition(":")
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:
        raise UserError(f"{where} cannot be imported: {_told(error)}") from None

    @functools.wraps(function)
    def asked(*args: Any, **named: Any) -> Any:
        try:
            return function(*args, **named)
        except (Exception, SystemExit) as error:
            if hasattr(error, "exit_code") or faults.told(error) is not None:
                raise
            raise UserError(f"{where} failed: {_told(error)}") from error

    return asked


def _told(error: BaseException) -> str:
    """In a line, with the place where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


def answer(model: ModelBundle, purpose: str, found: Any) -> dict[str, Any]:
    """What a hook of the model returned; None says nothing. Raises `UserError` for anything but a mapping."""
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UserError(
            f"{model.name}: entry_points.{purpose} {model.entry(purpose)} must return a mapping "
            f"(references/trial_contract.md), but got {type(found).__name__}"
        )
    return found


def asked(model: ModelBundle, purpose: str, *given: Any) -> dict[str, Any]:
    """What a hook of the model says of `given`, of which it may take fewer; nothing where it has none. Raises
    `UserError` as `answer` does."""
    ask = model.call(purpose)
    return answer(model, purpose, ask(*given[: _most(ask)])) if ask else {}


def _most(function: Callable[..., Any]) -> int | None:
    """How many arguments a function takes by their places; None for any number."""
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return None
    return sum(
        k in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for k in kinds
    )


def plain(model: ModelBundle, purpose: str, found: dict[str, Any]) -> dict[str, Any]:
    """The same as run.json gives it back. Raises `UserError` for what JSON cannot hold."""
    try:
        again: dict[str, Any] = json.loads(json.dumps(found, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{model.name}: entry_points.{purpose} {model.entry(purpose)} must return what JSON can hold, but {error}"
        ) from None
    return again


def check_leaves(
    model: ModelBundle, purpose: str, full: Mapping[str, Any], values: Mapping[str, Any]
) -> None:
    """Raises `UserError` for a leaf that a hook sets and neither the spec nor the schema has."""
    for name, hint in unknown_leaves(model, full, values):
        raise UserError(
            f"{model.name}: entry_points.{purpose} {model.entry(purpose)} sets {name}, which neither the spec nor the "
            f"schema has{hint}"
        )


def unknown_leaves(
    model: ModelBundle, full: Mapping[str, Any], names: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """(name, "did you mean") of what neither a train spec nor its schema has; nothing where the schema cannot be read,
    which a training without a search does not need."""
    from automl.space.schema import Schema

    known = {name for name, _ in spec.leaves(full)}
    if model.schema_path("train").is_file():
        try:
            known |= {*Schema(model.schema("train")).nodes}
        except AutoMLError:
            return
    yield from spec.unknown(full, known, names)


def check_spec(model: ModelBundle, full: Mapping[str, Any], action: str = "train") -> None:
    """Let the model check what ties several leaves of an action's spec together. Raises `UserError`."""
    check = model.call("check_spec")
    if check is None:
        return
    try:
        check(action, full)
    except Exception as error:
        if getattr(error, "exit_code", None) == 2:
            raise UserError(str(error)) from None
        raise


def texts(found: Any) -> list[str]:
    """A hook's texts: a list of them, or one alone."""
    return [found] if isinstance(found, str) else list(map(str, found or ()))

"""The AutoML engine. Importing it brings in neither torch nor ray (tests/test_imports.py holds this)."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["tune"]

if TYPE_CHECKING:
    from automl.tuning import tune


def __getattr__(name: str) -> Any:
    if name == "tune":
        from automl.tuning import tune

        return tune
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

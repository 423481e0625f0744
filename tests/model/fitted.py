"""What `automl run` would settle for a spec and its data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model import facts, settings


def fitted(spec: Mapping[str, Any], data: Path, work: Path, **machine: Any) -> dict[str, Any]:
    """{"fill", "reasons", "warnings"}; `machine`: fields of `settings.Machine`; the spec's leaves that differ from the
    defaults are a person's."""
    found = facts.inspect(spec, str(data), work)
    return settings.fit(spec, found["facts"], machine, settings.given_by(spec))

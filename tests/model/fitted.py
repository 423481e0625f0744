"""What `automl run` would settle for a spec and its data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model import facts, settings
from model.parameters import of_action
from model.spec import get


def fitted(spec: Mapping[str, Any], data: Path, work: Path, **machine: Any) -> dict[str, Any]:
    """{"fill", "reasons", "warnings"}; `machine`: fields of `settings.Machine`; the spec's leaves that differ from the
    defaults are a person's."""
    found = facts.inspect(spec, str(data), work)
    return settings.fit(spec, found["facts"], machine, given_by(spec))


def given_by(spec: Mapping[str, Any]) -> dict[str, str]:
    """The leaves of a full train spec that differ from the defaults, as `sources` of `settings.fit`: set one by one."""
    return {p.name: "--set" for p in of_action("train") if get(spec, p.name) != p.default}

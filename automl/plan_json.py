"""`automl plan --json`: everything that the plan shows, for other programs to read."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from automl import latency
from automl.plan import Plan
from automl.request import LATENCY
from automl.show_plan import first_configurations, lessons_of


def text(what: Plan, configurations: int) -> str:
    """`document` as JSON, indented."""
    return json.dumps(document(what, configurations), indent=1, default=str)


def document(what: Plan, configurations: int) -> dict[str, Any]:
    """The plan as plain data: "data" is what the model found (layout, its parts and their counts), "filled"
    the leaves that the data determined (among them where each split lies), "space" the parameters that are searched
    and how far trials may leave their ranges."""
    from automl.space import to_record

    request, lessons = what.request, lessons_of(what)
    return {
        "model": what.bundle.name,
        "searching": what.searching,
        "data": what.facts,
        "notes": what.warnings,
        "filled": what.filled,
        "reasons": what.reasons,
        "machine": asdict(what.machine),
        "budget": {
            "trials": request.trials,
            "trainings": request.trainings,
            "total_epochs": request.total_epochs,
            "time_s": request.time_s,
        },
        "search": {
            "sampler": request.sampler,
            "scheduler": request.scheduler,
            "metric": what.metric.name,
            "objectives": [what.metric.name, LATENCY] if what.trade_off else [what.metric.name],
        },
        "space": to_record(what.space, what.room) if what.searching else None,
        "warm_start": {"trials": len(lessons.trials), "of": lessons.of, "text": lessons.text}
        if lessons.of
        else None,
        "configurations": first_configurations(what, configurations, lessons) if what.searching else [],
        "latency": latency.figures(what.latency) if what.latency else None,
        "estimate": what.estimate,
        "spec": what.spec,
    }

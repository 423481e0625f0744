import json

import pytest

from automl.errors import UserError
from automl.request import DEFAULT_TRAININGS, RunRequest, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400), ("1d", 86400)],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "2x", "1h30", "-5", "0s", "2 h"])
def test_broken_times(text: str) -> None:
    with pytest.raises(UserError, match="--time"):
        parse_time(text)


def test_round_trip_through_json() -> None:
    request = RunRequest(data="d", sets=("a=1", "b=2"), time_s=3.5, trials=4)
    assert RunRequest.from_json(json.loads(json.dumps(request.to_json()))) == request


def test_default_budget_only_without_any() -> None:
    assert RunRequest().with_budget().trainings == DEFAULT_TRAININGS
    assert RunRequest(time_s=60.0).with_budget().trials is None

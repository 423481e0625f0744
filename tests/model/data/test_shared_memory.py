"""Batches go from loader processes to the training through /dev/shm, of which there may be little."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest
from torch.utils.data import DataLoader

from model.data import shared_memory
from model.errors import ModelError
from model.status import failure_told

PUBLISHED = 800 * 1333  # px


@pytest.mark.parametrize(
    ("room_mb", "ranks", "processes"),
    [(0, 1, 0), (64, 1, 0), (1000, 1, 4), (1000, 2, 2), (64_000, 1, 8), (float("inf"), 8, 8)],
)
def test_as_many_processes_as_have_room_for_their_batches(
    monkeypatch: pytest.MonkeyPatch, room_mb: float, ranks: int, processes: int
) -> None:
    monkeypatch.setattr(shared_memory, "room", lambda: room_mb * 1e6)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    here = shared_memory.processes(8, 4, PUBLISHED)
    assert here == processes
    told = shared_memory.lacking(8, here)
    assert ("--shm-size" in told and f"{room_mb:.0f} MB" in told) == (here < 8)


class Unsent:
    def __reduce__(self) -> NoReturn:
        raise OSError(28, "No space left on device")


class Items:
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        return Unsent()


def test_a_batch_that_cannot_be_handed_over_ends_the_loading(tmp_path: Any) -> None:
    """torch drops it and waits for it for ever; the limit of time is for the day that it is waited for again."""

    @failure_told("evaluate")
    def run(spec: dict[str, Any]) -> None:
        items: Any = Items()
        loader: DataLoader[Any] = DataLoader(
            items, num_workers=1, collate_fn=list, timeout=60, worker_init_fn=shared_memory.end_without_room,
            multiprocessing_context="fork",
        )  # fmt: skip
        list(loader)

    with pytest.raises(ModelError, match=r"has ended, as it does where /dev/shm has no room .*--shm-size"):
        run({"results_dir": str(tmp_path), "evaluate": {"results_dir": ""}, "model_name": ""})
    assert "--shm-size" in (tmp_path / "evaluate" / "status.json").read_text()

"""What the lines of a trial let suspect of its trainer, in words for a person; nothing of it stops a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from automl.records import Record

BY_ITSELF = "finished by itself"  # how the reason begins of a training that ended well before its last epoch


def slips(
    number: int, lines: Sequence[Record], epochs: int | None, resume_key: str | None
) -> Iterator[tuple[str, str]]:
    """(kind, text) of what the last of a trial's `lines` shows. `epochs`: the length of its training; `resume_key`: the
    leaf that names the checkpoint to go on from. Of a kind one is told in a run; what changes the
    curve of a trial is a kind of its own for each."""
    record, before = lines[-1], lines[-2] if len(lines) > 1 else None
    if before is None and record.epoch == 1:
        yield (
            "from 1",
            f"trial {number} begins with epoch 1; lines count epochs from 0, so it is taken for the second: a trainer "
            "that counts from 1 writes one less",
        )
    elif epochs is not None and record.epoch >= epochs:
        yield (
            "too many",
            f"trial {number} reports epoch {record.epoch}, but its training has {epochs}, counted 0 to {epochs - 1}",
        )
    if before is None:
        return
    if record.epoch <= before.epoch:
        yield (
            f"back in {number}",
            f"trial {number} reports epoch {record.epoch} after epoch {before.epoch}; of an epoch told twice the last "
            "value counts",
        )
        yield (
            "back",
            f"a trainer that is started again goes on after the checkpoint that {resume_key or 'its spec'} names: the "
            f"line of trial {number} after epoch {before.epoch} is that of epoch {before.epoch + 1}",
        )
    elif record.checkpoint and before.checkpoint == record.checkpoint:
        yield (
            "one file",
            f"trial {number} writes {record.checkpoint} over and over: of such a training the last epoch counts, "
            "which that file holds, and not the best",
        )


def no_metric(lines: Sequence[Record], metric: str) -> str:
    """Why a training that ended well has no value: what its lines hold instead."""
    if not lines:
        return f"it reported no '{metric}': it wrote no line to metrics.jsonl"
    if any(metric in record.values for record in lines):
        return f"its '{metric}' was never a finite number"
    keys = sorted({str(key) for record in lines for key in record.values})
    return f"it reported no '{metric}'; its lines have {', '.join(keys)}"


def finished(done: int, wanted: int | None) -> str:
    """How a training of so many epochs that ended well ended."""
    early = wanted is not None and 0 < done < wanted
    return f"{BY_ITSELF} after {done} of {wanted} epochs" if early else "finished"

"""The user attributes of a trial in the study: what the driver keeps of it beside Optuna's own."""

from __future__ import annotations

AGAIN, WHOLE, PAUSED, WAITED, CUT, DOUBTED = "again", "whole", "paused", "waited", "cut", "doubted"
FULL = "full"
RETRIED_AT = "{}_at"  # of a count of starts
PREDICTED, REFUSED, REDRAWN, WIDENED = "predicted_ms", "refused", "redrawn", "widened"
KINDS = ("retries", "lost", FULL, DOUBTED)
_NUMBER = (int, float)

# name -> (kind, meaning); runs of earlier versions have them by these names.
TABLE: dict[str, tuple[type | tuple[type, ...], str]] = {
    "params": (dict, "the real values by dotted name"),
    "reason": (str, "why it ended or waits"),
    "best_epoch": (int, "of the value that it was told with"),
    "epochs": (int, "how many it has passed, where the last were not measured"),
    WHOLE: (int, "the epochs of its training, where its lines go beyond them"),
    AGAIN: (int, "epochs trained once more, as it went on from a checkpoint before them"),
    "retries": (int, "starts after a failure, since it last got on by an epoch"),
    "lost": (int, "starts after the loss of the process that had started it, since then"),
    FULL: (int, "how often a disk had no room for it, since then"),
    DOUBTED: (int, "how often its failure and others in a row have ended the run, since then"),
    **{
        RETRIED_AT.format(kind): (int, f"how many epochs it had at the last of its `{kind}`")
        for kind in KINDS
    },
    PAUSED: (int, "the epoch after which it waits; -1 when it goes on"),
    WAITED: (int, "the last such epoch"),
    "seconds": (_NUMBER, "that its processes ran, but for those whose driver died"),
    "timed_s": (_NUMBER, "of `timed` epochs, without starts"),
    "timed": (int, "see `timed_s`"),
    "starts": (list, "the epochs that its later processes began with"),
    CUT: (bool, "whether a budget cut it (cut.py)"),
    PREDICTED: (_NUMBER, "its latency, where that is limited or an objective"),
    REFUSED: (bool, "whether it was above the limit of latency, and not trained"),
    REDRAWN: (dict, "what the sampler proposed before it and was above that limit"),
    WIDENED: (dict, "{parameter: [lowest, highest]} of the ranges that were widened for it first"),
}

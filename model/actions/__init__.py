"""One file per action; each has `run(spec) -> dict` for a full spec of that action."""

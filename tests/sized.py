"""The options of a race of one size, on the command line."""

from __future__ import annotations


def sized(trials: int, seeds: int, fresh: int, schedule: str = "", workers: int = 0) -> list[str]:
    """So many trials, studies and fresh seeds; one schedule and so many workers, where they are given."""
    found = ["--trials", str(trials), "--seeds", str(seeds), "--fresh", str(fresh)]
    return found + (["--schedule", schedule] if schedule else []) + (["--workers", str(workers)] if workers else [])

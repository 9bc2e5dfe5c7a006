"""Settings as given: every entry on the same problem, seeds and batches; finished runs are kept."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from steprule import schedules
from steprule.counts import seeds_of, whole
from steprule.display import Shown
from steprule.errors import InputError, InputTypeError
from steprule.problems import catalogue
from steprule.problems.problem import Problem
from steprule.provenance import hardware, versions
from steprule.races import stated
from steprule.races.as_given import store
from steprule.races.as_given.results import Row, in_words, summarise
from steprule.races.as_given.spec import BOOKS, BOOKS_SETTINGS, TUTORIAL, Entry
from steprule.races.difference import warn_of_unknown
from steprule.schedules import Given, Schedule
from steprule.sweeps.cost import cost_of, steps_of
from steprule.sweeps.estimate import AlikeTrainings, Estimate, estimate, work_of
from steprule.trainable import Optimizable, Trainable, one_or_more
from steprule.training import train

RESULTS = "results.parquet"
Progress = Callable[[int, int, str], None]
"""Called before each run with (runs finished, runs in all, label)."""


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """The runs of a race and what they were made with."""

    problem: Problem
    entries: tuple[Entry, ...]
    seeds: tuple[int, ...]
    spec: Mapping[str, Any] = field(repr=False)
    runs: store.Runs = field(repr=False)
    seconds: float
    """Wall time of this call; runs that were there already cost none of it."""
    kept: int
    """How many runs were there already."""
    hardware: str
    results: Path | None

    def in_words(self) -> str:
        """The result in words."""
        return in_words(self.rows)

    @property
    def rows(self) -> list[Row]:
        """The table: a row an entry."""
        return summarise(self.entries, self.runs)

    @property
    def floor(self) -> float | None:
        """The least loss that the problem's model can reach, where it is known."""
        return self.problem.floor

    @property
    def floor_name(self) -> str:
        """What that is, in words: by least squares on the tutorial's problem."""
        return "least-squares floor" if self.problem is catalogue.get(BOOKS) else "least loss there is"

    def to_dict(self) -> dict[str, Any]:
        """The table and what it was made with, as plain values."""
        return {
            "spec": dict(self.spec),
            "seeds": list(self.seeds),
            "hardware": self.hardware,
            "seconds": self.seconds,
            "runs_kept": self.kept,
            "floor": self.floor,
            "loss": "train",
            "rows": [row.to_dict() for row in self.rows],
            "results": str(self.results) if self.results else None,
        }


def compare(
    rules: Sequence[Optimizable | Entry] | Optimizable | Entry | None = None,
    problems: str | Problem = "airfoil",
    seeds: int | Iterable[int] = 20,
    out: str | Path | None = None,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    schedule: Given = "constant",
    progress: Progress | None = None,
    told: Callable[[Estimate], None] | None = None,
    measure: bool = False,
) -> Comparison:
    """Train with each of `rules` on the same problem over the same seeds.

    Args:
        rules: rules, Optimizer classes or `Entry`s with settings, or one of them; None for the tutorial's runs and two base lines.
        problems: the problem, or its name.
        seeds: how many, from 0; or the seeds themselves.
        out: a folder for `results.parquet`. Runs of the same race that it holds already are not run again, so a race
            that was interrupted goes on, and more seeds add to it. None keeps the results in memory.
        epochs: as in `steprule.train`.
        batch_size: as in `steprule.train`.
        schedule: of the learning rate, for all, as in `steprule.train`.
        progress: called before each run.
        told: called with what it will take, before anything is trained or written; what it raises ends it.
        measure: whether seconds and memory are measured for `told` even where the race is short.

    Raises:
        StepruleError: an unknown name, a value out of bounds, a folder with another race's results or that cannot be
            written.
        KeyboardInterrupt: after the finished runs are in the file.
    """
    began = time.perf_counter()
    task = _problem(problems)
    entries = TUTORIAL if rules is None else tuple(_entry(r) for r in one_or_more(rules))
    _check_labels(entries)
    epochs = whole("epochs", task.epochs if epochs is None else epochs, 1)
    size = task.batch_size_for(batch_size)
    planned = schedules.get(schedule)
    if not (task is catalogue.get(BOOKS) and (epochs, size, planned.name) == BOOKS_SETTINGS):
        # The book's figures are of its own runs: they say nothing of another problem, or of other settings.
        entries = tuple(replace(e, book=()) if e in TUTORIAL else e for e in entries)
    numbers = seeds_of(seeds)
    spec = {
        "epochs": epochs,
        "batch_size": size,
        **_stated(planned, task, epochs, size),
        "versions": versions(),
        "problem": {"name": task.name, **stated.of_problem(task)},
        "entries": [e.to_spec(task) for e in entries],
    }
    path = Path(out) / RESULTS if out is not None else None
    runs: store.Runs = store.load(path, spec) if path else {}
    todo = [(seed, entry) for seed in numbers for entry in entries if (entry.label, seed) not in runs]
    total = len(numbers) * len(entries)
    kept = total - len(todo)
    if told is not None:
        told(_estimate(task, [entry for _, entry in todo], epochs, size, kept, measure=measure))
    if path and not path.exists():
        warn_of_unknown(spec)
    if path and not runs:
        store.save(path, spec, runs)  # a folder that cannot be written is found before the work, not after it
    saved = len(runs)
    try:
        for done, (seed, entry) in enumerate(todo):
            if progress:
                progress(kept + done, total, entry.label)
            runs[entry.label, seed] = train(
                entry.optimizer, entry.trains(task), seed, epochs, size, schedule=planned, **entry.hypers
            )  # fmt: skip
            if path and entry is entries[-1]:
                store.save(path, spec, runs)
                saved = len(runs)
    finally:
        if path and len(runs) > saved:
            store.save(path, spec, runs)
    wanted = {(e.label, s) for e in entries for s in numbers}
    mine = {key: run for key, run in runs.items() if key in wanted}
    return Comparison(task, entries, numbers, spec, mine, time.perf_counter() - began, kept, hardware(), path)


def _stated(planned: Schedule, task: Problem, epochs: int, batch_size: int) -> dict[str, Any]:
    """The schedule; {} for a learning rate that stays, as results say nothing of it that are older than schedules here."""
    if planned.name == "constant":
        return {}
    own = stated.of_schedules([planned], {task.name: steps_of(task, epochs, batch_size)})
    return {"schedule": planned.name, **({"functions": own} if own else {})}


def _estimate(
    task: Problem, entries: Sequence[Entry], epochs: int, batch_size: int, kept: int, *, measure: bool
) -> Estimate:
    labels = Counter(entry.label for entry in entries)
    parts = []
    for entry in {entry.label: entry for entry in entries}.values():
        how: dict[str, Any] = {"batch_size": batch_size, "engine": "one by one"}
        cost = partial(cost_of, task, Trainable.of(entry.optimizer).what, entry.hypers, 1, 1, **how)
        steps, work = steps_of(task, epochs, batch_size), work_of(task, epochs, batch_size)
        parts.append(AlikeTrainings(labels[entry.label], steps, work, "one by one", cost))
    return estimate(parts, kept, measure=measure)


def _problem(spec: object) -> Problem:
    if isinstance(spec, list | tuple):
        if len(spec) != 1:
            raise InputError("problems", expected="one problem", got=f"{len(spec)}", hint="Run a race for each.")
        spec = spec[0]
    if not isinstance(spec, str | Problem):
        raise InputTypeError("problems", expected="a problem or its name", got=repr(spec))
    return catalogue.get(spec)


def _entry(spec: Optimizable | Entry) -> Entry:
    if isinstance(spec, Entry):
        Trainable.of(spec.optimizer)  # raises where it cannot train
        return spec
    return Entry(Trainable.of(spec).name, spec)


def _check_labels(entries: tuple[Entry, ...]) -> None:
    if not entries:
        raise InputError("race", expected="at least one rule", got="none")
    labels = [e.label for e in entries]
    if twice := {label for label in labels if labels.count(label) > 1}:
        hint = "Give each an Entry with a label of its own."
        raise InputError("race", expected="each entry once", got=f"{twice.pop()!r} twice", hint=hint)

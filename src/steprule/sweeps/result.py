"""`Sweep`: every lane of a sweep, which point is best, and with what caution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from steprule.as_json import plain
from steprule.counts import counted
from steprule.display import Shown
from steprule.hyper import said
from steprule.lanes.records import Array
from steprule.problems import scoring

END = 12
"""The best is called at an end of what was tried where it lies among the outer twelfth of the values."""


@dataclass(frozen=True, repr=False)
class Sweep(Shown):
    """Every lane of a sweep: `[points, seeds]`, in the order in which they were given."""

    optimizer: str
    problem: str
    hypers: Mapping[str, Array]
    """What was varied, and what else was given: [points]."""
    seeds: tuple[int, ...]
    schedule: str | tuple[str, ...]
    epochs: int | tuple[int, ...]
    batch_size: int | tuple[int, ...]
    """One for all points, or one each."""
    train: Array = field(repr=False)
    """The loss on all training samples after the last step."""
    validation: Array = field(repr=False)
    test: Array = field(repr=False)
    """The same on what was held out; nan where the problem holds nothing out."""
    initial: Array = field(repr=False)
    """The loss on all training samples before the first step, [seeds]."""
    died_at: Array = field(repr=False)
    """The step at which the batch loss was not finite; 0 where it always was."""
    curve: Array = field(repr=False)
    """[points, seeds, windows]: the mean batch loss of each part of the training."""
    engine: str
    """How: "kernel", "vmap" or "one by one"; and why no better."""
    seconds: float
    """Wall time, compilation included."""
    compile_seconds: float
    """What building the model's kernel took of it."""
    versions: Mapping[str, str] = field(repr=False, default_factory=dict)
    metrics: Mapping[str, Mapping[str, Array]] = field(repr=False, default_factory=dict)
    """The problem's metrics after the last step, by part ("train", "validation", "test") and name, [points, seeds]; they choose nothing."""
    limits: Mapping[str, tuple[float, float]] = field(repr=False, default_factory=dict)
    """By name the least and the largest number that the rule allows, inf for none."""

    def in_words(self) -> str:
        """How much was trained, and which point was best."""
        size = f"{counted(len(self.train), 'point')} x {counted(len(self.seeds), 'seed')}"
        head = f"{self.optimizer} on {self.problem}: {size}"
        best = self.best
        if best is None:
            found = "no best: every point diverged with some seed"
        else:
            losses = ", ".join(f"{n} {v[best].mean():.5g}" for n, v in self.measured.items())
            point = ", ".join(f"{n}={said(v, 4)}" for n, v in self.point(best).items())
            found = "; ".join(filter(None, [f"best by the {self.chosen_by}: {point}", losses, self.scores_of(best)]))
        pace = f"{counted(self.lanes, 'training')} in {self.seconds:.2f} s ({self.engine}), {int(self.diverged.sum())} diverged"
        return "\n    ".join([head, found, *self.cautions, pace])

    @property
    def measured(self) -> dict[str, Array]:
        """The losses that there are, by split: train, and what the problem holds out."""
        held = {"train": self.train, "validation": self.validation, "test": self.test}
        return {n: v for n, v in held.items() if n == "train" or not np.isnan(v).all()}

    @property
    def chosen_by(self) -> str:
        """Which loss points are chosen by: "validation loss", or "training loss" where there is no validation split."""
        return "validation loss" if "validation" in self.measured else "training loss"

    @property
    def order(self) -> Array:
        """The points from the best on, without those that diverged with some seed."""
        means = self.scores.mean(axis=1)
        order = np.argsort(means, kind="stable")
        return np.asarray(order[np.isfinite(means[order])])

    @property
    def at_end(self) -> dict[str, str]:
        """By name at which end of the tried values the best lies, "lowest" or "highest", where numbers lie beyond."""
        found: dict[str, str] = {}
        for name, values in self.hypers.items():
            tried = np.unique(values)
            if self.best is None or len(tried) < 3 or tried.dtype.kind not in "fi":
                continue
            at, edge = int(np.searchsorted(tried, values[self.best])), -(-len(tried) // END)
            low, high = self.limits.get(name, (-np.inf, np.inf))
            if at < edge and not np.isclose(tried[0], low, rtol=1e-9, atol=0):
                found[name] = "lowest"
            elif at >= len(tried) - edge and not np.isclose(tried[-1], high, rtol=1e-9, atol=0):
                found[name] = "highest"
        return found

    @property
    def cautions(self) -> list[str]:
        """What to know before the best is taken for the best there is, in sentences."""
        found = []
        for name, end in self.at_end.items():
            low, high = (said(limit.item(), 3) for limit in (self.hypers[name].min(), self.hypers[name].max()))
            found.append(
                f"The best {name} lies at the {end} of what was tried, {low}..{high}: better ones may lie beyond."
            )
        return found

    @property
    def lanes(self) -> int:
        """How many trainings."""
        return self.train.size

    @property
    def lanes_per_second(self) -> float:
        """Trainings per second, without compilation."""
        return self.lanes / max(self.seconds - self.compile_seconds, 1e-9)

    @property
    def diverged(self) -> Array:
        """Lanes that died, or ended above where they began."""
        with np.errstate(invalid="ignore"):
            return (self.died_at > 0) | ~(self.train <= self.initial)

    @property
    def scores(self) -> Array:
        """What points are chosen by: the validation loss, or the training loss where nothing was held out; inf where a
        lane diverged."""
        chosen = self.measured.get("validation", self.train)
        return np.where(self.diverged | ~np.isfinite(chosen), np.inf, chosen)

    @property
    def best(self) -> int | None:
        """The point with the least mean score over the seeds; None where every point diverged with some seed."""
        return int(self.order[0]) if len(self.order) else None

    def point(self, k: int) -> dict[str, float | bool]:
        """The hyperparameters of one point."""
        return {name: values[k].item() for name, values in self.hypers.items()}

    def scores_of(self, k: int) -> str:
        """The metrics of one point in words, means over the seeds; empty where there are none."""
        return scoring.in_words({p: {n: v[k].mean() for n, v in own.items()} for p, own in self.metrics.items()})

    def to_dict(self) -> dict[str, Any]:
        """All but the curves as plain values, for JSON; what is not finite is None."""

        def one_or_list(value: Any) -> Any:
            return list(value) if isinstance(value, tuple) else value

        return {
            "optimizer": self.optimizer,
            "problem": self.problem,
            "hypers": {n: v.tolist() for n, v in self.hypers.items()},
            "seeds": list(self.seeds),
            "schedule": one_or_list(self.schedule),
            "epochs": one_or_list(self.epochs),
            "batch_size": one_or_list(self.batch_size),
            "train": plain(self.train),
            "validation": plain(self.validation),
            "test": plain(self.test),
            "metrics": plain(self.metrics),
            "died_at": self.died_at.tolist(),
            "diverged": self.diverged.tolist(),
            "best": self.best,
            "chosen_by": self.chosen_by,
            "at_end": self.at_end,
            "engine": self.engine,
            "seconds": self.seconds,
            "compile_seconds": self.compile_seconds,
            "lanes_per_second": self.lanes_per_second,
            "versions": dict(self.versions),
        }

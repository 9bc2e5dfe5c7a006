"""Settings as given: the mean and the spread of each over its seeds, and the verdict in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.counts import counted
from steprule.problems.problem import Problem
from steprule.races.chain import Array, Chain, Phase
from steprule.races.competitor import Entrant
from steprule.trainable import Trainable

MIDDLE = (2.5, 97.5)  # percentiles of the seeds: the middle 95 %
NOT_TUNED = "Settings are compared as given, none was tuned: this ranks settings, not optimizers."


@dataclass(frozen=True)
class Setting:
    """One competitor at its settings, on one problem with one schedule. Losses are on all training samples after the last step."""

    problem: str
    schedule: str
    label: str
    optimizer: str
    """The rule's name, or the class's."""
    is_rule: bool
    mean: float
    """Of the seeds that did not diverge; nan for none."""
    sd: float
    """Standard deviation over the same (ddof 1); nan for one."""
    low: float
    high: float
    """The middle 95 % of the seeds: percentiles 2.5 and 97.5."""
    seconds: float
    """Median wall time of one training's steps; nan where they were not watched."""
    diverged: int
    """How many seeds ended above where they began, or not finite; they count in the percentiles, not in mean and sd."""
    metrics: Mapping[str, float]
    """The problem's metrics, "test accuracy", each the mean over the seeds that have a number."""
    finals: Array = field(repr=False, compare=False)
    """The loss of each seed, [seeds]."""

    @property
    def seeds(self) -> int:
        """How many."""
        return len(self.finals)

    @property
    def spread(self) -> str:
        """Mean and standard deviation in words; a dash for what is not known."""
        if not np.isfinite(self.mean):
            return "-"
        return f"{self.mean:#.5g} ± " + (f"{self.sd:.2g}" if np.isfinite(self.sd) else "-")

    @property
    def middle(self) -> str:
        """The middle 95 % of the seeds in words; a dash for one seed."""
        return f"[{self.low:#.5g}, {self.high:#.5g}]" if self.seeds > 1 else "-"

    def holds(self, figure: float) -> bool | None:
        """Whether a figure lies in the middle 95 %; None for one seed, which has no spread."""
        return self.low <= figure <= self.high if self.seeds > 1 else None

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON, without the seeds' losses."""
        return {**{n: v for n, v in vars(self).items() if n != "finals"}, "seeds": self.seeds}


def setting_of(chain: Chain, entrant: Entrant, task: Problem, done: Sequence[Phase]) -> Setting:
    """The setting of a finished chain, all of whose trainings count."""
    final, seconds, metrics = (_joined(done, name) for name in ("train", "seconds", "metrics"))
    gone = np.concatenate([phase.diverged for phase in done])
    kept = final[~gone]
    return Setting(
        problem=chain.problem,
        schedule=chain.schedule,
        label=chain.label,
        optimizer=Trainable.of(entrant.what).name,
        is_rule=entrant.is_rule,
        mean=float(kept.mean()) if len(kept) else float("nan"),
        sd=float(kept.std(ddof=1)) if len(kept) > 1 else float("nan"),
        low=percentile(final, MIDDLE[0]),
        high=percentile(final, MIDDLE[1]),
        seconds=float(np.median(seconds)),
        diverged=int(gone.sum()),
        metrics={f"{part} {name}": _mean(metrics[:, k]) for k, (part, name) in enumerate(task.metric_columns)},
        finals=final,
    )


def _joined(done: Sequence[Phase], name: str) -> Array:
    """A result of all lanes; nan where it was not taken."""
    parts = [phase.results.get(name, np.full(len(phase.lanes), np.nan)) for phase in done]
    return np.concatenate(parts)


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def percentile(losses: NDArray[np.float64], q: float) -> float:
    """The q-th percentile of losses; one that is not finite, also nan, counts as worse than any."""
    worst = np.where(np.isfinite(losses), losses, np.inf)
    if np.isfinite(worst).all():
        return float(np.percentile(worst, q))
    # Beside an infinite one take an observed value: an interpolated one would be inf - inf, which is nan.
    return float(np.percentile(worst, q, method="nearest"))


def in_words(settings: Sequence[Setting]) -> str:
    """The settings of one problem and schedule in words.

    A mean over the seeds that survived is no rival to one over all: who lost some is named apart.
    """
    whole, gone = [s for s in settings if not s.diverged], [s for s in settings if s.diverged]
    words = []
    if len(whole) > 1:
        words.append(_compared(whole))
    elif whole:
        only = whole[0]
        alone = "alone diverged with no seed" if gone else "is one setting"
        mean = f"its mean training loss is {only.mean:#.5g}"
        words.append(f"{only.label} {alone}, so there is nothing to compare it with: {mean}.")
    else:
        words.append("Every setting diverged with some seed: nothing is ranked.")
    if gone:
        shown = ", ".join(_survived(s) for s in gone)
        words.append(f"Diverged, ended above where it began or not finite: {shown}.")
    return " ".join([*words, NOT_TUNED])


def _compared(settings: Sequence[Setting]) -> str:
    best, worst = min(settings, key=lambda s: s.mean), max(settings, key=lambda s: s.mean)
    lowest, highest = f"{best.mean:#.5g} ({best.label})", f"{worst.mean:#.5g} ({worst.label})"
    sentence = f"The lowest mean training loss is {lowest}, the highest {highest}. "
    if best.seeds < 2:
        return sentence + "One seed tells nothing of how far seeds lie apart, and ranks nothing."
    others = [s for s in settings if s is not best]
    overlapping = [s for s in others if s.low <= best.high]
    count = f"{len(overlapping)} of {counted(len(others), 'other')}"
    sentence += f"For {count} the middle 95 % of seeds overlaps with that of the lowest: "
    if not overlapping:
        return sentence + "its lead is wider than the seeds' spread."
    if len(overlapping) == len(others):
        return sentence + "one seed ranks nothing here."
    return sentence + "between those and the lowest, one seed ranks nothing."


def _survived(setting: Setting) -> str:
    """How many seeds diverged, and the mean of the others, which is compared with nobody's."""
    known = np.isfinite(setting.mean)
    others = f" (the others' mean, {setting.mean:#.5g}, is compared with nothing)" if known else ""
    return f"{setting.label} with {setting.diverged} of {counted(setting.seeds, 'seed')}{others}"

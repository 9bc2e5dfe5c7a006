"""From runs to a table: per entry the mean, the spread, and where the book's figures lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule.races.as_given.spec import Entry, Form
from steprule.training import Run

INTERVAL = (2.5, 97.5)  # percentiles of the seeds: the middle 95 %


@dataclass(frozen=True)
class Row:
    """One entry of the table. Losses are on all training samples after the last step."""

    label: str
    method: str
    form: Form
    seeds: int
    mean: float
    """Of the seeds that did not diverge; nan for none."""
    sd: float
    """Standard deviation over the same (ddof 1); nan for one."""
    low: float
    high: float
    """The middle 95 % of the seeds: percentiles 2.5 and 97.5."""
    seconds: float
    """Median wall time of one run's training steps."""
    diverged: int
    """How many seeds ended above where they began, or not finite; they count in the percentiles, not in mean and sd."""
    metrics: Mapping[str, float]
    """The problem's metrics, "test accuracy", each the mean over the seeds that have a number."""
    book: tuple[float, ...]
    book_inside: tuple[bool, ...]
    """For each of the book's figures, whether it lies between `low` and `high`; empty for one seed, which has no spread."""

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

    @property
    def beside_book(self) -> list[tuple[float, bool | None]]:
        """The book's figures, and whether each lies inside; None for one seed."""
        return [*zip(self.book, self.book_inside or [None] * len(self.book), strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON; what is not finite is None."""

        def plain(value: Any) -> Any:
            return None if isinstance(value, float) and not np.isfinite(value) else value

        found = {k: plain(v) for k, v in asdict(self).items()}
        return {**found, "metrics": {n: plain(v) for n, v in self.metrics.items()}}


def summarise(entries: Sequence[Entry], runs: dict[tuple[str, int], Run]) -> list[Row]:
    """A row for each entry that has at least one run, in the order of `entries`."""
    rows = []
    for entry in entries:
        own = [run for (label, _), run in runs.items() if label == entry.label]
        if own:
            rows.append(_row(entry, own))
    return rows


def _row(entry: Entry, runs: list[Run]) -> Row:
    final = np.array([run.final_loss for run in runs])
    kept = final[[not run.diverged for run in runs]]
    low, high = (percentile(final, q) for q in INTERVAL)
    return Row(
        label=entry.label,
        method=entry.method or entry.label,
        form=entry.form,
        seeds=len(runs),
        mean=float(kept.mean()) if len(kept) else float("nan"),
        sd=float(kept.std(ddof=1)) if len(kept) > 1 else float("nan"),
        low=low,
        high=high,
        seconds=float(np.median([run.seconds for run in runs])),
        diverged=len(final) - len(kept),
        metrics=_metrics(runs),
        book=entry.book,
        book_inside=tuple(low <= figure <= high for figure in entry.book) if len(runs) > 1 else (),
    )


def _metrics(runs: list[Run]) -> dict[str, float]:
    found = {}
    for part, own in runs[0].metrics.items():
        for name in own:
            values = np.array([run.metrics[part][name] for run in runs])
            known = values[np.isfinite(values)]
            found[f"{part} {name}"] = float(known.mean()) if len(known) else float("nan")
    return found


NOT_TUNED = "Settings are compared as given, none was tuned: this ranks settings, not optimizers."


def in_words(rows: Sequence[Row]) -> str:
    """The result in words. A mean over the seeds that survived is no rival to one over all: who lost some is named apart."""
    whole, gone = [r for r in rows if not r.diverged], [r for r in rows if r.diverged]
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
        shown = ", ".join(_survived(r) for r in gone)
        words.append(f"Diverged, ended above where it began or not finite: {shown}.")
    return " ".join([*words, NOT_TUNED])


def _compared(rows: Sequence[Row]) -> str:
    best, worst = min(rows, key=lambda r: r.mean), max(rows, key=lambda r: r.mean)
    sentence = f"The lowest mean training loss is {best.mean:#.5g} ({best.label}), the highest {worst.mean:#.5g} ({worst.label}). "
    if best.seeds < 2:
        return sentence + "One seed tells nothing of how far seeds lie apart, and ranks nothing."
    overlapping = [r for r in rows if r.low <= best.high]
    sentence += (
        f"For {len(overlapping)} of {len(rows)} settings the middle 95 % of seeds overlaps with that of the lowest: "
    )
    if len(overlapping) == len(rows):
        return sentence + "one seed ranks nothing here."
    if len(overlapping) > 1:
        return sentence + "among those, one seed ranks nothing."
    return sentence + "its lead is wider than the seeds' spread."


def _survived(row: Row) -> str:
    """How many seeds diverged, and the mean of the others, which is compared with nobody's."""
    others = f" (the others' mean, {row.mean:#.5g}, is compared with nothing)" if np.isfinite(row.mean) else ""
    return f"{row.label} with {row.diverged} of {row.seeds} seeds{others}"


def percentile(losses: NDArray[np.float64], q: float) -> float:
    """The q-th percentile of losses; one that is not finite, also nan, counts as worse than any."""
    worst = np.where(np.isfinite(losses), losses, np.inf)
    if np.isfinite(worst).all():
        return float(np.percentile(worst, q))
    # Beside an infinite one take an observed value: between, inf - inf is no number.
    return float(np.percentile(worst, q, method="nearest"))

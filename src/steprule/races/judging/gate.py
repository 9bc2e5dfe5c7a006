"""The gate: keep a new result or not, over a whole night of ideas, with a budget of false keeps.

The k-th idea is tested at a level that LORD++ sets (Ramdas and others, 2017, "Online control of the false discovery rate with decaying
memory"). The levels before the first keep add up to less than 5 %, and each keep earns more. So in at most 5 % of nights in which no idea
is better is any kept, whatever the ideas and the reference have in common.

An idea has a few runs first, which can only turn it down; then it is tested at two sizes that are fixed beforehand, each at half its level.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from steprule import extras
from steprule.as_json import finite, plain
from steprule.atomic import write_text
from steprule.counts import counted
from steprule.errors import DataError, InputError
from steprule.races.cell import CONFIDENCE
from steprule.races.judging.reading import runs_of

with extras.needed():
    from scipy import stats

ALPHA = 1 - CONFIDENCE
SIZES = (3, 10, 30)
"""Runs of an idea: with the first it is turned down or goes on, with the others it is tested."""
SIZES_OF_KNOWN = (1, 3, 10)
"""The same where the noise is known."""
LOOKS = 2
CARE = 2
"""So much less than its level an unknown spread gets: so far out, Welch's test of ten or thirty runs against ten errs up to 1.8 times as
often as it says (`python benchmarks/judge.py --tails`)."""
PROMISING = 0.2
"""An idea goes on to its last size where it has this chance to be kept there, were it as much better as it looks."""
AGAIN = 10
"""Runs of the reference that are asked for: many ideas are held against it."""
PLANNED = 100
"""Ideas of a night, over which most of the budget is spread evenly."""
TESTED = ("keep", "not", "more")
"""Answers of ideas that have a number."""


@dataclass(frozen=True, repr=False)
class Gated:
    """What the gate says of one idea."""

    idea: str
    answer: str
    """keep, not, more (run it again), unknown (nothing tells luck from a difference yet), again (measure the kept one again first), or
    reference (there was none, and this is it)."""
    more: int
    """With more, unknown and again: how many more runs are asked for, of the idea, or of the kept one."""
    p: float | None
    """The one-sided p-value of "it is not better"; None where it is not known."""
    level: float | None
    """What p was held against."""
    difference: float | None
    """By how much it is above the reference."""
    unit: str
    """Of the difference: " %" where all losses are positive, else "" for their own units."""
    reference: str
    """The kept one that it was held against."""
    ideas: int
    """Ideas tested so far in this log, this one included."""
    runs_spent: int
    """Runs of all of them, the references' too."""

    def in_words(self) -> str:
        """The answer in a line."""
        said = {
            "keep": f"keep {self.idea}; before it serves as the reference, run it {self.more} times again",
            "not": f"do not keep {self.idea}",
            "more": f"run {self.idea} {self.more} more times",
            "unknown": f"unknown: run {self.idea} {self.more} more times",
            "again": f"measure {self.reference} again first: run it {self.more} more times, and give these runs under its name",
            "reference": f"{self.idea} is the reference" + (f"; run it {self.more} more times" if self.more else ""),
        }[self.answer]
        how = "" if self.difference is None else f"; {self.difference:+.3g}{self.unit} against {self.reference}"
        tested = "" if self.p is None or self.level is None else f", p = {self.p:.2g} against {self.level:.2g}"
        return f"{said}{how}{tested}. {counted(self.ideas, 'idea')}, {counted(self.runs_spent, 'run')} spent."

    def __repr__(self) -> str:
        return self.in_words()

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return finite(vars(self))


@dataclass
class Night:
    """What a log tells, entry after entry."""

    reference: str = ""
    kept: list[float] = field(default_factory=list)
    """The reference's runs: none that decided that it was kept."""
    pending: str = ""
    """A winner that is to be measured again."""
    ideas: dict[str, list[float]] = field(default_factory=dict)
    """By idea all its runs."""
    number: dict[str, int] = field(default_factory=dict)
    """By idea which it is, from 1."""
    tested: set[str] = field(default_factory=set)
    """Ideas that were tested once and are not decided."""
    kept_at: list[int] = field(default_factory=list)
    """The numbers of the ideas that were kept."""
    decided: set[str] = field(default_factory=set)
    runs: int = 0

    def add(self, entry: dict[str, Any]) -> None:
        """Take up one entry of the log."""
        idea, losses, answer = str(entry["idea"]), [_number(v) for v in entry["losses"]], str(entry["answer"])
        self.runs += len(losses)
        if answer == "reference":
            added = idea == self.reference and idea != self.pending
            self.kept = [*self.kept, *losses] if added else losses
            self.reference, self.pending = idea, ""
            self.decided.add(idea)
        elif answer != "again":
            self.ideas.setdefault(idea, []).extend(losses)
        if answer in TESTED:
            self.number.setdefault(idea, len(self.number) + 1)
        if entry.get("p") is not None:
            self.tested.add(idea)
        if answer in ("keep", "not"):
            self.decided.add(idea)
        if answer == "keep":
            self.kept_at.append(self.number[idea])
            self.pending = idea

    def answer(
        self, idea: str, losses: Sequence[float], *, sign: float = 1.0, noise: float | None = None, matters: float = 0.0
    ) -> tuple[Gated, dict[str, Any]]:
        """What is to be done with an idea's new runs, and the entry of the log. `sign` is -1 where higher is better."""
        entry: dict[str, Any] = {"idea": idea, "losses": plain(list(losses))}
        seen, answer = _Seen(), "reference"
        more, against = 0, self.reference or idea
        least = AGAIN if noise is None else SIZES_OF_KNOWN[1]
        lacks = least - sum(math.isfinite(v) for v in self.kept)
        if not self.reference or idea == (self.pending or self.reference):
            together = len(losses) + (len(self.kept) if idea == self.reference else 0)
            more, against = max(0, AGAIN - together), idea
        elif self.pending or lacks > 0:
            answer, entry["losses"] = "again", []
            against, more = (self.pending, AGAIN) if self.pending else (self.reference, lacks)
        elif idea in self.decided:
            hint = "Another trial of it is another idea: give it a name of its own with --idea."
            raise InputError(f"idea {idea}", expected="one that is not decided", got="one that was", hint=hint)
        else:
            every = [*self.ideas.get(idea, []), *losses]
            number = self.number.get(idea, len(self.number) + 1)
            bar = level(number, [k for k in self.kept_at if k < number]) / LOOKS
            answer, more, seen = _decided(every, self.kept, sign, noise, matters, bar, was_tested=idea in self.tested)
        entry |= {"answer": answer, "p": seen.p}
        ideas = len(self.number | ({idea: 0} if answer in TESTED else {}))
        runs = self.runs + len(entry["losses"])
        return Gated(idea, answer, more, seen.p, seen.level, seen.difference, seen.unit, against, ideas, runs), entry


def gamma(k: int, planned: int = PLANNED) -> float:
    """The share of a budget that the k-th test after its start gets; all add up to 1. Even over a night, then decaying.

    >>> round(sum(gamma(k) for k in range(1, 200_000)), 3)
    1.0
    """
    if k < 1:
        return 0.0
    return 0.9 / planned if k <= planned else 0.1 * (planned + 1) / (k * (k + 1))


def level(k: int, kept_at: Sequence[int], alpha: float = ALPHA) -> float:
    """LORD++'s level for the k-th idea, where ideas of these numbers were kept before it.

    α_k = w γ_k + (α - w) γ_{k-τ1} + α Σ γ_{k-τj} over the later keeps j, with w = 0.9 α.
    """
    start = 0.9 * alpha
    first, *later = [*kept_at, None] if kept_at else [None]
    found = start * gamma(k)
    if first is not None:
        found += (alpha - start) * gamma(k - first) + alpha * sum(gamma(k - j) for j in later if j is not None)
    return found


def gate(
    results: Any, log: str | Path, *, idea: str | None = None, loss: str | None = None, noise: float | None = None,
    matters: float = 0.0, higher: bool | None = None,
) -> Gated:  # fmt: skip
    """Say whether a new result is to be kept, and write it to the log.

    The first result in a log is its reference. Each later one is an idea, unless it has the name of the kept one, whose runs are then
    added to it. An idea that was asked to run again is given again under its name, with the new runs alone.

    Args:
        results: a table of the idea's runs as `judge` takes it, a list of losses, or one loss.
        log: a file of JSON lines, one per result; made if it is not there.
        idea: its name; the table's method if None.
        loss: the column.
        noise: the known standard deviation of one run, a share where losses are positive, else in their units.
        matters: how much better it has to be, in the same unit.
        higher: whether a higher number is better; by the column's name if None.

    Raises:
        DataError: for a log or a table that cannot be read.
        InputError: for an idea that was decided already.
    """
    name, losses, is_higher = _given(results, idea, loss)
    path = Path(log)
    night = _night(path)
    if higher is None:
        higher = is_higher
    sign = -1.0 if higher else 1.0
    answer, entry = night.answer(name, losses, sign=sign, noise=noise, matters=matters)
    if entry["losses"]:
        _write(path, entry)
    return answer


@dataclass(frozen=True)
class _Seen:
    """What an idea's runs show against the reference's."""

    difference: float | None = None
    unit: str = ""
    p: float | None = None
    level: float | None = None


def _decided(
    new: Sequence[float],
    kept: Sequence[float],
    sign: float,
    noise: float | None,
    matters: float,
    bar: float,
    *,
    was_tested: bool,
) -> tuple[str, int, _Seen]:
    """The answer, the runs that are asked for, and what is seen: a one-sided test of "it is not better by more than what matters"."""
    own, other = np.array(new), np.array(kept)
    other = other[np.isfinite(other)]
    first, second, last = SIZES if noise is None else SIZES_OF_KNOWN
    runs = len(own)
    if not np.isfinite(own).all():  # an idea that diverges is not better
        return "not", 0, _Seen()
    ratios = bool((own > 0).all() and (other > 0).all())
    a, b = (sign * (np.log(v) if ratios else v) for v in (own, other))
    below = float(b.mean() - a.mean())
    seen = _Seen(100 * math.expm1(-sign * below) if ratios else -sign * below, " %" if ratios else "")
    gap = below - (math.log1p(matters) if ratios else matters)
    if runs < first:
        return "unknown", first - runs, seen
    if gap <= 0:
        return "not", 0, seen
    if runs < second or (was_tested and runs < last):
        return "more", (second if runs < second else last) - runs, seen
    known = noise is not None
    bar = bar if known else bar / CARE
    variances = (noise**2, noise**2) if noise is not None else (float(a.var(ddof=1)), float(b.var(ddof=1)))
    if not known and min(variances) == 0:  # no spread was seen: whether there is any cannot be known
        return "unknown", max(1, last - runs), seen
    p, chance = _against(gap, variances, runs, last, len(b), bar, known=known)
    seen = replace(seen, p=p, level=bar)
    if p <= bar:
        return "keep", AGAIN, seen
    return ("more", last - runs, seen) if runs < last and chance >= PROMISING else ("not", 0, seen)


def _against(
    gap: float, variances: tuple[float, float], runs: int, last: int, kept: int, bar: float, *, known: bool
) -> tuple[float, float]:
    """The p-value of a gap, and the chance that the last size finds it; Welch's test, or where the noise is known the normal one."""
    sizes = np.array([runs, max(runs, last)])
    own, other = variances[0] / sizes, variances[1] / kept
    beyond = gap / np.sqrt(own + other)
    if known:
        return float(stats.norm.sf(beyond[0])), float(stats.norm.sf(stats.norm.isf(bar) - beyond[1]))
    df = (own + other) ** 2 / (own**2 / (sizes - 1) + other**2 / (kept - 1))
    chance = stats.nct.sf(stats.t.isf(bar, df[1]), df[1], min(beyond[1], 37.0))
    return float(stats.t.sf(beyond[0], df[0])), float(chance)


def _given(results: Any, idea: str | None, loss: str | None) -> tuple[str, list[float], bool]:
    """The idea's name, its losses, and whether a higher number is better."""
    if isinstance(results, int | float):
        results = [results]
    if isinstance(results, list | tuple | np.ndarray) and len(results) and not isinstance(results[0], dict):
        if idea is None:
            raise InputError("idea", expected="a name", got="none", hint="Give idea=.")
        return idea, [_number(v) for v in results], False
    runs = runs_of(results, {"loss": loss}, "final", None, alone=idea)
    methods = list(dict.fromkeys(runs.method.tolist()))
    if len(methods) > 1:
        raise InputError(
            "gate",
            expected="the runs of one idea",
            got=f"those of {', '.join(methods[:5])}",
            hint="Give a file per idea.",
        )
    if len(set(runs.problem.tolist())) > 1:
        raise InputError("gate", expected="one problem", got=counted(len(set(runs.problem.tolist())), "problem"))
    values = np.where(runs.is_gone, np.nan, runs.value)
    return idea or methods[0], values.tolist(), runs.is_higher_better


def _number(value: Any) -> float:
    try:
        return math.nan if value is None else float(value)
    except (TypeError, ValueError):
        raise InputError("losses", expected="numbers", got=repr(value)) from None


def _night(path: Path) -> Night:
    night = Night()
    for number, line in enumerate(_lines(path), 1):
        try:
            entry = json.loads(line)
            night.add(entry)
        except (ValueError, KeyError, TypeError) as error:
            got = f"line {number}: {str(error)[:80]}"
            raise DataError(
                str(path), expected="a log of this gate", got=got, hint="Give a new file with --log."
            ) from error
    return night


def _lines(path: Path) -> Iterator[str]:
    if not path.exists():
        return
    try:
        yield from (line for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeError) as error:
        got = getattr(error, "strerror", None) or "bytes that are no text"
        raise DataError(
            str(path), expected="a log of this gate", got=got, hint="Give another file with --log."
        ) from error


def _write(path: Path, entry: dict[str, Any]) -> None:
    """Add a line, whole or not at all."""
    text = "".join(f"{line}\n" for line in _lines(path))
    write_text(path, text + json.dumps(entry, allow_nan=False) + "\n")

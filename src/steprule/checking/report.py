"""The judge's report: items with a verdict, where two rules part, and a rule's error in one line."""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from steprule.counts import counted
from steprule.errors import StepruleError
from steprule.rules.rule import Rule

Verdict = Literal["passed", "failed", "warning"]


class FailedError(Exception):
    """An item that failed; its text says why. Not an `AssertionError`: `python -O` must change no verdict."""


class NotRunError(Exception):
    """A form that cannot be run here; the text is the reason."""


@dataclass(frozen=True)
class Item:
    """One check of the battery."""

    name: str
    verdict: Verdict
    detail: str


@dataclass(frozen=True)
class Parting:
    """The first step and quantity in which two rules differ, with both numbers (at the element that differs most)."""

    step: int
    quantity: str
    ours: float
    theirs: float
    settings: Mapping[str, float] = field(default_factory=dict)
    """The hyperparameters at which they differ; empty where they differ at their defaults."""

    def __str__(self) -> str:
        numbers = ", ".join(f"{n}={v:g}" for n, v in self.settings.items())
        at = f", at {numbers}" if numbers else ""
        return f"at step {self.step} in {self.quantity}: {self.ours!r} against {self.theirs!r}{at}"


@dataclass(frozen=True)
class Report:
    """The battery's findings; printed, they fit a paper's appendix, and the last line is the verdict."""

    rule: str
    items: tuple[Item, ...]
    against: str | None = None
    parting: Parting | None = None
    versions: dict[str, str] = field(default_factory=dict)
    forms: dict[str, str] = field(default_factory=dict)
    """Each form with "run", or why it was not run."""
    nearest: str = ""
    """The known rule that this rule is, or is nearest to, in words."""
    steps: int = 0
    """The number of steps over which it was compared with `against`."""

    @property
    def passed(self) -> bool:
        """Whether nothing failed and, where another rule was given, the two never parted. Warnings do not count."""
        return all(item.verdict != "failed" for item in self.items) and self.parting is None

    @property
    def verdict(self) -> str:
        """In words: "passed", "passed, 2 warnings", "FAILED, 1 of 12 items", "parts from adam"."""
        failed = sum(item.verdict == "failed" for item in self.items)
        warnings = sum(item.verdict == "warning" for item in self.items)
        words = []
        if failed:
            words.append(f"FAILED, {failed} of {len(self.items)} items")
        if self.parting is not None:
            words.append(f"parts from {self.against}")
        words = words or ["passed"]
        if warnings:
            words.append(counted(warnings, "warning"))
        return ", ".join(words)

    def __str__(self) -> str:
        width = max(len(item.name) for item in self.items)
        lines = [f"{self.rule}: {self.verdict}"]
        lines += [f"  {item.name:{width}}  {item.verdict:7}  {item.detail}" for item in self.items]
        if self.parting is not None:
            lines.append(f"  parts from {self.against} {self.parting}")
        elif self.against is not None and self.steps:
            lines.append(f"  the same as {self.against} in p and every shared state over {self.steps} steps")
        lines.append("  " + ", ".join(f"{k} {v}" for k, v in self.versions.items()))
        if self.nearest:
            lines.append(f"  {self.nearest}")
        return "\n".join([*lines, self.verdict])

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON; a number that is not finite becomes a word, since JSON has no such number."""
        found = {**asdict(self), "passed": self.passed, "verdict": self.verdict}
        if self.parting is not None:
            found["parting"] |= {n: in_json(getattr(self.parting, n)) for n in ("ours", "theirs")}
        return found


def in_json(number: float) -> float | str:
    """The number, or "nan", "inf", "-inf"."""
    return number if math.isfinite(number) else str(number)


def in_one_line(error: BaseException, rule: Rule) -> str:
    """An error after the author's file and line; our own errors name that line already."""
    text = " ".join(str(error).split())
    if isinstance(error, StepruleError | FailedError):
        return text
    kind = type(error).__name__
    return f"{authors_line(error, rule)}: {kind}: {text}" if text else f"{authors_line(error, rule)}: {kind}"


def authors_line(error: BaseException, rule: Rule) -> str:
    """The deepest place in the author's own file, as file:line; the rule's first line where the error did not pass through it."""
    file, first = rule.lines
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{file}:{lines[-1] if lines else first}"

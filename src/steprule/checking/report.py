"""What a judge finds: items with a verdict, the place where two rules part, and the report."""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from steprule.errors import StepruleError
from steprule.rules.rule import Rule

Verdict = Literal["passed", "failed", "warning"]


class FailedError(Exception):
    """An item that failed; its text says why. Not an `AssertionError`: `python -O` must change no verdict."""


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
    """The hyperparameters at which they differ, where that is not at their defaults."""

    def __str__(self) -> str:
        numbers = ", ".join(f"{n}={v:g}" for n, v in self.settings.items())
        text = f"at step {self.step} in {self.quantity}: {self.ours!r} against {self.theirs!r}"
        return text + (f", at {numbers}" if numbers else "")


@dataclass(frozen=True)
class Report:
    """What the battery found; printed, it fits a paper's appendix. Its last line is the verdict."""

    rule: str
    items: tuple[Item, ...]
    against: str | None = None
    parting: Parting | None = None
    versions: dict[str, str] = field(default_factory=dict)
    forms: dict[str, str] = field(default_factory=dict)
    """Each form by its name: "run", or why it was not run."""
    nearest: str = ""
    """The known rule that it is, or is nearest to, in words."""
    steps: int = 0
    """Over how many steps it was compared with `against`."""

    @property
    def passed(self) -> bool:
        """Whether nothing failed and, where another rule was given, the two never parted. Warnings do not count."""
        return all(item.verdict != "failed" for item in self.items) and self.parting is None

    @property
    def verdict(self) -> str:
        """In words: "passed", "passed, 2 warnings", "FAILED, 1 of 12 items", "parts from adam"."""
        failed = sum(item.verdict == "failed" for item in self.items)
        warnings = sum(item.verdict == "warning" for item in self.items)
        parts = f"parts from {self.against}" if self.parting is not None else ""
        first = f"FAILED, {failed} of {len(self.items)} items" if failed else parts or "passed"
        more = [parts] if failed and parts else []
        more += [f"{warnings} warning{'s' if warnings > 1 else ''}"] if warnings else []
        return ", ".join([first, *more])

    def __str__(self) -> str:
        width = max(len(item.name) for item in self.items)
        lines = [f"{self.rule}: {self.verdict}"]
        lines += [f"  {item.name:{width}}  {item.verdict:7}  {item.detail}" for item in self.items]
        if self.parting is not None:
            lines.append(f"  parts from {self.against} {self.parting}")
        elif self.against is not None and self.steps:
            lines.append(f"  the same as {self.against} in p and every shared state over {self.steps} steps")
        lines.append("  " + ", ".join(f"{k} {v}" for k, v in self.versions.items()))
        lines += [f"  {self.nearest}"] if self.nearest else []
        return "\n".join([*lines, self.verdict])

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON; a number that is not finite is a word, which JSON can hold."""
        found = {**asdict(self), "passed": self.passed, "verdict": self.verdict}
        if self.parting is not None:
            found["parting"] |= {n: in_json(getattr(self.parting, n)) for n in ("ours", "theirs")}
        return found


def in_json(number: float) -> float | str:
    """The number, or "nan", "inf", "-inf"."""
    return number if math.isfinite(number) else str(number)


def in_one_line(error: BaseException, rule: Rule) -> str:
    """What was raised, with the author's file and line before it; our own errors say theirs already."""
    text = " ".join(str(error).split())
    if isinstance(error, StepruleError | FailedError):
        return text
    return f"{authors_line(error, rule)}: {type(error).__name__}" + (f": {text}" if text else "")


def authors_line(error: BaseException, rule: Rule) -> str:
    """The deepest place in the author's own file, as file:line; the rule's first line where none is on the way."""
    file, first = rule.lines
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{file}:{lines[-1] if lines else first}"

"""Marks a class: every file of a folder is compared with one reference, in a process that can be stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from steprule import rules
from steprule.compiler import formula
from steprule.compiler.variant import variant_of
from steprule.errors import InputError

Verdict = Literal["passes", "parts", "does not run"]
PASSES: Final = "passes"
PARTS: Final = "parts"
DOES_NOT_RUN: Final = "does not run"
SECONDS = 30.0


@dataclass(frozen=True)
class Mark:
    """One file's mark: whether its rule is the reference, where it parts from it, and why."""

    file: str
    verdict: Verdict
    rule: str = ""
    step: int | None = None
    quantity: str = ""
    """p, or the state that differs first, by the pupil's name."""
    ours: float | str | None = None
    theirs: float | str | None = None
    settings: Mapping[str, float] = field(default_factory=dict)
    """The numbers at which it parts; empty where it parts at the defaults."""
    slip: str = ""
    """The likely slip; for a rule that passes, what else differs."""
    error: str = ""
    """Why the file does not run, in one line."""
    formula: tuple[str, ...] = ()
    """The pupil's formula, in LaTeX."""

    @property
    def why(self) -> str:
        """The slip or the error."""
        return self.error or self.slip

    @property
    def numbers(self) -> tuple[str, str]:
        """Both numbers with as many digits as tell them apart; empty where the file does not part."""
        if self.ours is None or self.theirs is None:
            return "", ""
        for digits in range(4, 17):
            a, b = _rounded(self.ours, digits), _rounded(self.theirs, digits)
            if a != b:
                return a, b
        return str(self.ours), str(self.theirs)

    @property
    def where(self) -> str:
        """Where it parts, with both numbers: "step 1, p: 0.09411, not 0.1157"; empty where it does not."""
        if self.step is None:
            return ""
        at = ", ".join(f"{n}={v:g}" for n, v in self.settings.items())
        at = f" (at {at})" if at else ""
        return f"step {self.step}, {self.quantity}: {', not '.join(self.numbers)}{at}"


def _rounded(number: float | str, digits: int) -> str:
    """A number with so many digits; "nan" and its like are words already."""
    return number if isinstance(number, str) else f"{number:.{digits}g}"


@dataclass(frozen=True)
class Sheet:
    """The marks of a class, in the order of the files' names."""

    against: str
    marks: tuple[Mark, ...]
    formula: tuple[str, ...] = ()
    """The reference's formula, in LaTeX."""

    @property
    def passed(self) -> int:
        """How many pass."""
        return sum(mark.verdict == PASSES for mark in self.marks)

    @property
    def slips(self) -> dict[str, int]:
        """Each slip and the number of files that have it, the commonest first."""
        count: Counter[str] = Counter()
        for mark in self.marks:
            if mark.verdict == PARTS:
                count.update(mark.slip.split("; "))
        return dict(count.most_common())

    @property
    def verdict(self) -> str:
        """In words: "27 of 30 pass as adam, 2 part from it, 1 does not run"."""
        counts = Counter(mark.verdict for mark in self.marks)
        parts, dead = counts[PARTS], counts[DOES_NOT_RUN]
        words = [f"{self.passed} of {len(self.marks)} pass as {self.against}"]
        if parts:
            words.append(f"{parts} part{'s' if parts == 1 else ''} from it")
        if dead:
            words.append(f"{dead} do{'es' if dead == 1 else ''} not run")
        return ", ".join(words)

    def __str__(self) -> str:
        lines = []
        for mark in self.marks:
            told = "; ".join(text for text in (mark.why, mark.where) if text)
            lines.append(f"{mark.file}: {mark.verdict}" + (f" ({told})" if told else ""))
        return "\n".join([*lines, self.verdict])

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {**asdict(self), "passed": self.passed, "slips": self.slips, "verdict": self.verdict}


def mark(
    folder: str | Path,
    against: str,
    *,
    seconds: float = SECONDS,
    progress: Callable[[int, int, str], None] | None = None,
) -> Sheet:
    """Mark every Python file of `folder` against a reference.

    In each file the rule with the reference's name is judged, or the only rule. A file runs in its own process for at most `seconds`; a
    file that cannot be read, loops or exits is a line of the sheet.

    `against`: a catalogue name, `file.py:name` or `package.module:name`; its own file is not marked.

    Raises `StepruleError` where the reference is not found or there is no file to mark.
    """
    reference = rules.resolve(against)
    own = Path(reference.lines[0]).resolve()
    files = [p for p in sorted(Path(folder).glob("*.py")) if p.resolve() != own and not p.name.startswith("_")]
    if not files:
        raise InputError(f"folder {folder}", expected="Python files to mark", got="none")
    if not seconds > 0:
        raise InputError("seconds", expected="a number above 0", got=repr(seconds))
    done: list[Mark] = []
    at_work: set[subprocess.Popen[bytes]] = set()
    with tempfile.TemporaryDirectory() as answers, ThreadPoolExecutor(max(1, os.cpu_count() or 1)) as pool:
        asked = [
            pool.submit(_marked, file, against, Path(answers) / f"{k}.json", seconds, at_work)
            for k, file in enumerate(files)
        ]
        try:
            for file, waiting in zip(files, asked, strict=True):
                done.append(waiting.result())
                if progress is not None:
                    progress(len(done), len(files), file.name)
        except BaseException:  # Ctrl-C, say: waiting files do not begin, running ones end
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(at_work):
                _stop(process)
            raise
    shown = formula.whole_latex(variant_of(reference, reference.bind({})))
    return Sheet(reference.name, tuple(done), tuple(shown))


def _marked(file: Path, against: str, answer: Path, seconds: float, at_work: set[subprocess.Popen[bytes]]) -> Mark:
    command = [sys.executable, "-m", "steprule.checking.pupil", str(file), against, str(answer)]
    nowhere = subprocess.DEVNULL  # a pupil's prints do not belong on the sheet, and nobody answers a pupil's input()
    process = subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True)
    at_work.add(process)
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return Mark(file.name, DOES_NOT_RUN, error=f"it takes longer than {seconds:g} s: an endless loop?")
    finally:
        _stop(process)
        at_work.discard(process)
    if not answer.exists():
        return Mark(file.name, DOES_NOT_RUN, error=f"its process ends with code {code} and without an answer")
    told = json.loads(answer.read_text(encoding="utf-8"))
    return Mark(file.name, **{**told, "formula": tuple(told.get("formula", ()))})


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process and all that it started."""
    if sys.platform == "win32":
        process.kill()
    else:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()

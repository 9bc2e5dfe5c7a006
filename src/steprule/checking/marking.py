"""The sheet of a class: every file of a folder beside one reference, each in a process that may be stopped."""

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
    """One file: whether its rule is the reference, where it parts from it, and why."""

    file: str
    verdict: Verdict
    rule: str = ""
    step: int | None = None
    quantity: str = ""
    """p, or the state that differs first, under the pupil's name."""
    ours: float | str | None = None
    theirs: float | str | None = None
    settings: Mapping[str, float] = field(default_factory=dict)
    """The numbers at which it parts, where that is not at the defaults."""
    slip: str = ""
    """The likely slip; of a rule that passes, what else is other."""
    error: str = ""
    """Why it does not run, in one line."""
    formula: tuple[str, ...] = ()
    """The pupil's formula, in LaTeX."""

    @property
    def why(self) -> str:
        """The slip or the error."""
        return self.error or self.slip

    @property
    def numbers(self) -> tuple[str, str]:
        """Both numbers with as many digits as tell them apart; empty where there are none."""
        if self.ours is None or self.theirs is None:
            return "", ""
        if isinstance(self.ours, str) or isinstance(self.theirs, str):
            return tuple(v if isinstance(v, str) else f"{v:.4g}" for v in (self.ours, self.theirs))  # type: ignore[return-value]
        for digits in range(4, 17):
            a, b = f"{self.ours:.{digits}g}", f"{self.theirs:.{digits}g}"
            if a != b:
                return a, b
        return repr(self.ours), repr(self.theirs)

    @property
    def where(self) -> str:
        """Where it parts, with both numbers: "step 1, p: 0.09411, not 0.1157"; empty where it does not."""
        if self.step is None:
            return ""
        at = ", ".join(f"{n}={v:g}" for n, v in self.settings.items())
        return f"step {self.step}, {self.quantity}: {', not '.join(self.numbers)}" + (f" (at {at})" if at else "")


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
        """Each slip and how many have it, the commonest first."""
        return dict(Counter(s for m in self.marks if m.verdict == PARTS for s in m.slip.split("; ")).most_common())

    @property
    def verdict(self) -> str:
        """In words."""
        counts = Counter(mark.verdict for mark in self.marks)
        parts, dead = counts[PARTS], counts[DOES_NOT_RUN]
        more = [f"{parts} part{'s' if parts == 1 else ''} from it"] if parts else []
        more += [f"{dead} do{'es' if dead == 1 else ''} not run"] if dead else []
        return ", ".join([f"{self.passed} of {len(self.marks)} pass as {self.against}", *more])

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

    Of each file the rule is judged that is named like the reference, or the only one. A file runs in a process of its own for at most
    `seconds`; one that cannot be read, loops or leaves is a line of the sheet.

    `against`: a catalogue name, `file.py:name` or `package.module:name`; its own file is not marked.

    Raises `StepruleError` where there is no such reference, and no file to mark.
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
        except BaseException:  # Ctrl-C, say: what waits is not begun, what runs ends
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(at_work):
                _stop(process)
            raise
    shown = formula.latex(variant_of(reference, reference.bind({})).graph())
    return Sheet(reference.name, tuple(done), tuple(shown))


def _marked(file: Path, against: str, answer: Path, seconds: float, at_work: set[subprocess.Popen[bytes]]) -> Mark:
    command = [sys.executable, "-m", "steprule.checking.pupil", str(file), against, str(answer)]
    nowhere = subprocess.DEVNULL  # what a pupil prints is not the sheet's, and nobody answers what a pupil asks
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
    """The process and what it started."""
    if sys.platform == "win32":
        process.kill()
    else:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()

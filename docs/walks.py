"""Record which files of the package control passes through, and print the walks of docs/architecture.md.

`make walks` rewrites them in the page. A walk is what a reader comes through who follows the calls and opens each function once:
a return to a file from which another function is opened is a stay of its own. A function of a few lines only looks something up, and
nobody opens it to read on.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import textwrap
from collections import Counter
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import steprule
from steprule.hyper import Rate

SOURCE = Path(steprule.__file__).parent
PAGE = Path(__file__).resolve().parent / "architecture.md"
LOOK_UP = 5
"""Lines, with the docstring, of a function that only looks something up."""


class Walk(NamedTuple):
    """A call and the rooms whose files are recorded, with bounds that may only fall."""

    title: str
    rooms: tuple[str, ...]
    prepare: Callable[[], Callable[[], Any]]
    """What is done unrecorded; gives the call that is recorded."""
    stays: int
    entries: int
    """How often one file may be entered."""
    until: str = ""
    """The file at which the walk ends."""


BY_NUMBA = ("compiler/intrinsics.py", "compiler/words.py")
"""Numba calls them while it compiles, and no call of ours leads there."""


def is_read(code: CodeType) -> bool:
    """Whether a reader opens it: no comprehension, and longer than a look-up."""
    lines = [line for _, _, line in code.co_lines() if line]
    return code.co_name[0] != "<" and max(lines, default=0) - code.co_firstlineno >= LOOK_UP


class Way(NamedTuple):
    """Where a reader came."""

    stays: list[str]
    """The files, one after the other."""
    entered: Counter[str]
    """How often a call leads into each file from another; a return does not count."""


def recorded(run: Callable[[], Any], rooms: tuple[str, ...], until: str = "", source: Path = SOURCE) -> Way:
    """The files below `source` that a reader comes through."""
    above = f"{source}{os.sep}"
    stays: list[str] = []
    entered: Counter[str] = Counter()
    opened: set[CodeType] = set()

    def file_of(frame: FrameType | None) -> str:
        """The file of the innermost frame that lies in the rooms and is no comprehension."""
        while frame:
            file = frame.f_code.co_filename.removeprefix(above).replace(os.sep, "/")
            if file.startswith(rooms) and file not in BY_NUMBA and is_read(frame.f_code):
                return file
            frame = frame.f_back
        return ""

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or frame.f_code in opened or not is_read(frame.f_code):
            return
        opened.add(frame.f_code)
        caller, called = file_of(frame.f_back), file_of(frame)
        if called and called != caller:
            entered[called] += 1
        for file in (caller, called):
            if file and stays[-1:] != [file]:
                stays.append(file)
        if stays[-1:] == [until]:
            sys.setprofile(None)

    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(None)
    return Way(stays, entered)


def adam() -> Any:
    """Adam over two tensors that have gradients."""
    import torch

    from steprule import optim

    params = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    for p in params:
        p.grad = torch.ones(3)
    return optim.Adam(params, lr=0.1)


def first_step() -> Callable[[], Any]:
    """In this process, and with an empty cache of kernels."""
    return adam().step  # type: ignore[no-any-return]


def planned_step() -> Callable[[], Any]:
    """A step after the first two."""
    optimizer = adam()
    optimizer.step()
    optimizer.step()
    return optimizer.step  # type: ignore[no-any-return]


def own_rule() -> Callable[[], Any]:
    """From the decorated function to the class's first step."""
    import torch

    def mine(p, g, m, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        """Momentum."""
        m = 0.9 * m + g
        return p - lr * m, m

    def stepped() -> None:
        p = torch.nn.Parameter(torch.ones(3))
        p.grad = torch.ones(3)
        steprule.optim.from_rule(steprule.rule(mine))([p]).step()

    adam().step()  # unrecorded: it imports the compiler
    return stepped


def trace() -> Callable[[], Any]:
    """A path on a surface that travels with the package."""
    import steprule.paths  # unrecorded

    return lambda: steprule.trace("adam", "beale", lr=0.1, steps=5)


def race() -> Callable[[], Any]:
    """A race of one competitor at its settings as given, in this process."""
    import steprule.races  # unrecorded

    return lambda: steprule.race("sgd", "airfoil", trials=0, seeds=1, epochs=1, workers=1)


def tuned_race() -> Callable[[], Any]:
    """The same, tuned."""
    import steprule.races  # unrecorded

    small = {"fresh": 2, "schedules": ["constant"], "workers": 1, "compile": False}
    return lambda: steprule.race("sgd", "airfoil-linear", 2, 1, **small)


WALKS = (
    Walk("Adam(p).step(), the first", ("optim/", "compiler/"), first_step, stays=94, entries=4),
    Walk("Adam(p).step(), planned", ("optim/", "compiler/"), planned_step, stays=16, entries=2),
    Walk("a rule of one's own to its kernel", ("rules/", "optim/", "compiler/"), own_rule, stays=104, entries=4),
    Walk("trace", ("paths.py", "surfaces/", "rules/", "compiler/"), trace, stays=33, entries=2),
    Walk(
        "race of settings as given, to its first block", ("races/",), race, stays=19, entries=2, until="races/work.py"
    ),
    Walk("race that tunes, to its first block", ("races/",), tuned_race, stays=23, entries=2, until="races/work.py"),
)


def said(walk: Walk, way: Way) -> str:
    """A walk in the page: its files by their first entry, and how often calls lead into one."""
    file, times = way.entered.most_common(1)[0]
    files = " > ".join(name.removesuffix(".py") for name in dict.fromkeys(way.stays))
    head = f"{walk.title}: {len(way.stays)} stays in {len(way.entered)} files, none entered more than {times} times ({file})\n"
    return head + textwrap.fill(files, 135, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)


def walked() -> str:
    """The block, measured in this process."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        os.environ["STEPRULE_CACHE"] = f"{folder}/kernels"
        return "\n".join(said(w, recorded(w.prepare(), w.rooms, w.until)) for w in WALKS)


def rewritten(page: str, block: str) -> str:
    """The page with these walks."""
    return re.sub(r"```text\nAdam\(p\).*?\n```", lambda _: f"```text\n{block}\n```", page, flags=re.DOTALL)


if __name__ == "__main__":
    found = walked()
    if sys.argv[1:] == ["--print"]:
        print(found)
    else:
        PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")

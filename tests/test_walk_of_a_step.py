"""The way of a planned step through the package: from the class to the kernel's launch, with no file called into more than twice."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import steprule
from steprule import optim

ROOT = str(Path(steprule.__file__).parent)


def files_called_into(run: Any) -> list[str]:
    """The files of the package into which code of another file calls, in order."""
    found: list[str] = []

    def called(frame: FrameType, event: str, _: Any) -> None:
        file, caller = frame.f_code.co_filename, frame.f_back
        if event == "call" and file.startswith(ROOT) and (caller is None or caller.f_code.co_filename != file):
            found.append(Path(file).relative_to(ROOT).as_posix())

    sys.setprofile(called)
    try:
        run()
    finally:
        sys.setprofile(None)
    return found


def test_a_planned_step_goes_one_way() -> None:
    params = [torch.ones(3).requires_grad_(), torch.ones(2, 2).requires_grad_()]
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer = optim.Adam(params)
    optimizer.step()
    walk = files_called_into(optimizer.step)
    first = list(
        dict.fromkeys(file for file in walk if not file.startswith(("arithmetic", "maths", "optim/signature")))
    )
    by_python = [file for file in first if file != "optim/scan.py"]
    assert by_python == [
        "optim/optimizer.py", "optim/groups.py", "optim/live.py", "optim/settings.py", "optim/buckets.py",
        "compiler/split.py", "compiler/target.py", "compiler/numba_cpu.py", "compiler/ranges.py",
    ]  # fmt: skip
    counts = Counter(walk)
    assert counts["optim/optimizer.py"] == counts["optim/groups.py"] == counts["compiler/target.py"] == 1
    if optimizer._plans[0].look.how == "records":  # Python asks the signature of each tensor
        assert max(counts.values()) <= 2, counts

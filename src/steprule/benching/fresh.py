"""Measures a process's first step, with an empty and a warm cache of kernels, and later steps' extra memory.

Each is measured in a fresh process, imports apart. Extra memory is that beyond parameters, gradients and states.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from steprule.benching.steps import LAYERS, MANY, Workload, silent, torchs, torchs_forms
from steprule.errors import StepruleError

_CHILD = """
import json, sys, time
import torch
began = time.perf_counter()
from steprule import optim
if "steprule" in sys.argv[1]:
    # Numba imports much of itself at the first kernel: that is an import too.
    from numba.core.registry import cpu_target
    from steprule.compiler import intrinsics
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
imports = time.perf_counter() - began
name, form, shapes, flags = json.loads(sys.argv[1])
params = [torch.randn(s, requires_grad=True) for s in shapes]
for p in params:
    p.grad = torch.randn_like(p) * 0.01
if form == "steprule":
    step = getattr(optim, name)(params).step
else:
    step = getattr(torch.optim, name)(params, **flags).step
    step = torch.compile(step) if form == "torch.compile" else step
began = time.perf_counter()
step()
first = time.perf_counter() - began
step()
extra = None
try:
    # Linux: the highest resident size since it is set back; what a step frees again counts too.
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    def resident(what):
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(what)) * 1024
    before = resident("VmRSS")
    for _ in range(3):
        step()
    extra = resident("VmHWM") - before
except OSError:
    pass
print(json.dumps([first, extra, imports]))
"""


@dataclass(frozen=True)
class Once:
    """One form of one class."""

    optimizer: str
    form: str
    workload: str
    cold_seconds: float
    """The first step with an empty cache of kernels."""
    warm_seconds: float
    """The first step of another process, which finds the first one's kernels in the cache."""
    import_seconds: float
    """Importing steprule and, for ours, the parts of Numba that a kernel needs; torch is not counted."""
    extra_bytes: int | None
    """The highest resident size over three later steps minus that before them; None where the system does not tell."""


def once(
    names: Sequence[str] = ("Adam", "RMSprop"),
    *,
    workloads: Sequence[Workload] = (MANY, LAYERS),
    compiled: bool = False,
    progress: Callable[[str], None] = silent,
) -> list[Once]:
    """The first step and the extra memory of each form of these classes, each form in its own processes."""
    found = []
    for workload in workloads:
        for one in map(torchs, names):
            assert one.theirs is not None
            forms = {"steprule": {}, **torchs_forms(one.theirs)}
            if compiled:
                forms["torch.compile"] = {}
            for form, flags in forms.items():
                progress(f"{one.name}, {form}, in a fresh process")
                found.append(_once(one.name, form, workload, flags))
    return found


def _once(name: str, form: str, workload: Workload, flags: dict[str, bool]) -> Once:
    with tempfile.TemporaryDirectory() as folder:
        cold, _, _ = _child(name, form, workload, flags, Path(folder))
        warm, extra, imports = _child(name, form, workload, flags, Path(folder))
    return Once(name, form, workload.name, cold, warm, imports, extra)


def _child(
    name: str, form: str, workload: Workload, flags: dict[str, bool], folder: Path
) -> tuple[float, int | None, float]:
    """Seconds of the first step, extra bytes and seconds of imports, in a fresh process."""
    env = {
        **os.environ,
        "STEPRULE_CACHE": str(folder / "kernels"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        # glibc gives freed memory back to the system, so that the highest size is that of memory in use.
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "65536",
    }
    task = json.dumps([name, form, workload.shapes, flags])
    done = subprocess.run([sys.executable, "-c", _CHILD, task], capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["nothing on stderr"]
        raise StepruleError(f"bench, {name}, {form}, first step", expected="a process that steps", got=last[0])
    first, extra, imports = json.loads(done.stdout.splitlines()[-1])
    return float(first), extra, float(imports)

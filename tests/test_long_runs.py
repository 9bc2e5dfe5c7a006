"""Long runs: killed at random and resumed to the same bits; memory and the kernels on disk do not grow."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steprule import optim, rule
from steprule.hyper import Rate

HERE = Path(__file__).parent
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="SIGKILL, and memory as Linux counts it")


def environment(kernels: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]),
        "STEPRULE_CACHE": str(kernels),
        "OMP_NUM_THREADS": "1",
    }


def training(folder: Path, steps: int, every: int, *more: int) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(HERE / "long_training.py"), str(folder), *map(str, (steps, every, *more))]
    return subprocess.Popen(command, env=environment(folder / "kernels"))


def same(a: Any, b: Any) -> bool:
    """To the bit, and of the same kinds."""
    if isinstance(a, Tensor):
        return a.dtype is b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all([same(a[k], b[k]) for k in a])
    return len(a) == len(b) and all(map(same, a, b)) if isinstance(a, list | tuple) else bool(a == b)


def saves(path: Path, count: int, child: subprocess.Popen[bytes]) -> None:
    """Wait until a child has saved so often, or has ended."""
    last = path.stat().st_mtime_ns if path.exists() else 0
    while count and child.poll() is None:
        now = path.stat().st_mtime_ns if path.exists() else 0
        count, last = count - (now != last), now
        time.sleep(0.005)


def killed_and_resumed(folder: Path, *, steps: int, every: int, kills: int) -> None:
    """Every third time it kills itself while it saves; else it is killed from outside at any time, the first times while it compiles."""
    assert training(folder / "whole", steps, every).wait() == 0
    draw, part = random.Random(0), folder / "killed"
    for k in range(kills):
        saving = k % 3 == 2
        child = training(part, steps, every, draw.randint(1, 3)) if saving else training(part, steps, every)
        if not saving:
            saves(part / "checkpoint.pt", draw.randint(0, 3) if k > 1 else 0, child)
            time.sleep(draw.uniform(0, 1) if k > 1 else draw.uniform(1, 6))
            child.kill()
        assert child.wait() == -9, "it ended before it was killed"
        if saving:
            assert (part / "checkpoint.part").exists(), "half of a checkpoint"
    assert training(part, steps, every).wait() == 0
    whole, resumed = (torch.load(folder / name / "end.pt", weights_only=True) for name in ("whole", "killed"))
    assert whole["t"] == steps
    assert same(whole, resumed)
    earlier = {**whole, "t": steps - 1}
    assert not same(earlier, resumed)


@LINUX
@pytest.mark.long
def test_killed_twenty_times_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, steps=100_000, every=1_000, kills=20)


# Each of these runs in a process of its own.


def memory() -> float:
    """What this process has resident, in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def held(kernels: Path) -> tuple[float, float]:
    """Resident memory in MiB, and the kB of the kernels on disk."""
    gc.collect()
    return memory(), sum(path.stat().st_size for path in kernels.rglob("*") if path.is_file()) / 1e3


def stepped(kind: Any, steps: int, **settings: Any) -> None:
    params: list[Tensor] = [nn.Parameter(torch.ones(300)), nn.Parameter(torch.ones(7, 5))]
    optimizer = kind(params, **settings)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 / (1 + 0.01 * t))
    for t in range(steps):
        for p in params:
            p.grad = p.detach() * (float("nan") if t % 1_000 == 500 else 1.0)
        optimizer.step()
        schedule.step()


def behind(kernels: Path, parts: Sequence[Iterable[int]], once: Callable[[int], None]) -> list[tuple[float, float]]:
    """What is held behind each part, in which something is done with each number."""
    found = []
    for part in parts:
        for number in part:
            once(number)
        found.append(held(kernels))
    return found


def long_training(kernels: Path) -> None:
    """200,000 steps: the last 180,000 take no more."""
    settings: dict[str, Any] = {"lr": 1e-3, "clip_norm": 0.5, "ema_decay": 0.99, "zero_grad": True, "nonfinite": "skip"}
    found = behind(kernels, ([20_000], [180_000]), lambda n: stepped(optim.Adam, n, **settings))
    grown(found, "200,000 steps", 2.0, 0.0)


def many_of_one_class(kernels: Path) -> None:
    """1,000 optimizers: the last 900 take no more."""
    found = behind(kernels, (range(100), range(900)), lambda _: stepped(optim.AdamW, 2, lr=1e-3, clip_norm=0.5))
    grown(found, "1,000 optimizers of one class", 2.0, 0.0)


def many_of_one_rule(kernels: Path) -> None:
    """A rule of one's own that is defined anew each time, as a cell of a notebook does: one kernel, but a class for each."""
    one = lambda _: stepped(optim.from_rule(written(2.0)), 2, lr=1e-3)  # noqa: E731
    found = behind(kernels, (range(100), range(400)), one)
    grown(found, "a rule defined 400 times", 0.1 * 400, 0.0)


def many_rules(kernels: Path) -> None:
    """As many rules as there are optimizers: each kernel stays, in memory and on disk."""
    count = 40
    one = lambda k: stepped(optim.from_rule(written(k + 3.0)), 2, lr=1e-3)  # noqa: E731
    found = behind(kernels, (range(10), range(10, 10 + count)), one)
    grown(found, f"{count} rules", 3.0 * count, 60.0 * count)


def written(factor: float) -> Any:
    """A rule that no other has, but for one of the same factor."""
    text = f"@rule\ndef own(p, g, m, *, lr: Rate = 1e-2):\n    m = 0.9 * m + {factor!r} * g\n    return p - lr * m, m\n"
    scope: dict[str, Any] = {"rule": rule, "Rate": Rate}
    exec(compile(text, "<own>", "exec"), scope)
    return scope["own"]


def grown(found: list[tuple[float, float]], what: str, most: float, most_on_disk: float) -> None:
    (first, disk), (last, more) = found
    print(f"{what}: {first:.1f} -> {last:.1f} MiB resident, {disk:.0f} -> {more:.0f} kB of kernels on disk")  # noqa: T201
    assert last - first <= most
    assert more - disk <= most_on_disk


@LINUX
@pytest.mark.long
@pytest.mark.parametrize(
    "run", [long_training, many_of_one_class, many_of_one_rule, many_rules], ids=lambda f: f.__name__
)
def test_nothing_grows(run: Callable[[Path], None], tmp_path: Path) -> None:
    command = f"import sys, pathlib, test_long_runs\ntest_long_runs.{run.__name__}(pathlib.Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", command, str(tmp_path)], env=environment(tmp_path), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    sys.stdout.write(done.stdout)

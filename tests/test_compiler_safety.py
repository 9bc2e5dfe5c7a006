"""Threads, forks, workers; a cache folder that is damaged, missing, read-only, full or shared; no numba."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
import torch
from import_graph import graph, modules
from thinning import thinned
from tolerances import SUMMED32
from torch import Tensor

from steprule import optim
from steprule.compiler import cache

STEP = """
import sys, torch, warnings
from steprule import optim
size = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
p = torch.linspace(-1, 1, size).requires_grad_()
optimizer = optim.Adam([p], lr=0.1)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(3):
        p.grad = p.detach() * 2
        optimizer.step()
print(p.double().sum().item(), p[0].item())
print(len([w for w in caught if "steprule" in str(w.message)]), *(str(w.message) for w in caught))
"""


def stepped(cache: Path | str, *, extra: str = "", size: int = 1000) -> list[str]:
    """The output of a fresh process that steps with this cache folder."""
    env = {**os.environ, "STEPRULE_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", extra + STEP, str(size)],
        capture_output=True,
        text=True,
        env=env,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.long
def test_damaged_cache_entries_are_built_again(tmp_path: Path) -> None:
    values, warned = stepped(tmp_path)
    assert warned.startswith("0")
    kernels = sorted(tmp_path.glob("*.py"))
    assert [k.name.split("_")[0] for k in kernels] == ["adam", "look"]
    # Each module once by itself, in another way each; a process is seconds.
    for kernel, damage in itertools.product(kernels, ("cut off", "nonsense", "empty")):
        cached = [p for p in tmp_path.glob("__pycache__/*.nb?") if p.name.startswith(kernel.stem)]
        assert len(cached) >= 2
        for path in cached:
            whole = path.read_bytes()
            path.write_bytes({"cut off": whole[: len(whole) // 2], "nonsense": b"nonsense", "empty": b""}[damage])
        assert stepped(tmp_path) == [values, warned]
    for kernel in kernels:
        kernel.write_text("raise SystemExit")
        assert stepped(tmp_path) == [values, warned]


@pytest.mark.long
def test_a_kernels_name_follows_every_file_of_ours_that_it_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change in one of them must not meet a kernel that was compiled before: also in what the intrinsics import."""
    source = Path(cache.__file__).parent.parent.parent
    files, todo = set(), ["steprule.compiler.intrinsics"]
    arrows, paths = graph(source), modules(source)
    while todo:
        name = todo.pop()
        files.add(str(paths[name]))
        todo += [n for n in arrows[name] if str(paths[n]) not in files]
    assert set(cache.INTRINSICS) == files
    text, before = cache._text_of, cache.name_for("k", "source", cache.INTRINSICS, *cache.NUMBA)
    for changed in files:
        monkeypatch.setattr(cache, "_text_of", lambda file, changed=changed: text(file) + "#" * (file == changed))
        assert cache.name_for("k", "source", cache.INTRINSICS, *cache.NUMBA) != before


def test_a_cache_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    values, warned = stepped(tmp_path / "file" / "kernels")
    assert warned.startswith("1 steprule cannot keep its kernels in")
    assert values == stepped(tmp_path / "kernels")[0]
    assert stepped(tmp_path / "a" / "b" / "c")[1].startswith("0")


@pytest.mark.long
def test_a_full_cache_folder(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if sys.platform != "linux":
        pytest.skip("mounts a tmpfs: Linux only")
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)], capture_output=True, check=False
    ).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        _, warned = stepped(small)
        assert warned.startswith("1 steprule cannot keep its kernels in")
        assert "No space left" in warned
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


@pytest.mark.long
def test_many_processes_write_one_cache_at_once(tmp_path: Path) -> None:
    env = {**os.environ, "STEPRULE_CACHE": str(tmp_path)}
    racing = [
        subprocess.Popen([sys.executable, "-c", STEP], env=env, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    results = [process.communicate(timeout=300)[0] for process in racing]
    assert [process.returncode for process in racing] == [0] * 4
    assert len(set(results)) == 1
    assert len(list(tmp_path.glob("*.py"))) == 2  # the kernel and the look
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.long
def test_without_numba_the_eager_form_serves_and_says_so(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['numba'] = None\n"
    values, warned = stepped(tmp_path, extra=hidden)
    assert warned.startswith("1 steprule runs its eager form, which is slow: numba cannot be imported")
    assert float(values.split()[1]) == pytest.approx(float(stepped(tmp_path)[0].split()[1]), rel=SUMMED32)


def test_numba_is_imported_at_the_first_step() -> None:
    code = """
import sys, torch
from steprule import optim
p = torch.ones(2, requires_grad=True)
optimizer = optim.Adam([p])
optimizer.step()
assert "numba" not in sys.modules
p.grad = torch.ones(2)
optimizer.step()
assert "numba" in sys.modules
assert "steprule.compiler.triton_gpu" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def large(seed: int) -> tuple[Tensor, torch.optim.Optimizer]:
    p = torch.randn(300_000, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    return p, optim.Adam([p], lr=0.01)


def go(p: Tensor, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        p.grad = p.detach() * 2
        optimizer.step()


def test_two_threads_step_two_optimizers() -> None:
    alone = [large(seed) for seed in range(4)]
    for p, optimizer in alone:
        go(p, optimizer, 20)
    together = [large(seed) for seed in range(4)]
    threads = [threading.Thread(target=go, args=(p, optimizer, 20)) for p, optimizer in together]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(alone, together, strict=True))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX")
@pytest.mark.parametrize(
    "layer", thinned(["default", "omp", "workqueue"] if sys.platform == "linux" else ["default"], 3)
)
def test_a_step_in_the_parent_then_fork_then_steps_in_both(layer: str) -> None:
    """Large enough for the parallel form in the parent; the child steps alone on its thread, and gets the same bits."""
    code = f"""
import os, torch
import numba
numba.config.THREADING_LAYER = {layer!r}
torch.set_num_threads(2)  # the parent's form is parallel also where OMP_NUM_THREADS is 1
from steprule import optim
p = torch.linspace(-1, 1, 300_000).requires_grad_()
optimizer = optim.Adam([p], lr=0.01)
p.grad = torch.full_like(p, 0.5)  # no torch work after the fork: torch's own would hang above its parallel grain
def go(n):
    for _ in range(n):
        optimizer.step()
go(2)
read, write = os.pipe()
child = os.fork()
if child == 0:
    go(3)
    os.write(write, p.detach().numpy()[::30_000].tobytes())
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
go(3)
assert os.read(read, 100_000) == p.detach().numpy()[::30_000].tobytes()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class _Rows(torch.utils.data.Dataset[Tensor]):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, k: int) -> Tensor:
        p = torch.ones(4, requires_grad=True)
        optimizer = optim.Adam([p], lr=0.1)
        p.grad = torch.full((4,), float(k + 1))
        optimizer.step()
        return p.detach()


def test_data_loader_workers() -> None:
    go(*large(0), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork in a process with threads
        rows = torch.cat(list(torch.utils.data.DataLoader(_Rows(), num_workers=2)))
    assert torch.allclose(rows, torch.full((6, 4), 0.9), atol=SUMMED32, rtol=0)

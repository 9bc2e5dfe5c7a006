"""Threads and processes: a step uses as many threads as torch would, and every kind of child process can step.

Each case runs in a process of its own with a time limit, so that a hang is a failure and not the end of the run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from tolerances import CPU_SECONDS_PER_SECOND, SUMMED32

LARGE = 400_000
"""Elements, of which 65,536 are enough for the parallel form."""
LIMIT = 240
"""Seconds after which a process counts as one that hangs: it imports torch and numba and compiles one or two kernels."""
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX")

PRELUDE = f"""
import os, sys, threading, time
import torch, steprule

def fresh(elements={LARGE}):
    p = torch.linspace(-1, 1, elements).requires_grad_()
    p.grad = torch.full_like(p, 0.5)
    return p, steprule.optim.Adam([p], lr=0.01)

def sample(p):
    return p.detach().numpy()[::30_000].tobytes()

def waited(child):
    _, status = os.waitpid(child, 0)
    assert status == 0, status
"""


def start(arguments: Sequence[str], **environment: str) -> subprocess.Popen[str]:
    """A Python process in a group of its own, so that its children can be ended with it."""
    known = {n: v for n, v in os.environ.items() if n not in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", *arguments],
        env=known | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def end(process: subprocess.Popen[str]) -> None:
    """End it and its children, if they are still there."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
    process.communicate()


def printed_by(process: subprocess.Popen[str]) -> str:
    """What it prints; the test fails where it dies or hangs."""
    try:
        out, err = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        end(process)
        pytest.fail(f"still running after {LIMIT} s")
    assert process.returncode == 0, f"{process.returncode}: {err}"
    return out


def run(code: str, **environment: str) -> str:
    """What the program prints, after the prelude."""
    return printed_by(start(["-c", PRELUDE + code], **environment))


# The thread count.

COUNTED = """
from steprule.compiler import threads
import numba
seen = []
masked = threads.parallel_form
from steprule.compiler import ranges
from contextlib import contextmanager

@contextmanager
def watched(count):
    with masked(count):
        seen.append(numba.get_num_threads())
        yield

ranges.parallel_form = watched
p, optimizer = fresh()
"""


def test_a_launch_uses_as_many_threads_as_torch_and_restores_numbas_mask() -> None:
    """The mask at each launch is the smaller of torch's count and the user's own mask; with one there is no launch."""
    code = """
for count, mask in ((4, 4), (3, 4), (2, 4), (1, 4), (4, 3), (2, 3), (3, 1)):
    torch.set_num_threads(count)
    numba.set_num_threads(mask)
    optimizer.step()
    assert numba.get_num_threads() == mask
    assert torch.get_num_threads() == count
print(seen)
"""
    assert run(COUNTED + code, NUMBA_NUM_THREADS="4") == "[4, 3, 2, 3, 2, 1]\n"


@pytest.mark.long
def test_the_count_is_that_of_the_thread_that_steps() -> None:
    """A thread of the user's has a mask of its own in Numba, and a launch from another thread leaves it alone."""
    code = """
torch.set_num_threads(2)
optimizer.step()
numba.set_num_threads(3)
def work():
    torch.set_num_threads(3)
    numba.set_num_threads(2)
    optimizer.step()
    assert numba.get_num_threads() == 2
thread = threading.Thread(target=work)
thread.start()
thread.join()
assert numba.get_num_threads() == 3
print(seen)
"""
    assert run(COUNTED + code, NUMBA_NUM_THREADS="4") == "[2, 2]\n"


@pytest.mark.long
def test_launching_numbas_threads_leaves_torchs_count() -> None:
    """Both may share one OpenMP, whose count Numba sets in the thread that launches its own."""
    code = """
torch.set_num_threads(3)
p, optimizer = fresh()
optimizer.step()
print(torch.get_num_threads())
"""
    assert run(code, NUMBA_NUM_THREADS="4") == "3\n"


@pytest.mark.parametrize("how", ["OMP_NUM_THREADS", pytest.param("set_num_threads", marks=pytest.mark.long)])
def test_one_thread_is_one_thread(how: str) -> None:
    """Neither a launch nor CPU time beside this thread's: what torchrun's default of one per process is for."""
    code = f"""
if {how == "set_num_threads"}:
    torch.set_num_threads(1)
p, optimizer = fresh(2_000_000)
optimizer.step()
began, used = time.perf_counter(), time.process_time()
while time.perf_counter() < began + 2:
    optimizer.step()
from numba.np.ufunc import parallel
print((time.process_time() - used) / (time.perf_counter() - began), parallel._is_initialized)
"""
    spent, launched = run(code, **({how: "1"} if how.isupper() else {})).split()
    assert float(spent) <= CPU_SECONDS_PER_SECOND
    assert launched == "False"


# Children.

CHILD = """
def child(elements=400_000):
    torch.set_num_threads(1)  # torch's own work would hang with more, where the parent has run some in parallel
    p, optimizer = fresh(elements)
    before = p.detach().clone()
    optimizer.step()
    torch.set_num_threads(2)
    optimizer.step()
    torch.set_num_threads(1)
    assert bool((p != before).all())
"""


@pytest.mark.long
@forks
def test_a_forked_child_steps_whatever_its_parent_has_done() -> None:
    """A child is forked after each: nothing, torch's threads at work, each import, a step in parallel."""
    code = """
def computed():
    torch.randn(4_000_000).exp().sum()

def optim_imported():
    assert "steprule.optim" not in sys.modules
    steprule.optim

def kernels_imported():
    assert "steprule.compiler.numba_cpu" not in sys.modules
    import steprule.compiler.numba_cpu

def stepped():
    fresh()[1].step()

torch.set_num_threads(2)
for event in (lambda: None, computed, optim_imported, kernels_imported, stepped):
    event()
    if (forked := os.fork()) == 0:
        child()
        os._exit(0)
    waited(forked)
p, optimizer = fresh()
optimizer.step()
"""
    run(CHILD + code)


@pytest.mark.long
@forks
def test_a_child_that_forks_again() -> None:
    """The grandchild's parent is not the process that ran in parallel, so OpenMP's own check of that passes it."""
    code = """
torch.set_num_threads(2)
fresh()[1].step()
if (forked := os.fork()) == 0:
    if (again := os.fork()) == 0:
        child()
        os._exit(0)
    waited(again)
    child()
    os._exit(0)
waited(forked)
"""
    run(CHILD + code)


@pytest.mark.long
@forks
def test_a_fork_while_another_thread_steps() -> None:
    """The other thread may hold the lock of the parallel form, which the child inherits held."""
    code = """
torch.set_num_threads(2)
p, optimizer = fresh(4_000_000)
optimizer.step()
going = True
def work():
    while going:
        optimizer.step()
thread = threading.Thread(target=work, daemon=True)
thread.start()
for _ in range(10):
    if (forked := os.fork()) == 0:
        child(100_000)
        os._exit(0)
    waited(forked)
going = False
thread.join()
"""
    run(CHILD + code)


@forks
@pytest.mark.long
def test_a_fork_while_another_thread_compiles(tmp_path: Path) -> None:
    """The fork waits for the kernel that is being compiled: the child could not get the compiler's lock."""
    code = """
torch.set_num_threads(1)
thread = threading.Thread(target=lambda: fresh()[1].step(), daemon=True)
thread.start()
while not any(name.endswith(".py") for name in os.listdir(os.environ["STEPRULE_CACHE"])):
    time.sleep(0.001)
if (forked := os.fork()) == 0:
    child()
    os._exit(0)
waited(forked)
thread.join()
"""
    run(CHILD + code, STEPRULE_CACHE=str(tmp_path))


@forks
def test_a_fork_while_another_thread_takes_a_kernels_lock_file(tmp_path: Path) -> None:
    """The fork waits for the thread, which must not wait for the fork: filelock's own locks do."""
    code = """
from steprule.compiler import cache
from steprule.compiler.folder import folder
import filelock
held = threading.Event()
def work():
    with cache._LOADING:
        held.set()
        time.sleep(0.5)  # by then the fork waits
        with cache._one_process_at_a_time(folder() / "kernel.py", "@njit(SIGNATURE)"):
            pass
thread = threading.Thread(target=work, daemon=True)
thread.start()
held.wait()
if (forked := os.fork()) == 0:
    os._exit(0)
waited(forked)
thread.join()
"""
    run(CHILD + code, STEPRULE_CACHE=str(tmp_path))


STARTED = """
import multiprocessing, torch, steprule
from steprule.compiler import threads

def work(queue):
    p = torch.ones(400_000, requires_grad=True)
    p.grad = torch.ones_like(p)
    steprule.optim.Adam([p], lr=0.1).step()
    queue.put((threads.may_run_parallel(), float(p.detach()[-1])))

if __name__ == "__main__":
    context = multiprocessing.get_context(METHOD)
    if METHOD == "forkserver":
        context.set_forkserver_preload(["torch", "steprule.optim"])
    queue = context.Queue()
    child = context.Process(target=work, args=(queue,))
    child.start()
    print(*queue.get(timeout=60))
    child.join()
"""


@pytest.mark.parametrize(
    ("method", "parallel"), [("spawn", True), pytest.param("forkserver", True, marks=pytest.mark.long), ("fork", False)]
)
@pytest.mark.long
def test_children_of_multiprocessing(method: str, parallel: bool, tmp_path: Path) -> None:
    """Spawned ones are fresh processes; so are those of the fork server, though it has imported steprule."""
    import multiprocessing

    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"{sys.platform} has no {method}")
    program = tmp_path / "program.py"
    program.write_text(STARTED.replace("METHOD", repr(method)))
    parallel_there, value = printed_by(start([str(program)])).split()
    assert parallel_there == str(parallel)
    assert float(value) == pytest.approx(0.9, abs=SUMMED32)


@forks
def test_a_child_that_only_computes() -> None:
    """A loader's worker, beside a parent that trains: steprule's hooks leave it and its exit alone."""
    code = """
import multiprocessing
context = multiprocessing.get_context("fork")
p, optimizer = fresh()
for _ in range(3):
    optimizer.step()
    with context.Pool(2) as pool:
        assert pool.map(abs, range(-3, 3)) == [3, 2, 1, 0, 1, 2]
"""
    run(code)


@pytest.mark.long
@forks
def test_lanes_in_a_forked_child_stay_on_one_thread() -> None:
    """Sweeps use every core by design, but not where OpenMP has lost its threads."""
    code = """
import numpy as np
def swept():
    rates = {"lr": np.geomspace(1e-3, 0.1, 40)}
    return steprule.sweep("sgd", "airfoil", rates, epochs=1, compile=True).train.tobytes()
fresh()[1].step()
if (forked := os.fork()) == 0:
    torch.set_num_threads(1)
    swept()
    os._exit(0)
waited(forked)
"""
    run(code)


# Processes that start together.

RANK = """
torch.set_num_threads(1)
p, optimizer = fresh()
optimizer.step()
modules = {name: module for name, module in sys.modules.items() if name.startswith("steprule_kernels_")}
missed = [
    f"{name}.{function}"
    for name, module in modules.items()
    for function, compiled in vars(module).items()
    if sum(getattr(getattr(compiled, "stats", None), "cache_misses", {}).values())
]
print(len(modules), sample(p).hex(), *missed)
"""


def _ranks(code: str, count: int, folder: Path) -> list[list[str]]:
    """What `count` processes print that run the same program at once, on one cache of kernels."""
    started = [start(["-c", PRELUDE + code], STEPRULE_CACHE=str(folder)) for _ in range(count)]
    try:
        return [printed_by(process).split() for process in started]
    finally:
        for process in started:
            end(process)


@pytest.mark.long
def test_processes_on_a_cold_cache_compile_a_kernel_once(tmp_path: Path) -> None:
    ranks = _ranks(RANK, 3, tmp_path)
    assert len({bits for _, bits, *_ in ranks}) == 1
    missed = [function for _, _, *missed in ranks for function in missed]
    assert missed
    assert len(missed) == len(set(missed)), "a function that two processes compiled"


def _holder(folder: Path) -> subprocess.Popen[str]:
    """A process that has taken the lock of every kernel in the folder, and keeps it."""
    code = """
import pathlib, sys, time
from filelock import FileLock
held = [FileLock(p.with_suffix(".lock")) for p in pathlib.Path(sys.argv[1]).glob("*.py")]
for lock in held:
    lock.acquire()
print(len(held), flush=True)
time.sleep(600)
"""
    process = start(["-c", code, str(folder)])
    assert process.stdout is not None
    assert process.stdout.readline() == f"{len([*folder.glob('*.py')])}\n"
    return process


@pytest.mark.long
@pytest.mark.parametrize("killed", [True, False])
def test_a_holder_that_is_killed_or_stuck_blocks_nobody(killed: bool, tmp_path: Path) -> None:
    """The system frees a dead process's lock; a live one's is waited for, but not for ever."""
    [[_, _, *compiled_first]] = _ranks(RANK, 1, tmp_path)
    for compiled in (tmp_path / "__pycache__").glob("*.nb?"):
        compiled.unlink()
    holder = _holder(tmp_path)
    try:
        if killed:
            end(holder)
        wait = "" if killed else "from steprule.compiler import cache; cache.WAIT = 0.5\n"
        [[_, _, *compiled_again]] = _ranks(wait + RANK, 1, tmp_path)
        assert compiled_again == compiled_first
    finally:
        end(holder)

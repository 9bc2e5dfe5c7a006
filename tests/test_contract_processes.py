"""Threads and processes: tied memory steps in order, forked children go on, optimizers in threads do not meet."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from compare import apart
from contract import LARGE, NAMES, SETTINGS, in_child, in_fresh, make, optim, parameter, train
from tolerances import CLASS_FLOAT32_FEW_STEPS, ROUNDED32, SUMMED32
from torch import Tensor, nn

# Parameters that share memory


def tied_whole(base: Tensor) -> list[nn.Parameter]:
    return [pointing_at(base), pointing_at(base)]


def windows(base: Tensor) -> list[nn.Parameter]:
    """Each overlaps the next by half."""
    half = base.numel() // 4
    return [pointing_at(base[k * half : (k + 2) * half]) for k in range(3)]


def one_inside_another(base: Tensor) -> list[nn.Parameter]:
    return [pointing_at(base), pointing_at(base[1000:-1000]), pointing_at(base[5:6])]


def other_shapes(base: Tensor) -> list[nn.Parameter]:
    return [pointing_at(base.view(-1, 8)), pointing_at(base), pointing_at(base.view(8, -1).t())]


def pointing_at(memory: Tensor) -> nn.Parameter:
    p = nn.Parameter(torch.empty(0))
    p.data = memory
    return p


SHARINGS = [tied_whole, windows, one_inside_another, other_shapes]


def stepped_over(
    share: Callable[[Tensor], list[nn.Parameter]], name: str, which: str, size: int, groups: bool
) -> Tensor:
    """Whole steps by gradients 1, 2, 3: order shows in every class whose step depends on the parameter or on rounding."""
    base = torch.zeros(size)
    params = share(base)
    given = [{"params": [p]} for p in params] if groups else params
    module = optim if which == "mine" else torch.optim
    optimizer = make(name, given, module, weight_decay=0.0)
    for _ in range(10):
        for k, p in enumerate(params):
            p.grad = torch.full_like(p.detach(), float(k + 1))
        optimizer.step()
    return base


def shared_memory(name: str, size: int, groups: bool) -> list[float]:
    """The largest error of each sharing, relative to torch's class."""
    found = []
    for share in SHARINGS:
        mine, torchs = (stepped_over(share, name, which, size, groups) for which in ("mine", "torch's"))
        found.append(apart(mine, torchs))
    return found


@pytest.mark.parametrize("groups", [False, True], ids=["one group", "a group each"])
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_parameters_that_share_memory_step_in_order(name: str, groups: bool) -> None:
    """Above 65,536 elements, where a kernel's threads would meet, every element is right."""
    errors = in_fresh(shared_memory, name, LARGE, groups)
    assert max(errors) <= CLASS_FLOAT32_FEW_STEPS, errors


@pytest.mark.long
@pytest.mark.parametrize("groups", [False, True], ids=["one group", "a group each"])
@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("SGD", "Adam")])
def test_parameters_of_every_class_that_share_memory_step_in_order(name: str, groups: bool) -> None:
    errors = in_fresh(shared_memory, name, LARGE, groups)
    assert max(errors) <= CLASS_FLOAT32_FEW_STEPS, errors


@pytest.mark.parametrize("name", NAMES)
def test_small_parameters_that_share_memory(name: str) -> None:
    assert max(shared_memory(name, 4096, False)) <= CLASS_FLOAT32_FEW_STEPS


def plain_sgd_over_tied_memory() -> tuple[int, int]:
    """Two parameters over one memory, gradients 1 and 2, twenty steps: all of it is at -60."""
    base = torch.zeros(2 * LARGE)
    params = tied_whole(base)
    optimizer = optim.SGD(params, lr=1.0)
    for p, g in zip(params, (1.0, 2.0), strict=True):
        p.grad = torch.full_like(p.detach(), g)
    for _ in range(20):
        optimizer.step()
    return int((base != -60).sum()), base.numel()


def test_tied_memory_loses_no_update() -> None:
    wrong, of = in_fresh(plain_sgd_over_tied_memory)
    assert (wrong, of) == (0, 2 * LARGE)


def listed_twice(name: str, which: str, size: int) -> tuple[Tensor, dict[str, Tensor]]:
    p = parameter(size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's, on duplicates
        optimizer = make(name, [p, p], optim if which == "mine" else torch.optim)
    train(optimizer, 3)
    return p.detach(), {k: v for k, v in optimizer.state[p].items() if v is not None}


def listed_twice_apart(name: str, size: int) -> tuple[float, float, float]:
    (p, mine), (q, theirs) = (listed_twice(name, which, size) for which in ("mine", "torch's"))
    assert set(mine) == set(theirs)
    count = float(mine["step"]) if "step" in mine else 6.0
    return apart(p, q), max(apart(mine[k], theirs[k]) for k in mine), count


@pytest.mark.parametrize("size", [5, LARGE])
@pytest.mark.parametrize("name", ["SGD", "Adagrad", "Adam"])
def test_a_parameter_listed_twice_steps_and_counts_twice(name: str, size: int) -> None:
    p, states, count = in_fresh(listed_twice_apart, name, size) if size == LARGE else listed_twice_apart(name, size)
    assert count == 6
    assert max(p, states) <= CLASS_FLOAT32_FEW_STEPS


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("SGD", "Adagrad", "Adam")])
def test_a_small_parameter_listed_twice(name: str) -> None:
    # torch's RAdam and NAdam count all parameters before they step any, as their foreach forms would.
    p, states, count = listed_twice_apart(name, 5)
    assert count == 6
    assert max(p, states) <= CLASS_FLOAT32_FEW_STEPS


# Fork


def forked(in_the_child: Callable[[], float], seconds: float = 60) -> float:
    return in_child(in_the_child, seconds=seconds)  # type: ignore[no-any-return]


def one_large_step() -> float:
    torch.set_num_threads(1)
    p = nn.Parameter(torch.ones(2 * LARGE))
    optimizer = optim.Adam([p], lr=0.1)
    for _ in range(2):
        p.grad = torch.ones_like(p)
        optimizer.step()
    return float(p.min())


def compute_then_fork() -> float:
    """The parent ran torch's threads; it never stepped."""
    torch.set_num_threads(2)
    torch.randn(2_000_000).exp().sum()
    return forked(one_large_step)


def step_small_then_fork() -> float:
    p = parameter(4)
    train(optim.Adam([p]), 2)
    torch.randn(2_000_000).exp().sum()
    return forked(one_large_step)


def step_large_then_fork() -> float:
    """The optimizer itself goes on in the child."""
    torch.set_num_threads(2)
    p = nn.Parameter(torch.ones(2 * LARGE))
    optimizer = optim.Adam([p], lr=0.1)
    p.grad = torch.ones_like(p)
    optimizer.step()

    def go_on() -> float:
        torch.set_num_threads(1)
        optimizer.step()
        return float(p.min())

    found = forked(go_on)
    assert float(p.min()) == pytest.approx(0.9, rel=ROUNDED32)  # the child has memory of its own
    return found


def fork_within_a_fork() -> float:
    torch.randn(2_000_000).exp().sum()
    return forked(lambda: forked(one_large_step))


@pytest.mark.parametrize("life", [compute_then_fork, step_small_then_fork, step_large_then_fork, fork_within_a_fork])
def test_a_forked_child_steps_large_tensors(life: Callable[[], float]) -> None:
    """It runs on one thread, and neither waits for threads that are not there nor dies."""
    assert in_fresh(life) == pytest.approx(0.8, rel=SUMMED32)


def children_at_once() -> list[float]:
    """Workers of a data loader, say, each with an optimizer of its own."""
    p = nn.Parameter(torch.zeros(6, LARGE).share_memory_())
    train(optim.Adam([parameter(LARGE)]), 1)
    pids = []
    for k in range(3):
        pid = os.fork()
        if not pid:
            torch.set_num_threads(1)
            own = pointing_at(p.data[k])
            optimizer = optim.SGD([own], lr=1.0)
            own.grad = torch.full((LARGE,), float(k + 1))
            for _ in range(3):
                optimizer.step()
            os._exit(0)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]
    return p.data[:3].min(dim=1).values.tolist()  # type: ignore[no-any-return]


def test_several_forked_children_at_once() -> None:
    assert in_fresh(children_at_once) == [-3.0, -6.0, -9.0]


# Threads


def threads_with_optimizers_of_their_own(name: str, size: int) -> list[float]:
    """Four threads, four optimizers, as if each were alone; the error of each."""
    alone = parameter(size)
    train(make(name, [alone], torch.optim), 5)
    params = [parameter(size) for _ in range(4)]
    optimizers = [make(name, [p]) for p in params]
    together = threading.Barrier(4)
    failures: list[BaseException] = []

    def work(optimizer: Any) -> None:
        try:
            together.wait()
            train(optimizer, 5)
        except BaseException as error:  # noqa: BLE001  # shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(o,)) for o in optimizers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    return [apart(p, alone) for p in params]


@pytest.mark.parametrize("size", [7, LARGE])
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_optimizers_in_threads_do_not_meet(name: str, size: int) -> None:
    assert max(in_fresh(threads_with_optimizers_of_their_own, name, size)) <= CLASS_FLOAT32_FEW_STEPS


@pytest.mark.long
@pytest.mark.parametrize("size", [7, LARGE])
@pytest.mark.parametrize("name", [n for n in SETTINGS if n not in ("SGD", "Adam")])
def test_optimizers_of_every_class_in_threads(name: str, size: int) -> None:
    assert max(in_fresh(threads_with_optimizers_of_their_own, name, size)) <= CLASS_FLOAT32_FEW_STEPS

"""Nothing lives longer than with torch's classes: gradients, states, groups and optimizers go when their owner lets go.

Without the garbage collector: what only it can free is memory that a training does not have.
"""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import torch
from compare import apart
from contract import LARGE, NAMES, REFERENCE, feed, in_fresh, make, only_ours, optim, parameter, resident, train
from thinning import thinned
from tolerances import CLASS_FLOAT32_RUN, RESIDENT_SHARE
from torch import Tensor, nn


@pytest.fixture(autouse=True, scope="module")
def no_collector() -> Iterator[None]:
    # The first optimizer of a process has torch import its compiler, whose frames hold that optimizer until the collector runs.
    torch.optim.SGD([nn.Parameter(torch.zeros(1))])
    gc.disable()
    yield
    gc.enable()


# The forms of a step: a kernel, a gradient that lies otherwise and is copied for it, the eager form, a switch more.
FORMS: dict[str, dict[str, Any]] = {"plain": {}, "decay": {"weight_decay": 0.01}, "upwards": {"maximize": True}}
if not REFERENCE:
    FORMS |= {
        "eager": {"backend": "eager"},
        "everything": {"clip_norm": 1.0, "ema_decay": 0.9, "zero_grad": True},
    }


def alive(references: list[weakref.ref[Any]]) -> int:
    return sum(r() is not None for r in references)


def gradients_of(params: list[nn.Parameter]) -> list[weakref.ref[Tensor]]:
    return [weakref.ref(p.grad) for p in params if p.grad is not None]


@pytest.mark.parametrize("settings", FORMS.values(), ids=list(FORMS))
@pytest.mark.parametrize("name", thinned(NAMES, 3))
def test_gradients_die_with_zero_grad(name: str, settings: dict[str, Any]) -> None:
    params = [parameter(40, 30), parameter(7), parameter()]
    optimizer = make(name, params, **settings)
    for t in range(3):
        train(optimizer, 1, start=t)
        held = gradients_of(params)
        assert alive(held) == 3
        optimizer.zero_grad()
        assert alive(held) == 0


ODD: dict[str, Callable[[], Tensor]] = {
    "transposed": lambda: torch.ones(4, 3).t(),
    "expanded": lambda: torch.ones(()).expand(3, 4),
    "a view": lambda: torch.ones(6, 8)[::2, ::2],
    "wider": lambda: torch.ones(3, 4),
}


@pytest.mark.parametrize("gradient", ODD.values(), ids=list(ODD))
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_gradients_of_odd_layout_die_too(name: str, gradient: Callable[[], Tensor]) -> None:
    p = parameter(3, 4)
    optimizer = make(name, [p])
    for _ in range(3):
        p.grad = gradient()
        held, base = weakref.ref(p.grad), p.grad.untyped_storage()._weak_ref()
        optimizer.step()
        p.grad = None
        assert held() is None
        assert torch.UntypedStorage._new_with_weak_ptr(base) is None  # the memory itself, whoever looks at it
        torch.UntypedStorage._free_weak_ref(base)


@pytest.mark.parametrize("name", NAMES)
def test_a_replaced_gradient_dies(name: str) -> None:
    p = parameter(5)
    optimizer = make(name, [p])
    for _ in range(3):
        p.grad = torch.ones(5)
        optimizer.step()
        held = weakref.ref(p.grad)
        p.grad = torch.ones(5)
        assert held() is None


def cleared(optimizer: Any) -> None:
    optimizer.state.clear()


def dict_cleared(optimizer: Any) -> None:
    for s in optimizer.state.values():
        s.clear()


def exchanged(optimizer: Any) -> None:
    for s in optimizer.state.values():
        for k, v in s.items():
            s[k] = v.clone()


def dicts_exchanged(optimizer: Any) -> None:
    for p in list(optimizer.state):
        optimizer.state[p] = {}


def new_state(optimizer: Any) -> None:
    optimizer.state = defaultdict(dict)


def loaded(optimizer: Any) -> None:
    saved = optimizer.state_dict()
    state = {k: {n: v.clone() for n, v in s.items()} for k, s in saved["state"].items()}
    optimizer.load_state_dict({**saved, "state": state})


@pytest.mark.parametrize("edit", [cleared, dict_cleared, exchanged, dicts_exchanged, new_state, loaded])
@pytest.mark.parametrize("name", NAMES)
def test_states_die_when_they_are_let_go(name: str, edit: Callable[[Any], None]) -> None:
    optimizer = make(name, [parameter(5), parameter(2, 3)])
    train(optimizer, 3)
    held = [weakref.ref(v) for s in optimizer.state.values() for v in s.values()]
    assert alive(held) == len(held) > 0
    edit(optimizer)
    assert alive(held) == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_removed_group_dies(name: str) -> None:
    """Parameters, gradients and states, at once and without a further step."""
    kept, gone = parameter(3), parameter(4)
    optimizer = make(name, [{"params": [kept]}, {"params": [gone]}])
    train(optimizer, 3)
    held: list[weakref.ref[Any]] = [
        weakref.ref(gone),
        weakref.ref(gone.grad),
        *map(weakref.ref, optimizer.state[gone].values()),
    ]
    del optimizer.param_groups[1]
    del optimizer.state[gone]
    del gone
    assert alive(held) == 0
    train(optimizer, 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_taken_out_of_its_group_dies(name: str) -> None:
    params = [parameter(3), parameter(4)]
    optimizer = make(name, params)
    train(optimizer, 3)
    gone = params.pop()
    held: list[weakref.ref[Any]] = [weakref.ref(gone), *map(weakref.ref, optimizer.state.pop(gone).values())]
    optimizer.param_groups[0]["params"].remove(params[0])  # by identity: the first is the first
    optimizer.param_groups[0]["params"] = list(params)
    del gone
    assert alive(held) == 0
    train(optimizer, 1)


def with_a_hook(optimizer: Any) -> None:
    optimizer.register_step_post_hook(lambda *_: None)


def with_a_group_more(optimizer: Any) -> None:
    optimizer.add_param_group({"params": [parameter(3)]})


DROPS = [(n, s, b) for n in NAMES for s in FORMS for b in (None, with_a_hook, with_a_group_more)]


@pytest.mark.parametrize(("name", "form", "before"), thinned(DROPS, 4))
def test_a_dropped_optimizer_dies(name: str, form: str, before: Callable[[Any], None] | None) -> None:
    params = [parameter(5), parameter(2, 3)]
    optimizer = make(name, params, **FORMS[form])
    if before is not None:
        before(optimizer)
    train(optimizer, 3)
    held: list[weakref.ref[Any]] = [weakref.ref(optimizer), *map(weakref.ref, params)]
    held += [weakref.ref(v) for s in optimizer.state.values() for v in s.values()]
    del optimizer, params
    assert alive(held) == 0


@pytest.mark.parametrize("name", ["SGD", "Adagrad"])
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_an_optimizer_of_sparse_gradients_dies(name: str) -> None:
    table = nn.Embedding(5, 2, sparse=True)
    optimizer = getattr(optim, name)(table.parameters(), lr=0.1)
    table(torch.tensor([1, 3])).sum().backward()
    optimizer.step()
    held = [weakref.ref(optimizer), weakref.ref(table.weight.grad)]
    optimizer.zero_grad()
    del optimizer
    assert alive(held) == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_step_that_raises_keeps_nothing(name: str) -> None:
    p = parameter(3)
    optimizer = make(name, [p])
    train(optimizer, 2)
    held = gradients_of([p])

    def closure() -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        optimizer.step(closure)
    optimizer.zero_grad()
    assert alive(held) == 0


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_released_one_by_one_within_backward(name: str) -> None:
    """An optimizer per parameter, stepped as soon as its gradient is there: never more than one gradient lives."""
    ends = []
    for module in (optim, torch.optim):
        torch.manual_seed(0)
        model = nn.Sequential(*[nn.Linear(6, 6) for _ in range(8)])
        optimizers = {p: make(name, [p], module) for p in model.parameters()}
        held: list[weakref.ref[Tensor]] = []
        most = 0

        def release(p: Tensor) -> None:
            nonlocal most
            held.append(weakref.ref(p.grad))  # noqa: B023
            most = max(most, alive(held))  # noqa: B023
            optimizers[p].step()  # noqa: B023
            optimizers[p].zero_grad()  # noqa: B023

        for p in model.parameters():
            p.register_post_accumulate_grad_hook(release)
        for _ in range(3):
            model(torch.ones(4, 6)).square().mean().backward()
            assert alive(held) == 0
        assert len(held) == 3 * 16
        ends.append((most, [p.detach() for p in model.parameters()]))
    (mine, params), (torchs, others) = ends
    assert mine <= torchs
    assert all(apart(p, q) <= CLASS_FLOAT32_RUN for p, q in zip(params, others, strict=True))


# Resident memory, in processes of their own

SIZE = 9_000_000
"""36 MB: above 32 MiB the C library gives every block back to the system, so that what is resident is what is alive."""


def module_of(which: str) -> Any:
    return optim if which == "mine" else torch.optim


def warmed(which: str) -> Any:
    """The module, with its kernel loaded and its threads started, so that neither counts as memory of the training."""
    module = module_of(which)
    for size in (8, LARGE):
        train(module.Adam([nn.Parameter(torch.zeros(size))]), 2)
    return module


def memory_of_trainings(which: str) -> int:
    """How much more is resident after several trainings of one size than before; the highest of all looks."""
    module, highest = warmed(which), 0
    start = resident()
    for _ in range(6):
        p = nn.Parameter(torch.zeros(SIZE))
        optimizer = module.Adam([p], lr=0.1)
        for _ in range(2):
            p.grad = torch.ones_like(p)
            optimizer.step()
            p.grad = None
        highest = max(highest, resident() - start)
        del p, optimizer
    return highest


def memory_of_release(which: str) -> int:
    """The highest resident memory at a step in mid-backward, parameters and states of 8 tensors included."""
    module, highest = warmed(which), 0
    start = resident()
    params = [nn.Parameter(torch.ones(SIZE)) for _ in range(8)]
    optimizers = {p: module.Adam([p], lr=0.1) for p in params}

    def release(p: Tensor) -> None:
        nonlocal highest
        optimizers[p].step()
        optimizers[p].zero_grad()
        highest = max(highest, resident() - start)

    for p in params:
        p.register_post_accumulate_grad_hook(release)
    for _ in range(2):
        for p in params:
            p.sum().backward()
    return highest


def memory_after_zero_grad(which: str) -> int:
    module = warmed(which)
    start = resident()
    params = [nn.Parameter(torch.ones(SIZE)) for _ in range(8)]
    optimizer = module.Adam(params, lr=0.1)
    highest = 0
    for _ in range(2):
        feed(params, 0)
        optimizer.step()
        optimizer.zero_grad()
        highest = max(highest, resident() - start)
    return highest


@pytest.mark.parametrize("work", thinned([memory_of_trainings, memory_of_release, memory_after_zero_grad], 3))
def test_resident_memory_is_torchs(work: Callable[[str], int]) -> None:
    mine, torchs = (in_fresh(work, which) for which in ("mine", "torch's"))
    assert mine <= RESIDENT_SHARE * torchs


# Another thread drops gradients


def stepped_while_gradients_vanish(name: str, seconds: float) -> tuple[int, int, float]:
    """Steps taken, steps in which gradients were dropped, and the largest error.

    One thread steps; once it has begun, another takes the gradients away and puts nan where their memory was. The step has
    read a gradient or it has not; where it reads one, the memory must live until the kernel is through.
    """
    params = [nn.Parameter(torch.zeros(LARGE)) for _ in range(4)]
    optimizer = make(name, params, **({"momentum": 0.0} if name == "SGD" else {}))
    begun, stop, dropped = threading.Event(), threading.Event(), threading.Event()
    pause, early = 0.0, 0

    def drop() -> None:
        nonlocal early
        while begun.wait() and not stop.is_set():
            begun.clear()
            time.sleep(pause)
            early += stepping
            for p in params:
                p.grad = None
            nans = [torch.full((LARGE,), float("nan")) for _ in params]
            del nans
            dropped.set()

    thread = threading.Thread(target=drop, daemon=True)
    thread.start()
    steps, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for p in params:
            p.grad = torch.ones(LARGE)
        pause, stepping = (steps % 20) * 1e-4, True
        dropped.clear()
        begun.set()
        with suppress(
            *([AttributeError] if REFERENCE else [])
        ):  # torch looks at a gradient twice, and the second is None
            optimizer.step()
        stepping = False
        dropped.wait()
        steps += 1
    stop.set()
    begun.set()
    thread.join()
    # All elements of a parameter had the same gradients, so they took the same steps, and none of them was nan.
    return steps, early, max(float((p - p[0]).abs().max()) if p.isfinite().all() else float("inf") for p in params)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_gradients_may_vanish_in_the_middle_of_a_step(name: str) -> None:
    steps, dropped, error = in_fresh(stepped_while_gradients_vanish, name, 2.0)
    assert steps > 0
    assert dropped > 0
    assert error == 0


@only_ours
@pytest.mark.long
@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("SGD", "Adam")] + ["SGD", "Adam"])
def test_gradients_may_vanish_in_the_middle_of_a_step_of_every_class(name: str) -> None:
    assert in_fresh(stepped_while_gradients_vanish, name, 5.0)[2] == 0

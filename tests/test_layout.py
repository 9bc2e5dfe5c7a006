"""The records behind tensors: found the same way each time, agreeing with Python on tensors of all kinds, or not read at all."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
import torch
from torch import Tensor

from steprule import optim
from steprule.errors import InputError
from steprule.optim import layout, layout_search, scan
from steprule.optim.signature import CHANGED, MOVED, SAME, AskedLook, Look, Subjects

try:
    FOUND: layout.Layout | None = layout_search.find_layout()
    scan._holders()
except (layout.NoLayoutError, AttributeError):
    FOUND = None
readable = pytest.mark.skipif(
    FOUND is None, reason="the records of this torch and Python cannot be read; Python looks instead"
)


@readable
def test_the_layout_is_the_same_each_time() -> None:
    """Whatever lies in the bytes between: memory is churned between the searches."""
    kept: list[Tensor] = []
    for k in range(30):
        kept = [torch.randn(random.Random(k).randint(1, 4000)) for _ in range(50)]
        assert layout_search.find_layout.__wrapped__() == FOUND
    assert kept


@readable
def test_the_layout_is_found_under_modes() -> None:
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode(), torch.device("meta"), torch.inference_mode():
        assert layout_search.find_layout.__wrapped__() == FOUND


def kinds() -> list[Tensor]:
    base = torch.randn(6, 5, 4)
    return [
        torch.randn(3), torch.randn(2, 3).t(), base[1:4, ::2], base.permute(2, 0, 1), torch.randn(()), torch.randn(0, 3),
        torch.randn(2, 1, 2, 1, 2, 3, 2), torch.randn(4, dtype=torch.float64), torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.nn.Parameter(torch.randn(5)), torch.randn(7).expand(3, 7), torch.randn(9).bfloat16(), torch.randn(1).expand(5),
    ]  # fmt: skip


@readable
def test_readings_are_what_python_says() -> None:
    assert FOUND is not None
    with layout.Memory() as memory:
        for t in kinds():
            torch.autograd.graph.increment_version([t, t, t])
            got = layout.read(memory, FOUND, t)
            assert got.address == (t.data_ptr() if t.numel() else 0)
            assert (got.shape, got.stride) == (tuple(t.shape), t.stride())
            assert got.nbytes == t.untyped_storage().nbytes()
            assert got.version == t._version


def test_no_memory_is_read_where_there_is_none() -> None:
    if not os.path.exists("/proc/self/mem"):
        pytest.skip("no /proc: records are never read here")
    with layout.Memory() as memory:
        assert [memory.bytes(a, 8) for a in (0, 8, 1 << 46, 1 << 60, -8)] == [b""] * 5
        assert memory.word(16) == -1


class LookOfWords(scan.ScannedLook):
    """The compiled look's own functions, run by Python."""

    def __init__(self, given: Subjects) -> None:
        super().__init__(given)
        own = scan._compiled()
        self._look, self._finish, self._let_go = own._look, own._finish, own._let_go


LOOKS: list[type[Any]] = [AskedLook] if FOUND is None else [AskedLook, scan.ScannedLook, LookOfWords]


def subjects(writes_g: bool = False) -> tuple[list[Tensor], dict[Tensor, dict[str, Tensor]], Subjects]:
    params = [
        torch.nn.Parameter(torch.randn(4, 3)),
        torch.nn.Parameter(torch.randn(6)),
        torch.nn.Parameter(torch.randn(2)),
    ]
    states: dict[Any, Any] = {p: {"step": torch.tensor(0.0), "m": torch.zeros_like(p)} for p in params}
    for p in params[:2]:
        p.grad = torch.randn_like(p)
    live = params[:2]
    columns = [live, [p.grad for p in live], [states[p]["m"] for p in live], [states[p]["step"] for p in live]]
    return params, states, Subjects(params, [0, 1], [2], states, columns, ("m", "step"), 1, writes_g)  # type: ignore[arg-type]


def replaced(t: Tensor, data: Tensor) -> None:
    t.data = data


CHANGES: dict[str, tuple[int, Any]] = {
    "nothing": (SAME, lambda ps, ss: None),
    "a gradient, fresh": (SAME, lambda ps, ss: setattr(ps[0], "grad", torch.randn(4, 3))),
    "a gradient, a view": (MOVED, lambda ps, ss: setattr(ps[0], "grad", torch.randn(8, 3)[2:6])),
    "a gradient, gone": (CHANGED, lambda ps, ss: setattr(ps[0], "grad", None)),
    "a gradient, come": (CHANGED, lambda ps, ss: setattr(ps[2], "grad", torch.ones(2))),
    "a gradient, transposed": (CHANGED, lambda ps, ss: setattr(ps[0], "grad", torch.randn(3, 4).t())),
    "a gradient, negative": (CHANGED, lambda ps, ss: setattr(ps[0], "grad", torch._neg_view(torch.ones(4, 3)))),
    "a gradient, zero": (CHANGED, lambda ps, ss: setattr(ps[0], "grad", torch._efficientzerotensor((4, 3)))),
    "a parameter, elsewhere": (MOVED, lambda ps, ss: replaced(ps[0], torch.randn(4, 3))),
    "a parameter, longer": (CHANGED, lambda ps, ss: replaced(ps[1], torch.randn(9))),
    "a parameter, shorter": (CHANGED, lambda ps, ss: replaced(ps[1], ps[1].data[:3])),
    "a parameter, float64": (CHANGED, lambda ps, ss: replaced(ps[1], torch.randn(6, dtype=torch.float64))),
    "another member": (CHANGED, lambda ps, ss: ps.append(torch.nn.Parameter(torch.ones(1)))),
    "a member, another": (CHANGED, lambda ps, ss: ps.__setitem__(0, torch.nn.Parameter(torch.ones(4, 3)))),
    "a state, elsewhere": (MOVED, lambda ps, ss: replaced(ss[ps[0]]["m"], torch.zeros(4, 3))),
    "a state, shared": (MOVED, lambda ps, ss: ss[ps[0]]["m"].share_memory_()),
    "a state, without memory": (CHANGED, lambda ps, ss: ss[ps[0]]["m"].untyped_storage().resize_(0)),
    "a state, gone": (CHANGED, lambda ps, ss: ss[ps[0]].pop("m")),
    "all states, gone": (CHANGED, lambda ps, ss: ss.clear()),
    "a count, float64": (CHANGED, lambda ps, ss: replaced(ss[ps[0]]["step"], torch.tensor(0.0, dtype=torch.float64))),
}
"""What happens between two looks, and what the second finds. A gradient at another address whose memory has no other holder is no
change to the compiled look; the one by Python calls it moved, and the plan compares all addresses."""


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", LOOKS)
def test_what_a_look_finds(kind: type[Any], change: str) -> None:
    params, states, given = subjects()
    look: Look = kind(given)
    assert look.look(params, states) == SAME
    wanted, happen = CHANGES[change]
    happen(params, states)
    found = look.look(params, states)
    look.release()
    if kind is AskedLook and change == "a gradient, fresh":
        assert found in (SAME, MOVED)
    else:
        assert found == wanted
    if found != CHANGED:
        assert look.addresses[0].tolist() == [p.data_ptr() for p in params[:2]]
        assert look.addresses[1].tolist() == [p.grad.data_ptr() for p in params[:2]]  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", LOOKS)
def test_a_copy_on_write_is_made_before_it_is_written(kind: type[Any]) -> None:
    params, states, given = subjects()
    look = kind(given)
    twin = torch._lazy_clone(states[params[0]]["m"])
    found = look.look(params, states)
    if kind is AskedLook:
        assert found == MOVED
        assert look.addresses[2][0] == states[params[0]]["m"].data_ptr()
    else:
        assert found == CHANGED
    assert twin.data_ptr() != states[params[0]]["m"].data_ptr()


@pytest.mark.parametrize("kind", LOOKS)
def test_numbers_and_versions_are_written(kind: type[Any]) -> None:
    params, states, given = subjects()
    look = kind(given)
    look.look(params, states)
    before = [t._version for t in (params[0], states[params[0]]["m"], states[params[0]]["step"], params[0].grad)]
    look.values[:] = 7
    look.finish()
    look.release()
    assert states[params[1]]["step"].item() == 7
    after = [t._version for t in (params[0], states[params[0]]["m"], states[params[0]]["step"], params[0].grad)]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1, 0]


@pytest.mark.parametrize(("asked", "refused"), [("python", "STEPRULE_SCAN=python"), ("records", None), ("auto", None)])
def test_the_look_can_be_chosen(asked: str, refused: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPRULE_SCAN", asked)
    monkeypatch.setattr(scan, "refusal", scan.refusal.__wrapped__)
    proved = FOUND is not None and (asked == "records" or scan.this_version() in scan.proved())
    if proved:
        assert scan.refusal() == refused
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = optim.Adam([p])
    optimizer.step()
    assert optimizer._plans[0].look.how == ("records" if proved and refused is None else "python")  # type: ignore[union-attr]


def test_a_look_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPRULE_SCAN", "both")
    with pytest.raises(InputError, match="STEPRULE_SCAN: expected auto, python or records, got 'both'"):
        scan.refusal.__wrapped__()


def test_versions_that_nobody_proved_are_looked_at_by_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPRULE_SCAN", "auto")
    monkeypatch.setattr(scan, "this_version", lambda: ("torch 9.9", "Python 3.11"))
    assert scan.refusal.__wrapped__() == "torch 9.9 and Python 3.11 are not among the proved"


def test_a_failed_step_holds_nothing() -> None:
    """An error between the look and the launch lets go what the look held for other threads."""
    import threading
    import weakref

    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        p, q = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
        optimizer = optim.Adam([{"params": [p]}, {"params": [q]}])
        for x in (p, q):
            x.grad = torch.ones(3)
        optimizer.step()
        optimizer.step()
        q.grad = torch.ones(3).to_sparse()
        gone = weakref.ref(p.grad)  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match="sparse"):
            optimizer.step()
        p.grad = None
        assert gone() is None
    finally:
        stop.set()
        thread.join()

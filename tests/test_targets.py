"""A target of one's own is a row of `TARGETS`: its kernels step, reduce and keep their bits without a change anywhere else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from drawn_walks import PythonKernel

from steprule import optim
from steprule.optim import backends
from steprule.optim.backends import TARGETS, Target, target_for
from steprule.optim.buckets import kernel_for


@pytest.fixture
def plain_python(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """In Numba's place a target that runs the passes as Python; the programs that its kernels were made for."""
    made: list[str] = []
    kernel_for.cache_clear()

    class Counted(PythonKernel):
        def source(self) -> str:
            made.append(self.program.graph.rule.name)
            return super().source()

    monkeypatch.delitem(TARGETS, "numba")
    monkeypatch.setitem(TARGETS, "plain", Target("cpu", lambda: Counted))
    monkeypatch.setattr(backends, "BACKENDS", ("auto", "eager", *TARGETS))
    target_for.cache_clear()
    yield made
    target_for.cache_clear()


def ends(rule: str, settings: dict[str, float]) -> list[torch.Tensor]:
    params = [torch.linspace(-1, 1, n, dtype=torch.float64).requires_grad_() for n in (7, 3)]
    optimizer = optim.from_rule(rule)(params, **settings)
    for t in range(1, 4):
        for p in params:
            p.grad = torch.linspace(t, -2, len(p), dtype=torch.float64)
        optimizer.step()
    return [*(p.detach() for p in params), *(optimizer.state[p][n] for p in params for n in optimizer.state[p])]


@pytest.mark.parametrize(
    ("rule", "settings"), [("adam", {"clip_norm": 0.5}), ("lamb", {"lr": 0.1}), ("sgd", {"lr": 0.1})]
)
def test_a_target_of_ones_own_steps(rule: str, settings: dict[str, float], plain_python: list[str]) -> None:
    found = ends(rule, settings)
    assert len(plain_python) == (2 if "clip_norm" in settings else 1), "one kernel per program"
    assert target_for("auto", "cpu") == target_for("plain", "cpu") == "plain"
    with pytest.MonkeyPatch.context() as undone:
        undone.setitem(TARGETS, "numba", Target("cpu", backends._numba))
        undone.delitem(TARGETS, "plain")
        target_for.cache_clear()
        wanted = ends(rule, settings)
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert torch.equal(a, b)


def test_a_target_that_is_no_row_is_refused(plain_python: list[str]) -> None:
    with pytest.raises(ValueError, match="expected one of auto, eager, triton, plain, got 'numba'"):
        target_for("numba", "cpu")

"""Steps in a CUDA graph, without a card: recorded and replayed with other hyperparameters, gradients and step numbers."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from by_path import module_at
from recorded_graph import recording
from thinning import thinned
from tolerances import CLASS_FLOAT32_FEW_STEPS
from torch import Tensor

from steprule import optim
from steprule.errors import InputError

pytest.importorskip("triton", reason="Triton is for Linux")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs Triton's interpreter", allow_module_level=True)

from steprule.compiler import streams, triton_gpu

bench = module_at("benchmarks/gpu.py")
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

SIZES = (5, 1500, 1024)
LIVE: dict[str, dict[str, Any]] = {
    "AdamW": {"lr": 0.1, "betas": (0.9, 0.99), "weight_decay": 0.1, "clip_norm": 2.0, "ema_decay": 0.9},
    "Adam": {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": 0.1},
    "NAdam": {"lr": 0.1, "betas": (0.9, 0.99), "momentum_decay": 0.01},
    "RAdam": {"lr": 0.1, "betas": (0.9, 0.99)},
    "SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "dampening": 0.2},
    "RMSprop": {"lr": 0.1, "alpha": 0.9, "momentum": 0.8},
    "Adagrad": {"lr": 0.1, "lr_decay": 0.1, "eps": 1e-6},
    "Lion": {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.1, "clip_value": 0.5},
    "AdEMAMix": {"lr": 0.01, "weight_decay": 0.1},
}
"""A class with numbers of its hyperparameters, each of which is live."""


def params_of() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, generator=generator).requires_grad_() for n in SIZES]


def at(value: Any, t: int) -> Any:
    """A hyperparameter in step t: each moves a little."""
    return tuple(at(v, t) for v in value) if isinstance(value, tuple) else value * (1 - 0.03 * t)


def grads(t: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(t)
    return [torch.randn(n, generator=generator) for n in SIZES]


def capturable(name: str, settings: dict[str, Any], *, groups: bool = False, **more: Any) -> Any:
    """A class whose steps may be recorded, with every hyperparameter as a tensor; `groups`: in two groups."""
    params = params_of()
    parted = [{"params": params[:2]}, {"params": params[2:]}] if groups else params
    optimizer = getattr(optim, name)(parted, backend="triton")
    for group in optimizer.param_groups:
        group |= {"capturable": True, **{n: bench.on_card(v, "cpu") for n, v in settings.items()}, **more}
    return optimizer, params


def reference(name: str, settings: dict[str, Any], steps: int) -> tuple[Any, list[Tensor]]:
    """The eager form, told numbers in each step."""
    params = params_of()
    optimizer = getattr(optim, name)(params, backend="eager")
    for t in range(steps):
        optimizer.param_groups[0] |= {n: at(v, t) for n, v in settings.items()}
        for p, g in zip(params, grads(t), strict=True):
            p.grad = g
        optimizer.step()
    return optimizer, params


def in_step(optimizer: Any, params: list[Tensor], t: int, settings: dict[str, Any], *, fresh: bool) -> None:
    """Bring gradients and hyperparameters to those of step t, in place or as new tensors."""
    for group in optimizer.param_groups:
        for name, value in settings.items():
            bench.fill(group[name], at(value, t))
    for p, g in zip(params, grads(t), strict=True):
        if fresh or p.grad is None:
            p.grad = g
        else:
            p.grad.copy_(g)


@pytest.mark.parametrize("groups", [False, True], ids=["one group", "two groups"])
@pytest.mark.parametrize("name", thinned(LIVE, 4))
def test_a_replay_is_a_step_with_the_numbers_of_now(name: str, groups: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps before, the third recorded with gradients at other addresses, three replays."""
    settings = LIVE[name]
    optimizer, params = capturable(name, settings, groups=groups)
    for t in range(2):
        in_step(optimizer, params, t, settings, fresh=t == 0)
        optimizer.step()
    in_step(optimizer, params, 2, settings, fresh=True)
    with recording(monkeypatch) as graph:
        optimizer.step()
    assert graph.launches >= len({id(plan) for plan in optimizer._plans})
    for t in range(3, 6):
        in_step(optimizer, params, t, settings, fresh=False)
        graph.replay()
    told, wanted = reference(name, settings, 6)
    for p, q in zip(params, wanted, strict=True):
        torch.testing.assert_close(p.detach(), q.detach(), rtol=CLASS_FLOAT32_FEW_STEPS, atol=CLASS_FLOAT32_FEW_STEPS)
        assert optimizer.state[p].keys() == told.state[q].keys()
        for key, value in told.state[q].items():
            torch.testing.assert_close(
                optimizer.state[p][key].double(),
                value.double(),
                rtol=CLASS_FLOAT32_FEW_STEPS,
                atol=CLASS_FLOAT32_FEW_STEPS,
            )
    if "clip_norm" in settings:
        torch.testing.assert_close(optimizer.grad_norm, told.grad_norm, rtol=CLASS_FLOAT32_FEW_STEPS, atol=0)


def test_a_step_outside_of_a_graph_goes_on_where_the_replays_are() -> None:
    """Also after a checkpoint, whose step numbers a class without `capturable` reads on the host."""
    settings = LIVE["Adam"]
    optimizer, params = capturable("Adam", settings)
    for t in range(3):
        in_step(optimizer, params, t, settings, fresh=True)
        optimizer.step()
    assert all(int(optimizer.state[p]["step"]) == 3 for p in params)
    _, wanted = reference("Adam", settings, 3)
    again = optim.Adam(wanted, backend="eager")
    saved = optimizer.state_dict()
    again.load_state_dict({**saved, "param_groups": [{**saved["param_groups"][0], "capturable": False}]})
    assert all(int(again.state[p]["step"]) == 3 for p in wanted)


def test_parameters_with_steps_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """One rests in the first step: each tensor has its own column of the table."""
    settings = LIVE["Adam"]
    optimizer, params = capturable("Adam", settings)
    found, wanted = [], []
    for form, kind in ((found, optimizer), (wanted, optim.Adam(params_of(), backend="eager"))):
        own = params if kind is optimizer else kind.param_groups[0]["params"]
        for t in range(3):
            if kind is optimizer:
                in_step(optimizer, own, t, settings, fresh=True)
            else:
                kind.param_groups[0] |= {n: at(v, t) for n, v in settings.items()}
                for p, g in zip(own, grads(t), strict=True):
                    p.grad = g
            if t == 0:
                own[1].grad = None
            kind.step()
        form += [p.detach() for p in own]
    for p, q in zip(found, wanted, strict=True):
        torch.testing.assert_close(p, q, rtol=CLASS_FLOAT32_FEW_STEPS, atol=CLASS_FLOAT32_FEW_STEPS)


def test_what_a_graph_reads_is_never_freed_or_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later step outside of it, and the optimizer's end, leave the memory alone that its replays read."""
    kept: list[Any] = []
    monkeypatch.setattr(streams, "_OF_GRAPHS", kept)
    settings = LIVE["SGD"]
    optimizer, params = capturable("SGD", settings)
    for t in range(2):
        in_step(optimizer, params, t, settings, fresh=True)
        optimizer.step()
    with recording(monkeypatch):
        optimizer.step()
    (bucket,) = optimizer._plans[0].buckets
    read = {
        name: t
        for name, t in bucket.chunks.held.items()
        if isinstance(t, Tensor) and name not in ("reduced", "partial")
    }
    before = {name: t.clone() for name, t in read.items()}
    in_step(optimizer, params, 2, settings, fresh=True)
    optimizer.step()
    assert all(any(t is one for own in kept for one in own) for t in read.values())
    assert all(torch.equal(t, before[name]) for name, t in read.items())


def test_what_cannot_be_recorded_says_so_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = LIVE["Adam"]
    optimizer, params = capturable("Adam", settings)
    in_step(optimizer, params, 0, settings, fresh=True)
    before = [p.detach().clone() for p in params]
    with pytest.raises(InputError, match="expected a step like the one before, got a first"), recording(monkeypatch):
        optimizer.step()
    plain = optim.Adam(params, backend="triton")
    plain.step()
    before = [p.detach().clone() for p in params]
    with pytest.raises(InputError, match="expected capturable=True in every group"), recording(monkeypatch):
        plain.step()
    assert all(torch.equal(p, q) for p, q in zip(params, before, strict=True))


def test_each_capture_needs_room_for_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = LIVE["SGD"]
    optimizer, params = capturable("SGD", settings)
    for t in range(2):
        in_step(optimizer, params, t, settings, fresh=True)
        optimizer.step()
    for t in range(2, 2 + triton_gpu.GRAPHS):
        in_step(optimizer, params, t, settings, fresh=True)
        with recording(monkeypatch):
            optimizer.step()
    in_step(optimizer, params, 9, settings, fresh=True)
    with pytest.raises(InputError, match="Take a step outside of the capture"), recording(monkeypatch):
        optimizer.step()
    optimizer.step()
    with recording(monkeypatch):
        optimizer.step()


def test_a_step_on_another_stream_says_what_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory of one stream that another reads must not be given away before it has."""
    said: list[int] = []
    monkeypatch.setattr(triton_gpu, "used_here", lambda tensors, device: said.append(len(list(tensors))))
    p = torch.ones(10, requires_grad=True)
    p.grad = torch.ones(10)
    optimizer = optim.Adam([p], backend="triton")
    optimizer.step()
    assert said == []
    monkeypatch.setattr(triton_gpu, "stream_of", lambda device: 7)
    optimizer.step()
    assert len(said) == 1
    monkeypatch.setattr(triton_gpu, "stream_of", lambda device: 0)
    optimizer.step()
    assert len(said) == 2
    assert said[0] >= len(("tensors", "offsets", "lengths", "addresses", "table", "which"))


@pytest.mark.parametrize(
    ("more", "says"), [({"nonfinite": "skip"}, "nonfinite"), ({"diagnostics": True}, "diagnostics")]
)
def test_what_the_host_reads_is_refused_while_a_graph_records(
    more: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = torch.ones(5).requires_grad_()
    optimizer = optim.SGD([p], lr=0.1, backend="triton", **more)
    optimizer.param_groups[0]["capturable"] = True
    p.grad = torch.ones(5)
    for _ in range(2):
        optimizer.step()
    with recording(monkeypatch), pytest.raises(InputError, match=f"SGD, recorded by a CUDA graph: expected .*{says}"):
        optimizer.step()

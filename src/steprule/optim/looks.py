"""What a step is supplied with: noise, and the gradients where the rule looks, computed at those points."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from types import FrameType
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor

from steprule.compiler.drawing import Key, noise
from steprule.errors import GradientError, InputError, InputTypeError
from steprule.hyper import LOSS
from steprule.optim import groups
from steprule.optim.nonfinite import SkippedError
from steprule.optim.precision import SEED
from steprule.optim.settings import Settings, Stepped
from steprule.optim.signature import PLAIN, has_own_operations
from steprule.optim.unseen import below


def check_closure(optimizer: Stepped, closure: object) -> None:
    """Raise `InputTypeError` where a rule looks twice, or asks for the loss, and nobody says how."""
    if not (optimizer.rule.looks_twice or optimizer.rule.asks_for_loss):
        return
    if callable(closure):
        if optimizer.rule.looks_twice and _within_a_scaler():
            what = f"{type(optimizer).__name__}.step within GradScaler.step: its closure would compute scaled gradients"
            raise RuntimeError(f"{what}; leave unscaling to the step, by fused_unscale=True, or step without a scaler")
        return
    twice = optimizer.rule.looks_twice
    hint = (
        "Write step(closure), where closure() zeroes the gradients, computes the loss, calls backward and returns it."
    )
    raise InputTypeError(
        f"{type(optimizer).__name__}.step",
        expected=f"a closure: its rule {'looks at the gradient twice' if twice else 'asks for the loss'}",
        got="none" if closure is None else f"a {type(closure).__name__}",
        hint=hint if twice else "Behind backward(), write step(lambda: loss).",
    )


def _within_a_scaler() -> bool:
    """Whether torch's GradScaler steps here, having unscaled the gradients itself. It refuses a closure that is given by name. One that is
    given by position it would hand on, and the gradients of that closure would stay scaled."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "_maybe_opt_step" and frame.f_globals.get("__name__") == "torch.amp.grad_scaler":
            return True
        frame = frame.f_back
    return False


@contextmanager
def told(optimizer: Stepped, loss: Any) -> Iterator[None]:
    """A block in which the groups of rules that ask for the loss have it. Raises `InputTypeError` where the loss is not a number."""
    groups = [g for g in optimizer.param_groups if optimizer.stepping(g).rule.asks_for_loss]
    if groups:
        try:
            loss = float(loss.detach() if isinstance(loss, Tensor) else loss)
        except (TypeError, ValueError, RuntimeError):
            where, hint = f"{type(optimizer).__name__}.step", "Let the closure return it."
            raise InputTypeError(where, expected="the loss, one number", got=repr(loss)[:60], hint=hint) from None
    try:
        for group in groups:
            group[LOSS] = loss
        yield
    finally:
        for group in groups:
            group.pop(LOSS, None)


@contextmanager
def supplied(optimizer: Stepped, closure: Callable[[], Any] | None) -> Iterator[None]:
    """A block in which the states have the noise of this step, and the gradients of each of its looks, behind those of the first one.

    Parameters and gradients are what they were before the block, also where the closure fails; then the states are, too.
    """
    rule, put = optimizer.rule, list[dict[str, Any]]()
    every = [p for group in optimizer.param_groups for p in group["params"]]
    before = {p: frozenset(optimizer.state[p]) for p in every if p in optimizer.state}
    looks = _looks_in(optimizer)
    with _first_gradients(every if looks > rule.draws else ()) as first:
        try:
            for k, name in enumerate(rule.looked):
                seen: Mapping[Tensor, Tensor] = {}  # a kernel reads what a step that does not look makes nothing of
                if k < rule.draws:
                    seen = _noise(optimizer, k)
                elif k < looks:
                    assert closure is not None
                    seen = _gradients(optimizer, k, closure, first, every)
                for p in (p for p in every if p.grad is not None):
                    optimizer.state[p][name] = seen[p] if p in seen else _beside(p, None)
                    put.append(optimizer.state[p])
        except BaseException:
            _end_begun(optimizer, every, before)
            raise
        try:
            yield
        except (SkippedError, GradientError):
            _end_begun(optimizer, every, before)
            raise
        finally:
            for state in put:
                for name in rule.looked:
                    state.pop(name, None)


def _end_begun(optimizer: Stepped, every: Sequence[Tensor], before: Mapping[Tensor, Collection[str]]) -> None:
    """Take away the states that a look has begun, as it reads them; `before` are those that there were."""
    for p in every:
        for name in set(optimizer.state.get(p, ())) - set(before.get(p, ())):
            del optimizer.state[p][name]
        if p not in before:
            optimizer.state.pop(p, None)


@contextmanager
def _first_gradients(every: Sequence[Tensor]) -> Iterator[dict[Tensor, Tensor]]:
    """A block in which each gradient is a copy that nobody else has: a closure may write the next ones to the memory of the first,
    as to buffers of its own. Behind the block the parameters have their own again, with the first gradients in them.
    """
    first: dict[Tensor, Tensor] = {}
    own: dict[Tensor, ReferenceType[Tensor]] = {}  # weak: what nobody else holds is freed at once
    for p in every:
        if p.grad is not None:
            first[p], own[p] = p.grad.detach().clone(), ref(p.grad)
            p.grad = first[p]
    try:
        yield first
    finally:
        of_parameters = _storages(every)
        with torch.inference_mode(False), torch.no_grad():
            for p, gradient in first.items():
                held = own[p]()
                if held is not None and not (_storages([held]) & of_parameters or torch.equal(held, gradient)):
                    held.copy_(gradient)
                p.grad = gradient if held is None else held


def _storages(tensors: Iterable[Tensor]) -> set[int]:
    """Where the memory of some tensors begins. Sparse ones, and those of a subclass that may have none, are left out."""
    return {t.untyped_storage().data_ptr() for t in tensors if type(t) in PLAIN and t.layout is torch.strided}


def _looks_in(optimizer: Stepped) -> int:
    """How often this step looks: as often as the parameter that looks most."""
    found = 0
    for group in optimizer.param_groups:
        hypers = Settings(optimizer, group, None).hypers
        states = [optimizer.state.get(p, {}) for p in group["params"] if p.grad is not None]
        # Those that have taken as many steps, and have the same states, look as often.
        kinds = {(float(state.get("step", 0.0)), frozenset(state)): state for state in states}
        found = max([found, *(optimizer.rule.looks_in(t + 1.0, hypers, s) for (t, _), s in kinds.items())])
    return found


def _noise(optimizer: Stepped, draw: int) -> dict[Tensor, Tensor]:
    """The noise of a draw, of each parameter that steps. A parameter's number among all is which tensor it is."""
    found, tensor = dict[Tensor, Tensor](), 0
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is not None:
                if type(p) is not Tensor and has_own_operations(p):
                    what = f"{optimizer.rule.name} draws noise, which a {type(p).__name__} does not support"
                    raise RuntimeError(f"{what}: its elements are not all here, or not plain numbers")
                t = float(optimizer.state.get(p, {}).get("step", 0.0)) + 1.0
                found[p] = noise(p.detach(), Key(int(group[SEED]), tensor), t, draw)
            tensor += 1
    return found


def _gradients(
    optimizer: Stepped, k: int, closure: Callable[[], Any], first: Mapping[Tensor, Tensor], every: Sequence[Tensor]
) -> dict[Tensor, Tensor]:
    """The gradients at the points of a look. Raises `InputError` where the closure computes none."""
    kept = [(p, p.detach().clone()) for p in first]
    try:
        with torch.inference_mode(False):
            groups.step(_mover(optimizer, k), None)
        _have_moved(first)
        for p in every:
            p.grad = None
        with torch.enable_grad():
            closure()
        if all(p.grad is None for p in first):
            name, hint = (
                type(optimizer).__name__,
                "It calls backward each time that it is called, as step calls it again.",
            )
            raise InputError(
                f"{name}.step: closure", expected="gradients at the point of the look", got="none", hint=hint
            )
        shared = _storages(every) if k + 1 == len(optimizer.rule.looked) else None
        return {p: _beside(p, p.grad, shared) for p in first}
    finally:
        with torch.no_grad():
            for p, before in kept:
                p.copy_(before)
        _have_moved(())
        for p in every:
            p.grad = first.get(p)


def _have_moved(params: Iterable[Tensor]) -> None:
    """Say that a kernel has written to parameters: to graphs, which refuse to go on with other numbers, and to what autocast keeps."""
    torch.autograd.graph.increment_version([p for p in params if not p.is_inference()])
    torch.clear_autocast_cache()


def _beside(p: Tensor, gradient: Tensor | None, shared: set[int] | None = None) -> Tensor:
    """A gradient as a state of its parameter: as that lies, and none is zero. It is a copy where its memory is among the `shared`, whose
    numbers change; None is where any may be."""
    if gradient is None:
        return torch.zeros_like(p, memory_format=torch.preserve_format)
    if gradient.layout is not torch.strided:
        raise RuntimeError("a rule that looks twice does not support sparse gradients")
    gradient = gradient.detach()
    if type(gradient) is Tensor and gradient.stride() != p.stride() and gradient.shape == p.shape:
        return torch.empty_like(p, dtype=gradient.dtype).copy_(gradient)
    if shared is None or _storages([gradient]) & shared:
        return gradient.clone()
    return gradient


def _mover(optimizer: Stepped, k: int) -> Stepped:
    """The optimizer as one whose step puts the parameters to the points of a look, and writes nothing else."""
    own = optimizer.__dict__
    movers: list[Stepped] = own.setdefault("_movers", [])
    while len(movers) <= k:
        made: type[Stepped] = _moving(type(optimizer), len(movers))  # type: ignore[arg-type]  # a class is hashable
        movers.append(object.__new__(made))
    mover, plans = movers[k], ("_plans", "_are_tied")
    kept = {name: mover.__dict__[name] for name in plans if name in mover.__dict__}
    mover.__dict__.clear()
    mover.__dict__.update({n: v for n, v in own.items() if n not in (*plans, "_movers")} | kept)
    return mover


@lru_cache(maxsize=256)
def _moving(cls: type[Stepped], k: int) -> type[Stepped]:
    """The class of a mover."""
    return below(cls, f"{cls.__name__}Look{k + 1}", rule=cls.rule.looks[k], moves=True)  # type: ignore[no-any-return]

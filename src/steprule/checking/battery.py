"""The battery asks a rule every question, runs all its forms, and makes the report."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steprule import rules
from steprule.alone import drawing
from steprule.checking import forms, probe, questions
from steprule.checking.cases import Case, numbers, step_class
from steprule.checking.judged import Judged, go
from steprule.checking.nearest import nearest
from steprule.checking.parting import STEPS, parting
from steprule.checking.questions import Answer, apart
from steprule.checking.report import FailedError, Item, Report, in_one_line
from steprule.checking.stranger import of_rule
from steprule.compiler import cache, eager
from steprule.provenance import versions
from steprule.rules.parts import composed
from steprule.rules.rule import Rule

# One step against float64 from the same values, relative to the largest element: a few times the dtype's own rounding.
WITHIN = {torch.float32: 1e-5, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-9}
GUARD = 64  # elements before and after each tensor that a kernel must not touch


@drawing()  # making torch's classes and models may draw numbers
def check(rule: Rule | str, against: Rule | str | None = None) -> Report:
    """Run the battery on `rule`; with `against`, also find where the two part, each at its own defaults, then at others.

    An error in the rule is a failed item with the author's file and line. The report ends with the nearest known rule.

    Raises `StepruleError` where the rule is not found. A rule that breaks the contract gives a report that says so.

    >>> print(str(check("sgd")).splitlines()[0])
    sgd: passed
    """
    raw = rules.resolve(rule)
    judged = Judged(raw, composed(raw))
    other = rules.resolve(against) if against is not None else None
    items: list[Item] = []
    for name, body in _BATTERY:
        items.append(_asked(name, body, judged))
        if name in _FIRST and items[-1].verdict == "failed":
            break  # a rule that cannot be traced, or gives another result each time, cannot be compared
    done = len(items) == len(_BATTERY)
    parted, known = None, ""
    if done:
        try:
            known = str(nearest(of_rule(raw)))
            parted = parting(raw, other) if other is not None else None
        except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever a rule raises is a verdict
            items.append(Item("a longer walk", "failed", in_one_line(error, raw)))
    return Report(
        raw.name,
        tuple(items),
        other.name if other else None,
        parted,
        versions(),
        judged.forms,
        known,
        STEPS + probe.STEPS if other is not None and done else 0,
    )


def _asked(name: str, body: Callable[[Judged], Answer], judged: Judged) -> Item:
    try:
        verdict, detail = body(judged)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever a rule raises is a verdict
        return Item(name, "failed", in_one_line(error, judged.raw))
    return Item(name, "warning" if verdict == "warning" else "passed", detail)


# Items about the compiled forms; those about the function itself are in questions.py.


def _forms(judged: Judged) -> Answer:
    """Every installed form agrees in float64 with the author's function on torch tensors."""
    cases = [Case(judged.rule, judged.rule.bind(variant)) for variant in judged.variants()]
    judged.forms, worst = forms.compare(cases)
    ran = [name for name, how in judged.forms.items() if how == forms.RUN]
    left = [f"{name} ({how})" for name, how in judged.forms.items() if how != forms.RUN]
    how = f"to {worst:.1e}" if worst else "to the bit"
    not_run = f"; not run: {', '.join(left)}" if left else ""
    return "", f"{len(ran)} agree in float64 {how}: {', '.join(ran)}{not_run}"


def _dtypes_and_shapes(judged: Judged) -> Answer:
    rule = judged.rule
    shapes = [(), (1,), (0,), (7,), (3, 5), (20_000,)]
    for dtype, shape in itertools.product(WITHIN, shapes):
        p = (_tensor(0, shape) + 2).to(dtype).requires_grad_()
        before = p.detach().double()
        g = _tensor(1, shape).to(dtype)
        step_class(judged.optimizer([p], judged.settings), p, g)
        hypers, wide = rule.bind(judged.settings), g.double()
        exact, _ = eager.whole_step(rule, before, wide, {}, 1, hypers, partial(_elsewhere_rounded, g))
        if p.dtype is not dtype or p.shape != shape:
            raise FailedError(f"{dtype}, shape {shape}: p became {p.dtype}, shape {tuple(p.shape)}")
        gap = apart(p.detach().double().numpy(), exact.numpy()) if p.numel() else 0.0
        if gap > WITHIN[dtype]:
            raise FailedError(f"{dtype}, shape {shape}: off by {gap:.1e} of the largest element")
    return "", f"{len(WITHIN)} dtypes x {len(shapes)} shapes, one step against float64"


def _elsewhere_rounded(g: Tensor, point: Tensor) -> Tensor:
    """What is seen at a point by a parameter of the gradient's dtype."""
    seen: Tensor = probe.elsewhere(g)(point.to(g.dtype))
    return seen.double()


def _tensor(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(numbers(seed, math.prod(shape))).reshape(shape)


def _determinism(judged: Judged) -> Answer:
    ends = []
    for _ in range(2):
        p = _tensor(0, (100_000,)).float().requires_grad_()
        optimizer = judged.optimizer([p], {})
        for t in range(1, 4):
            step_class(optimizer, p, _tensor(t, (100_000,)).float())
        ends.append(p.detach())
    if not _same_bits(*ends):
        raise FailedError("two runs from the same start end in different bits")
    return "", "two runs give the same bits"


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return np.array_equal(a.detach().numpy(), b.detach().numpy(), equal_nan=True)


def _no_write_outside(judged: Judged) -> Answer:
    """No kernel writes to g, or to the guards that stand before and after p, g and every state."""
    for variant in judged.variants():
        p, g = _guarded(numbers(0, 1000)), _guarded(numbers(1, 1000))
        parameter = p[GUARD:-GUARD].requires_grad_()
        parameter.grad = g[GUARD:-GUARD]
        kept_g = g.clone()
        optimizer, gradient = judged.optimizer([parameter], variant), parameter.grad
        step_class(optimizer, parameter, gradient)
        around = {}
        for key, value in optimizer.state[parameter].items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                around[key] = _guarded(value.detach().numpy())
                optimizer.state[parameter][key] = around[key][GUARD:-GUARD]
        step_class(optimizer, parameter, gradient)
        if not torch.equal(g, kept_g):
            raise FailedError("the gradient was written to")
        for key, whole in {"p": p.detach(), **around}.items():
            edges = torch.cat([whole[:GUARD], whole[-GUARD:]])
            if not bool((edges == 7.0).all()):
                raise FailedError(f"memory around {key} was written to")
    return "", f"guards of {GUARD} elements around p, g and states untouched"


def _guarded(values: Any) -> Tensor:
    guard = np.full(GUARD, 7.0)
    inner = np.asarray(values, dtype=np.float64)
    return torch.from_numpy(np.concatenate([guard, inner, guard]))


def _round_trip(judged: Judged) -> Answer:
    for variant in judged.variants():
        p = torch.from_numpy(numbers(0, 9)).requires_grad_()
        optimizer = judged.optimizer([p], variant)
        go(p, optimizer, range(1, 4))
        with optimizer.evaluated():  # as one saves a model; it does nothing for a rule that is read where it steps
            q, saved = p.detach().clone().requires_grad_(), copy.deepcopy(optimizer.state_dict())
        again = judged.optimizer([q], variant)
        again.load_state_dict(saved)
        again.train()
        go(p, optimizer, range(4, 7))
        go(q, again, range(4, 7))
        if not _same_bits(p, q):
            raise FailedError("a run that was saved and loaded goes on otherwise")
    return "", "saved and loaded in mid-run, it goes on to the same bits"


def _compilations(judged: Judged) -> Answer:
    """One kernel serves every learning rate, step and model."""
    p = torch.from_numpy(numbers(0, 9)).requires_grad_()
    optimizer = judged.optimizer([p], {})
    go(p, optimizer, range(1, 3))
    before = cache.count()
    for size in (9, 100, 1000):
        q = torch.from_numpy(numbers(0, size)).requires_grad_()
        optimizer = judged.optimizer([q], {})
        for t in range(1, 5):
            for group in optimizer.param_groups:
                if "lr" in group:
                    group["lr"] = 0.1 / t
            go(q, optimizer, range(t, t + 1))
    built = cache.count() - before
    # The first step of a slot that is absent at first is a kernel of its own.
    first_steps = sum(s.absent_at_first for s in judged.rule.slots)
    if built > first_steps:
        raise FailedError(f"{built} kernels were built again for other learning rates, steps or models")
    return "", "none for another learning rate, step or model"


_BATTERY: tuple[tuple[str, Callable[[Judged], Answer]], ...] = (
    ("contract", questions.contract),
    ("pure function", questions.pure),
    ("states", questions.states),
    ("forms agree", _forms),
    ("states start right", questions.starts),
    ("dtypes and shapes", _dtypes_and_shapes),
    ("zero gradients", questions.zero_gradients),
    ("huge and tiny gradients", questions.extreme_gradients),
    ("nan is honest", questions.honest_nan),
    ("determinism", _determinism),
    ("no write outside", _no_write_outside),
    ("state dict", _round_trip),
    ("compilations", _compilations),
    ("descent", questions.descent),
)
_FIRST = ("contract", "pure function")

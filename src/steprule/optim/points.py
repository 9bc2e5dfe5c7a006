"""The two points of a model: training's is kept in the states while the parameters hold that of evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from steprule.compiler import eager
from steprule.compiler.points import point_program
from steprule.compiler.split import Program
from steprule.compiler.variant import variant_of
from steprule.optim.backends import target_for
from steprule.optim.buckets import kernel_for
from steprule.optim.memory import overlapping, ranges_of
from steprule.optim.one_by_one import resolved
from steprule.optim.settings import Stepped, hypers_of
from steprule.optim.signature import DTYPES, is_dense, is_plain, lies_as, placed_alike, shard
from steprule.rules.points import KEPT, MODE


@dataclass(frozen=True)
class Stood:
    """A parameter that has stepped, with all that its point follows from."""

    by: Stepped
    """The optimizer as the class by whose rule it steps."""
    p: Tensor
    state: dict[str, Any]
    t: float
    """Its steps."""
    hypers: Mapping[str, Any]
    """Of its group, now."""


class PointLaunch(NamedTuple):
    """What the parameters of one launch have in common."""

    program: Program
    target: str
    device: torch.device
    dtypes: tuple[str, ...]
    """Of the program's columns."""


def is_at_evaluation(groups: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the parameters hold the point of evaluation."""
    return not all(group.get(MODE, True) for group in groups)


def to_evaluation(optimizer: Stepped) -> None:
    """Put the point of evaluation into each parameter that has stepped, and keep that of training in its state.

    Where it fails or is interrupted, each parameter holds what it held.
    """
    stood = _stood(optimizer)
    launches: dict[PointLaunch, list[Stood]] = {}
    computed: list[tuple[Tensor, Tensor]] = []
    shared = _sharing(stood)
    for k, own in enumerate(stood):
        # A point follows from what all tensors held before, so no kernel may write memory that another parameter reads.
        alike = None if k in shared else _launch_of(own)
        if alike is not None:
            launches.setdefault(alike, []).append(own)
        else:
            computed.append((own.p, eager_point(own)))
    try:
        for own in stood:
            own.state[KEPT] = own.p.detach().clone()
        for alike, members in launches.items():
            _launch(alike, members)
        for p, point in computed:
            p.copy_(point)
    except BaseException:
        _put_back(optimizer)
        raise
    _set_mode(optimizer, trains=False)


def to_training(optimizer: Stepped) -> None:
    """Put the point of training back, bit by bit, also into a parameter that was taken out of its group meanwhile."""
    _put_back(optimizer)
    _set_mode(optimizer, trains=True)


def _set_mode(optimizer: Stepped, *, trains: bool) -> None:
    for group in optimizer.param_groups:
        if optimizer.stepping(group).rule.evaluation is not None:
            group[MODE] = trains


def _put_back(optimizer: Stepped) -> None:
    for p, state in optimizer.state.items():
        if isinstance(state, dict) and KEPT in state:
            p.copy_(state[KEPT])
            del state[KEPT]


def eager_point(own: Stood) -> Any:
    """The point by the author's function: what every kernel of it is compared with."""
    rule = own.by.rule
    numbers = {s.name for s in rule.slots if s.is_number}
    held = {n: v for n, v in own.state.items() if isinstance(v, Tensor)}
    slots = {n: v.item() if n in numbers else resolved(v) for n, v in held.items() if n != KEPT}
    return eager.evaluated(rule, resolved(own.p.detach()), slots, own.t, own.hypers)


def _stood(optimizer: Stepped) -> list[Stood]:
    """The parameters that have stepped by a rule of two points, each once."""
    found: dict[Tensor, Stood] = {}
    for group in optimizer.param_groups:
        by = optimizer.stepping(group)
        if by.rule.evaluation is None:
            continue
        hypers = hypers_of(by.rule, by.as_rule(group), beyond=by._extras)
        for p in group["params"]:
            state = optimizer.state.get(p)
            if state and "step" in state and p not in found and float(state["step"]) > 0:
                found[p] = Stood(by, p, state, float(state["step"]), hypers)
    return list(found.values())


def _sharing(stood: Sequence[Stood]) -> set[int]:
    """Which of these share memory of a parameter with another, or within themselves."""
    names = list(dict.fromkeys(s.name for own in stood for s in own.by.rule.slots if not s.per_tensor))
    ranges = ranges_of([own.p for own in stood], [None] * len(stood), {own.p: own.state for own in stood}, names)
    written = np.arange(len(ranges.starts)) == 0  # the parameter alone
    return overlapping(ranges.starts, ranges.sizes, written)


def _launch_of(own: Stood) -> PointLaunch | None:
    """With which others a kernel may move a parameter; None where the author's function has to."""
    rule, p = own.by.rule, own.p
    variant, target = variant_of(rule, own.hypers, tuple(p.shape)), target_for(own.by.backend, p.device.type)
    if variant.shape is not None:
        return None  # a rule of matrices
    absent = {s.name for s in rule.slots if s.name in variant.slots and own.state.get(s.name) is None}
    program = point_program(variant, frozenset(absent))
    if target is None or program is None or (program.reductions and shard(p) is not p):
        return None
    local = shard(p)
    columns = _columns(own, program)
    for t in columns:
        if not (isinstance(t, Tensor) and placed_alike(t, p)):
            return None
        t = shard(t)
        if t.shape != local.shape or t.device != local.device or not (is_plain(t) and lies_as(t, local)):
            return None
    if not is_dense(local) or not local.numel():
        return None
    return PointLaunch(program, target, local.device, tuple(DTYPES[shard(t).dtype] for t in columns))


def _columns(own: Stood, program: Program) -> list[Any]:
    """What a kernel that moves it reads. The gradient has a column, as in every kernel, and is not read: the parameter stands there."""
    return [own.p, own.p, *(own.state[name] for name in program.columns[2:])]


def _launch(alike: PointLaunch, members: Sequence[Stood]) -> None:
    """Move some parameters in one launch."""
    program = alike.program
    kernel = kernel_for(program, alike.dtypes, alike.target)
    tensors = [list(map(shard, _columns(own, program))) for own in members]
    addresses = np.array([[t.data_ptr() for t in row] for row in tensors], dtype=np.int64).T.copy()
    known = [_known(own) for own in members]
    scalars = np.array([program.scalars(values)[0] for values in known], dtype=kernel.compute)
    table = scalars.reshape(len(members), len(program.roots)).T.copy()
    chunks = kernel.chunks([row[0].numel() for row in tensors], alike.device)
    given = [np.array([values[node.name or ""] for values in known]) for node in program.given]
    kernel.launch(addresses, chunks, table, np.arange(len(members), dtype=np.int32), given)
    torch.autograd.graph.increment_version([row[0] for row in tensors])


def _known(own: Stood) -> dict[str, Any]:
    """What the scalars of a point may depend on."""
    rule = own.by.rule
    numbers = {s.name: own.state[s.name] for s in rule.slots if s.is_number and own.state.get(s.name) is not None}
    return {**own.hypers, **{n: float(v) for n, v in numbers.items()}, "t": own.t}

"""What a step knows: norms of gradient, parameter and update, their cosine, how often `clip_norm` clips.

Kernels leave the inner products in the pass that steps. Of tensors beside them they are formed before and behind their step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.arithmetic.floats import Real
from steprule.compiler.printing import PRODUCTS
from steprule.compiler.target import Products
from steprule.errors import InputError
from steprule.optim import totals
from steprule.optim.beside import Beside
from steprule.optim.buckets import ALL, Bucket
from steprule.optim.computation import Computation
from steprule.optim.one_by_one import resolved
from steprule.optim.settings import DIAGNOSTICS, Settings, Stepped
from steprule.optim.sharding import Cut, cut_of, is_distributed
from steprule.optim.signature import has_own_operations, placed_alike, shard
from steprule.rules.parts import clip_by_norm, has

STEP, CLIPPED = "_diagnosed", "_clipped"
"""The attributes of an optimizer that hold what its last step left, and by group how many steps clipped, of how many."""
BY = (None, "group", "tensor")
ROW, SLAB = 16_384, 4_194_304
"""Elements that are added up by one thread, so that sums do not hang on the number of threads; and those that are in float64 at once."""
_ONE = np.zeros(1, np.int64)
Key = int | str | Tensor


@dataclass(frozen=True)
class Seen:
    """What a step has left of some of a plan's parameters."""

    places: Sequence[int]
    where: NDArray[np.intp] | slice
    """Which of the places they are."""
    products: Products


class Diagnosed(Protocol):
    """What this file asks of the plan for some groups."""

    where: tuple[int, ...]
    group_of: NDArray[np.intp]
    settings: list[Settings]
    computation: Computation
    buckets: list[Bucket]
    places: list[int]
    seen: list[Seen]

    def members_of(self, groups: Sequence[dict[str, Any]]) -> list[Tensor]:
        """The parameters of its groups."""


class Part:
    """The parameters of one plan, with what a step has left of them."""

    def __init__(self, plan: Diagnosed, groups: Sequence[dict[str, Any]]) -> None:
        self.members = tuple(plan.members_of(groups))
        self.groups = np.asarray(plan.where)[plan.group_of]
        """[members]: the group of each."""
        self._scale = plan.settings[0].scale or 1.0
        launched = [(bucket.where, bucket.chunks.products) for bucket in plan.buckets]
        self._seen = [*plan.seen, *(Seen(plan.places, where, own) for where, own in launched if own is not None)]

    @cached_property
    def stepped(self) -> NDArray[np.bool_]:
        """[members]: whether the step had numbers of each."""
        found = np.zeros(len(self.members), bool)
        for seen in self._seen:
            found[np.asarray(seen.places)[seen.where]] = True
        return found

    @cached_property
    def products(self) -> NDArray[np.float64]:
        """[PRODUCTS, members], with the scale of the loss taken off; 0 where there are none."""
        found = np.zeros((len(PRODUCTS), len(self.members)))
        for seen in self._seen:
            found[:, np.asarray(seen.places)[seen.where]] = seen.products.added()
        times = [a.count("gradient") for a in PRODUCTS]
        found /= np.array([[float(self._scale) ** k] for k in times])
        return found


def keep(optimizer: Stepped, plans: Sequence[Diagnosed]) -> None:
    """Keep what a step has left until the next one, and count whether it clipped."""
    own, groups = optimizer.__dict__, optimizer.param_groups
    diagnosed = [plan for plan in plans if plan.computation.diagnoses]
    if not diagnosed:
        own.pop(STEP, None)
        return
    parts = [Part(plan, groups) for plan in diagnosed]
    _add_up(parts)
    _count(own.setdefault(CLIPPED, {}), own.get(totals.NORM), diagnosed)
    own[STEP] = parts


def _add_up(parts: Sequence[Part]) -> None:
    """Add up the inner products of DTensors over the processes that have their shards: within the step, which all of them take.
    One `all_reduce` for all of them per dimension of a mesh."""
    cut: dict[Cut, list[tuple[Part, int]]] = {}
    for part in parts if is_distributed() else ():
        for m, p in enumerate(part.members):
            if type(p).__name__ == "DTensor" and (over := cut_of(p, None)) is not None:
                cut.setdefault(over, []).append((part, m))
    for over, own in cut.items():
        mine = np.stack([part.products[:, m] for part, m in own])
        for (part, m), found in zip(own, over.added(torch.from_numpy(mine)).tolist(), strict=True):
            part.products[:, m] = found


def _count(counts: dict[int | None, list[int]], norm: float | None, plans: Sequence[Diagnosed]) -> None:
    """Count a step by group, and under None by whether any group clipped."""
    bounds: dict[int | None, float] = {}
    for plan in plans:
        for k, settings in zip(plan.where, plan.settings, strict=True):
            if has(settings.rule, clip_by_norm) and (bound := settings.hypers["clip_norm"]):
                bounds[k] = bound
            else:
                counts.pop(k, None)
    if not bounds:
        counts.pop(None, None)
    if norm is None or not bounds:
        return
    shrinks = {bound: _clips(norm, bound) for bound in set(bounds.values())}
    clipped: dict[int | None, bool] = {k: shrinks[bound] for k, bound in bounds.items()}
    clipped[None] = any(clipped.values())
    for which, shrunk in clipped.items():
        count = counts.setdefault(which, [0, 0])
        count[0] += shrunk
        count[1] += 1


def _clips(norm: float, bound: float) -> bool:
    """Whether the part changes a gradient of this norm; one that is not finite it does."""
    gradient = Real(norm)  # whose square does not raise
    return bool(clip_by_norm(0.0, gradient, clip_norm=bound)[1] != gradient)


# What is asked for.


def figures(optimizer: Stepped, by: object) -> dict[Any, Any]:
    """As `RuleOptimizer.diagnostics` says."""
    where = f"{type(optimizer).__name__}.diagnostics"
    if not any(by is one or (isinstance(by, str) and by == one) for one in BY):
        raise InputError(f"{where}: by", expected=" or ".join(map(repr, BY)), got=repr(by))
    if not any(group.get(DIAGNOSTICS) for group in optimizer.param_groups):
        hint = "Say it to the constructor or in a group, before a step."
        raise InputError(where, expected=f"{DIAGNOSTICS}=True", got="steps that are not diagnosed", hint=hint)
    parts: Sequence[Part] = optimizer.__dict__.get(STEP, ())
    if by == "tensor":
        return _by_tensor(optimizer, parts)
    counts = optimizer.__dict__.get(CLIPPED, {})
    if by == "group":
        present = sorted({int(k) for part in parts for k in part.groups[part.stepped]})
        return {
            k: _together([(part, part.stepped & (part.groups == k)) for part in parts], counts.get(k)) for k in present
        }
    chosen = [(part, part.stepped) for part in parts]
    return _together(chosen, counts.get(None)) if any(own.any() for _, own in chosen) else {}


def _by_tensor(optimizer: Stepped, parts: Sequence[Part]) -> dict[Key, dict[str, float]]:
    found = {}
    for part in parts:
        for m in np.flatnonzero(part.stepped):
            found[id(part.members[m])] = _said(part.products[:, m])
    known = [
        (name, p)
        for group in optimizer.param_groups
        for name, p in zip(group.get("param_names") or group["params"], group["params"], strict=True)
    ]
    often = Counter(name for name, _ in known if isinstance(name, str))
    return {p if often[name] > 1 else name: found[id(p)] for name, p in known if id(p) in found}


def _together(chosen: Sequence[tuple[Part, NDArray[np.bool_]]], count: Sequence[int] | None) -> dict[str, float]:
    """Of several tensors as if they were one."""
    found = _said(sum((part.products[:, own].sum(axis=1) for part, own in chosen), np.zeros(len(PRODUCTS))))
    return found | ({"clipped": count[0] / count[1]} if count else {})


def _said(products: NDArray[np.float64]) -> dict[str, float]:
    """The numbers that follow from inner products [PRODUCTS]."""
    with np.errstate(all="ignore"):
        *squares, along = products
        gradient, weight, update = np.sqrt(squares)
        cosine = np.clip(along / update / gradient, -1.0, 1.0)  # rounding goes beyond by an ulp
        numbers = {"grad_norm": gradient, "weight_norm": weight, "update_norm": update}
        return {n: float(x) for n, x in (numbers | {"update_ratio": update / weight, "cosine": cosine}).items()}


# Tensors beside the kernels.


@contextmanager
def watching(beside: Beside, members: Sequence[Tensor], seen: list[Seen]) -> Iterator[None]:
    """A block in which parameters are stepped one by one; where that is diagnosed, what it leaves of each is `seen` behind it."""
    seen.clear()
    if not beside.computation.diagnoses:
        yield
        return
    with torch.no_grad():
        there = [m for m in beside.places if _has_numbers(members[m])]
        before = {m: members[m].detach().clone() for m in there}
        grads = {m: members[m].grad for m in there}
        grads |= {m: grads[m].detach().clone() for m in there if m in beside.together}  # type: ignore[union-attr]
    yield
    with torch.no_grad():
        for m in there:
            found = products_of(before.pop(m), members[m].detach(), grads[m])
            seen.append(Seen((m,), ALL, Products(found[:, None], _ONE, 1)))


def _has_numbers(p: Tensor) -> bool:
    """Whether its elements are plain numbers; those of a fake tensor, say, are not."""
    return not (p.is_meta or (has_own_operations(p) and type(p).__name__ != "DTensor"))


def products_of(before: Tensor, after: Tensor, gradient: Any) -> Tensor:
    """The inner products [PRODUCTS] of one step, on its tensors' device: of a parameter before and after it, and its gradient, which
    may be sparse. Of a DTensor those of the shards that lie here; of complex numbers those of the parts."""
    if gradient.layout is torch.sparse_coo:
        gradient = gradient.coalesce()
        at = tuple(gradient.indices())
        found = _inner(before, after, torch.zeros((), dtype=before.dtype, device=before.device).expand_as(before))
        touched = _inner(before[at], after[at], gradient.values())
        return torch.stack([touched[0], found[1], found[2], touched[3]])
    if gradient.layout is not torch.strided:
        gradient = gradient.to_dense()
    if not placed_alike(gradient, after) and type(gradient).__name__ == type(after).__name__ == "DTensor":
        gradient = gradient.redistribute(after.device_mesh, after.placements)  # type: ignore[attr-defined]
    return _inner(before, after, gradient)


def _inner(before: Tensor, after: Tensor, gradient: Tensor) -> Tensor:
    before, after, gradient = map(_flat, (before, after, gradient))
    total = torch.zeros(len(PRODUCTS), dtype=_wide(after), device=after.device)
    for start in range(0, len(after), SLAB):
        end = start + SLAB
        weight, stepped, g = (t[start:end].to(total.dtype) for t in (before, after, gradient))
        known = {"weight": weight, "update": stepped - weight, "gradient": g}
        total += torch.stack([_added(known[a] * known[b]) for a, b in PRODUCTS])
    return total


def _flat(t: Tensor) -> Tensor:
    t = resolved(shard(t.detach()))
    return (torch.view_as_real(t) if t.is_complex() else t).reshape(-1)


def _wide(t: Tensor) -> torch.dtype:
    return torch.float32 if t.device.type == "mps" else torch.float64  # which has no float64


def _added(numbers: Tensor) -> Tensor:
    """Their sum, row by row."""
    whole = len(numbers) // ROW * ROW
    return numbers[:whole].view(-1, ROW).sum(1).sum() + numbers[whole:].sum()

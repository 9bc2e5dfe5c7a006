"""What one step of some parameter groups needs, prepared once and looked at in each step.

Groups that differ in numbers only, as learning rates by layer, step together: one look, one launch. A plan holds numbers, never a
tensor, a group or the optimizer: those come with each call. It is made anew when anything that its kernels rely on differs, when
the set of gradients changed, or a switch of the rule was thrown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steprule.compiler import eager
from steprule.compiler.variant import variant
from steprule.optim import one_by_one
from steprule.optim.backends import target_for
from steprule.optim.buckets import Bucket
from steprule.optim.scan import look_for
from steprule.optim.settings import Settings
from steprule.optim.signature import (
    CHANGED,
    DTYPES,
    MOVED,
    PLAIN,
    SAME,
    Look,
    Subjects,
    has_own_operations,
    is_dense,
    is_number,
    is_plain,
    is_within,
    lies_as,
    overlapping,
    placed_alike,
    shard,
    span_of,
)
from steprule.optim.states import as_numbers, begin, check_whole, lay_as
from steprule.rules.parts import clip_by_norm, has

if TYPE_CHECKING:
    from steprule.optim.optimizer import RuleOptimizer


Groups = Sequence[dict[str, Any]]
"""An optimizer's `param_groups`."""


def plans_for(
    optimizer: RuleOptimizer, where: Iterable[int], scale: float | None, *, apart: bool = False
) -> Iterator[GroupPlan]:
    """Plans for the groups at `where`, those that may step together in one, unless they are to be kept `apart`."""
    together: dict[Any, list[tuple[int, Settings]]] = {}
    for k in where:
        group = optimizer.param_groups[k]
        settings = Settings(optimizer.rule, group, scale, optimizer._extras)
        key = k if apart else (settings.switches, settings.zeroes, settings.special, bool(_beyond(optimizer, group)))
        together.setdefault(key, []).append((k, settings))
    for members in together.values():
        yield GroupPlan(optimizer, tuple(k for k, _ in members), [settings for _, settings in members])


class GroupPlan:
    """The buckets of groups that step together, the look at their tensors, and the parameters that are stepped one by one."""

    def __init__(self, optimizer: RuleOptimizer, where: tuple[int, ...], settings: list[Settings]) -> None:
        self.rule, self.backend = optimizer.rule, optimizer.backend
        self.where = where
        """Where its groups stand among the optimizer's."""
        self.settings = settings
        """Of each of them; they differ in numbers only."""
        one = settings[0]
        self.switches, self.zeroes, self.special = one.switches, one.zeroes, one.special
        self.clips = has(self.rule, clip_by_norm) and bool(one.hypers["clip_norm"])
        self.variant = variant(self.rule, self.switches)
        self.used = used = self.variant.slots
        self.starts = ["step"] if optimizer.counts_steps else []
        self.starts += [s.name for s in self.rule.slots if s.per_tensor and s.name in used]
        self.counts_steps = optimizer.counts_steps
        groups = [optimizer.param_groups[k] for k in where]
        self._has_class = one_by_one.torchs_class(type(optimizer)) is not None
        self._by_torch = self._may_use_torch(optimizer, groups[0])
        # A gradient that another plan reads too is zeroed when all have read it.
        self.zeroes_late = self.zeroes and _shares_gradients(optimizer, where)
        self.program = self.variant.program(zero_grad=self.zeroes and not self.zeroes_late)
        self.slots = [s for s in self.rule.slots if not s.per_tensor and s.name in self.program.columns]
        known = [n for n in self.starts if n not in self.program.numbers and (n != "step" or self.rule.takes_t)]
        self.needed = {n: "t" if n == "step" else n for n in known}
        """What the scalars depend on, of each tensor: the states' names, and the names in the rule."""
        self.counts = _counts(groups)
        self.group_of = np.repeat(np.arange(len(groups)), self.counts)
        """[members]: the group of each, among those of this plan."""

        members = self.members_of(optimizer.param_groups)
        self.others: list[int] = []
        """Where parameters with a gradient stand that no kernel may touch, or that share memory with another."""
        self.strange: list[int] = []
        """Where parameters without a gradient stand whose type only Python can ask."""
        resting: list[int] = []
        forms: dict[int, str] = {}
        grads = [p.grad for p in members]  # read once: another thread may drop one
        for m, (p, g) in enumerate(zip(members, grads, strict=True)):
            if g is None:
                (resting if type(p) in PLAIN else self.strange).append(m)
            elif (form := self._form(optimizer, p, g)) is not None:
                forms[m] = form
            else:
                self.others.append(m)
        together = self._sharing(optimizer, members, grads, [*forms, *self.others])
        places = [m for m in forms if m not in together]
        self.others = sorted({*self.others, *together})
        if self.others:
            self._refuse(optimizer, groups[0], [members[m] for m in self.others])

        self.buckets: list[Bucket] = []
        self.look: Look | None = None
        self.moved = True
        """Whether memory may lie otherwise, beside other plans', than in the step before."""
        self.pending: list[tuple[dict[str, Any], str, Tensor | None]] = []
        """Slots that are absent: what the rule fills at this use becomes a state when it has; what stays absent is None."""
        self.once = not places
        """Whether the next step needs another plan."""
        self.groups: NDArray[np.intp] | None = None
        """[places]: the group of each parameter that kernels step; None where there is but one."""
        if places:
            if len(where) > 1:
                self.groups = self.group_of[places]
            try:
                self._plan(optimizer, members, grads, places, resting, [forms[m] for m in places])
            except BaseException:
                self.release()
                raise
        self.on_gpu = any(members[m].is_cuda for m in places)

    def members_of(self, groups: Groups) -> list[Tensor]:
        """The parameters of its groups, one group after the other."""
        if len(self.where) == 1:
            return groups[self.where[0]]["params"]  # type: ignore[no-any-return]
        return [p for k in self.where for p in groups[k]["params"]]

    def _plan(
        self, optimizer: RuleOptimizer, members: list[Tensor], all_grads: list[Tensor | None],
        places: list[int], resting: list[int], forms: list[str],
    ) -> None:  # fmt: skip
        params = [members[m] for m in places]
        grads: list[Any] = [all_grads[m] for m in places]
        names = [s.name for s in self.slots]
        absent_of: list[frozenset[str]] = []
        slots: list[list[Tensor]] = [[] for _ in self.slots]
        numbers: list[list[Tensor]] = [[] for _ in self.starts]
        for p, m in zip(params, places, strict=True):
            hypers = self.settings[self.group_of[m]].hypers
            state = optimizer.state[p] if names or self.starts else {}
            as_numbers(state, self._starts(hypers), p, as_torch=self._has_class)
            for column, name in zip(numbers, self.starts, strict=True):
                column.append(state[name])
            absent = frozenset(s.name for s in self.slots if s.absent_at_first and state.get(s.name) is None)
            absent_of.append(absent)
            for column, slot in zip(slots, self.slots, strict=True):
                held = state.get(slot.name)
                if held is None:
                    held = begin(slot, p, hypers, absent=slot.name in absent)
                    if slot.name in absent:
                        fills = self.variant.graph(absent).outputs[slot.name] is not None
                        self.pending.append((state, slot.name, held if fills else None))
                    else:
                        state[slot.name] = held
                column.append(held)
        subjects = Subjects(
            members=members,
            places=places,
            resting=resting,
            states=optimizer.state,
            columns=[params, grads, *slots, *numbers],
            names=(*names, *self.starts),
            numbers=len(self.starts),
            writes_g=bool(self.program.stores.get("g") == 0.0 and "g" in self.program.stores),
        )
        self.look = look_for(subjects)
        self.rows = {name: row for row, name in enumerate(self.starts)}
        self.written = np.array([c != 1 or subjects.writes_g for c in range(len(subjects.columns))])
        self.once = bool(self.pending)
        self.places = places
        groups: dict[Any, list[int]] = {}
        for k, (p, g) in enumerate(zip(params, grads, strict=True)):
            dtypes = (shard(p).dtype, shard(g).dtype, *(shard(column[k]).dtype for column in slots))
            key = forms[k], p.device, dtypes, absent_of[k]
            groups.setdefault(key, []).append(k)
        for (form, device, dtypes, absent), ks in groups.items():
            program = self.variant.program(absent, zero_grad=subjects.writes_g)
            own = [shard(params[k]) for k in ks]
            looked_at = dict(zip(("p", "g", *names), dtypes, strict=True))
            self.buckets.append(
                Bucket.of(
                    program, form, self.switches, tuple(DTYPES[looked_at[n]] for n in program.columns),
                    [p.numel() for p in own], device, None if len(groups) == 1 else np.array(ks),
                    [i for i, k in enumerate(ks) if not lies_as(shard(grads[k]), own[i])], list(looked_at),
                )
            )  # fmt: skip
        for bucket in self.buckets:
            self._take(bucket, params, grads)

    def _starts(self, hypers: Mapping[str, Any]) -> dict[str, float]:
        """What the states of one number begin with."""
        slots = {s.name: s for s in self.rule.slots}
        return {n: 0.0 if n == "step" else eager.start_number(slots[n], hypers) for n in self.starts}

    def still(self, groups: Groups, scale: float | None) -> bool:
        """Whether its groups may step together as before; their settings are then this step's."""
        if len(self.where) == 1:
            return self.settings[0].still(groups[self.where[0]], scale)
        for k, settings in zip(self.where, self.settings, strict=True):
            if not settings.still(groups[k], scale):
                return False
        return _counts([groups[k] for k in self.where]) == self.counts

    def prepare(self, optimizer: RuleOptimizer, groups: Groups) -> bool:
        """Whether all that its kernels rely on holds; its addresses are then this step's. Nothing is written."""
        if self.once or self.backend is not optimizer.backend:
            return False
        members, look = self.members_of(groups), self.look
        assert look is not None
        found = look.look(members, optimizer.state)
        self.moved = found != SAME or bool(self.others)
        if found == CHANGED or (found == MOVED and overlapping(look.addresses, look.lengths, self.written)):
            return False
        if self.zeroes and _shares_gradients(optimizer, self.where) != self.zeroes_late:
            return False
        if self.strange and any([members[m].grad is not None for m in self.strange]):
            return False
        for m in self.others:
            grad = members[m].grad
            # One that a kernel can step now, as where a gradient was lazy only once, comes back into a bucket.
            if grad is None or (m not in self._together and self._form(optimizer, members[m], grad) is not None):
                return False
        if self.others and self._reached(optimizer, [members[m] for m in self.others], look):
            return False
        for bucket in self.buckets:
            params = [members[m] for m in self.places] if bucket.laid_otherwise else []
            grads = [p.grad for p in params]
            if any([g is None for g in grads]):
                return False
            self._take(bucket, params, grads)
        return True

    def _take(self, bucket: Bucket, params: Sequence[Tensor], grads: Sequence[Any]) -> None:
        assert self.look is not None
        bucket.take(self.look.addresses)
        if bucket.laid_otherwise:
            own = range(len(params)) if bucket.places is None else bucket.places
            with torch.no_grad():
                bucket.copy_gradients([shard(params[k]) for k in own], [shard(grads[k]) for k in own])

    def squares(self, groups: Groups) -> list[Any]:
        """The sums of the squares of the gradients, one for each bucket and for each parameter beside them."""
        hypers = [settings.hypers for settings in self.settings]
        found = [bucket.square(hypers, self._rows(bucket, self.groups)) for bucket in self.buckets]
        members = self.members_of(groups) if self.others else []
        with torch.no_grad():
            found += [one_by_one.square_of(self.rule, members[m], hypers[self.group_of[m]]) for m in self.others]
        return found

    @staticmethod
    def _rows(bucket: Bucket, values: Any) -> Any:
        """Those of a bucket's tensors, out of those of all that are looked at."""
        return values if values is None or bucket.places is None else values[bucket.places]

    def tabulate(self) -> None:
        """Fill the tables of scalars: all that may raise comes before anything is written."""
        if self.look is None:
            return
        values = self.look.values
        if "step" in self.rows:
            values[self.rows["step"]] += 1
        hypers = [settings.hypers for settings in self.settings]
        for bucket in self.buckets:
            rows = {to: self._rows(bucket, values[self.rows[n]]) for n, to in self.needed.items()}
            new = bucket.tabulate(hypers, self._rows(bucket, self.groups), rows)
            for name, value in new.items():
                values[self.rows[name], slice(None) if bucket.places is None else bucket.places] = value

    def launch(self, optimizer: RuleOptimizer, groups: Groups, norm: Any) -> None:
        """Update what kernels step, after `tabulate`; `norm` is that of all gradients, where a group clips by it."""
        if self.look is None:
            return
        if self.on_gpu:  # as torch's own step: a captured one would repeat this step's scalars for ever
            optimizer._cuda_graph_capture_health_check()
        for bucket in self.buckets:
            values, mine = self.look.values, slice(None) if bucket.places is None else bucket.places
            found = bucket.launch(
                {"grad_norm": norm, **{n: values[self.rows[n], mine] for n in bucket.program.numbers}}
            )
            for name, value in found.items():
                values[self.rows[name], mine] = value
            if self.zeroes and bucket.laid_otherwise and not self.zeroes_late:
                members = self.members_of(groups)
                own = range(len(self.places)) if bucket.places is None else bucket.places
                self._zero(members[self.places[k]] for k in own)
        self.look.finish()
        for state, name, slot in self.pending:
            if slot is not None:
                state[name] = slot
        self.pending = []

    def release(self) -> None:
        """Let go what was kept alive since the look."""
        if self.look is not None:
            self.look.release()

    def zero(self, groups: Groups) -> None:
        """Zero the gradients that no kernel has zeroed: of parameters beside them, and those that another plan has read."""
        if self.zeroes and (self.others or self.zeroes_late):
            members = self.members_of(groups)
            self._zero(members if self.zeroes_late else [members[m] for m in self.others])

    def step_others(self, optimizer: RuleOptimizer, groups: Groups, norm: Any) -> None:
        """Step the parameters that no kernel may touch; `norm` as for `launch`."""
        if not self.others:
            return
        members = self.members_of(groups)
        for j, k in enumerate(self.where):
            if params := [members[m] for m in self.others if self.group_of[m] == j]:
                self._step_one_by_one(optimizer, groups[k], self.settings[j].hypers, params, norm)

    def _step_one_by_one(
        self,
        optimizer: RuleOptimizer,
        group: dict[str, Any],
        hypers: Mapping[str, Any],
        params: list[Tensor],
        norm: Any,
    ) -> None:
        if self._by_torch:
            with one_by_one.unscaled(params, self.settings[0].scale):
                one_by_one.step_by_torch(optimizer, group, params)
            return
        hypers = {**hypers, **({"grad_norm": float(norm)} if self.clips else {})}
        with torch.no_grad():
            for p in params:
                one_by_one.step_by_rule(self.rule, optimizer, self.used, self.counts_steps, p, hypers)

    @staticmethod
    def _zero(params: Any) -> None:
        with torch.no_grad():
            for p in params:
                if (g := p.grad) is not None and not g._is_zerotensor():
                    g.zero_()

    # Which parameters a kernel steps.

    def _form(self, optimizer: RuleOptimizer, p: Tensor, g: Tensor) -> str | None:
        """The form of the kernel that may step this parameter, or None."""
        if self.special:
            return None
        form = target_for(self.backend, p.device.type)
        reduces = self.variant.reduces or bool(self.program.given)
        if form is None or (reduces and shard(p) is not p) or not placed_alike(g, p):
            return None
        whole, p, g = p, shard(p), shard(g)
        if not (
            is_plain(p)
            and is_plain(g, read=not self.zeroes)
            and g.shape == p.shape
            and g.device == p.device
            and is_dense(p)
        ):
            return None
        state = optimizer.state.get(whole) if self.slots or self.starts else None
        begins = [s for s in self.slots if s.absent_at_first and not (state and state.get(s.name) is not None)]
        if begins and g.dtype != p.dtype and self._by_torch:
            return None  # the state that begins now has the gradient's dtype in torch
        if not state:
            return form
        owned = [*self.starts, *(s.name for s in self.rule.slots)]
        check_whole(state, owned, self._always())
        for slot in self.slots:
            held = state.get(slot.name)
            if held is None:
                continue
            if not isinstance(held, Tensor) or not placed_alike(held, whole):
                return None
            held = shard(held)
            if not (is_plain(held) and held.shape == p.shape and held.device == p.device and lay_as(held, p)):
                return None
        if any(n in state and state[n] is None for n in self.starts):
            return None
        held_numbers = [t for n in self.starts if isinstance(t := state.get(n), Tensor)]
        return form if all(map(is_number, held_numbers)) else None

    def _always(self) -> list[str]:
        """The keys that torch's class wants in a state that has begun; a rule of one's own begins what is missing."""
        if not self._has_class:
            return []
        off = tuple((n, False if isinstance(v, bool) else v) for n, v in self.switches)
        slots = [s.name for s in self.rule.slots if not s.absent_at_first and s.name in variant(self.rule, off).slots]
        return [*(["step"] if self.counts_steps else []), *slots]

    def _sharing(
        self, optimizer: RuleOptimizer, members: list[Tensor], grads: list[Tensor | None], places: list[int]
    ) -> set[int]:
        """Where parameters stand that share memory which the step writes."""
        if not places:
            self._together: set[int] = set()
            return self._together
        ranges = self._ranges(optimizer, [members[m] for m in places], [grads[m] for m in places])
        written = np.array([c != 1 or self.zeroes for c in range(ranges.shape[1])])
        found = overlapping(ranges[:, :, 0].T.copy(), ranges[:, :, 1].T.copy(), written)
        self._together = {places[k] for k in found}
        # One that is listed twice may have no memory, nor states yet.
        own = [id(members[m]) for m in places]
        self._together |= {m for m in places if own.count(id(members[m])) > 1} if len(set(own)) < len(own) else set()
        return self._together

    def _ranges(self, optimizer: RuleOptimizer, params: list[Tensor], grads: list[Tensor | None]) -> Any:
        """Addresses and bytes [tensors, columns, 2]: of p, g, the slots and the states of one number."""
        names = [*(s.name for s in self.slots), *self.starts]
        rows = []
        for p, g in zip(params, grads, strict=True):
            state = optimizer.state.get(p, {}) if names else {}
            rows.append([_range(t) for t in (p, g, *(state.get(name) for name in names))])
        return np.array(rows, dtype=np.int64)

    def ranges(self, optimizer: RuleOptimizer, groups: Groups) -> tuple[Any, Any, Any]:
        """Where all that it steps lies: addresses, bytes, and whether it writes there; each [ranges]."""
        members = self.members_of(groups)
        others = [members[m] for m in self.others]
        beside = self._ranges(optimizer, others, [p.grad for p in others]).reshape(-1, 2)
        columns = 2 + len(self.slots) + len(self.starts)
        found = [(beside[:, 0], beside[:, 1], np.arange(len(beside)) % columns != 1)]
        if self.look is not None:
            addresses, lengths = self.look.addresses, self.look.lengths
            found.append((addresses.ravel(), lengths.ravel(), np.repeat(self.written, addresses.shape[1])))
        starts, sizes, written = (np.concatenate(part) for part in zip(*found, strict=True))
        return starts, sizes, written | self.zeroes

    def _reached(self, optimizer: RuleOptimizer, params: list[Tensor], look: Look) -> bool:
        """Whether a tensor that is stepped beside the kernels shares memory with one of theirs now."""
        ranges = self._ranges(optimizer, params, [p.grad for p in params])
        addresses, lengths = (
            np.concatenate([own, ranges[:, :, k].T], axis=1) for k, own in enumerate((look.addresses, look.lengths))
        )
        return any(k < len(self.places) for k in overlapping(addresses, lengths, self.written))

    def _may_use_torch(self, optimizer: RuleOptimizer, group: Mapping[str, Any]) -> bool:
        if self.backend == "eager" and not self.special:
            return False
        return one_by_one.torchs_class(type(optimizer)) is not None and not _beyond(optimizer, group)

    def _refuse(self, optimizer: RuleOptimizer, group: Mapping[str, Any], params: list[Tensor]) -> None:
        """Raise for what only torch's own step could do, where it cannot; and for memory that is not there."""
        for p in params:
            for t in (p, p.grad, *_tensors_of(optimizer.state.get(p))):
                if type(t) in PLAIN and t.layout is torch.strided and not is_within(t):
                    raise RuntimeError(
                        f"{type(optimizer).__name__}: a tensor of {span_of(t) * t.element_size()} bytes in a storage of "
                        f"{t.untyped_storage().nbytes()}: its memory was given away"
                    )
        sparse = any(p.grad is not None and p.grad.layout is not torch.strided for p in params)
        if (sparse or self.special) and not self._by_torch:
            base = one_by_one.torchs_class(type(optimizer))
            one_by_one.refuse_options(type(optimizer).__name__, base, _beyond(optimizer, group))


def _counts(groups: Groups) -> list[int]:
    return [len(group["params"]) for group in groups]


def _beyond(optimizer: RuleOptimizer, group: Mapping[str, Any]) -> list[str]:
    """What is on that torch's own step has no part for."""
    return [n for n in optimizer._extras if n != "zero_grad" and group.get(n)]


def _tensors_of(state: Any) -> list[Any]:
    return [t for t in state.values() if isinstance(t, Tensor)] if isinstance(state, Mapping) else []


def _range(t: Any) -> tuple[int, int]:
    """Address and bytes of what a tensor occupies; nothing where it has no memory of its own to compare."""
    if not isinstance(t, Tensor):
        return 0, 0
    t = shard(t)
    if has_own_operations(t):
        return 0, 0
    with torch._C.DisableTorchFunctionSubclass():  # any other subclass's memory is an ordinary tensor's
        if t.layout is not torch.strided or t._is_zerotensor():
            return 0, 0
        try:
            address = t.data_ptr() if is_within(t) else 0
        except RuntimeError:  # a tensor without memory, as a fake one
            return 0, 0
        return (address, span_of(t) * t.element_size()) if address else (0, 0)


def _shares_gradients(optimizer: RuleOptimizer, where: tuple[int, ...]) -> bool:
    """Whether gradients of an optimizer with more groups than these lie in one another's memory, wherever those are."""
    groups = optimizer.param_groups
    if len(groups) == len(where):
        return False
    grads = [shard(grad) for group in groups for p in group["params"] if (grad := p.grad) is not None]
    found = [_range(g if g.layout is torch.strided else g._values()) for g in grads if not _is_compressed(g)]
    starts, sizes = np.array(found, dtype=np.int64).reshape(-1, 2).T
    return bool(overlapping(starts[None], sizes[None], np.ones(1, dtype=bool)))


def _is_compressed(g: Tensor) -> bool:
    """Whether a gradient has neither memory of its own shape nor values in one row."""
    return g.layout not in (torch.strided, torch.sparse_coo)

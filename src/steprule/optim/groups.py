"""One step of an optimizer's groups: planned once, then look, fill the tables, launch.

Groups that differ in numbers only, as learning rates by layer, step together: one look, one launch. A plan holds numbers, never a
tensor, a group or the optimizer: those come with each call. It is made anew when anything that its kernels rely on differs, when
the set of gradients changed, or a switch of the rule was thrown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steprule.optim import diagnostics, live, nonfinite, one_by_one, precision, totals
from steprule.optim.beside import Beside
from steprule.optim.buckets import Bucket, buckets_for, copy_gradients
from steprule.optim.choices import Chosen, choices, counts
from steprule.optim.computation import Computation, shares_gradients
from steprule.optim.memory import Ranges, Reach, meeting, overlapping, reach_of
from steprule.optim.scan import look_for
from steprule.optim.settings import PASS, Settings, Stepped, beyond_torch
from steprule.optim.signature import CHANGED, MOVED, SAME, Look, Subjects
from steprule.optim.states import keep_counts

Groups = Sequence[dict[str, Any]]
"""An optimizer's `param_groups`."""


def step(optimizer: Stepped, scale: float | None) -> None:
    """One step of all groups. `scale` is what the loss was multiplied with, where the step divides by it.

    What may raise comes before any kernel: then each parameter is whole, stepped or not.
    """
    own, groups = optimizer.__dict__, optimizer.param_groups
    live.check_capture(optimizer)
    # Taken out while the step runs: another thread that steps this optimizer makes plans of its own.
    plans, tied = own.pop("_plans", ()), own.get("_are_tied", False)
    own.pop(totals.NORM, None)
    own.pop(nonfinite.BEFORE, None)
    ready: list[GroupPlan] = []
    try:
        _look(optimizer, ready, plans, scale)
        if len(ready) == 1:
            tied = False
        elif any([plan.moved for plan in ready]):
            tied = _are_tied(optimizer, ready)
        if tied:
            _keep_in_order(optimizer, ready, scale)
        known: totals.Known = totals.known_to(optimizer, ready) if any([plan.has_phases for plan in ready]) else {}
        if optimizer.nonfinite != PASS:
            nonfinite.check(optimizer, ready, known, tied)
        if tied:
            for k in range(len(ready)):
                if k:  # what a group before it wrote is this one's too
                    _look_again(optimizer, ready, k, scale)
                _step_all(optimizer, ready[k : k + 1], groups, known)
        else:
            _step_all(optimizer, ready, groups, known)
        if known:
            totals.keep(optimizer, ready, known)
        if len(ready) != 1 or ready[0].computation.diagnoses or diagnostics.STEP in own:
            diagnostics.keep(optimizer, ready)
        for plan in ready:
            if plan.zeroes:
                plan.zero(groups)
    finally:
        for plan in ready:
            plan.release()
    own["_plans"], own["_are_tied"] = ready, tied


def _step_all(optimizer: Stepped, plans: Sequence[GroupPlan], groups: Groups, known: totals.Known) -> None:
    """Step these, where `known` are the totals and the numbers of the model, by team."""
    for plan in plans:
        plan.tabulate(optimizer, groups, known.get(plan.team, {}))
    if known:
        totals.check(plans)
    for plan in plans:
        if plan.others:
            plan.step_others(optimizer, groups, known.get(plan.team, {}))
    for plan in plans:
        plan.launch(optimizer, groups)


class GroupPlan:
    """The buckets of groups that step together, the look at their tensors, and the parameters that are stepped one by one."""

    def __init__(
        self, optimizer: Stepped, where: tuple[int, ...], settings: list[Settings], chosen: Chosen | None = None
    ) -> None:
        groups = [optimizer.param_groups[k] for k in where]
        # Where its groups stand among the optimizer's, and the settings of each; they differ in numbers only.
        self.where, self.settings, self.chosen = where, settings, chosen
        self.team, by = optimizer.team_of(groups[0]), self.by(optimizer)
        self.computation = computation = Computation(by, where, settings[0], chosen.shape if chosen else None)
        self.has_phases, self.zeroes = computation.has_phases, computation.zeroes
        self.new_numbers: dict[str, list[float]] = {}
        """The new values of numbers of the model, as its tensors give them."""
        self.seen: list[diagnostics.Seen] = []
        """What a step that is diagnosed has left of those that are stepped one by one."""
        self.counts = counts(groups)
        self.group_of = np.repeat(np.arange(len(groups)), [len(own) for own in chosen.of] if chosen else self.counts)
        """[members]: the group of each, among those of this plan."""
        members = self.members_of(optimizer.param_groups)
        grads = [p.grad for p in members]  # read once: another thread may drop one
        self.parted = computation.part(optimizer.state, members, grads)
        self.others, self.places = self.parted.others, self.parted.places
        self.beside = Beside(computation, self.others, self.parted.together, settings, self.group_of)
        computation.refuse_parts(type(by).__name__, members)
        if self.others:
            computation.refuse(type(by).__name__, optimizer.state, [members[m] for m in self.others])
        if computation.of_model:
            stepped = (p for p, g in zip(members, grads, strict=True) if g is not None)
            totals.share(optimizer, self, stepped)
        self.buckets: list[Bucket] = []
        self.look: Look | None = None
        self.live: live.LiveNumbers | None = None  # where a CUDA graph may record its steps
        self.moved = True  # whether memory may lie otherwise, beside other plans', than in the step before
        self.pending: list[tuple[dict[str, Any], str, Tensor]] = []
        """Slots that are absent: what the rule fills at this use becomes a state when it has."""
        self.once = not self.places
        """Whether the next step needs another plan."""
        self.groups = self.group_of[self.places] if len(where) > 1 else None
        """[places]: the group of each parameter that kernels step; None where there is but one."""
        self.rows = {name: row for row, name in enumerate(computation.starts)}
        """Where each state of one number stands in the look's `values`."""
        if self.places:
            try:
                self._begin(optimizer, members, grads)
            except BaseException:
                self.release()
                raise

    def _begin(self, optimizer: Stepped, members: list[Tensor], all_grads: Sequence[Tensor | None]) -> None:
        """Begin the states that are missing, look at all that kernels step, and make the buckets."""
        computation, places = self.computation, self.places
        params: list[Tensor] = [members[m] for m in places]
        grads: list[Any] = [all_grads[m] for m in places]
        begun = []
        for p, m in zip(params, places, strict=True):
            state = optimizer.state[p] if computation.names else {}
            begun.append(computation.begin(p, state, self.settings[self.group_of[m]].hypers))
            self.pending += begun[-1].pending
        self.once = any(own.absent for own in begun)
        slots = [[own.slots[k] for own in begun] for k in range(len(computation.slots))]
        numbers = [[own.numbers[k] for own in begun] for k in range(len(computation.starts))]
        subjects = Subjects(
            members=members,
            places=places,
            resting=self.parted.resting,
            states=optimizer.state,
            columns=[params, grads, *slots, *numbers],
            names=computation.names,
            numbers=len(numbers),
            writes_g=computation.writes_g,
        )
        self.look = look_for(subjects)
        self.written = np.array([c != 1 or computation.writes_g for c in range(len(subjects.columns))])
        """[columns]: which the step writes."""
        self.buckets = buckets_for(
            computation, [params, grads, *slots], begun, self.parted.targets, looked_at=self.look.addresses
        )
        self.live = live.begun(self, optimizer.state, params)

    def members_of(self, groups: Groups) -> list[Tensor]:
        """The parameters of its groups, one group after the other."""
        if self.chosen is not None:
            return [groups[k]["params"][i] for k, own in zip(self.where, self.chosen.of, strict=True) for i in own]
        if len(self.where) == 1:
            return groups[self.where[0]]["params"]  # type: ignore[no-any-return]
        return [p for k in self.where for p in groups[k]["params"]]

    def by(self, optimizer: Stepped) -> Stepped:
        """The optimizer as the class by whose rule its groups step."""
        found = optimizer.stepping(optimizer.param_groups[self.where[0]])
        return precision.keeping(found, self.chosen.low) if self.chosen and self.chosen.low else found

    # Each step: may it be as before?

    def still(self, groups: Groups, scale: float | None) -> bool:
        """Whether its groups may step together as before; their settings are then this step's."""
        if len(self.where) == 1 and self.chosen is None:
            return self.settings[0].still(groups[self.where[0]], scale)
        for k, settings in zip(self.where, self.settings, strict=True):
            if not settings.still(groups[k], scale):
                return False
        return counts([groups[k] for k in self.where]) == self.counts

    def prepare(self, optimizer: Stepped, groups: Groups) -> bool:
        """Whether all that its kernels rely on holds; its addresses are then this step's. Nothing is written."""
        computation, look = self.computation, self.look
        if (
            self.once
            or computation.backend is not optimizer.backend
            or computation.clip_group is not optimizer.clip_group
            or computation.nonfinite != optimizer.nonfinite
        ):
            return False
        assert look is not None
        members = self.members_of(groups)
        found = look.look(members, optimizer.state)
        self.moved = found != SAME or bool(self.others)
        if found == CHANGED or (found == MOVED and overlapping(look.addresses, look.lengths, self.written)):
            return False
        if self.zeroes and shares_gradients(optimizer, self.where) != computation.zeroes_late:
            return False
        if self.parted.strange and any([members[m].grad is not None for m in self.parted.strange]):
            return False
        if self.others and not self.beside.still(optimizer.state, members, look, self.written):
            return False
        if self.live and not self.live.take(optimizer.state, [members[m] for m in self.places]):
            return False
        if any([bucket.laid_otherwise for bucket in self.buckets]):
            params = [members[m] for m in self.places]
            return copy_gradients(self.buckets, params, [p.grad for p in params])
        return True

    def reach(self, optimizer: Stepped, groups: Groups) -> Reach:
        """Where all that it steps lies."""
        beside = self.beside.ranges(optimizer.state, self.members_of(groups))
        parts = [(beside, np.arange(len(beside.starts)) != 1)]
        if self.look is not None:
            parts.append((Ranges(self.look.addresses, self.look.lengths), self.written))
        return reach_of(parts, all_written=self.zeroes)

    # Each step: what it does.

    def numbers_of_step(self, further: float = 0.0) -> dict[str, Any]:
        """What the scalars depend on, of all that are looked at: by the rule's names, the step so much further."""
        assert self.look is not None
        values, rows = self.look.values, self.rows
        return {to: values[rows[n]] + (further if n == "step" else 0.0) for n, to in self.computation.needed.items()}

    def reduced_numbers(self, bucket: Bucket) -> dict[str, Any]:
        """The slots of one number that follow from reductions, of a bucket's tensors."""
        assert self.look is not None
        program = bucket.kernel.program
        names = dict.fromkeys([*(n.name or "" for n in program.given), *(n for n in program.numbers if n in self.rows)])
        return {name: self.look.values[self.rows[name], bucket.where] for name in names}

    def tabulate(self, optimizer: Stepped, groups: Groups, known: Mapping[str, float]) -> None:
        """Fill the tables of scalars: all that may raise comes before anything is written. `known`: totals, numbers of the model."""
        if self.others and self.computation.of_model:
            by, used, wanted = self.by(optimizer), self.computation.used, self.computation.state_dtype
            with torch.no_grad():
                for p, own in self.beside.by_function(self.members_of(groups)):
                    self._keep(one_by_one.numbers_of(by, p, used, own, known, wanted))
        hypers = [{**settings.hypers, **known} if known else settings.hypers for settings in self.settings]
        if self.live is not None:  # the device makes the tables
            self.live.tabulate(self.buckets, hypers)
        if self.look is None or self.live is not None:
            return
        values, rows = self.look.values, self.rows
        if "step" in rows:
            values[rows["step"]] += 1
        numbers = {to: values[rows[n]] for n, to in self.computation.needed.items()}
        for bucket in self.buckets:
            for name, value in bucket.tabulate(hypers, self.groups, numbers).items():
                if name in rows:
                    values[rows[name], bucket.where] = value
                else:
                    self._keep({name: value})

    def _keep(self, new: Mapping[str, Any]) -> None:
        """Keep new values of numbers of the model until all tensors have told theirs."""
        for name, value in new.items():
            self.new_numbers.setdefault(name, []).extend(np.unique(value).tolist())

    def step_others(self, optimizer: Stepped, groups: Groups, known: Mapping[str, float]) -> None:
        """Step the parameters that no kernel may touch."""
        own = [groups[k] for k in self.where]
        drawn = self._numbers(groups, self.others) if self.computation.stochastic else None
        members = self.members_of(groups)
        with diagnostics.watching(self.beside, members, self.seen):
            self.beside.step(self.by(optimizer), own, members, known, drawn)

    def launch(self, optimizer: Stepped, groups: Groups) -> None:
        """Update what kernels step, after `tabulate`."""
        if self.look is None:
            return
        values, rows = self.look.values, self.rows
        if self.computation.stochastic:
            drawn = precision.rows(values[rows["step"]], *self._numbers(groups, self.places))
            for bucket in self.buckets:
                bucket.drawn = drawn[:, bucket.where]
        for bucket in self.buckets:
            numbers = self.reduced_numbers(bucket) if bucket.kernel.program.numbers else {}
            for name, value in bucket.launch(numbers).items():
                values[rows[name], bucket.where] = value
            if self.zeroes and bucket.laid_otherwise and not self.computation.zeroes_late:
                members = self.members_of(groups)
                one_by_one.zero([members[m] for m in np.asarray(self.places)[bucket.where]])
        if self.computation.moves:
            return
        live.finish(self.live)
        if self.look.finish() and "step" in rows:
            keep_counts(optimizer.state, self.members_of(groups), self.places, values[rows["step"]])
        for state, name, slot in self.pending:
            state[name] = slot
        self.pending = []

    def _numbers(self, groups: Groups, members: Sequence[int]) -> tuple[Any, Any]:
        """Which tensor of the model each of some members is, and its seed."""
        own = self.chosen.of if self.chosen else [range(count) for count in self.counts]
        seeds = np.array([settings.seed for settings in self.settings], np.uint64)
        return precision.numbers_of(groups, self.where, own)[members], seeds[self.group_of[members]]

    def zero(self, groups: Groups) -> None:
        """Zero the gradients that no kernel has zeroed: those of parameters beside the kernels, and those that another plan has read."""
        members = self.members_of(groups)
        one_by_one.zero(members if self.computation.zeroes_late else [members[m] for m in self.others])

    def release(self) -> None:
        """Let go what was kept alive since the look."""
        if self.look is not None and self.look.holds:
            self.look.release()


# Plans: made, looked at, held against each other.


def _plan(
    optimizer: Stepped,
    ready: list[GroupPlan],
    where: Iterable[int],
    scale: float | None,
    *,
    apart: bool = False,
    like: GroupPlan | None = None,
) -> None:
    """Add new plans for the groups at `where`: one for those that may step together, unless they are to be kept `apart`; where a rule asks
    for shapes, one for each choice of slots, or only that of the plan `like`. What was made before one fails is in `ready`."""
    nonfinite.remember(optimizer)
    if any(precision.ROUNDING in group for group in optimizer.param_groups):  # one was told to since, perhaps
        precision.settle(type(optimizer).__name__, optimizer.param_groups, optimizer.__dict__.get("_seed"))
    with torch.inference_mode(False), torch.no_grad():
        together: dict[Any, list[tuple[int, Settings]]] = {}
        for k in where:
            group = optimizer.param_groups[k]
            by = optimizer.stepping(group)
            own = Settings(by, group, scale)
            alike = optimizer.team_of(group), own.switches, own.of_the_step, bool(beyond_torch(by, group))
            together.setdefault(k if apart else alike, []).append((k, own))
        for members in together.values():
            where, settings = zip(*members, strict=True)
            for chosen in choices(optimizer, where, settings[0].switches, settings[0].rounding):
                wanted = like.chosen if like is not None else None
                if wanted is None or (chosen is not None and chosen.kind == wanted.kind):
                    plan = GroupPlan(optimizer, where, list(settings), chosen)
                    ready.append(plan)  # at once: what was made before one fails must be released


def _look(optimizer: Stepped, ready: list[GroupPlan], plans: Sequence[GroupPlan], scale: float | None) -> None:
    """Add the plans of this step to `ready`: those of the step before, where they hold."""
    groups = optimizer.param_groups
    if len(groups) == len(plans) == 1 and plans[0].where == (0,):
        held = plans[0].still(groups, scale)  # a small step takes some microseconds: no lists for one
    else:
        held = len({k for plan in plans for k in plan.where}) == len(groups)
        held = held and all([plan.still(groups, scale) for plan in plans])
    for plan in plans if held else ():
        ready.append(plan)
        if not plan.prepare(optimizer, groups):
            held = plan.chosen is None
            if not held:  # a parameter of another shape may have come to another plan
                break
            ready.pop().release()
            _plan(optimizer, ready, plan.where, scale)
    if not held:
        while ready:
            ready.pop().release()
        _plan(optimizer, ready, range(len(groups)), scale)


def _look_again(optimizer: Stepped, ready: list[GroupPlan], k: int, scale: float | None) -> None:
    plan = ready[k]
    plan.release()
    if not plan.prepare(optimizer, optimizer.param_groups):
        plan.release()
        del ready[k]
        _plan(optimizer, ready, plan.where, scale, like=plan)
        ready.insert(k, ready.pop())


def _keep_in_order(optimizer: Stepped, ready: list[GroupPlan], scale: float | None) -> None:
    """One plan per group, in their order: they write to the same memory."""
    ready.sort(key=lambda plan: plan.where)
    if any(len(plan.where) > 1 for plan in ready):
        for plan in ready:
            plan.release()
        ready.clear()
        _plan(optimizer, ready, range(len(optimizer.param_groups)), scale, apart=True)


def _are_tied(optimizer: Stepped, plans: Sequence[GroupPlan]) -> bool:
    """Whether a plan writes where another reads or writes: one parameter in two groups, say, or a state that two share."""
    return meeting([plan.reach(optimizer, optimizer.param_groups) for plan in plans])

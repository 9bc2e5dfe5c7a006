"""Steps that a CUDA graph may record: the device reads hyperparameters and states, and computes scalars.

With `capturable` a hyperparameter may be a tensor on the device. It is read at each replay, as are the states of one number, which then
lie on the device as torch's do. The scalars are the graph's own nodes, computed in float64 by torch's operations, one column of the
table per tensor. The host reads nothing back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steprule.arithmetic import Real, computing_in
from steprule.compiler import eager
from steprule.compiler.graph import Kind, Node
from steprule.compiler.interpret import interpret
from steprule.compiler.split import Program
from steprule.compiler.streams import is_capturing, keep_for_graph
from steprule.compiler.variant import Switches, asks_for_shapes, variant
from steprule.errors import InputError
from steprule.optim.backends import target_for
from steprule.optim.precision import ROUNDING, STATE_DTYPE
from steprule.optim.states import scalar_dtype
from steprule.rules.rule import Rule

_CUDA = torch.version.cuda is not None or torch.version.hip is not None
ON_DEVICE = "triton"
"""The target whose kernels a graph may record."""


def may_capture(optimizer: Any, group: Mapping[str, Any], switches: Switches) -> bool:
    """Whether kernels step a group that says `capturable`: where torch's class would do it otherwise, or nothing could."""
    rule: Rule = optimizer.rule
    if not group.get("capturable") or group.get("differentiable"):
        return False
    if optimizer.moves or optimizer.clip_group is not None or rule.looked or asks_for_shapes(rule):
        return False
    if any(group.get(name) is not None for name in (ROUNDING, STATE_DTYPE)) or any(s.per_model for s in rule.slots):
        return False
    if not group["params"] or any(
        target_for(optimizer.backend, p.device.type) != ON_DEVICE for p in group["params"] if isinstance(p, Tensor)
    ):
        return False
    own = variant(rule, switches)
    return own.is_compiled and not (own.program().given or own.program().numbers)


def is_recording() -> bool:
    """Whether a CUDA graph records what is launched now."""
    return _CUDA and torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def check_capture(optimizer: Any) -> None:
    """Raise before anything is read or written where a CUDA graph records a step that it could not repeat, as torch's own classes do."""
    if is_recording():
        _refuse_frozen(optimizer)


def _refuse_frozen(optimizer: Any) -> None:
    where, groups = f"{type(optimizer).__name__}, recorded by a CUDA graph", optimizer.param_groups
    if not all(group.get("capturable") for group in groups):
        hint = "Without, the graph would repeat this step's numbers for ever."
        raise InputError(where, expected="capturable=True in every group", got="one without", hint=hint)
    hint = "A replay runs no Python, which would have to read what the step found."
    if optimizer.nonfinite != "pass":
        raise InputError(where, expected='nonfinite="pass"', got=repr(optimizer.nonfinite), hint=hint)
    if any(group.get("diagnostics") for group in groups):
        raise InputError(where, expected="groups without diagnostics", got="diagnostics=True", hint=hint)


def refuse_new_plan(optimizer: Any) -> None:
    """Raise where a graph is being recorded and a step would have to be planned first: that reads, allocates and compiles."""
    if is_recording():
        where = f"{type(optimizer).__name__}, recorded by a CUDA graph"
        hint = "Take two steps with the same parameters and settings outside of the capture, then record."
        raise InputError(where, expected="a step like the one before", got="a first or another one", hint=hint)


def number_of(name: str, value: Tensor, device: torch.device) -> Any:
    """A hyperparameter that is a tensor, as a step takes it that a graph may record: itself where it lies on that device."""
    if value.device == device:
        return value
    if is_capturing(device):
        hint = "The graph would repeat the number that it has now."
        expected, got = f"a tensor on {device}", f"one on {value.device}"
        raise InputError(f"{name}, in a step that a CUDA graph records", expected=expected, got=got, hint=hint)
    return value.item()


class LiveNumbers:
    """What the scalars of a plan depend on, on the device: its tensors' states of one number, and its groups' hyperparameters."""

    def __init__(self, computation: Any, groups: Any, device: torch.device) -> None:
        """`computation`: what a step computes. `groups`: of each tensor the group, where there are several."""
        self.rule: Rule = computation.rule
        self.names: tuple[str, ...] = computation.on_device
        self.device = device
        self.groups = None if groups is None else torch.from_numpy(np.asarray(groups, np.int64)).to(device)
        self.columns: dict[str, list[Tensor]] = {}
        """By name the states of this step."""
        self.rows: dict[str, Tensor] = {}
        """Their values before it, [tensors]; the step number is that of this step."""
        self.new: dict[str, Any] = {}
        """Their values behind it."""
        self.places: dict[bytes, Tensor] = {}
        """Where the tensors of a bucket stand that has not all of them."""

    def begin(
        self, states: Mapping[Tensor, Any], params: Sequence[Tensor], hypers: Sequence[Mapping[str, Any]]
    ) -> None:
        """Make the states of one number that are missing, and bring those to the device that a checkpoint has left on the CPU."""
        slots = {slot.name: slot for slot in self.rule.slots}
        for p, own in zip(params, hypers, strict=True):
            for name in self.names:
                held = states[p].get(name)
                start = 0.0 if name == "step" else eager.start_number(slots[name], own)
                if not isinstance(held, Tensor):
                    number = start if held is None else held
                    states[p][name] = torch.full((), float(number), dtype=scalar_dtype(), device=self.device)
                elif held.device != self.device:
                    states[p][name] = held.to(self.device)

    def take(self, states: Mapping[Tensor, Any], params: Sequence[Tensor]) -> bool:
        """The states of this step; False where one is missing, or is no number on the device."""
        self.columns = {name: [states[p].get(name) for p in params] for name in self.names if params}
        for column in self.columns.values():
            if not all(isinstance(t, Tensor) and t.device == self.device and t.numel() == 1 for t in column):
                return False
        self.rows = {name: torch.stack([t.reshape(()) for t in own]).double() for name, own in self.columns.items()}
        if "step" in self.rows:
            self.rows["step"] += 1
        self.new = dict(self.rows)
        return True

    def tabulate(self, buckets: Sequence[Any], hypers: Sequence[Mapping[str, Any]]) -> None:
        """Make the tables of all buckets."""
        for bucket in buckets:
            self.fill(bucket, hypers)

    def fill(self, bucket: Any, hypers: Sequence[Mapping[str, Any]]) -> None:
        """Make the table of a bucket's kernel, one column per tensor. `hypers` of each group, the totals that are known among them."""
        count, where = len(bucket.which), None
        if not isinstance(bucket.where, slice):
            where = self._places_of(bucket.where)
        program: Program = bucket.program
        values = self._values(program, hypers)
        rows = {name: v if where is None or not is_row(v) else v[where] for name, v in values.items()}
        known: dict[Node, Any] = {}
        for name, node in program.graph.inputs.items():
            if node.kind is Kind.SCALAR and name in rows:
                known[node] = Real(rows[name]) if type(rows[name]) in (int, float) else rows[name]
        with torch.no_grad(), computing_in(torch.float64):
            interpret([n for n in program.graph.live if n.kind is Kind.SCALAR and n.op != "input"], known)
            table = torch.empty(
                (len(program.roots), count), dtype=getattr(torch, bucket.kernel.compute), device=self.device
            )
            for row, node in zip(table, program.roots, strict=True):
                put(row, known[node])
            for name, new in program.scalar_slots.items() if program.stores else ():
                value = known[new] if isinstance(new, Node) else new
                if name in self.new:
                    own = torch.empty(count, dtype=torch.float64, device=self.device)
                    put(own, value)
                    self.new[name] = own if where is None else self.new[name].index_copy(0, where, own)
        bucket.table, bucket.which = table, np.arange(count, dtype=np.int32)
        if is_capturing(self.device):
            keep_for_graph((self.groups, where))

    def _places_of(self, where: Any) -> Tensor:
        if where.tobytes() not in self.places:
            self.places[where.tobytes()] = torch.from_numpy(where).to(self.device)
        return self.places[where.tobytes()]

    def _values(self, program: Program, hypers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What the program's scalars depend on, by the rule's names: numbers that all tensors share, or [tensors]."""
        found: dict[str, Any] = {}
        for name in program.graph.inputs:
            if name in hypers[0]:
                own = [group[name] for group in hypers]
                found[name] = wide(own[0]) if self.groups is None else self._of_tensors(own)
        found |= {name: row for name, row in self.rows.items() if name != "step"}
        return found | ({"t": self.rows["step"]} if "step" in self.rows else {})

    def _of_tensors(self, own: Sequence[Any]) -> Any:
        """A hyperparameter of several groups."""
        assert self.groups is not None
        if not any(isinstance(v, Tensor) for v in own) and all(v == own[0] for v in own):
            return own[0]
        row = torch.empty(len(own), dtype=torch.float64, device=self.device)
        for cell, value in zip(row, own, strict=True):
            put(cell, value)
        return row[self.groups]

    def finish(self) -> None:
        """Write the states of one number."""
        with torch.no_grad():
            for name, column in self.columns.items():
                values = self.new[name].to(column[0].dtype).unbind()
                torch._foreach_copy_(column, [v.reshape(t.shape) for v, t in zip(values, column, strict=True)])
        self.columns, self.rows, self.new = {}, {}, {}


def wide(value: Any) -> Any:
    """A number as scalars are computed: a tensor in float64."""
    return value.double().reshape(()) if isinstance(value, Tensor) else value


def begun(plan: Any, states: Mapping[Tensor, Any], params: Sequence[Tensor]) -> LiveNumbers | None:
    """Those of a plan whose steps a graph may record, with the states of its parameters begun."""
    return _begun(plan, states, params) if plan.computation.captured else None


def _begun(plan: Any, states: Mapping[Tensor, Any], params: Sequence[Tensor]) -> LiveNumbers:
    found = LiveNumbers(plan.computation, plan.groups, params[0].device)
    found.begin(states, params, [plan.settings[plan.group_of[m]].hypers for m in plan.places])
    found.take(states, params)
    return found


def finish(numbers: LiveNumbers | None) -> None:
    """Write the states of one number, where the device has them."""
    if numbers is not None:
        numbers.finish()


def is_row(value: Any) -> bool:
    """Whether a number is one per tensor."""
    return isinstance(value, Tensor) and value.dim() == 1


def put(there: Tensor, value: Any) -> None:
    """Write a number, or one per tensor, without asking the device."""
    if isinstance(value, Tensor):
        there.copy_(value if value.dim() == there.dim() else value.reshape(()))
    else:
        there.fill_(float(value))

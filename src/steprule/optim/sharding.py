"""Parameters cut over processes: over which of them totals are added up, and which totals are refused."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from steprule.errors import InputError

CutBy = Any
"""What `clip_group` may be: a process group, True for all processes, None where no more is cut than DTensors say."""


@dataclass(frozen=True)
class Cut:
    """Over which processes some tensors are cut: along dimensions of a DTensor's mesh, over `clip_group`, or over both."""

    mesh: Any = None
    dims: tuple[int, ...] = ()
    """The dimensions of the mesh along which the tensors are cut; along the others they are replicated."""
    by: CutBy = None

    def summed(self, parts: Mapping[str, float], places: Collection[str]) -> dict[str, float]:
        """The totals at these places over all processes, from what the shards of this one add. One `all_reduce` per dimension."""
        order = sorted(places)  # the same in each process, also where one has nothing to add
        numbers = torch.tensor([parts.get(place, 0.0) for place in order], dtype=torch.float64, device="cpu")
        return dict(zip(order, self.added(numbers).tolist(), strict=True))

    def added(self, numbers: Tensor) -> Tensor:
        """Numbers in float64, of the same shape in each process, added up over the processes. It may write to what it is given."""
        for group in self._groups():
            numbers = numbers.to(_device_of(group))
            dist.all_reduce(numbers, group=group)
        return numbers

    def _groups(self) -> list[Any]:
        own = [self.mesh.get_group(dim) for dim in self.dims]
        if self.by is None:
            return own
        everyone = None  # as torch.distributed takes the group of all processes
        return [*own, everyone if self.by is True else self.by]


def _device_of(group: Any) -> torch.device:
    """Where a group adds numbers up: NCCL on this process's GPU, gloo and MPI on the CPU."""
    if "nccl" in str(dist.get_backend(group)) and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def cut_of(p: Tensor, by: CutBy) -> Cut | None:
    """Over which processes a parameter is cut, of which a kernel steps the shard that lies here; None for one that is whole."""
    if type(p).__name__ != "DTensor":
        return whole_cut(by)
    dims = tuple(k for k, placed in enumerate(p.placements) if not placed.is_replicate())  # type: ignore[attr-defined]
    return Cut(p.device_mesh, dims, by) if dims else whole_cut(by)  # type: ignore[attr-defined]


def whole_cut(by: CutBy) -> Cut | None:
    """That of a tensor of which no mesh says that it is cut, or that was seen whole."""
    return None if by is None else Cut(by=by)


def check_cut(where: str, by: object) -> None:
    """Raise `InputError` where a `clip_group` is not what a total can be added up over."""
    hint = "Give it behind torch.distributed.init_process_group."
    if not is_distributed():
        raise InputError(f"{where}: clip_group", expected="torch.distributed to be up", got="one process", hint=hint)
    if by is not True and not isinstance(by, dist.ProcessGroup):
        raise InputError(f"{where}: clip_group", expected="a process group, or True for all processes", got=repr(by))


def is_distributed() -> bool:
    """Whether this process is one of a group."""
    return dist.is_available() and dist.is_initialized()


# What is refused: numbers over a part of what they should be over.


def refuse_backward(where: str, option: str) -> None:
    """Raise `InputError` within a backward pass: an option asks for all gradients, and some are not there yet."""
    if torch._C._current_graph_task_id() >= 0:
        hint = "Step behind backward()" + (", or bound each element by clip_value=." if option == "clip_norm" else ".")
        raise InputError(f"{where}: {option}", expected="all gradients", got="a step within backward()", hint=hint)


def refuse_parts(where: str, params: Sequence[Tensor], *, option: str, sums: bool, reduces: bool, by: CutBy) -> None:
    """Raise `InputError` where parameters are cut over processes without DTensors: a number over them would be that of a part.

    `sums` over all tensors, `reduces` over each tensor: what the step asks for. `option`: which one asks for sums, "" for the rule.
    """
    if not (sums or reduces) or not is_distributed() or dist.get_world_size() == 1:
        return
    if by is True and sums and any([type(p).__name__ == "DTensor" for p in params]):
        hint = "Leave it out, or name the group of what is cut beside the mesh, as of stages of a pipeline."
        raise InputError(f"{where}: clip_group", expected="none, for DTensors say it", got="True", hint=hint)
    who = _who_cuts(params)
    if who is None:
        return
    if reduces and who != _ZERO_REDUNDANCY:
        hint = "Shard by torch's fully_shard (FSDP2) instead."
        expected = "whole parameters, as its rule asks for numbers over each"
        raise InputError(where, expected=expected, got=f"flat shards by {who}", hint=hint)
    if sums and by is None:
        what = f"{where}: {option}" if option else where
        own = _OWN.get(who, "") if option == "clip_norm" else ""
        hint = f"Name the processes by clip_group= (a process group, or True for all){own}."
        raise InputError(what, expected="all gradients", got=f"this process's shard by {who}", hint=hint)


def refuse_flat(where: str, params: Sequence[Tensor]) -> None:
    """Raise `InputError` where parameters are cut over processes without DTensors: numbers of each tensor would be those of a part."""
    if is_distributed() and dist.get_world_size() > 1 and (who := _who_cuts(params)):
        hint = "Shard by torch's fully_shard (FSDP2) instead."
        raise InputError(
            where, expected="whole parameters, or DTensors", got=f"this process's part by {who}", hint=hint
        )


_FSDP, _DEEPSPEED, _ZERO_REDUNDANCY = "FullyShardedDataParallel", "DeepSpeed", "ZeroRedundancyOptimizer"
_OWN = {
    _FSDP: ", or call model.clip_grad_norm_ instead",
    _DEEPSPEED: ', or set "gradient_clipping" in its configuration instead',
}
_STEPS = {
    "torch.distributed.optim.zero_redundancy_optimizer": _ZERO_REDUNDANCY,
    "deepspeed.runtime.zero": _DEEPSPEED,
    "deepspeed.runtime.bf16_optimizer": _DEEPSPEED,
}
"""The modules that step an optimizer of their own on a part of the parameters."""


def _who_cuts(params: Iterable[Tensor]) -> str | None:
    """Who has cut the parameters into parts of which this process steps one. Each leaves a trace of its own."""
    flat = [p for p in params if getattr(p, "_fsdp_flattened", False)]
    if flat and all([p.ndim <= 1 for p in flat]):  # parameters of NO_SHARD keep their shapes
        return _FSDP
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        for module, who in _STEPS.items():
            if name == module or name.startswith(f"{module}."):
                return who
        frame = frame.f_back
    return None

"""A training in each wrapper of torch.distributed, for tests/test_sharded.py: every process ends with one process's parameters."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from processes import CLIP, EVEN, RATE, batches, check_ends, fsdp1, fsdp2, net, run, train, whole_parameters
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import ShardingStrategy, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer, _apply_optimizer_in_backward
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from steprule import optim

Make = Callable[..., Any]
KINDS: dict[str, tuple[Make, Make, float]] = {
    "AdamW": (
        lambda p, **_: optim.AdamW(p, lr=0.01, weight_decay=0.1, zero_grad=True),
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
        0.0,
    ),
    "SGD, clipped": (
        lambda p, **cut: optim.SGD(p, **RATE, clip_norm=CLIP, ema_decay=0.9, **cut),
        lambda p: torch.optim.SGD(p, **RATE),
        CLIP,
    ),
    "Lion, skipping": (
        lambda p, **cut: optim.Lion(p, lr=0.01, nonfinite="skip", **cut),
        lambda p: optim.Lion(p, lr=0.01),
        0.0,
    ),
}
"""By name our class, what one process takes, and the norm to which that is clipped by torch's function."""


def in_each_kind(wrap: Callable[[], Any], cut: dict[str, Any] | None = None, width: int = 7, **how: Any) -> None:
    for ours, theirs, clip in KINDS.values():
        model = wrap()
        train(model, ours(model.parameters(), **(cut or {})), **how)
        check_ends(model, alone(theirs, clip, width))


def alone(make: Make, clip: float, width: int = 7) -> list[Tensor]:
    model = net(width)
    norm = (lambda m: nn.utils.clip_grad_norm_(m.parameters(), clip)) if clip else None
    train(model, make(model.parameters()), norm, whole=True)
    return whole_parameters(model)


def case_ddp_modes() -> None:
    for settings in (
        {},
        {"find_unused_parameters": True},
        {"gradient_as_bucket_view": True},
        {"static_graph": True},
        {"gradient_as_bucket_view": True, "static_graph": True, "bucket_cap_mb": 1e-4},
        {"broadcast_buffers": False, "init_sync": False},
    ):
        in_each_kind(lambda settings=settings: DistributedDataParallel(net(), **settings))  # type: ignore[misc]


def case_ddp_accumulating() -> None:
    """Each batch in two halves, of which the first stays in its process."""
    rank, world = dist.get_rank(), dist.get_world_size()
    for ours, theirs, clip in KINDS.values():
        model = DistributedDataParallel(net(), gradient_as_bucket_view=True)
        optimizer = ours(model.parameters())
        for x, y in batches():
            x, y = x[rank::world], y[rank::world]
            with model.no_sync():
                (nn.functional.mse_loss(model(x[::2]), y[::2]) / 2).backward()
            (nn.functional.mse_loss(model(x[1::2]), y[1::2]) / 2).backward()
            optimizer.step()
            optimizer.zero_grad()
        check_ends(model, alone(theirs, clip))


def case_ddp_compressed() -> None:
    """Gradients that a hook rounds on their way are the same in each process: parameters stay equal to the bit."""
    for ours, _, _ in KINDS.values():
        model = DistributedDataParallel(net())
        model.register_comm_hook(None, fp16_compress_hook)
        train(model, ours(model.parameters()))
        for p in whole_parameters(model):
            others = [torch.empty_like(p) for _ in range(dist.get_world_size())]
            dist.all_gather(others, p)
            assert all(torch.equal(p, other) for other in others)


def case_fsdp2_modes() -> None:
    """Kept whole behind the forward pass; one unit; a head that is no DTensor beside layers that are."""

    def kept() -> Any:
        model = net()
        for layer in (model[0], model[2], model[4]):
            fully_shard(layer, reshard_after_forward=False)
        return fully_shard(model, reshard_after_forward=False)

    in_each_kind(fsdp2)
    in_each_kind(kept)
    in_each_kind(lambda: fully_shard(net()))


def case_fsdp2_mixed() -> None:
    """The head is plain: each process adds its gradient up itself. Both lie in one group, and the norm is over both."""

    def summed(model: Any) -> None:
        for p in model[4].parameters():
            dist.all_reduce(p.grad)
            p.grad /= dist.get_world_size()

    for ours, theirs, clip in KINDS.values():
        model = net()
        for layer in (model[0], model[2]):
            fully_shard(layer)
        train(model, ours(model.parameters()), summed)
        check_ends(model, alone(theirs, clip))


def case_fsdp1_modes() -> None:
    for strategy in (ShardingStrategy.FULL_SHARD, ShardingStrategy.SHARD_GRAD_OP, ShardingStrategy.NO_SHARD):
        whole = strategy is ShardingStrategy.NO_SHARD
        in_each_kind(
            lambda s=strategy: fsdp1(use_orig_params=True, sharding_strategy=s), {} if whole else {"clip_group": True}
        )  # type: ignore[misc]


def case_tensor_parallel_alone() -> None:
    """Every process has the whole batch."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    for ours, theirs, clip in KINDS.values():
        width = EVEN if dist.get_world_size() == 2 else 8
        model = parallelize_module(net(width), mesh, plan)
        train(model, ours(model.parameters()), whole=True)
        check_ends(model, alone(theirs, clip, width))


def case_zero_modes() -> None:
    for settings in ({}, {"parameters_as_bucket_view": True}):
        for ours, theirs, clip in KINDS.values():
            model = DistributedDataParallel(net())
            make = lambda p, ours=ours, **_: ours(p, clip_group=True)  # noqa: E731
            optimizer = ZeroRedundancyOptimizer(model.parameters(), optimizer_class=make, **settings)  # type: ignore[arg-type]
            train(model, optimizer)
            check_ends(model, alone(theirs, clip))


def case_backward() -> None:
    """torch's own way to step within backward, one optimizer per parameter."""
    model = net()
    settings = {"lr": 0.05, "weight_decay": 0.1}
    _apply_optimizer_in_backward(optim.AdamW, model.parameters(), settings)
    train(model, None, whole=True)
    check_ends(model, alone(lambda p: torch.optim.AdamW(p, **settings), 0.0))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    run(globals(), sys.argv[1:])

"""DTensors over two and four ranks that are threads of this process: each parameter as a whole one's, and one collective per step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from thinning import thinned
from tolerances import ROUNDED32
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard

from steprule import optim

STEPS = 4
SPOILED = 2
"""The step at which one element is not finite, in the part of one rank."""
SHAPES = [(5, 3), (7,), (1,), (2, 2)]
"""Sizes that no number of ranks divides; of the last, some have nothing."""


def values(k: int, t: int) -> Tensor:
    count = int(torch.Size(SHAPES[k]).numel())
    return torch.linspace(-1.0, 2.0 + k, count).add(0.3 * t).sin().reshape(SHAPES[k])


def gradient(k: int, t: int, *, spoiled: bool) -> Tensor:
    found = values(k, t + 10)
    if spoiled and t == SPOILED and k == 0:
        found[4, 2] = float("nan")
    return found


def cut(whole: Tensor, mesh: Any, placed: Any) -> Tensor:
    """The part of this rank, with no word between the ranks; a plain tensor for no placement."""
    if placed is None:
        return whole.clone()
    own = whole.clone() if placed.is_replicate() else _chunk(whole, mesh)
    return DTensor.from_local(own, mesh, [placed], run_check=False, shape=whole.shape, stride=whole.stride())


def _chunk(whole: Tensor, mesh: Any) -> Tensor:
    parts = list(whole.chunk(mesh.size()))
    rank = mesh.get_local_rank()
    return parts[rank].clone() if rank < len(parts) else whole[:0].clone()


def alone(make: Callable[[Any], Any], *, spoiled: bool) -> list[Tensor]:
    """One process with whole tensors, which is not called where a step is to be left out."""
    params = [nn.Parameter(values(k, 0)) for k in range(len(SHAPES))]
    optimizer = make(params)
    for t in range(STEPS):
        for k, p in enumerate(params):
            p.grad = gradient(k, t, spoiled=False)
        if not (spoiled and t == SPOILED):
            optimizer.step()
    return [p.detach() for p in params]


CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "no number over all": ("Adam", {"lr": 0.1}, 0),
    "clipped": ("SGD", {"lr": 0.5, "momentum": 0.9, "clip_norm": 0.1}, 1),
    "skipped": ("Adam", {"lr": 0.1, "nonfinite": "skip"}, 1),
    "clipped and skipped": ("AdamW", {"lr": 0.1, "clip_norm": 0.1, "nonfinite": "skip"}, 1),
    "a rule's own totals": ("Prodigy", {"lr": 1.0}, 1),
}
"""By name the class, its settings, and how often the ranks meet in a step."""


@pytest.mark.parametrize("ranks", thinned([2, 4], 2))
@pytest.mark.parametrize("case", CASES)
def test_shards_step_as_the_whole_does(case: str, ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A DTensor in shards, one that is copied, and a plain tensor in one group."""
    threads = pytest.importorskip("torch.testing._internal.common_distributed").spawn_threads_and_init_comms
    name, settings, meetings = CASES[case]
    make = lambda params: getattr(optim, name)(params, **settings)  # noqa: E731
    spoiled = "nonfinite" in settings
    wanted = alone(make, spoiled=spoiled)
    met: list[int] = []
    all_reduce = dist.all_reduce

    def counted(*args: Any, **kwargs: Any) -> Any:
        met.append(dist.get_rank())
        return all_reduce(*args, **kwargs)

    monkeypatch.setattr(dist, "all_reduce", counted)
    ends: dict[int, list[Tensor]] = {}

    def run(_: Any) -> None:
        mesh = init_device_mesh("cpu", (ranks,))
        placed = [Shard(0), Replicate(), Shard(0), None]
        params = [nn.Parameter(cut(values(k, 0), mesh, at)) for k, at in enumerate(placed)]
        optimizer = make(params)
        for t in range(STEPS):
            for k, (p, at) in enumerate(zip(params, placed, strict=True)):
                p.grad = cut(gradient(k, t, spoiled=spoiled), mesh, at)
            optimizer.step()
        assert all(plan.buckets and not plan.others for plan in optimizer._plans)
        assert optimizer.skipped_steps == int(spoiled)
        ends[mesh.get_local_rank()] = [(p.to_local() if isinstance(p, DTensor) else p).detach() for p in params]

    threads(run, world_size=ranks)(None)
    for rank, own in ends.items():
        for k, (part, whole) in enumerate(zip(own, wanted, strict=True)):
            chunks = list(whole.chunk(ranks)) if k in (0, 2) else [whole] * ranks
            right = chunks[rank] if rank < len(chunks) else whole[:0]
            assert part.shape == right.shape
            assert (part - right).abs().max().item() <= ROUNDED32 if part.numel() else True
    per_rank = meetings * STEPS + int(case == "clipped and skipped")
    assert sorted(met) == sorted(list(range(ranks)) * per_rank)

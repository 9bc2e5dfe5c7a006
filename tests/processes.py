"""What each of several processes runs for tests/test_sharded.py: one case by name, under `torchrun`."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tolerances import CLASS_FLOAT32_FEW_STEPS, ROUNDED32, SUMMED64
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from steprule import by_kind, optim
from steprule.errors import GradientError, InputError

with warnings.catch_warnings():  # torch's own, of its own script
    warnings.simplefilter("ignore", DeprecationWarning)
    from torch.distributed.optim import ZeroRedundancyOptimizer

STEPS, CLIP = 6, 0.05
RATE = {"lr": 0.5, "momentum": 0.9, "weight_decay": 0.01}
"""Of SGD, whose step grows with the gradient: an Adam's hides a norm that is wrong by a factor."""
EVEN = 6  # torch's tensor parallel layers are cut evenly


def net(width: int = 7) -> nn.Sequential:
    """Sizes that no number of processes divides, and a bias that some have no part of."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, width), nn.Tanh(), nn.Linear(width, 9), nn.Tanh(), nn.Linear(9, 1))


def batches() -> list[tuple[Tensor, Tensor]]:
    made = torch.Generator().manual_seed(1)
    return [(x := torch.randn(8, 5, generator=made), torch.tanh(x.sum(1, keepdim=True))) for _ in range(STEPS)]


def train(
    model: Any, optimizer: Any, clip: Callable[[Any], object] | None = None, *, whole: bool = False
) -> list[float]:
    """The mean loss of each batch, of which each process has its rows; `whole` where one has all of them."""
    rank, world = (0, 1) if whole else (dist.get_rank(), dist.get_world_size())
    losses = []
    for x, y in batches():
        loss = nn.functional.mse_loss(model(x[rank::world]), y[rank::world])
        loss.backward()
        if clip is not None:
            clip(model)
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()
        mean = loss.detach().clone()
        if not whole:
            dist.all_reduce(mean)
        losses.append(float(mean) / world)
    return losses


def alone(make: Callable[[Any], Any], clip: float = CLIP, width: int = 7) -> list[float]:
    """One process, the whole batch, torch's clipping."""
    model = net(width)
    norm = (lambda m: nn.utils.clip_grad_norm_(m.parameters(), clip)) if clip else None
    return train(model, make(model.parameters()), norm, whole=True)


def torchs(params: Any) -> Any:
    return torch.optim.SGD(params, **RATE)


def ours(params: Any, **settings: Any) -> Any:
    return optim.SGD(params, **{**RATE, "clip_norm": CLIP, **settings})


def whole_parameters(model: Any) -> list[Tensor]:
    """The parameters of a model, put together from all processes."""
    if isinstance(model, FullyShardedDataParallel):
        with FullyShardedDataParallel.summon_full_params(model, writeback=False):
            return [p.detach().clone().reshape(-1) for p in model.parameters() if p.numel()]
    found = [p.full_tensor() if isinstance(p, DTensor) else p for p in model.parameters()]
    return [p.detach().clone().reshape(-1) for p in found]


def check_ends(model: Any, wanted: list[Tensor]) -> None:
    """Each process has one process's parameters."""
    for got, right in zip(whole_parameters(model), wanted, strict=True):
        gap = ((got - right).abs().max() / right.abs().max()).item()
        assert gap <= CLASS_FLOAT32_FEW_STEPS, gap


def check(found: list[float], wanted: list[float]) -> None:
    gap = max(abs(a - b) / abs(b) for a, b in zip(found, wanted, strict=True))
    assert gap <= CLASS_FLOAT32_FEW_STEPS, (gap, found, wanted)


def check_refused(model: Any, optimizer: Any, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)) as found:
        train(model, optimizer)
    assert "\n" not in str(found.value)


# DTensors


def case_dtensors() -> None:
    """Placed in each way, a step is that of whole tensors: in kernels to the bit, where no more than totals is asked for."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    kinds: list[tuple[str, dict[str, Any], float]] = [
        ("Adam", {}, 0.0),
        ("Adam", {"ema_decay": 0.9, "weight_decay": 0.1}, 0.0),
        ("SGD", {"momentum": 0.9}, 0.0),
        ("RMSprop", {"zero_grad": True}, 0.0),
        ("Adam", {"clip_norm": 0.5}, ROUNDED32),
        ("Prodigy", {"lr": 1.0}, ROUNDED32),
        ("LAMB", {}, ROUNDED32),
    ]
    for name, settings, bound in kinds:
        ends = []
        for placed in (Shard(0), Replicate(), None):
            torch.manual_seed(0)
            whole = [torch.randn(5, 3), torch.randn(4), torch.randn(1)]
            cut = (lambda x, at=placed: distribute_tensor(x, mesh, [at])) if placed else (lambda x: x)
            params = [nn.Parameter(cut(w)) for w in whole]
            optimizer = getattr(optim, name)(params, **{"lr": 0.1, **settings})
            for _ in range(3):
                for p, w in zip(params, whole, strict=True):
                    p.grad = cut(torch.randn(w.shape))
                optimizer.step()
            if placed:
                assert bool(optimizer._plans[0].buckets) == (name != "LAMB"), name
            states = [v for p in params for v in optimizer.state[p].values() if getattr(v, "ndim", 0)]
            ends.append([x.full_tensor() if placed else x for x in [*params, *states]])
        for end in ends[:2]:
            gap = max((a - b).abs().max().item() for a, b in zip(end, ends[2], strict=True))
            assert gap <= bound, (name, settings, gap)


def case_diagnostics() -> None:
    """What a step knows of DTensors is what it knows of whole tensors. The processes meet once, in the step, and one may read alone."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for name, backend, meetings in (("Adam", "auto", 1), ("Adam", "eager", None), ("LAMB", "auto", None)):
        ends = []
        for placed in (Shard(0), None):
            torch.manual_seed(0)
            cut = (lambda x, at=placed: distribute_tensor(x, mesh, [at])) if placed else (lambda x: x)
            whole = [torch.randn(5, 3), torch.randn(4), torch.randn(1), torch.randn(0)]
            params = [nn.Parameter(cut(w)) for w in whole]
            if placed:
                params[1] = nn.Parameter(distribute_tensor(whole[1], mesh, [Replicate()]))
            optimizer = getattr(optim, name)(params, lr=0.1, diagnostics=True, backend=backend)
            for p in params:
                p.grad = torch.randn(p.shape)
                if placed:
                    p.grad = distribute_tensor(p.grad, mesh, p.placements)
            with CommDebugMode() as met:
                optimizer.step()
            if placed and meetings is not None:
                assert met.get_total_counts() == meetings, met.get_comm_counts()
            if dist.get_rank() == 0:
                ends.append([optimizer.diagnostics(), *optimizer.diagnostics("tensor").values()])
        for found, wanted in zip(*ends, strict=True):
            bound = SUMMED64 if name == "Adam" else ROUNDED32
            assert found == pytest.approx(wanted, rel=bound, nan_ok=True), (name, found, wanted)
    flat = fsdp1(use_orig_params=True)
    words = "diagnostics: expected whole parameters, or DTensors, got this process's part by FullyShardedDataParallel"
    check_refused(flat, optim.SGD(flat.parameters(), **RATE, diagnostics=True), words)


def fsdp2(mesh: Any = None) -> Any:
    model = net()
    for layer in (model[0], model[2], model[4]):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def parallel(mesh: Any) -> Any:
    """Two layers cut over the second dimension of the mesh, then all over the first."""
    model = net(EVEN)
    parallelize_module(model, mesh["tp"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
    for layer in (model[0], model[2], model[4]):
        fully_shard(layer, mesh=mesh["dp"])
    fully_shard(model, mesh=mesh["dp"])
    return model


def in_kernels(model: Any, optimizer: Any, reductions: int) -> None:
    """A step calls kernels alone, and the processes meet for the totals only."""
    x, y = batches()[0]
    nn.functional.mse_loss(model(x), y).backward()
    with CommDebugMode() as met:
        optimizer.step()
    found = {str(kind).rpartition(".")[2]: count for kind, count in met.get_comm_counts().items() if count}
    assert sum(found.values()) == reductions, found
    assert not found.keys() - {"allreduce_", "all_reduce"}, found
    assert all(plan.buckets and not plan.others for plan in optimizer._plans)


def case_fsdp2() -> None:
    model = fsdp2()
    optimizer = ours(model.parameters())
    check(train(model, optimizer), alone(torchs))
    in_kernels(model, optimizer, 1)


def case_fsdp2_groups() -> None:
    """Groups that differ, one of them unclipped, with an average: one norm over those that clip."""
    model = fsdp2()
    first, *others = model.parameters()
    groups = lambda a, rest: [{"params": [a], "clip_norm": 0.0, "lr": 0.01}, {"params": rest}]  # noqa: E731
    found = train(model, ours(groups(first, others), ema_decay=0.9))
    whole = net()
    first, *others = whole.parameters()
    check(found, train(whole, ours(groups(first, others)), whole=True))


def case_fsdp2_prodigy() -> None:
    """A rule's own totals and its numbers of the model."""
    make = lambda params: optim.Prodigy(params, lr=1.0, clip_norm=CLIP)  # noqa: E731
    model = fsdp2()
    optimizer = make(model.parameters())
    check(train(model, optimizer), alone(make, clip=0.0))
    assert all(plan.buckets and not plan.others for plan in optimizer._plans)


def case_fsdp2_lamb() -> None:
    """Norms of each tensor are torch's operations on the whole of it."""
    make = lambda params: optim.LAMB(params, lr=0.02, clip_norm=CLIP)  # noqa: E731
    model = fsdp2()
    check(train(model, make(model.parameters())), alone(make, clip=0.0))


def case_fsdp2_by_kind() -> None:
    mixture = by_kind(matrix="lion", other="adamw")
    model, whole = fsdp2(), net()
    found = train(model, mixture(model, show=False, clip_norm=CLIP, lr=0.01))
    check(found, train(whole, mixture(whole, show=False, clip_norm=CLIP, lr=0.01), whole=True))


def case_hsdp() -> None:
    """Shards along one dimension of the mesh, copies along the other: the norm counts each shard once."""
    model = fsdp2(init_device_mesh("cpu", (2, 2), mesh_dim_names=("copies", "shards")))
    optimizer = ours(model.parameters())
    check(train(model, optimizer), alone(torchs))
    in_kernels(model, optimizer, 1)


def case_tensor_parallel() -> None:
    """Parameters that are cut along one dimension or along both."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    model = parallel(mesh)
    optimizer = ours(model.parameters())
    losses = []
    rank = mesh["dp"].get_local_rank()
    for x, y in batches():
        loss = nn.functional.mse_loss(model(x[rank::2]), y[rank::2])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        losses.append(float(mean) / 4)
    check(losses, alone(torchs, width=EVEN))
    assert all(plan.buckets and not plan.others for plan in optimizer._plans)


def case_pipeline() -> None:
    """Two stages of a pipeline, each cut over two processes: the mesh says the one, `clip_group` the other."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("stages", "shards"))
    stage = mesh["stages"].get_local_rank()

    def made(k: int, cut: Callable[[Tensor], Tensor]) -> list[nn.Parameter]:
        torch.manual_seed(k)
        params = [nn.Parameter(cut(torch.randn(size))) for size in ((5, 3), (7,))]
        for p in params:
            p.grad = cut(torch.randn(p.shape))
        return params

    here = lambda x: distribute_tensor(x, mesh["shards"], [Shard(0)])  # noqa: E731
    own, whole = made(stage, here), [made(k, lambda x: x) for k in range(2)]
    ours(own, clip_group=mesh.get_group("stages")).step()
    ours([p for params in whole for p in params]).step()
    gap = max(float((a.full_tensor() - b).detach().abs().max()) for a, b in zip(own, whole[stage], strict=True))
    assert gap <= ROUNDED32, gap
    with pytest.raises(InputError, match="clip_group: expected none, for DTensors say it, got True"):
        ours(made(stage, here), clip_group=True).step()


# What is no DTensor


def case_ddp() -> None:
    """Every process has whole gradients: their own norm is the norm."""
    model = nn.parallel.DistributedDataParallel(net())
    check(train(model, ours(model.parameters())), alone(torchs))
    model = nn.parallel.DistributedDataParallel(net())
    twice = train(model, ours(model.parameters(), clip_group=True))
    with pytest.raises(AssertionError):  # what is wrong is seen: each gradient is counted once per process
        check(twice, alone(torchs))


def fsdp1(**settings: Any) -> Any:
    return FullyShardedDataParallel(net(), device_id=torch.device("cpu"), **settings)


def case_fsdp1() -> None:
    for flat in (True, False):
        model = fsdp1(use_orig_params=not flat)
        check_refused(
            model, ours(model.parameters()), "clip_norm: expected all gradients, got this process's shard by Full"
        )
        for group in (True, dist.group.WORLD):
            model = fsdp1(use_orig_params=not flat)
            check(train(model, ours(model.parameters(), clip_group=group)), alone(torchs))
        model = fsdp1(use_orig_params=not flat)
        make = lambda params: optim.SGD(params, **RATE)  # noqa: E731
        check(train(model, make(model.parameters()), lambda m: m.clip_grad_norm_(CLIP)), alone(torchs))
        model = fsdp1(use_orig_params=not flat)
        check_refused(model, optim.LAMB(model.parameters(), lr=0.02), "flat shards by FullyShardedDataParallel")
    model = fsdp1(use_orig_params=True, sharding_strategy=ShardingStrategy.NO_SHARD)
    check(train(model, ours(model.parameters())), alone(torchs))


def case_fsdp1_prodigy() -> None:
    make = lambda params, **more: optim.Prodigy(params, lr=1.0, **more)  # noqa: E731
    model = fsdp1(use_orig_params=True)
    check_refused(model, make(model.parameters()), "Prodigy: expected all gradients")
    model = fsdp1(use_orig_params=True)
    check(train(model, make(model.parameters(), clip_group=True)), alone(make, clip=0.0))


def zero(model: Any, **settings: Any) -> Any:
    return ZeroRedundancyOptimizer(
        model.parameters(), **{"optimizer_class": optim.SGD, **RATE, "clip_norm": CLIP, **settings}
    )


def case_zero() -> None:
    model = nn.parallel.DistributedDataParallel(net())
    check_refused(model, zero(model), "got this process's shard by ZeroRedundancyOptimizer")
    model = nn.parallel.DistributedDataParallel(net())
    check(train(model, zero(model, clip_group=True)), alone(torchs))
    make = lambda params: optim.LAMB(params, lr=0.02)  # noqa: E731
    model = nn.parallel.DistributedDataParallel(net())
    found = train(model, ZeroRedundancyOptimizer(model.parameters(), optimizer_class=optim.LAMB, lr=0.02))
    check(found, alone(make, clip=0.0))


def case_zero_with_nothing_for_some() -> None:
    """More processes than parameters: those that have none take part in the norm all the same."""
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(nn.Linear(5, 1))
    found = train(model, zero(model, clip_group=True))
    torch.manual_seed(0)
    whole = nn.Linear(5, 1)
    check(
        found,
        train(whole, torchs(whole.parameters()), lambda m: nn.utils.clip_grad_norm_(m.parameters(), CLIP), whole=True),
    )


def case_kahan() -> None:
    """Shards of bfloat16 parameters, and of what they lost, are those of whole ones."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    whole = torch.linspace(-2, 2, 77).reshape(11, 7).to(torch.bfloat16)
    gradient = torch.linspace(1, 3, 77).reshape(11, 7).to(torch.bfloat16)
    for backend in ("auto", "eager"):
        params = [nn.Parameter(distribute_tensor(whole.clone(), mesh, [Shard(0)])), nn.Parameter(whole.clone())]
        for k, p in enumerate(params):
            optimizer = optim.AdamW([p], lr=1e-4, rounding="kahan", backend=backend)
            for _ in range(3):
                p.grad = gradient.clone() if k else distribute_tensor(gradient.clone(), mesh, [Shard(0)])
                optimizer.step()
            params[k] = [t.detach() for t in (p, optimizer.state[p]["kahan_comp"])]
        for cut, own in zip(*params, strict=True):
            assert torch.equal(cut.full_tensor(), own)


def spoiled(model: Any, rank: int) -> None:
    """Gradients of a batch, of which one element in the part of one process is NaN."""
    x, y = batches()[0]
    model.zero_grad()
    nn.functional.mse_loss(model(x), y).backward()
    for p in model.parameters():
        part = p.grad.to_local() if hasattr(p.grad, "to_local") else p.grad
        if part is not None and part.numel() and dist.get_rank() == rank:
            part.view(-1)[0] = float("nan")
            break


def case_nonfinite() -> None:
    """All processes leave the step out, or raise, where one of them has the element."""
    last = dist.get_world_size() - 1
    for clip, fine, found in ((0.0, 1, 1), (CLIP, 1, 2)):
        model = fsdp2()
        optimizer = ours(model.parameters(), clip_norm=clip, nonfinite="skip")
        check(train(model, optimizer), alone(torchs, clip=clip))
        in_kernels(model, optimizer, fine)
        before = [p.full_tensor().detach() for p in model.parameters()]
        spoiled(model, last)
        with CommDebugMode() as met:
            optimizer.step()
        assert sum(met.get_comm_counts().values()) == found
        assert optimizer.skipped_steps == 1
        assert all(torch.equal(a, p.full_tensor()) for a, p in zip(before, model.parameters(), strict=True))
        optimizer.nonfinite = "raise"
        words = (
            "the gradient of parameter 0 of group 0: exp"
            if dist.get_rank() == last
            else "in the part of another process"
        )
        with pytest.raises(GradientError, match=words):
            optimizer.step()
    model = fsdp2()
    lamb = optim.LAMB(model.parameters(), lr=0.02, nonfinite="skip")  # stepped by torch's operations on DTensors
    spoiled(model, last)
    lamb.step()
    assert lamb.skipped_steps == 1
    model = fsdp1(use_orig_params=True)
    spoiled(model, last)
    check_refused(
        model, ours(model.parameters(), clip_norm=0.0, nonfinite="skip"), "SGD: nonfinite: expected all gradients"
    )
    spoiled(model, last)
    optimizer = ours(model.parameters(), clip_norm=0.0, nonfinite="skip", clip_group=True)
    optimizer.step()
    assert optimizer.skipped_steps == 1
    model = nn.parallel.DistributedDataParallel(net())
    optimizer = ours(model.parameters(), clip_norm=0.0, nonfinite="skip")
    x, y = batches()[0]
    nn.functional.mse_loss(model(x if dist.get_rank() < last else x * float("inf")), y).backward()
    optimizer.step()  # the gradients are the same in each process
    assert optimizer.skipped_steps == 1
    model = nn.parallel.DistributedDataParallel(net())
    optimizer = zero(model, clip_norm=0.0, nonfinite="skip", clip_group=True)
    before = [p.detach().clone() for p in model.parameters()]
    nn.functional.mse_loss(model(x if dist.get_rank() < last else x * float("inf")), y).backward()
    optimizer.step()
    assert all(torch.equal(a, p) for a, p in zip(before, model.parameters(), strict=True))


def case_in_backward() -> None:
    """One optimizer per parameter, which steps as soon as its gradient is there."""

    def hooked(model: Any, **settings: Any) -> None:
        for p in model.parameters():
            own = optim.SGD([p], **{**RATE, **settings})
            p.register_post_accumulate_grad_hook(lambda p, own=own: (own.step(), own.zero_grad())[0])

    model = fsdp2()
    hooked(model)
    check(train(model, None), alone(torchs, clip=0.0))
    model = net()
    hooked(model, clip_norm=CLIP)
    check_refused(model, None, "clip_norm: expected all gradients, got a step within backward()")


def run(cases: Mapping[str, Any], names: Sequence[str]) -> None:
    """Run the cases of these names in each process; the first prints each that ends."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for name in names:
        cases[f"case_{name}"]()
        dist.barrier()
        if dist.get_rank() == 0:
            print(name, flush=True)  # noqa: T201
    dist.destroy_process_group()


if __name__ == "__main__":
    run(globals(), sys.argv[1:])

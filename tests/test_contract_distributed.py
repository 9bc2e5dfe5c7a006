"""torch's contract of torch.distributed.checkpoint: optimizers saved and loaded by it, both ways."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from compare import apart
from contract import make, only_ours, optim, tensors
from tolerances import CLASS_FLOAT32_FEW_STEPS
from torch import nn

# torch.distributed.checkpoint

DCP: dict[str, tuple[str, dict[str, Any]]] = {
    "AdamW": ("AdamW", {}),
    "SGD plain": ("SGD", {"momentum": 0.0}),
    "SGD momentum": ("SGD", {}),
    "Adam amsgrad": ("Adam", {"amsgrad": True}),
    "RMSprop": ("RMSprop", {"centered": True, "momentum": 0.5}),
    "Adagrad": ("Adagrad", {}),
    "NAdam": ("NAdam", {}),
    "Rprop": ("Rprop", {}),
    "ASGD": ("ASGD", {}),
}
EXTRAS = {"ema_decay": 0.9, "clip_norm": 0.5}
MINE, TORCHS = optim, torch.optim


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def fit(model: nn.Module, optimizer: Any, steps: int) -> None:
    x = torch.linspace(-1, 1, 15).reshape(5, 3)
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    optimizer.zero_grad()


def over(model: nn.Sequential, name: str, module: Any, **settings: Any) -> Any:
    """Two groups with settings of their own."""
    return make(
        name, [{"params": model[0].parameters(), "lr": 0.02}, {"params": model[2].parameters()}], module, **settings
    )


def moved_by_dcp(
    kind: str, flat: bool, sides: tuple[Any, Any], extras: tuple[bool, bool], path: Path | None = None
) -> None:
    from torch.distributed.checkpoint.state_dict import (
        StateDictOptions,
        get_optimizer_state_dict,
        set_optimizer_state_dict,
    )

    name, settings = DCP[kind]
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    first, second = ({**settings, **(EXTRAS if on else {})} for on in extras)
    model, whole = net(), net()
    optimizer = over(model, name, sides[0], **first)
    fit(model, optimizer, 4)
    fit(whole, whole_optimizer := over(whole, name, torch.optim if not any(extras) else sides[0], **first), 4)
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer, options=options))
    twin = net(1)
    twin.load_state_dict(model.state_dict())
    other = over(twin, name, sides[1], **second)
    if path is not None:
        import torch.distributed.checkpoint as dcp

        dcp.save(saved, checkpoint_id=path, no_dist=True)
        saved = get_optimizer_state_dict(twin, other, options=options)
        dcp.load(saved, checkpoint_id=path, no_dist=True)
    set_optimizer_state_dict(twin, other, saved, options=options)
    assert [g["lr"] for g in other.param_groups] == [g["lr"] for g in optimizer.param_groups]
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        for k, v in tensors(optimizer.state.get(p, {})).items():
            if k != "ema" or extras[1]:
                assert torch.equal(v, other.state[q][k]), k
    if extras[0] == extras[1]:
        fit(twin, other, 3)
        fit(whole, whole_optimizer, 3)
        for p, q in zip(whole.parameters(), twin.parameters(), strict=True):
            assert apart(q, p) <= CLASS_FLOAT32_FEW_STEPS


@pytest.mark.parametrize("flat", [False, True], ids=["nested", "flattened"])
@pytest.mark.parametrize(
    "sides", [(MINE, MINE), (MINE, TORCHS), (TORCHS, MINE)], ids=["self", "to torch", "from torch"]
)
@pytest.mark.parametrize("kind", DCP)
def test_distributed_checkpoints(kind: str, sides: tuple[Any, Any], flat: bool) -> None:
    moved_by_dcp(kind, flat, sides, (False, False))


@only_ours
@pytest.mark.parametrize(
    ("sides", "flat", "extras"),
    [
        ((MINE, MINE), False, (True, True)),
        ((MINE, MINE), True, (True, True)),
        ((MINE, TORCHS), False, (True, False)),
        ((MINE, TORCHS), True, (True, False)),
        # Flattened, the loader asks a checkpoint for each key of the live groups: one of torch's class has no clip_norm.
        ((TORCHS, MINE), False, (False, True)),
    ],
    ids=["self nested", "self flattened", "to torch nested", "to torch flattened", "from torch nested"],
)
@pytest.mark.parametrize("kind", ["AdamW", "SGD plain"])
def test_distributed_checkpoints_with_what_torch_lacks(
    kind: str, sides: Any, flat: bool, extras: tuple[bool, bool]
) -> None:
    moved_by_dcp(kind, flat, sides, extras)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # torch's own, on saving without a process group
@pytest.mark.parametrize("flat", [False, True], ids=["nested", "flattened"])
@pytest.mark.parametrize(
    "sides", [(MINE, MINE), (MINE, TORCHS), (TORCHS, MINE)], ids=["self", "to torch", "from torch"]
)
@pytest.mark.parametrize("kind", ["AdamW", "SGD momentum"])
def test_distributed_checkpoints_on_disk(kind: str, sides: tuple[Any, Any], flat: bool, tmp_path: Path) -> None:
    moved_by_dcp(kind, flat, sides, (False, False), tmp_path)

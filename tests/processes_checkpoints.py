"""Checkpoints of several processes, for tests/test_sharded.py: saved by some, loaded by others; and one process killed on the way.

The folder of the checkpoints is in STEPRULE_TEST_FOLDER.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from processes import CLIP, RATE, STEPS, batches, check_ends, fsdp2, net, run, whole_parameters
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from steprule import optim

FOLDER = Path(os.environ.get("STEPRULE_TEST_FOLDER", "."))
HALF = STEPS // 2
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "adamw": ("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    "sgd": ("SGD", RATE),
    "all": ("SGD", {**RATE, "clip_norm": CLIP, "ema_decay": 0.9}),
}
SIDES = {"ours": optim, "torchs": torch.optim}
MOVES = [
    (kind, saves, loads, flat)
    for kind, saves, loads, flat in itertools.product(SETTINGS, SIDES, SIDES, (False, True))
    if (saves, loads) != ("torchs", "torchs") and (kind != "all" or saves == loads == "ours")
]
"""What is saved, by whose class and for whose, and whether the optimizer's part is flattened."""


def made(kind: str, side: str, model: nn.Sequential) -> Any:
    """Two groups with rates of their own."""
    name, settings = SETTINGS[kind]
    groups: list[dict[str, Any]] = [
        {"params": model[0].parameters(), "lr": 0.02},
        {"params": [*model[2].parameters(), *model[4].parameters()]},
    ]
    return getattr(SIDES[side], name)(groups, **settings)


def train(model: Any, optimizer: Any, begin: int, end: int, *, whole: bool = False) -> None:
    rank, world = (0, 1) if whole else (dist.get_rank(), dist.get_world_size())
    for x, y in batches()[begin:end]:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x[rank::world]), y[rank::world]).backward()
        optimizer.step()


def held(model: Any, optimizer: Any, *, flat: bool) -> dict[str, Any]:
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    return {
        "model": get_model_state_dict(model),
        "optimizer": get_optimizer_state_dict(model, optimizer, options=options),
    }


def load(model: Any, optimizer: Any, path: Path, *, flat: bool) -> None:
    state = held(model, optimizer, flat=flat)
    dcp.load(state, checkpoint_id=path)
    set_model_state_dict(model, state["model"])
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    set_optimizer_state_dict(model, optimizer, state["optimizer"], options=options)


def alone(kind: str) -> list[Tensor]:
    model = net()
    train(model, made(kind, "ours" if kind == "all" else "torchs", model), 0, STEPS, whole=True)
    return whole_parameters(model)


def path_of(move: tuple[str, str, str, bool]) -> Path:
    return FOLDER / "-".join(map(str, move))


def case_save() -> None:
    for move in MOVES:
        kind, saves, _, flat = move
        model = fsdp2()
        optimizer = made(kind, saves, model)
        train(model, optimizer, 0, HALF)
        dcp.save(held(model, optimizer, flat=flat), checkpoint_id=path_of(move))


def case_load() -> None:
    for move in MOVES:
        kind, _, loads, flat = move
        model = fsdp2()
        with torch.no_grad():
            for p in model.parameters():
                p.zero_()
        optimizer = made(kind, loads, model)
        load(model, optimizer, path_of(move), flat=flat)
        train(model, optimizer, HALF, STEPS)
        check_ends(model, alone(kind))


def case_load_whole() -> None:
    """One process with plain parameters."""
    for move in MOVES:
        kind, _, loads, flat = move
        model = net()
        optimizer = made(kind, loads, model)
        load(model, optimizer, path_of(move), flat=flat)
        train(model, optimizer, HALF, STEPS, whole=True)
        check_ends(model, alone(kind))


def case_killed() -> None:
    """A process dies at a step, another at a later one, that one while the others save; begun anew, all go on from what was saved.

    STEPRULE_TEST_DIED says how often one has died.
    """
    died = int(os.environ["STEPRULE_TEST_DIED"])
    rank, latest = dist.get_rank(), FOLDER / "latest"
    model = fsdp2()
    optimizer = made("all", "ours", model)
    begin = 0
    if latest.exists():
        begin = int(latest.read_text(encoding="utf-8"))
        load(model, optimizer, FOLDER / f"step{begin}", flat=False)
    assert (begin > 0) == (died > 0)
    for t in range(begin, STEPS):
        if (died, t, rank) == (0, 2, dist.get_world_size() - 1):
            os.kill(os.getpid(), signal.SIGKILL)
        train(model, optimizer, t, t + 1)
        path = FOLDER / f"step{t + 1}"
        state = held(model, optimizer, flat=False)
        if (died, t) == (1, 4):
            if rank == 0:
                os.kill(os.getpid(), signal.SIGKILL)  # the others have begun to save
        elif rank == 0:
            shutil.rmtree(path, ignore_errors=True)  # what was saved in part by those that were ended
        dcp.save(state, checkpoint_id=path)
        if rank == 0:
            aside = latest.with_suffix(".part")
            aside.write_text(str(t + 1), encoding="utf-8")
            os.replace(aside, latest)
        dist.barrier()
    check_ends(model, alone("all"))


if __name__ == "__main__":
    run(globals(), sys.argv[1:])

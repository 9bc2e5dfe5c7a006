"""A long training with checkpoints, for tests/test_long_runs.py to kill: `long_training.py FOLDER STEPS EVERY [DIES_AT_SAVE]`.

It goes on from the checkpoint that it finds, and ends with FOLDER/end.pt. With DIES_AT_SAVE it kills itself in the middle of writing
that checkpoint of its own, counted from 1.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from steprule import optim


def everything(model: nn.Module, optimizer: Any, schedule: Any, t: int) -> dict[str, Any]:
    return {"t": t, "model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}


def save(state: dict[str, Any], path: Path, *, dies: bool = False) -> None:
    """Aside, then renamed: a checkpoint is whole or not there."""
    held = io.BytesIO()
    torch.save(state, held)
    aside = path.with_suffix(".part")
    with aside.open("wb") as file:
        file.write(held.getvalue()[: held.tell() // 2])
        file.flush()
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        file.write(held.getvalue()[held.tell() // 2 :])
    os.replace(aside, path)


def main(folder: Path, steps: int, every: int, dies_at_save: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    low = nn.Linear(8, 4).to(torch.bfloat16)
    first = nn.Linear(5, 8)
    model = nn.ModuleList([first, low])
    groups = [{"params": first.parameters(), "ema_decay": 0.99}, {"params": low.parameters(), "lr": 1e-3}]
    settings: dict[str, Any] = {"lr": 1e-2, "clip_norm": 0.5, "rounding": "stochastic", "seed": 7, "nonfinite": "skip"}
    optimizer: Any = optim.AdamW(groups, **settings)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    xs = torch.randn(64, 6, 5)
    path, begin, saved = folder / "checkpoint.pt", 0, 0
    if path.exists():
        held = torch.load(path, weights_only=True)
        model.load_state_dict(held["model"])
        optimizer.load_state_dict(held["optimizer"])
        schedule.load_state_dict(held["schedule"])
        begin = held["t"]
    for t in range(begin, steps):
        x = xs[t % 64]
        optimizer.zero_grad()
        loss = low(first(x).tanh().to(torch.bfloat16)).float().square().mean() + 0.01 * first.weight.square().sum()
        (loss * float("nan") if t % 997 == 0 else loss).backward()
        optimizer.step()
        schedule.step()
        if (t + 1) % every == 0:
            saved += 1
            save(everything(model, optimizer, schedule, t + 1), path, dies=saved == dies_at_save)
    save(everything(model, optimizer, schedule, steps), folder / "end.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(a) for a in sys.argv[2:4]), int(sys.argv[4]) if len(sys.argv) > 4 else 0)

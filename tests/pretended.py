"""Races whose losses are given: the protocol's lanes as they are, with results that a test writes, so that truth is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from steprule import races
from steprule.hyper import Search
from steprule.problems.problem import Problem
from steprule.provenance import Made
from steprule.races import runner
from steprule.races.chain import Block, Chain, Lanes, Phase
from steprule.races.raced import Race
from steprule.races.spec import spec_of

Losses = NDArray[np.float64]
MADE = Made("2026-11-27T12:00:00+00:00", "0123456789abcdef", "", {"steprule": "0.1.0", "torch": "2.13.0"}, "none")
Loss = Callable[[str, int, np.random.Generator], float]
"""By label and seed what a training ends at."""
SPLITS = ("train", "validation", "test")


def problem(name: str = "made up", *, splits: tuple[str, ...] = SPLITS, **more: Any) -> Problem:
    """A line through twelve points, with these splits."""
    x = torch.linspace(-1, 1, 12)[:, None]
    held = {part: (x, 2 * x) for part in splits if part != "train"}
    return Problem(name, "a line", x, 2 * x, lambda: nn.Linear(1, 1), nn.functional.mse_loss, **held, **more)


def pretended(
    ends: Mapping[str, Any], *, initial: float = 1.0, untuned: Mapping[str, Any] | None = None, task: Problem | None = None,
    matters: float = 0.01, trials: int = 8, at: float = 0.5, schedules: tuple[str, ...] = ("linear",), optimizers: Mapping[str, Any] | None = None,
) -> Race:  # fmt: skip
    """A race in which each competitor's winners end at these losses, [studies, fresh seeds]; nan where they diverge.

    Args:
        ends: by label.
        initial: the loss before the first step.
        untuned: by label the loss with the defaults, [fresh seeds]; where they began if not given.
        optimizers: by label what runs under it; SGD if not given.
        at: where on its range the best learning rate of every study lies.
    """
    losses = {label: np.atleast_2d(np.asarray(end, dtype=float)) for label, end in ends.items()}
    studies, fresh = next(iter(losses.values())).shape
    on = task or problem()
    what = dict.fromkeys(ends, "sgd") | dict(optimizers or {})
    rivals = [races.Competitor(what[label], {"lr": Search(1e-5, 10)}, label=label) for label in ends]
    spec = spec_of(rivals, on, trials, studies, fresh=fresh, schedules=schedules, compile=False)
    phases: dict[Chain, list[Phase]] = {}
    for schedule in schedules:
        for label, end in losses.items():
            chain, done = Chain(on.name, schedule, label), []
            while planned := spec.protocol.following(chain, spec.entrant(label), done):
                name, space, lanes = planned.name, planned.space, planned.lanes
                away = np.abs(np.array([space["lr"].share(v) for v in lanes.hypers["lr"]]) - at)
                best = float(np.nanmin(end)) if np.isfinite(end).any() else np.nan
                tried = best + (initial - best) * away
                other = (
                    np.full(fresh, initial) if untuned is None else np.asarray(untuned.get(label, initial), dtype=float)
                )
                roles = {
                    "trial": tried,
                    "rate": np.full(len(tried), best),
                    "default": np.zeros(len(tried)),
                    "winner": np.zeros(len(tried)),
                }
                found = np.select([lanes.role == r for r in roles], list(roles.values()))
                found[lanes.role == "winner"] = end.ravel()[: (lanes.role == "winner").sum()]
                found[lanes.role == "default"] = np.broadcast_to(other, fresh)[: (lanes.role == "default").sum()]
                done.append(Phase(name, space, lanes, _results(found, lanes, initial)))
            phases[chain] = done
    return Race(spec, phases, matters, 0.0, 0.0, 0, 0, "none", None, MADE)


def made_up(monkeypatch: pytest.MonkeyPatch, loss: Loss) -> list[Block]:
    """A race whose trainings, in this process, end at given losses; gives the list of blocks that it trains."""
    trained: list[Block] = []

    def train_block(_: Any, block: Block) -> tuple[dict[str, Any], float]:
        trained.append(block)
        ends = []
        for k, seed in enumerate(block.lanes.seed.tolist()):
            rng = np.random.default_rng([seed, k, *block.chain.label.encode()])
            ends.append(loss(block.chain.label, seed, rng))
        found, first = np.array(ends), np.full(len(ends), 10.0)
        curve = np.linspace(first, found, 30, axis=1)
        none = np.zeros((len(ends), 0))
        return {
            **dict.fromkeys(("train", "validation", "test"), found),
            "initial": first, "died_at": np.zeros(len(ends), dtype=np.int64), "curve": curve, "metrics": none,
        }, 1.0  # fmt: skip

    monkeypatch.setattr(runner.work, "train_block", train_block)
    return trained


def _results(found: Losses, lanes: Lanes, initial: float) -> dict[str, Any]:
    died = ~np.isfinite(found)
    fall = np.linspace(np.full(len(lanes), initial), np.where(died, initial, found), 30, axis=1)
    return {
        **dict.fromkeys(SPLITS, found),
        # Who ends at some loss on the held-out samples has learnt, whatever that loss is.
        "train": np.where(died, np.nan, np.minimum(found, initial)),
        "initial": np.full(len(lanes), initial),
        "died_at": died.astype(np.int64),
        "curve": np.where(died[:, None], np.inf, fall),
    }

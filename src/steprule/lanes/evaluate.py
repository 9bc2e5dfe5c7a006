"""Losses and metrics of many lanes on whole parts of the data, in parts that memory can hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from steprule.lanes import vmapped
from steprule.lanes.model import blank
from steprule.lanes.records import Array
from steprule.lanes.vmapped import lane_by_lane, lanes_first
from steprule.problems.batch import mapped, stacked
from steprule.problems.facts import facts_of
from steprule.problems.problem import Problem
from steprule.problems.scoring import row_of, scores_of


def evaluate(task: Problem, p: Array, x: Tensor, y: Tensor) -> Array:
    """The loss of every lane of p [rows, lanes] on some samples, in parts that memory can hold."""
    facts = facts_of(task)
    if facts.reduction == "whole" or len(x) <= facts.at_once:
        return _evaluated(task, p, x, y)
    total = np.zeros(p.shape[1])
    for low in range(0, len(x), facts.at_once):
        part = slice(low, low + facts.at_once)
        share = len(x[part]) / len(x) if facts.reduction == "mean" else 1.0
        total += _evaluated(task, p, x[part], y[part]) * share
    return total


def _evaluated(task: Problem, p: Array, x: Tensor, y: Tensor) -> Array:
    model = blank(task).eval()
    shapes = {n: q.shape for n, q in model.named_parameters()}

    def loss_of(params: dict[str, Tensor]) -> Tensor:
        return task.loss(functional_call(model, params, (x.clone(),)), y.clone())  # which may be worked on in place

    chunk = _lanes_at_once(task, len(x))
    found = []
    with torch.no_grad():
        for low in range(0, p.shape[1], chunk):
            part = lanes_first(torch.from_numpy(p[:, low : low + chunk]), shapes)
            try:
                found.append(vmap(loss_of)(part).numpy())
            except Exception:  # noqa: BLE001  (whatever a user's model raises that vmap cannot take)
                found.append(np.array([float(loss) for loss in lane_by_lane(loss_of, part)]))
    return np.concatenate(found)


def score(task: Problem, p: Array) -> Array:
    """The metrics of every lane of p [rows, lanes] on every part, [lanes, columns]: outputs together, each metric lane by lane."""
    lanes = p.shape[1]
    if not task.metrics:
        return np.empty((lanes, 0))
    model = blank(task).eval()
    shapes = {n: q.shape for n, q in model.named_parameters()}
    held: dict[str, Any] = {"train": (task.features, task.targets), "validation": task.validation, "test": task.test}
    chunk = _lanes_at_once(task, sum(part.samples for part in task.parts.values()))
    found = []
    with torch.no_grad():
        for low in range(0, lanes, chunk):
            params = lanes_first(torch.from_numpy(np.ascontiguousarray(p[:, low : low + chunk])), shapes)
            outputs = {n: _outputs(model, params, held[n][0]) for n in task.parts}
            for k in range(min(chunk, lanes - low)):
                own = {n: scores_of(task, mapped(outputs[n], lambda t, k=k: t[k]), held[n][1]) for n in task.parts}  # type: ignore[misc]
                found.append(row_of(task, own))
    return np.array(found)


def _lanes_at_once(task: Problem, samples: int) -> int:
    return max(1, vmapped.ROOM // max(1, samples * facts_of(task).sample_bytes))


def _outputs(model: nn.Module, params: dict[str, Tensor], x: Tensor) -> Any:
    """What the model gives for each lane, [lanes, samples, ...]."""

    def of_lane(own: dict[str, Tensor]) -> Any:
        return functional_call(model, own, (x.clone(),))

    try:
        return vmap(of_lane)(params)
    except Exception:  # noqa: BLE001  (whatever a user's model raises that vmap cannot take)
        return stacked(lane_by_lane(of_lane, params))

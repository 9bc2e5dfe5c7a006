"""The loss and the metrics of a model on a part of the data.

A metric is called once, on the outputs of all samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from steprule.alone import drawing
from steprule.errors import InputError, InputTypeError, StepruleError
from steprule.foreign import refusal
from steprule.problems import batch
from steprule.problems.facts import evaluating, facts_of
from steprule.problems.source import Source
from steprule.problems.task import Task

Scores = Mapping[str, Mapping[str, float]]
"""By part, then by metric."""


def measured(task: Task, model: nn.Module, part: Source) -> float:
    """The loss on these samples, in eval mode and without gradients; in parts that memory can hold where it is their mean or sum."""
    facts = facts_of(task)
    size = part.samples if facts.reduction == "whole" else facts.at_once
    total = 0.0
    with torch.no_grad(), evaluating(model), drawing():
        for piece, count in part.pieces(size):
            own = float(task.loss_of(model, piece))
            if count == part.samples:
                return own
            total += own * (count / part.samples if facts.reduction == "mean" else 1.0)
    return total


def scored(task: Task, model: nn.Module, parts: Mapping[str, Source]) -> dict[str, dict[str, float]]:
    """Every metric on every part, in eval mode and without gradients; nan where an output is not finite.

    Raises `InputError` for a metric that raises or gives anything but one number.
    """
    found = {}
    for name, part in parts.items():
        with torch.no_grad(), evaluating(model), drawing():
            pairs = [task.outputs_of(model, piece) for piece, _ in part.pieces(facts_of(task).at_once)]
        outputs, targets = (_joined(list(side), task) for side in zip(*pairs, strict=True))
        found[name] = scores_of(task, outputs, targets)
    return found


def scores_of(task: Task, outputs: Any, targets: Any) -> dict[str, float]:
    """Every metric of these outputs; nan where an output is not finite."""
    tensors = batch.tensors(outputs)
    if not all(bool(torch.isfinite(t).all()) for t in tensors if t.is_floating_point()):
        return dict.fromkeys(task.metrics, math.nan)
    found = {}
    for name, metric in task.metrics.items():
        where = f"problem {task.name}: metric {name}"
        try:
            with torch.no_grad(), drawing():
                # Copies, on which a metric may work in place: the next one and the training see what they saw.
                value = metric(*(batch.mapped(side, lambda t: t.detach().cpu().clone()) for side in (outputs, targets)))
        except StepruleError as error:
            raise InputError(
                f"{where}: {error.what}", expected=error.expected, got=error.got, hint=error.hint
            ) from error
        except Exception as error:
            raise refusal(where, error) from error
        found[name] = _number(value, where)
    return found


@lru_cache(maxsize=64)
def check_metrics(task: Task) -> None:
    """Compute every metric once, of a model before its first step. Raises `InputError` for one that fails, or gives nan."""
    if not task.metrics:
        return
    model = task.initial_model(0)
    for part, scores in scored(task, model, task.parts).items():
        for name, value in scores.items():
            if math.isnan(value):
                hint = "Return a number also for a model that has learnt nothing."
                where = f"problem {task.name}: metric {name} on the {part} data"
                raise InputError(where, expected="a number", got="nan", hint=hint)


def row_of(task: Task, scores: Scores) -> list[float]:
    """The scores in the order of `task.metric_columns`."""
    return [scores[part][name] for part, name in task.metric_columns]


def by_part(columns: Sequence[tuple[str, str]], values: Any) -> dict[str, dict[str, Any]]:
    """What `row_of` made, [..., columns], by part and metric again."""
    found: dict[str, dict[str, Any]] = {}
    for k, (part, name) in enumerate(columns):
        found.setdefault(part, {})[name] = np.asarray(values)[..., k]
    return found


def in_words(scores: Scores) -> str:
    """`accuracy: train 0.91, validation 0.88; r2: …`"""
    names = next(iter(scores.values()), {})
    return "; ".join(f"{n}: " + ", ".join(f"{part} {own[n]:.4g}" for part, own in scores.items()) for n in names)


def _number(value: Any, where: str) -> float:
    single = value.item() if isinstance(value, Tensor | np.ndarray | np.generic) and _size(value) == 1 else value
    if not isinstance(single, bool | int | float):
        shape = f"a {type(value).__name__}" + (f" of shape {list(value.shape)}" if hasattr(value, "shape") else "")
        raise InputTypeError(where, expected="one number", got=shape)
    return float(single)


def _size(value: Tensor | np.ndarray[Any, Any] | np.generic) -> int:
    return value.numel() if isinstance(value, Tensor) else int(value.size)


def _joined(pieces: list[Any], task: Task) -> Any:
    """The pieces of a pass one behind the other."""
    first = pieces[0]
    if isinstance(first, Mapping):
        return {name: _joined([piece[name] for piece in pieces], task) for name in first}
    if isinstance(first, tuple | list):
        return tuple(_joined([piece[k] for piece in pieces], task) for k in range(len(first)))
    if len(pieces) == 1 and isinstance(first, Tensor):
        return first
    if not isinstance(first, Tensor) or not first.ndim:
        got = "a number" if isinstance(first, Tensor) else f"a {type(first).__name__}"
        raise InputTypeError(f"problem {task.name}: metrics", expected="outputs and targets by sample", got=got)
    try:
        return torch.cat(pieces)
    except RuntimeError as error:
        raise refusal(f"problem {task.name}: metrics: outputs of two batches do not fit together", error) from error

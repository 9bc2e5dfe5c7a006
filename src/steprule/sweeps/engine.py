"""Train many lanes of one rule, one seed and one variant together: forward and backward over lanes, then the lane kernel.

Two ways forward and backward, with the same signature: the printed kernel, and `torch.vmap`, which needs no compilation
and takes whatever vmap takes. A lane's numbers depend on no other lane, nor on how many there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from steprule.compiler import eager
from steprule.compiler.lanes import LaneKernel
from steprule.compiler.split import program_of
from steprule.problems.problem import Init, Problem
from steprule.rules.rule import Rule
from steprule.sweeps.kernel import NotBatchable, compiled
from steprule.sweeps.model import traced
from steprule.training import SCHEDULES, batches

Array = NDArray[Any]
Engine = Literal["kernel", "vmap", "one by one"]
Gradients = Callable[[Array, Array, Tensor, Tensor, Array], None]
"""(p, g, x, y, losses): fills g [rows, lanes] and losses [lanes] from p [rows, lanes] and a batch."""

WINDOWS = 30
"""Points of a loss curve: each is the mean of the batch losses of a thirtieth of the steps."""
EVALUATE = 64_000_000
"""Numbers that an evaluation may hold at once."""


@dataclass(frozen=True)
class Outcome:
    """What became of each lane."""

    train: Array
    """The loss on all training samples after the last step, [lanes]."""
    validation: Array
    test: Array
    """The same on what was held out; nan where the problem holds nothing out."""
    initial: float
    """The loss on all training samples before the first step."""
    died_at: NDArray[np.int64]
    """The step whose batch loss was not finite, [lanes]; 0 for a lane that lived. It keeps the values it had then."""
    curve: Array
    """[lanes, WINDOWS]"""


def train_lanes(
    task: Problem, rule: Rule, hypers: Mapping[str, Array], seed: int, *, epochs: int, batch_size: int,
    schedule: str = "constant", init: Init = "same", engine: Engine = "kernel",
    progress: Callable[[float], None] = lambda share: None,
) -> Outcome:  # fmt: skip
    """Train every lane; `hypers` gives all of the rule's hyperparameters, [lanes], all of one variant.

    Raises `NotBatchable` where this engine cannot take the model.
    """
    lanes = len(next(iter(hypers.values())))
    model = task.initial_model(seed, init, torch_class=False)
    flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()]).numpy()
    plan = list(batches(len(task.features), batch_size, epochs, seed))
    functions = {len(rows): gradients_of(task, len(rows), engine) for rows in plan}
    width = math.lcm(*(w for _, w in functions.values()))
    padded = -(-lanes // width) * width
    # Lanes beyond the last do what the last does, and are cut off.
    full = {n: np.concatenate([v, np.repeat(v[-1:], padded - lanes)]) for n, v in hypers.items()}
    switches = tuple((h.name, bool(full[h.name][0] != 0)) for h in rule.hypers if h.switches)
    columns: dict[str, Array] = {"p": np.repeat(flat[:, None], padded, axis=1)}
    columns["g"] = np.empty_like(columns["p"])
    absent: frozenset[str] = frozenset()
    for slot in rule.slots:
        if slot.name in eager.slots_of(rule, switches) and not slot.per_tensor:
            absent |= {slot.name} if slot.absent_at_first else frozenset()
            value = full[slot.start] if isinstance(slot.start, str) else slot.start
            columns[slot.name] = np.full_like(columns["p"], value)
    sizes = [p.numel() for p in model.parameters()]
    kernel = LaneKernel(program_of(rule, switches, absent), full, sizes)
    losses = np.empty(padded, dtype=columns["p"].dtype)
    alive, died = np.ones(padded, dtype=np.uint8), np.zeros(padded, dtype=np.int64)
    curve, counts = np.zeros((WINDOWS, padded)), np.zeros(WINDOWS)
    initial = evaluate(task, columns["p"][:, :1], task.features, task.targets)[0]
    factor = SCHEDULES[schedule]
    with np.errstate(all="ignore"):
        for t, rows in enumerate(plan, 1):
            functions[len(rows)][0](columns["p"], columns["g"], task.features[rows], task.targets[rows], losses)
            finite = np.isfinite(losses)
            if not finite.all():
                died[(alive == 1) & ~finite] = t
                alive[~finite] = 0
            window = (t - 1) * WINDOWS // len(plan)
            curve[window] += losses
            counts[window] += 1
            kernel.step(t, columns, alive, factor(t, len(plan)))
            if t == 1 and absent:
                kernel = kernel.followed_by(program_of(rule, switches, frozenset()))
            if t % 50 == 0:
                progress(t / len(plan))
        curve /= np.maximum(counts, 1)[:, None]
    p = columns["p"][:, :lanes]
    held = [(task.features, task.targets), task.validation, task.test]
    scores = [evaluate(task, p, *part) if part else np.full(lanes, np.nan) for part in held]
    filled = _without_gaps(curve[:, :lanes].T, counts)
    return Outcome(scores[0], scores[1], scores[2], float(initial), died[:lanes], filled)


def _without_gaps(curve: Array, counts: Array) -> Array:
    """Windows of fewer steps than there are windows hold what the one before them holds."""
    last = np.maximum.accumulate(np.where(counts > 0, np.arange(len(counts)), 0))
    return curve[:, last]


@lru_cache(maxsize=64)
def gradients_of(task: Problem, batch: int, engine: Engine) -> tuple[Gradients, int]:
    """Forward and backward for batches of one size, and of what the number of lanes must be a multiple."""
    model = task.model()
    if engine == "vmap":
        return _vmapped(task, model), 1
    try:
        step = traced(task, model, batch)
    except NotBatchable:
        raise
    except Exception as error:
        raise NotBatchable(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    function, width = compiled(step, str(next(model.parameters()).dtype).removeprefix("torch."))

    def call(p: Array, g: Array, x: Tensor, y: Tensor, losses: Array) -> None:
        function(p, g, x.reshape(-1).numpy(), y.reshape(-1).numpy(), losses)

    return call, width


def _vmapped(task: Problem, model: nn.Module) -> Gradients:
    shapes = {n: p.shape for n, p in model.named_parameters()}

    def loss_of(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return task.loss(functional_call(model, params, (x,)), y)

    both = vmap(grad_and_value(loss_of), in_dims=(0, None, None))

    def call(p: Array, g: Array, x: Tensor, y: Tensor, losses: Array) -> None:
        try:
            gradients, found = both(_lanes_first(p, shapes), x, y)
        except Exception as error:
            raise NotBatchable(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
        row = 0
        for name, shape in shapes.items():
            g[row : row + shape.numel()] = gradients[name].reshape(p.shape[1], -1).numpy().T
            row += shape.numel()
        losses[:] = found.numpy()

    return call


def _lanes_first(p: Array, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    whole, row, params = torch.from_numpy(np.ascontiguousarray(p.T)), 0, {}
    for name, shape in shapes.items():
        params[name] = whole[:, row : row + shape.numel()].reshape(-1, *shape)
        row += shape.numel()
    return params


def evaluate(task: Problem, p: Array, x: Tensor, y: Tensor) -> Array:
    """The loss of every lane of p [rows, lanes] on some samples, in chunks of lanes that fit into memory."""
    model = task.model()
    shapes = {n: q.shape for n, q in model.named_parameters()}

    def loss_of(params: dict[str, Tensor]) -> Tensor:
        return task.loss(functional_call(model, params, (x,)), y)

    widest = max([*(s[0] for s in shapes.values() if len(s)), 1])
    chunk = max(1, EVALUATE // max(1, len(x) * widest))
    found = []
    with torch.no_grad():
        for low in range(0, p.shape[1], chunk):
            part = _lanes_first(p[:, low : low + chunk], shapes)
            try:
                found.append(vmap(loss_of)(part).numpy())
            except Exception:  # noqa: BLE001  (a model that vmap cannot take is evaluated lane by lane)
                count = len(next(iter(part.values())))
                found.append(np.array([float(loss_of({n: v[k] for n, v in part.items()})) for k in range(count)]))
    return np.concatenate(found)


def groups(rule: Rule, hypers: Mapping[str, Array]) -> list[Sequence[int]]:
    """The points that share a variant of the rule, in the order of their first."""
    switching = [h.name for h in rule.hypers if h.switches]
    keys: dict[tuple[bool, ...], list[int]] = {}
    for k in range(len(next(iter(hypers.values())))):
        keys.setdefault(tuple(bool(hypers[n][k] != 0) for n in switching), []).append(k)
    return list(keys.values())

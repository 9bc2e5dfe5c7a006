"""What a page needs to train by itself: samples, first weights, the order of a seed, rules' steps.

A seed is the same as elsewhere: the page's training with seed 7 is `steprule.train(..., seed=7)`, computed in float64.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from steprule.compiler import javascript
from steprule.compiler.variant import variant_of
from steprule.play.data import function
from steprule.play.dense import Network
from steprule.play.dense import javascript as dense_javascript
from steprule.problems.problem import Problem
from steprule.problems.source import stream
from steprule.rules.rule import Rule

MOST_BITS = 2**32
"""torch's generator takes that much of a seed."""


def samples(task: Problem) -> dict[str, Any]:
    """The data that a problem trains on, [samples, features + 1], the target last, as float32 in base64."""
    rows = np.column_stack([np.asarray(task.features), np.asarray(task.targets).reshape(task.samples)])
    return {"samples": task.samples, "rows": packed(rows)}


def beginnings(task: Problem, seeds: int) -> str:
    """The first parameters of seeds 0, 1 and so on, [seeds, parameters], as float32 in base64."""
    models = (task.initial_model(seed) for seed in range(seeds))
    flat = [np.concatenate([p.detach().numpy().ravel() for p in model.parameters()]) for model in models]
    return packed(np.stack(flat))


def streams(seeds: int) -> list[int]:
    """With what torch's generator begins that draws the orders of seeds 0, 1 and so on."""
    return [stream(seed, 1) % MOST_BITS for seed in range(seeds)]


def packed(numbers: Any) -> str:
    """Numbers that are float32 already, in base64."""
    assert numbers.dtype == np.float32
    return base64.b64encode(numbers.astype("<f4").tobytes()).decode()


def run(rule: Rule, hypers: Mapping[str, Any]) -> dict[str, Any]:
    """What the page knows of a rule at some settings: its numbers, and how its states start."""
    bound = rule.bind(hypers)
    variant = variant_of(rule, bound)
    used = variant.slots - variant.first_absent
    slots = [{"name": s.name, "start": s.start, "perTensor": s.per_tensor} for s in rule.slots if s.name in used]
    return {"rule": rule.name, "hypers": bound, "slots": slots}


def code(net: Network, runs: Sequence[tuple[str, Rule, Mapping[str, Any]]]) -> str:
    """The network, and `STEPS`: by a run's key, for each tensor, the functions of its stages."""
    printed = []
    for key, rule, hypers in runs:
        variant = variant_of(rule, rule.bind(hypers))
        graphs = [variant.graph(absent) for absent in variant.stages]
        tensors = ", ".join(f"[{', '.join(function(g, t.size) for g in graphs)}]" for t in net.tensors)
        printed.append(f"{json.dumps(key)}: [{tensors}]")
    steps = ",\n".join(printed)
    return "\n".join([javascript.POWER, dense_javascript(net), f"const STEPS = {{\n{steps}\n}};"])

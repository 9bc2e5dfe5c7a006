"""The data with which a page trains by itself: samples, first weights and orders by seed, rules' steps.

A seed means the same as elsewhere: the page's training with seed 7 is `steprule.train(..., seed=7)`, computed in float64.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector

from steprule.compiler import javascript
from steprule.compiler.variant import variant_of
from steprule.errors import InputError
from steprule.play.dense import Network, javascript as dense_javascript
from steprule.play.printed import function
from steprule.problems.problem import Problem
from steprule.problems.source import stream
from steprule.rules.rule import Rule

MOST_BITS = 2**32
"""torch's generator takes a seed modulo this number."""


def samples(task: Problem) -> dict[str, Any]:
    """A problem's training data, [samples, features + 1], the target last, as float32 in base64."""
    targets = np.asarray(task.targets).reshape(task.samples)
    rows = np.column_stack([np.asarray(task.features), targets])
    return {"samples": task.samples, "rows": packed(rows)}


def beginnings(task: Problem, seeds: int) -> str:
    """The first parameters of seeds 0, 1 and so on, [seeds, parameters], as float32 in base64."""
    flat = [parameters_to_vector(task.initial_model(seed).parameters()) for seed in range(seeds)]
    return packed(torch.stack(flat).detach().numpy())


def streams(seeds: int) -> list[int]:
    """The seeds of torch's generator that give the orders of samples for seeds 0, 1 and so on."""
    return [stream(seed, 1) % MOST_BITS for seed in range(seeds)]


def packed(numbers: Any) -> str:
    """Numbers that are float32 already, in base64."""
    assert numbers.dtype == np.float32
    return base64.b64encode(numbers.astype("<f4").tobytes()).decode()


def run(rule: Rule, hypers: Mapping[str, Any]) -> dict[str, Any]:
    """A rule at some settings as the page needs it: its numbers, and how its states start."""
    bound = rule.bind(hypers)
    variant = variant_of(rule, bound)
    used = variant.slots - variant.first_absent
    slots = [{"name": s.name, "start": s.start, "perTensor": s.is_number} for s in rule.states if s.name in used]
    return {"rule": rule.name, "hypers": bound, "slots": slots}


def code(net: Network, runs: Sequence[tuple[str, Rule, Mapping[str, Any]]]) -> str:
    """The network, and `STEPS`: by a run's key the functions of its stages, per tensor."""
    printed = []
    for key, rule, hypers in runs:
        variant = variant_of(rule, rule.bind(hypers))
        graphs = [variant.graph(absent) for absent in variant.stages]
        if any(map(variant.rounds, variant.stages)) or variant.looks:
            how = "looks at the gradient twice" if variant.looks else "asks for a total over all of them"
            got = f"{rule.name}, which {how}"
            raise InputError("a page that trains", expected="a rule that steps each tensor for itself", got=got)
        tensors = []
        for tensor in net.tensors:
            stages = ", ".join(function(graph, tensor.size) for graph in graphs)
            tensors.append(f"[{stages}]")
        printed.append(f"{json.dumps(key)}: [{', '.join(tensors)}]")
    steps = ",\n".join(printed)
    return "\n".join([javascript.POWER, dense_javascript(net), f"const STEPS = {{\n{steps}\n}};"])

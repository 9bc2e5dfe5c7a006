"""Which form of Kahan summation is nearest to float64: the rule steps from the parameter and what it lost, or from the parameter alone.

    python benchmarks/kahan_forms.py [--steps 300] [--out benchmarks/results/kahan-forms.json]

Each rule takes the same gradients in float64, and on low parameters by three forms: to the nearest; from p + c; from p, with c added to
the step. The author's function runs in float32 with states in float32. Printed is the root of the mean square of the distance to float64.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steprule import rules
from steprule.benching import machine
from steprule.compiler import eager
from steprule.rules.parts import composed
from steprule.rules.rule import Rule

SIZE = 4_000
NEAREST, SUM, STEP = "to the nearest", "from p + c", "from p, c added"
CASES: dict[str, tuple[Rule, dict[str, float]]] = {
    "sgd": (composed(rules.get("sgd")), {"lr": 1e-3, "weight_decay": 0.1}),
    "adamw": (composed(rules.get("adamw")), {"lr": 1e-4, "weight_decay": 0.1}),
    "lion": (composed(rules.get("lion")), {"lr": 1e-5}),
    "lookahead_sgd": (rules.lookahead(rules.get("sgd")), {"lr": 1e-3}),
    "schedule_free_sgd": (composed(rules.get("schedule_free_sgd")), {"lr": 1e-3}),
}


def ends(rule: Rule, settings: dict[str, float], dtype: torch.dtype, form: str, steps: int) -> Tensor:
    """The parameters behind the steps, with what they have lost, in float64."""
    generator = torch.Generator().manual_seed(0)
    start, hypers = torch.randn(SIZE, generator=generator).to(dtype), rule.bind(settings)
    exact = form == "float64"
    p = start.double() if exact else start
    lost, state = torch.zeros_like(p), dict[str, Any]()
    for t in range(1, steps + 1):
        g = torch.randn(SIZE, generator=generator) + 0.3
        if exact:
            p, state = eager.step(rule, p, g.double(), state, t, hypers)
            continue
        begin = p.float() + lost.float() if form == SUM else p.float()
        new, state = eager.step(rule, begin, g, state, t, hypers)
        if form == STEP:
            new = p.float() + ((new - begin) + lost.float())
        p = new.to(dtype)
        lost = lost if form == NEAREST else (new - p.float()).to(dtype)
    return p.double() + lost.double()


def main() -> None:
    """Measure all cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, (rule, settings) in CASES.items():
        for dtype in (torch.bfloat16, torch.float16):
            exact = ends(rule, settings, dtype, "float64", given.steps)
            own = found.setdefault(name, {})[str(dtype).removeprefix("torch.")] = {}
            for form in (NEAREST, SUM, STEP):
                apart = ends(rule, settings, dtype, form, given.steps) - exact
                own[form] = float(apart.square().mean().sqrt())
            print(name, dtype, ", ".join(f"{form}: {value:.1e}" for form, value in own.items()))
    if given.out:
        given.out.write_text(json.dumps({"machine": machine(), "steps": given.steps, "rms": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()

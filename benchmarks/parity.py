"""How far each rule is from torch's class: 100 steps in float64, every option away from neutral, parameters and all states.

    python benchmarks/parity.py [--out FILE]

The runs are those of `tests/test_torch_parity.py`; here the largest relative differences are written down. For a rule that torch
lacks, it is the compiled step against the rule's own function, on the same loss, in every variant. Each step is given a closure, for rules
that look twice.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from steprule import Rule, optim, rules
from steprule.provenance import versions
from steprule.rules.parts import composed

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import test_torch_parity as parity
from grid import COUNTERPARTS
from test_forms import hypers_of

Tensors = list[torch.Tensor]

NEWTON_SCHULZ = {"ns_coefficient1": 3.4445, "ns_coefficient2": -4.7750, "ns_coefficient3": 2.0315, "precision": "full"}
"""The published coefficients: others converge less, so that rounding grows. No rounding to bfloat16, which says nothing of float64."""


def closure_of(optimizer: Any, params: Tensors, curvature: Tensors, wobble: Tensors) -> Callable[[], torch.Tensor]:
    """The loss whose gradient is c p + sin(5 p) + w."""

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        terms = zip(params, curvature, wobble, strict=True)
        loss = torch.stack([(c * p**2 / 2 - torch.cos(5 * p) / 5 + w * p).sum() for p, c, w in terms]).sum()
        loss.backward()
        return loss

    return closure


def against_its_function(rule: Rule) -> dict[str, Any]:
    """The largest relative difference of the compiled step from the function, over all variants."""
    worst, whole, made = 0.0, composed(rule), optim.from_rule(rule)
    variants = list(whole.variants())
    for variant in variants:
        hypers = hypers_of(whole, variant)
        hypers |= {name: value for name, value in NEWTON_SCHULZ.items() if name in hypers}
        generator = torch.Generator().manual_seed(7)
        starts = [torch.randn(shape, generator=generator) for shape in parity.SHAPES]
        curvature = [torch.rand(shape, generator=generator) * 3 + 0.1 for shape in parity.SHAPES]
        sides = []
        for backend in ("numba", "eager"):
            params = [s.clone().requires_grad_() for s in starts]
            sides.append((params, made(params, backend=backend, **hypers)))
        for _ in range(parity.STEPS):
            wobble = [torch.randn(shape, generator=generator) * 0.1 for shape in parity.SHAPES]
            for params, optimizer in sides:
                optimizer.step(closure_of(optimizer, params, curvature, wobble))
            (ours, compiled), (theirs, plain) = sides
            for p, q in zip(ours, theirs, strict=True):
                pairs = [(p.detach(), q.detach())]
                pairs += [(value, plain.state[q][name]) for name, value in compiled.state[p].items()]
                for a, b in pairs:
                    a, b = (torch.as_tensor(v, dtype=torch.float64) for v in (a, b))
                    worst = max(worst, parity.apart(a, b))
    assert worst <= parity.TORCH_FLOAT64, (rule.name, worst)
    options = sorted(whole.defaults)
    return {"settings": len(variants), "options": options, "steps": parity.STEPS, "largest": worst}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description="Parity with torch, rule by rule.")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    measure, found = parity.apart, {}
    for case in COUNTERPARTS:
        worst = 0.0

        def seen(a: torch.Tensor, b: torch.Tensor) -> float:
            nonlocal worst
            worst = max(worst, measure(a, b))
            return worst

        parity.apart = seen
        settings = case.settings()
        for chosen in settings:
            parity.run_both(case, chosen, tolerance=parity.TORCH_FLOAT64)
        found[case.rule] = {
            "torch": f"torch.optim.{case.torch_class.__name__}",
            "settings": len(settings),
            "options": sorted({n for s in settings for n in s}),
            "steps": parity.STEPS,
            "largest": worst,
        }
        print(f"{case.rule:10s} {len(settings):3d} settings  {worst:.1e}")
    parity.apart = measure
    for rule in rules.CATALOGUE.values():
        if rule.name not in found:
            found[rule.name] = against_its_function(rule)
            print(f"{rule.name:20s} {found[rule.name]['settings']:3d} variants  {found[rule.name]['largest']:.1e}")
    if options.out:
        about = {"versions": versions(), "date": time.strftime("%Y-%m-%d"), "tolerance": parity.TORCH_FLOAT64}
        options.out.write_text(json.dumps({"rules": found, **about}, indent=1) + "\n")


if __name__ == "__main__":
    main()

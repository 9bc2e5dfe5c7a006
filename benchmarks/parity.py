"""How far each rule is from torch's class: 100 steps in float64, every option away from neutral, parameters and all states.

    python benchmarks/parity.py [--out FILE]

The runs are those of `tests/test_torch_parity.py`; here the largest relative differences are written down.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from steprule.training import versions

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import test_torch_parity as parity
from grid import COUNTERPARTS


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description="Parity with torch, rule by rule.")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    measure, found = parity.largest_difference, {}
    for case in COUNTERPARTS:
        worst = 0.0

        def seen(a: torch.Tensor, b: torch.Tensor) -> float:
            nonlocal worst
            worst = max(worst, measure(a, b))
            return worst

        parity.largest_difference = seen
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
    if options.out:
        about = {"versions": versions(), "date": time.strftime("%Y-%m-%d"), "tolerance": parity.TORCH_FLOAT64}
        options.out.write_text(json.dumps({"rules": found, **about}, indent=1) + "\n")


if __name__ == "__main__":
    main()

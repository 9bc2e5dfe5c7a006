"""What the tracer of our own saves: time to import and trace every catalogue rule, beside importing torch.fx alone.

The other side traces nothing, so the ratio is a lower bound: it is the cost of importing torch. Each round starts a fresh
process for each side, in turn; the figure is the median of the ratios. Run:

    python benchmarks/show_without_torch.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 7
OURS = """
from steprule import rules
from steprule.compiler.tracer import trace
for rule in rules.CATALOGUE.values():
    assert trace(rule).nodes
"""
THEIRS = """
import torch.fx
from steprule import rules
assert torch.fx.Graph() is not None
assert rules.CATALOGUE
"""


def seconds(code: str) -> float:
    """Wall time of one fresh process that runs `code`."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def main() -> None:
    """Print the medians and their ratio."""
    seconds(OURS), seconds(THEIRS)  # warm the disk cache
    pairs = [(seconds(OURS), seconds(THEIRS)) for _ in range(ROUNDS)]
    ours, theirs = (statistics.median(p[k] for p in pairs) for k in range(2))
    ratio = statistics.median(b / a for a, b in pairs)
    print(f"ours, import and trace every rule: {ours:.3f} s; torch.fx, import alone: {theirs:.3f} s; ratio {ratio:.1f}")


if __name__ == "__main__":
    main()

"""A step of Prodigy beside its authors' class (prodigyopt): 48 matrices of 768 x 768, each with a vector of 768, in float32.

Both step in turn, each on tensors of its own with the same gradients; the figure is the median of the ratios. What is compiled is
compiled before. Afterwards both must have found the same distance and moved alike. Run, with prodigyopt installed:

    python benchmarks/prodigy.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import prodigyopt
import torch

from steprule.optim.classes import class_of

MATRICES, WIDTH, ROUNDS, WARM = 48, 768, 15, 3
SET = {"lr": 1.0, "betas": (0.9, 0.999), "eps": 1e-8, "d0": 1e-4}


def parameters() -> list[torch.Tensor]:
    """The tensors, with gradients that stay."""
    torch.manual_seed(0)
    found = []
    for _ in range(MATRICES):
        for shape in ((WIDTH, WIDTH), (WIDTH,)):
            p = (0.02 * torch.randn(shape)).requires_grad_()
            p.grad = torch.randn(shape) + 20 * p.detach()
            found.append(p)
    return found


def seconds(step: Callable[[], object]) -> float:
    """Wall time of one step."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def main() -> None:
    """Print the medians and their ratio."""
    mine, theirs = parameters(), parameters()
    own, other = class_of("Prodigy")(mine, **SET), prodigyopt.Prodigy(theirs, **SET)
    pairs = [(seconds(own.step), seconds(other.step)) for _ in range(WARM + ROUNDS)][WARM:]
    ours, peers = (statistics.median(pair[k] for pair in pairs) for k in range(2))
    ratio = statistics.median(b / a for a, b in pairs)
    apart = max(float((p - q).detach().abs().max() / q.detach().abs().max()) for p, q in zip(mine, theirs, strict=True))
    found = float(own.state[mine[0]]["d"]), other.param_groups[0]["d"]
    assert found[0] > SET["d0"]  # type: ignore[operator]
    print(f"ours {1000 * ours:.0f} ms, prodigyopt {1000 * peers:.0f} ms; ratio {ratio:.1f}")
    print(f"d {found[0]:.6g} and {found[1]:.6g}; parameters apart by {apart:.1e} of the largest")


if __name__ == "__main__":
    main()

"""AdamW by each way of rounding and of keeping states, beside float32: bytes, time of a step, loss over several seeds.

    python benchmarks/low_precision.py losses [--problem letters|gpt|gpt-10m] [--way "bfloat16"] [--seeds 5]
    python benchmarks/low_precision.py times
    python benchmarks/low_precision.py report [--figure docs/images/low-precision.svg]

Three models learn the letters of six sonnets: a network of the four letters before, and two GPTs. Each way trains from the same weights on
the same batches, with a learning rate that falls linearly to 0. The loss is that over the whole text, computed in float32 with the weights
that were reached. Differences to float32 are paired by seed, with 95 % intervals by Student's t. The time is that of `step()` alone,
medians of rounds in which the ways take turns. What is measured goes to `--out`; losses that stand there are not computed again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from steprule import optim
from steprule.benching import machine
from steprule.compiler import eager
from steprule.compiler.drawing import Key
from steprule.compiler.rounding import rounded
from steprule.problems import letters
from steprule.reports.style import LOOK
from steprule.reports.themed import svg
from steprule.rules.parts import composed

OUT = Path("benchmarks/results/low-precision.json")
LOW = torch.bfloat16


class StatesToTheNearest(torch.optim.Optimizer):
    """AdamW whose parameters are rounded by chance, and whose states are not: what rounding the states too is measured against."""

    def __init__(self, params: Any, lr: float, weight_decay: float, seed: int) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.rule, self.seed, self.taken = composed(optim.AdamW.rule), seed, 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """The author's function in float32; parameters by chance, states to the nearest."""
        self.taken += 1
        group = self.param_groups[0]
        hypers = self.rule.bind({"lr": group["lr"], "weight_decay": group["weight_decay"]})
        for k, p in enumerate(group["params"]):
            new, state = eager.step(self.rule, p.float(), p.grad.float(), self.state[p], self.taken, hypers)
            p.copy_(rounded(new, p, Key(self.seed, k), self.taken))
            self.state[p] = {name: v.to(p.dtype) for name, v in state.items() if isinstance(v, Tensor)}


@dataclass(frozen=True)
class Way:
    """How parameters are kept, and by which class and settings they are stepped."""

    dtype: torch.dtype
    settings: Mapping[str, Any]
    cls: Callable[..., Any] = optim.AdamW
    timed: bool = True


CHANCE = {"rounding": "stochastic", "seed": 1}
WAYS = {
    "float32": Way(torch.float32, {}),
    "float32, bfloat16 states": Way(torch.float32, {"state_dtype": LOW}),
    "float32, bfloat16 states, stochastic": Way(torch.float32, {**CHANCE, "state_dtype": LOW}),
    "bfloat16, torch's AdamW": Way(LOW, {}, torch.optim.AdamW),
    "bfloat16": Way(LOW, {}),
    "bfloat16, float32 states": Way(LOW, {"state_dtype": torch.float32}),
    "bfloat16, stochastic, states to the nearest": Way(LOW, {"seed": 1}, StatesToTheNearest, timed=False),
    "bfloat16, stochastic": Way(LOW, CHANCE),
    "bfloat16, stochastic, float32 states": Way(LOW, {**CHANCE, "state_dtype": torch.float32}),
    "bfloat16, kahan": Way(LOW, {"rounding": "kahan"}),
    "bfloat16, kahan, float32 states": Way(LOW, {"rounding": "kahan", "state_dtype": torch.float32}),
}
LETTERS = len(letters.ALPHABET)


@dataclass(frozen=True)
class Problem:
    """A model and how it trains; `sizes` are the width, the layers and the letters of context of a GPT."""

    rate: float
    steps: int
    sizes: tuple[int, int, int] = (0, 0, 0)


PROBLEMS = {
    "letters": Problem(3e-3, 1_000),
    "gpt": Problem(3e-4, 600, (128, 4, 32)),
    "gpt-10m": Problem(1e-4, 200, (320, 8, 64)),
}
BATCH, ROUNDS, SHAPE, TENSORS = 16, 15, (512, 512), 8


class Block(nn.Module):
    """Attention to what stands before, then two layers for each letter."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.back = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.heads = width // 32

    def forward(self, x: Tensor) -> Tensor:
        """[n, t, width] to the same."""
        n, t, width = x.shape
        parts = self.qkv(self.norms[0](x)).reshape(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(n, t, width))
        return x + self.back(functional.gelu(self.wide(self.norms[1](x))))


class GPT(nn.Module):
    """Letters [n, t] to the scores of each next one, [n, t, letters]."""

    def __init__(self, width: int, layers: int, context: int) -> None:
        super().__init__()
        self.letter, self.place = nn.Embedding(LETTERS, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(layers)))
        self.norm, self.score = nn.LayerNorm(width), nn.Linear(width, LETTERS)

    def forward(self, x: Tensor) -> Tensor:
        """The scores of the next letter, behind each."""
        at = torch.arange(x.shape[1])
        return self.score(self.norm(self.blocks(self.letter(x) + self.place(at))))  # type: ignore[no-any-return]


def network() -> nn.Module:
    """Of the letters before, [n, 4], to the scores of the next one."""
    return nn.Sequential(
        nn.Embedding(LETTERS, 16), nn.Flatten(), nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, LETTERS)
    )


def data_of(problem: Problem) -> tuple[Tensor, Tensor]:
    """Inputs and targets of the whole text."""
    before, after = map(torch.from_numpy, letters.load())
    context = problem.sizes[2]
    if not context:
        return before, after
    windows = after.unfold(0, context + 1, context // 2)
    return windows[:, :-1], windows[:, 1:]


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The mean cross entropy, in float32."""
    return functional.cross_entropy(model(x).float().flatten(0, -2), y.flatten())


def trained(problem: Problem, way: Way, seed: int) -> tuple[float, float, int]:
    """The loss at the end, the bytes per parameter of weights and states, and the parameters."""
    torch.manual_seed(seed)
    made = GPT(*problem.sizes) if problem.sizes[2] else network()
    model = made.to(LOW).to(way.dtype)
    x, y = data_of(problem)
    optimizer = way.cls(model.parameters(), lr=problem.rate, weight_decay=0.01, **way.settings)
    chosen = torch.Generator().manual_seed(seed)
    for t in range(problem.steps):
        optimizer.param_groups[0]["lr"] = problem.rate * (1 - t / problem.steps)
        batch = torch.randint(len(x), (BATCH,), generator=chosen)
        optimizer.zero_grad()
        loss_of(model, x[batch], y[batch]).backward()
        optimizer.step()
    size = bytes_of(optimizer)
    with torch.no_grad():
        return float(loss_of(model.float(), x, y)), size, sum(p.numel() for p in model.parameters())


def bytes_of(optimizer: Any) -> float:
    """Per parameter: itself and its states, but for step counts."""
    every = [p for group in optimizer.param_groups for p in group["params"]]
    held = [t for p in every for n, t in (("", p), *optimizer.state[p].items()) if n != "step"]
    return sum(t.numel() * t.element_size() for t in held) / sum(p.numel() for p in every)


def seconds() -> dict[str, float]:
    """Of a step of 2.1 million parameters, by way."""
    generator, steps = torch.Generator().manual_seed(0), dict[str, Callable[[], Any]]()
    for name, way in WAYS.items():
        if not way.timed:
            continue
        params = [nn.Parameter(torch.randn(SHAPE, generator=generator).to(way.dtype)) for _ in range(TENSORS)]
        for p in params:
            p.grad = torch.randn(SHAPE, generator=generator).to(way.dtype)
        steps[name] = way.cls(params, lr=1e-3, **way.settings).step
        steps[name]()
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            found[name].append(time.perf_counter() - start)
    return {name: statistics.median(own) for name, own in found.items()}


def interval(values: list[float]) -> tuple[float, float]:
    """The mean and half of its 95 % interval."""
    spread = float(stats.sem(values)) if any(v != values[0] for v in values) else 0.0
    return float(np.mean(values)), spread * float(stats.t.ppf(0.975, len(values) - 1))


def beside(losses: Mapping[str, Mapping[str, float]], name: str) -> tuple[float, float]:
    """The difference of a way's losses to those of float32, over the seeds of both."""
    own, first = losses[name], losses["float32"]
    return interval([own[seed] - first[seed] for seed in own if seed in first])


def table(found: Mapping[str, Any]) -> str:
    """What was measured, in Markdown; without a column of times where these are not."""
    problems, times = [p for p in PROBLEMS if p in found["losses"]], found.get("times", {})
    head = ["parameters and states", "bytes a parameter", *(["step, ms"] if times else []), *problems]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in WAYS:
        cells = [name, f"{found['bytes'][name]:g}"]
        if times:
            cells.append(f"{1e3 * times[name]:.2f}" if name in times else "")
        for p in problems:
            losses = found["losses"][p]
            mean, half = beside(losses, name)
            said = f"{mean:+.4f} ± {half:.4f}"
            cells.append(f"{np.mean(list(losses[name].values())):.4f}" if name == "float32" else said)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


KINDS = {
    "float32": ("#0072B2", "o"),
    "bfloat16": ("#D55E00", "s"),
    "bfloat16, stochastic": ("#009E73", "D"),
    "bfloat16, kahan": ("#CC79A7", "^"),
}
"""By what the names of ways begin with: colour and marker."""


def figure(found: Mapping[str, Any]) -> Figure:
    """The loss of each way less that of float32, a panel per problem; the axis is logarithmic away from 0."""
    names, problems = [n for n in WAYS if n != "float32"][::-1], [p for p in PROBLEMS if p in found["losses"]]
    with mpl.rc_context(LOOK):
        made = Figure(figsize=(8.0, 3.4), layout="constrained")
        panels = made.subplots(1, len(problems), sharey=True, squeeze=False)[0]
        for axes, problem in zip(panels, problems, strict=True):
            losses = found["losses"][problem]
            for k, name in enumerate(names):
                colour, marker = KINDS[max((start for start in KINDS if name.startswith(start)), key=len)]
                mean, half = beside(losses, name)
                axes.errorbar(mean, k, xerr=half, color=colour, marker=marker, ms=6, capsize=3, ls="none")
            axes.axvline(0, color="#777777", lw=0.8)
            axes.set_xscale("symlog", linthresh=0.01, linscale=2)
            axes.set_xlim(-0.006, 2)
            axes.set_xticks([0, 0.005, 0.01, 0.1, 1], ["0", "0.005", "0.01", "0.1", "1"])
            axes.xaxis.minorticks_off()
            axes.grid(axis="x", alpha=0.3)
            shown = problem.replace("gpt", "GPT")
            axes.set_title(f"{shown}, {found['parameters'][problem]:,} parameters")
        panels[0].set_yticks(range(len(names)), [f"{n}, {found['bytes'][n]:g} bytes" for n in names])
        said = "loss less that of float32, nats per letter: mean and 95 % interval over the seeds; linear up to 0.01, then logarithmic"
        made.supxlabel(said, fontsize=9)
    return made


def main() -> None:
    """Measure what is asked for and add it to the file; or print what stands there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("losses", "times", "report"))
    parser.add_argument("--problem", choices=PROBLEMS, action="append")
    parser.add_argument("--way", choices=WAYS, action="append")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--figure", type=Path, help="write the figure there, as SVG or PNG")
    given = parser.parse_args()
    found = json.loads(given.out.read_text()) if given.out.exists() else {"losses": {}, "bytes": {}, "parameters": {}}
    found |= {"machine": machine(), "problems": {n: vars(p) for n, p in PROBLEMS.items()}}
    if given.what == "times":
        found |= {"times": seconds(), "threads": torch.get_num_threads()}
    for problem in given.problem or PROBLEMS if given.what == "losses" else ():
        for name in given.way or WAYS:
            own = found["losses"].setdefault(problem, {}).setdefault(name, {})
            for seed in range(given.seeds):
                if str(seed) not in own:
                    own[str(seed)], found["bytes"][name], found["parameters"][problem] = trained(
                        PROBLEMS[problem], WAYS[name], seed
                    )
                    given.out.write_text(json.dumps(found, indent=1) + "\n")
    if given.what == "report":
        print(table(found))
        if given.figure:
            said = "The loss of each way beside that of float32, on two models."
            if given.figure.suffix == ".svg":
                given.figure.write_text(svg(figure(found), said) + "\n")
            else:
                figure(found).savefig(given.figure, dpi=150)
    else:
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""All that a GPU must show, in one command of under ten minutes: numbers first, then figures beside torch's.

    python benchmarks/gpu.py [--out benchmarks/results/gpu.json]
    python benchmarks/gpu.py --dry
    python benchmarks/gpu.py --write benchmarks/results/gpu.json

It holds every rule, composition and dtype against the eager form on the card, replays steps from CUDA graphs with live hyperparameters,
counts launches, times whole steps beside the card's own copy and torch's forms, and trains a sweep's lanes. Then it writes the JSON,
`docs/images/gpu.png` and the section "On a GPU" of `docs/speed.md`; `--write` does that of a file again. What fails is said with its
reason, and the rest is measured all the same. `--dry` goes through all of it without a card, small, in Triton's interpreter: no figure
counts, and nothing is written but to `--out` and `--docs`. Without a card the command ends with code 2.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import steprule
from steprule import optim, rules
from steprule.benching.steps import (
    LAYERS,
    MANY,
    WORKLOADS,
    Workload,
    bench,
    contender,
    machine,
    median_interval,
    torchs_classes,
)
from steprule.compiler.variant import asks_for_shapes

ROOT = Path(__file__).parent.parent
BUDGET = 560.0
"""Seconds after which no further part begins."""


class Place(NamedTuple):
    """Where the parts run, and how large they are."""

    device: str
    backend: str
    dry: bool

    def wait(self) -> None:
        """Wait until the card has done all that it was told."""
        if not self.dry:
            torch.cuda.synchronize()


# Numbers: every rule, composition and dtype against the eager form.

WITHIN = {"float64": 1e-10, "float32": 1e-4, "bfloat16": 0.1, "float16": 0.05}
"""The largest difference after three steps, relative to a tensor's largest element. Rounding is fed back through the gradients'
scale; in 16 bits a number may fall to either side of each store, and Triton's interpreter cuts off what a card rounds."""
ALL_PARTS = {"weight_decay": 0.1, "clip_value": 0.9, "clip_norm": 3.0, "ema_decay": 0.7, "zero_grad": True}
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "float32": [{}, ALL_PARTS],
    "float64": [{"weight_decay": 0.1}],
    "float16": [{"weight_decay": 0.1}, {"rounding": "kahan"}],
    "bfloat16": [ALL_PARTS, {"rounding": "stochastic"}, {"rounding": "kahan"}],
}
"""What each rule is run with."""
COMPOSED = [
    {"clip_value": value, "clip_norm": norm, "ema_decay": ema, "zero_grad": zero}
    for value, norm, ema, zero in itertools.product((0.0, 0.9), (0.0, 3.0), (0.0, 0.7), (False, True))
]
"""All compositions, for two rules."""
SHAPES = [(3, 5), (1500,), (), (0,), (2048,)]


def cases(place: Place) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Rule, dtype and settings of each comparison; without a card a few of each kind."""
    step = 15 if place.dry else 1
    for name, dtype in itertools.product(list(rules.CATALOGUE)[::step], SETTINGS):
        for settings in SETTINGS[dtype][:: 2 if place.dry else 1]:
            yield name, dtype, settings
    for name, settings in itertools.product(("adamw", "sgd"), COMPOSED[::step]):
        yield name, "float32", settings


def walked(place: Place, backend: str, name: str, dtype: torch.dtype, settings: dict[str, Any]) -> list[Tensor]:
    """Parameters and states after three steps. One parameter begins at an odd address, one gradient lies otherwise."""
    rule = rules.get(name)
    generator = torch.Generator().manual_seed(0)
    shapes = SHAPES if not asks_for_shapes(rule) else [(8, 12), (12, 8), (8, 12)]
    drawn = [(torch.randn(s, generator=generator) + 1).to(place.device, dtype) for s in shapes]
    flat = torch.zeros(2052, dtype=dtype, device=place.device)
    params = [t.requires_grad_() for t in (*drawn, *(() if asks_for_shapes(rule) else (flat[1:],)))]
    known = {h.name for h in rule.hypers} | set(ALL_PARTS) | {"rounding"}
    own = {n: v for n, v in {"lr": 0.05, **settings}.items() if n in known}
    optimizer = optim.from_rule(name)(params, backend=backend, **own)

    def closure() -> Tensor:
        """The loss of a rule that looks twice, with its gradients."""
        for p in params:
            p.grad = None
        loss: Tensor = sum(((p * p).sum() for p in params), torch.zeros((), dtype=dtype, device=place.device))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    for t in range(3):
        for p in params:
            g = torch.randn(p.shape, generator=generator).to(place.device, dtype)
            p.grad = g.t().contiguous().t() if g.ndim == 2 and t == 1 else g
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(t)
            optimizer.step(*([closure] if optimizer._is_supplied else []))
    found = [p.detach().double() for p in params]
    for k, p in enumerate(params):
        for key, value in sorted(optimizer.state[p].items()):
            if key == "kahan_comp":  # what a parameter has lost: only the sum of the two says where it is
                found[k] += value.double()
            elif isinstance(value, Tensor):
                found.append(value.detach().double())
    return [t.cpu() for t in found]


def prove(place: Place) -> dict[str, Any]:
    """The largest difference of each case; which are beyond the bound of their dtype, and which could not be run."""
    worst: dict[str, float] = dict.fromkeys(SETTINGS, 0.0)
    beyond, refused, count = [], {}, 0
    for name, dtype, settings in cases(place):
        said = f"{name} {dtype} {settings}"
        if place.dry and dtype == "bfloat16" and any(slot.per_model for slot in rules.get(name).slots):
            refused[said] = "the interpreter cuts off at a store to bfloat16, and distances follow from it"
            continue
        kernel = "auto" if asks_for_shapes(rules.get(name)) else place.backend
        try:
            a, b = (walked(place, how, name, getattr(torch, dtype), settings) for how in (kernel, "eager"))
        except Exception as error:  # noqa: BLE001  (the rest of the catalogue is to be held all the same)
            refused[said] = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        gaps = [
            float((x - y).abs().max() / y.abs().max().clamp(min=1e-30)) for x, y in zip(a, b, strict=True) if x.numel()
        ]
        far = float(np.max(np.nan_to_num(gaps, nan=np.inf)))
        count, worst[dtype] = count + 1, max(worst[dtype], far)
        if far > WITHIN[dtype]:
            beyond.append([said, far])
    return {"cases": count, "rules": len(rules.CATALOGUE), "worst": worst, "beyond": beyond, "refused": refused}


# A step in a CUDA graph.


WARM = 3
"""Steps outside of a graph before one is recorded."""


def captured(place: Place, step: Callable[[], None]) -> Callable[[], Any]:
    """What replays a step that a CUDA graph has recorded; without a card the step itself. It was taken three times before."""
    if place.dry:
        return step
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


LIVE: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1},
    "Adam": {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": 0.1},
    "AdamW": {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": 0.1, "clip_norm": 2.0, "ema_decay": 0.9},
    "RMSprop": {"lr": 0.1, "alpha": 0.9, "eps": 1e-6},
    "NAdam": {"lr": 0.1, "betas": (0.9, 0.99), "momentum_decay": 0.01},
    "Lion": {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.1},
}
"""Classes with every hyperparameter that is a number, each of which is a tensor on the card."""


def moved(value: Any, t: int) -> Any:
    """A hyperparameter in the t-th replay: each a little less than before."""
    return tuple(moved(v, t) for v in value) if isinstance(value, tuple) else value * (1 - 0.03 * t)


def on_card(value: Any, device: str) -> Any:
    """A hyperparameter as a tensor."""
    return tuple(on_card(v, device) for v in value) if isinstance(value, tuple) else torch.tensor(value, device=device)


def fill(there: Any, value: Any) -> None:
    """Write a hyperparameter into its tensor."""
    if isinstance(there, tuple):
        for own, number in zip(there, value, strict=True):
            fill(own, number)
    else:
        there.fill_(value)


def _graph_of(place: Place, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """One class: replays with other hyperparameters and gradients each time, beside the eager form, which is told numbers."""
    kind, start = getattr(optim, name), torch.linspace(-2, 2, 3000)
    live = {n: on_card(v, place.device) for n, v in settings.items()}
    ours, theirs = (start.clone().to(place.device).requires_grad_() for _ in range(2))
    replayed, told = kind([ours], backend=place.backend), kind([theirs], backend="eager")
    replayed.param_groups[0].update(capturable=True, **live)
    told.param_groups[0].update(settings)
    for p in (ours, theirs):
        p.grad = torch.cos(torch.arange(3000.0)).to(place.device)
    replay = captured(place, replayed.step)
    for _ in range(0 if place.dry else WARM):
        told.step()
    for t in range(5):
        g = torch.sin(start * (t + 1)).to(place.device)
        for n, v in settings.items():
            fill(live[n], moved(v, t))
            told.param_groups[0][n] = moved(v, t)
        for p in (ours, theirs):
            assert p.grad is not None
            p.grad.copy_(g)
        replay()
        told.step()
    place.wait()
    far = float((ours - theirs).detach().abs().max() / theirs.detach().abs().max())
    return {"class": name, "live": sorted(settings), "replays": 5, "far": far, "equal": far <= WITHIN["float32"]}


def graphs(place: Place) -> list[dict[str, Any]]:
    """Each class in a graph of its own; the reason where one cannot be captured."""
    found = []
    for name, settings in LIVE.items():
        try:
            found.append(_graph_of(place, name, settings))
        except Exception as error:  # noqa: BLE001  (a class that fails must not hide the others)
            found.append({"class": name, "equal": False, "why": f"{type(error).__name__}: {error}".splitlines()[0]})
    return found


# How many launches a step takes.


def launches(place: Place) -> dict[str, Any]:
    """Launches of Triton's passes in one step of 1,000 tensors, and its time beside torch's fused and foreach forms."""
    from steprule.compiler.triton_gpu import TritonKernel

    count, size, rounds = (20, 100, 2) if place.dry else (1000, 1000, 51)
    asked, run = [0], TritonKernel.run

    def counted(self: Any, *args: Any) -> None:
        asked[0] += 1
        run(self, *args)

    def side(kind: Any, **how: Any) -> Callable[[], Any]:
        params = [torch.zeros(size, device=place.device, requires_grad=True) for _ in range(count)]
        for p in params:
            p.grad = torch.ones_like(p)
        return kind(params, **how).step  # type: ignore[no-any-return]

    steps = {"steprule": side(optim.Adam, backend=place.backend)}
    steps |= {form: side(torch.optim.Adam, **{form: True}) for form in ("fused", "foreach")}
    for step in steps.values():
        step()
    setattr(TritonKernel, "run", counted)  # noqa: B010  (a method for the time of one step)
    try:
        steps["steprule"]()
    finally:
        setattr(TritonKernel, "run", run)  # noqa: B010
    times: dict[str, list[float]] = {form: [] for form in steps}
    for _ in range(rounds):
        for form, step in steps.items():
            place.wait()
            began = time.perf_counter()
            step()
            place.wait()
            times[form].append(time.perf_counter() - began)
    micros = {form: float(np.median(own)) * 1e6 for form, own in times.items()}
    ratios = {form: np.divide(times[form], times["steprule"]) for form in ("fused", "foreach")}
    intervals = {form: median_interval(own) for form, own in ratios.items()}
    return {"tensors": count, "elements": size, "launches": asked[0], "microseconds": micros, "intervals": intervals}


# Times.


def copied(place: Place) -> float:
    """Gigabytes per second of the card's own copy: what it reads and what it writes, the best of twenty."""
    a = torch.zeros(2**18 if place.dry else 2**28, device=place.device)
    b, best = torch.empty_like(a), float("inf")
    for _ in range(3 if place.dry else 23):
        place.wait()
        began = time.perf_counter()
        b.copy_(a)
        place.wait()
        best = min(best, time.perf_counter() - began)
    return 2 * a.numel() * a.element_size() / best / 1e9


def timed(
    place: Place, names: Sequence[str], workloads: Sequence[Workload], *, compiled: bool = False
) -> list[dict[str, Any]]:
    """Whole steps of these on each workload, as `steprule bench` times them; without a card tiny ones."""
    if place.dry:
        workloads = [Workload(w.name, ((7,),) * 2, 2, w.fresh) for w in workloads]
    results = bench(names, workloads, device=place.device, compiled=compiled)
    return [asdict(result) for result in results]


def steps(place: Place) -> list[dict[str, Any]]:
    """torch's classes on all workloads, beside the card's copy and torch's forms."""
    names = list(torchs_classes())
    names = names[:1] if place.dry else [n for n in names if not asks_for_shapes(contender(n).rule)]
    return timed(place, names, [WORKLOADS[0], LAYERS, MANY])


def others(place: Place) -> list[dict[str, Any]]:
    """The rules that torch lacks, on one large tensor, beside their own functions in torch."""
    lacking = [r.name for r in rules.CATALOGUE.values() if r.name not in torchs_classes()]
    lacking = [
        n
        for n in lacking
        if not asks_for_shapes(rules.get(n)) and not (rules.get(n).looked or rules.get(n).asks_for_loss)
    ]
    return timed(place, lacking[:1] if place.dry else lacking, WORKLOADS[:1])


def compiled(place: Place) -> list[dict[str, Any]]:
    """torch.compile's step on one large tensor, beside ours."""
    if place.dry:  # smaller ones are not compiled
        return [asdict(result) for result in bench(["sgd"], [Workload("a million", ((1_000_001,),), 2)], compiled=True)]
    return timed(place, ["sgd", "rmsprop", "adam", "adamw", "adamax"], WORKLOADS[:1], compiled=True)


def lanes(place: Place) -> dict[str, Any]:
    """A sweep's lanes on the card and on the CPU: lanes per second, and how far their last losses are apart."""
    count, epochs = (3, 1) if place.dry else (1024, 3)
    rates, found, seconds = np.geomspace(1e-4, 1e-2, count), {}, {}
    for where in (place.device, "cpu"):
        for _ in range(1 if place.dry else 2):  # the second finds all that is built
            began = time.perf_counter()
            found[where] = steprule.sweep("adam", "airfoil", {"lr": rates}, seeds=1, epochs=epochs, device=where).train
            seconds[where] = time.perf_counter() - began
    a, b = found[place.device], found["cpu"]
    speed = {where: count / spent for where, spent in seconds.items()}
    return {"lanes": count, "epochs": epochs, "lanes_a_second": speed, "far": float(np.nanmedian(np.abs(a - b) / b))}


PARTS: dict[str, Callable[[Place], Any]] = {
    "copy": copied,
    "proof": prove,
    "graph": graphs,
    "launch": launches,
    "steps": steps,
    "others": others,
    "lanes": lanes,
    "compile": compiled,
}
"""In this order, the last one first to be left out: once dynamo is loaded, Python's calls take longer."""


# What is written.


def rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per class and workload, with torch.compile's ratio where it was measured."""
    beside = {(r["optimizer"], r["workload"]): r["ratios"].get("torch.compile") for r in found.get("compile") or ()}
    return [
        {**r, "compiled": beside.get((r["optimizer"], r["workload"]))}
        for r in (*(found.get("steps") or ()), *(found.get("others") or ()))
    ]


def table(found: dict[str, Any]) -> str:
    """The section "On a GPU" in Markdown: where it was measured, what was proved, and the times as ratios."""
    said = found["machine"]
    where = f"On {said.get('device', said['hardware'])}, torch {said['torch']}, {said['date']}"
    lines = [
        f"{where} (`python benchmarks/gpu.py`); its own copy moves {found.get('copy') or 0:,.0f} GB/s.",
        *_in_words(found),
    ]
    names = (
        "class",
        "work",
        "µs",
        "share of the copy",
        "host, µs",
        "fused",
        "foreach",
        "for-loop or function",
        "torch.compile",
    )
    return "\n".join([*lines, "", f"| {' | '.join(names)} |", "|---" * len(names) + "|", *map(_row, rows(found))])


def _in_words(found: dict[str, Any]) -> Iterator[str]:
    if proof := found.get("proof"):
        worst = ", ".join(f"{dtype} {far:.1e}" for dtype, far in proof["worst"].items())
        yield f"Against the eager form, {proof['cases']} cases of {proof['rules']} rules are at most apart: {worst};"
        yield f"{len(proof['beyond'])} are beyond the bounds, {len(proof['refused'])} were not run."
    if recorded := found.get("graph"):
        held = [row["class"] for row in recorded if row["equal"]]
        failed = [row["class"] for row in recorded if not row["equal"]]
        said = f"{', '.join(held) or 'none'}; failed: {', '.join(failed) or 'none'}"
        yield f"Replayed from a CUDA graph with every hyperparameter live: {said}."
    if launch := found.get("launch"):
        micros = launch["microseconds"]
        ratios = ", ".join(f"{form} {micros[form] / micros['steprule']:.2f}x" for form in ("fused", "foreach"))
        took = f"{launch['launches']} launch{'' if launch['launches'] == 1 else 'es'} and {micros['steprule']:,.0f} µs"
        yield f"Adam's step on {launch['tensors']:,} tensors takes {took}; torch's time over ours: {ratios}."
    if own := found.get("lanes"):
        speed = ", ".join(f"{device} {value:,.0f}" for device, value in own["lanes_a_second"].items())
        yield f"Lanes per second of a sweep: {speed}; the last losses are apart by {own['far']:.1e} in the median."
    for part, why in found.get("failed", {}).items():
        yield f"Not measured: {part} ({why.splitlines()[0]})."


def _row(row: dict[str, Any]) -> str:
    ratios = {
        **row["ratios"],
        "torch.compile": row["compiled"],
        "plain": row["ratios"].get("for-loop", row["ratios"].get("function")),
    }
    cells = [
        f"{ratios[form]:.2f}x" if ratios.get(form) else "-" for form in ("fused", "foreach", "plain", "torch.compile")
    ]
    share = f"{100 * row['share_of_bandwidth']:.0f} %" if row["share_of_bandwidth"] else "-"
    own = [
        row["optimizer"],
        row["workload"],
        f"{row['microseconds']['steprule']:,.0f}",
        share,
        f"{row['host_microseconds']['steprule']:,.0f}",
    ]
    return f"| {' | '.join([*own, *cells])} |"


def picture(found: dict[str, Any], out: Path) -> None:
    """The share of the card's copy that each rule reaches on one large tensor."""
    shares = {r["optimizer"]: r["share_of_bandwidth"] for r in rows(found) if r["share_of_bandwidth"]}
    names = sorted(shares, key=lambda name: shares[name])
    figure = Figure(figsize=(7.4, 0.22 * max(len(names), 4) + 1), layout="constrained")
    axes = figure.subplots()
    axes.barh(names, [100 * shares[name] for name in names], color="#0072B2")
    axes.axvline(100, color="black", lw=1)
    axes.set_xlabel("share of the speed at which the card copies, in percent")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=150, metadata={"Software": None})


SECTION = "## On a GPU\n"


def written(page: str, found: dict[str, Any]) -> str:
    """The page with its section on the GPU anew."""
    before, _, behind = page.partition(SECTION)
    _, heading, rest = behind.partition("\n## ")
    picture_there = "![The share of the card's copy that each rule reaches](images/gpu.png)"
    return f"{before}{SECTION}\n{table(found)}\n\n{picture_there}\n{heading}{rest}"


def write(found: dict[str, Any], folder: Path) -> None:
    """The figure and the section of the page, below a folder of docs."""
    picture(found, folder / "images" / "gpu.png")
    page = folder / "speed.md"
    page.write_text(written(page.read_text(encoding="utf-8"), found), encoding="utf-8")


def refused(dry: bool) -> str | None:
    """Why nothing can be measured here, in a line."""
    if dry or (torch.cuda.is_available() and torch.version.cuda):
        return None
    hint = "--dry goes through all parts without one, and no figure of it counts."
    return f"benchmarks/gpu.py: expected an NVIDIA GPU that torch sees, got none. {hint}"


def main(said: Sequence[str] | None = None) -> int:
    """Run the parts, and write what they found; 1 where one failed, 2 without a card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, help="the JSON; benchmarks/results/gpu.json if not given, nothing with --dry"
    )
    parser.add_argument("--dry", action="store_true", help="without a card, small, in Triton's interpreter")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--docs",
        type=Path,
        default=ROOT / "docs",
        help="the folder of speed.md; with --dry nothing is written unless it is given",
    )
    parser.add_argument("--write", type=Path, help="write the figure and the table of a file again, measure nothing")
    args = parser.parse_args(said)
    if args.write:
        write(json.loads(args.write.read_text(encoding="utf-8")), args.docs)
        return 0
    if why := refused(args.dry):
        print(why, file=sys.stderr)
        return 2
    if args.dry:
        os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
    place = Place("cpu", "triton", dry=True) if args.dry else Place("cuda", "triton", dry=False)
    out = args.out or (None if args.dry else ROOT / "benchmarks" / "results" / "gpu.json")
    found: dict[str, Any] = {"machine": machine(place.device), "dry": args.dry, "seconds": {}, "failed": {}}
    start = time.perf_counter()
    for part in args.parts:
        began = time.perf_counter()
        try:
            if began - start > BUDGET:
                raise TimeoutError("left out, so that the whole ends within ten minutes")
            found[part] = PARTS[part](place)
        except Exception as error:  # noqa: BLE001  (a lent card: what can be measured is)
            found["failed"][part] = f"{type(error).__name__}: {error}"
        found["seconds"][part] = round(time.perf_counter() - began, 1)
        print(f"{part}: {found['seconds'][part]} s {found['failed'].get(part, '')}", flush=True)
        if out:  # after each part, so that a card that is taken away leaves what was measured
            out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found))
    if not args.dry or args.docs != ROOT / "docs":
        write(found, args.docs)
    wrong = (
        found["failed"]
        or (found.get("proof") or {}).get("beyond")
        or [r for r in found.get("graph") or () if not r["equal"]]
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""How often a referee is wrong, and what it finds: `judge`, autorank, rliable, a t-test and keep-if-lower on tables of known truth.

    python benchmarks/judge.py [--tables 500] [--out FILE] [--picture FILE]    all five, on the same tables
    python benchmarks/judge.py --null 1000                                     false verdicts of `judge` alone, kind by kind
    python benchmarks/judge.py --nights 1000                                   `judge --gate` and keep-if-lower over nights of 100 ideas
    python benchmarks/judge.py --tails                                         how far out Welch's test errs, on which the gate rests

A table has 2 to 5 methods and 3 to 30 seeds each. In half of the tables all methods are equal; in the others they differ by up to three
standard deviations of a run. The logarithm of a loss has normal or skewed (Gumbel) noise, an equal spread or spreads up to three times
as large, seeds in common or not, and runs that diverge, as often for every method. autorank and rliable are asked where they are installed
(`pip install autorank rliable`, into an environment of their own).

A false verdict is a pair called different that is equal, or called in the wrong order. `judge` is asked for any difference at all
(`--matters 0`), since the others have no margin; a second line has its usual one per cent. autorank, which takes paired tables of five
rows or more, gets the largest finite loss for a run that diverged, as do rliable and the t-test.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import time
import warnings
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from steprule.atomic import write_text
from steprule.provenance import hardware, versions
from steprule.races import judging
from steprule.races.judging import Runs, judged

NOISE = 0.05
"""The standard deviation of the logarithm of a run's loss."""
KINDS = ("equal spread", "unequal spread", "skewed", "diverged")
Verdicts = dict[tuple[int, int], int]
"""By pair i < j whether j is called higher (1), lower (-1) or not different (0)."""


class Table(NamedTuple):
    """Losses of known truth."""

    losses: np.ndarray
    """[methods, seeds]; inf where a run diverged."""
    truth: np.ndarray
    """The mean logarithm of each method's loss."""
    kind: str
    paired: bool

    @property
    def filled(self) -> np.ndarray:
        """The same with the largest finite loss for a run that diverged."""
        finite = np.isfinite(self.losses)
        return np.where(finite, self.losses, self.losses[finite].max())


def drawn(rng: np.random.Generator, kind: str, *, paired: bool, null: bool, methods: int, seeds: int) -> Table:
    """A table."""
    shape = (methods, seeds)
    skewed = (rng.gumbel(size=shape) - np.euler_gamma) / (np.pi / np.sqrt(6))
    noise = NOISE * (skewed if kind == "skewed" else rng.standard_normal(shape))
    if kind in ("unequal spread", "skewed"):
        noise *= np.exp(rng.uniform(0, np.log(3), (methods, 1)))
    if paired:
        noise += 2 * NOISE * rng.standard_normal(seeds)
    truth = np.zeros(methods) if null else NOISE * rng.uniform(0, 3, methods)
    losses = np.exp(truth[:, None] + noise)
    if kind == "diverged":
        losses[rng.random(shape) < rng.uniform(0.05, 0.3)] = np.inf
        losses[:, 0] = np.where(np.isfinite(losses).any(axis=1), losses[:, 0], 1.0)
    return Table(losses, truth, kind, paired)


def any_table(rng: np.random.Generator, k: int) -> Table:
    """The k-th table of the comparison: kinds, pairing and truth take turns."""
    how = {"paired": bool(k // len(KINDS) % 2), "null": bool(k // (2 * len(KINDS)) % 2)}
    return drawn(
        rng,
        KINDS[k % len(KINDS)],
        **how,
        methods=int(rng.integers(2, 6)),
        seeds=int(np.exp(rng.uniform(np.log(3), np.log(30.99)))),
    )


def runs_of(table: Table) -> Runs:
    """As `judge` takes it."""
    methods, seeds = table.losses.shape
    return Runs(
        method=np.repeat([str(k) for k in range(methods)], seeds), problem=np.full(methods * seeds, ""), value=table.losses.ravel(),
        seed=np.tile([str(s) for s in range(seeds)], methods) if table.paired else None,
    )  # fmt: skip


def by_judge(table: Table, matters: float = 0.0) -> Verdicts:
    """`judge`."""
    found = {}
    for pair in judged(runs_of(table), matters).pairs:
        i, j = int(pair.a), int(pair.b)
        sign = int(np.sign(pair.difference)) if pair.verdict == "real" else 0
        found[min(i, j), max(i, j)] = sign if i < j else -sign
    return found


def by_t_test(table: Table) -> Verdicts:
    """Student's t-test of each pair at 5 %, as most papers do it; by pairs where seeds are common."""
    found = {}
    for i, j in combinations(range(len(table.losses)), 2):
        a, b = table.filled[i], table.filled[j]
        p = (stats.ttest_rel if table.paired else stats.ttest_ind)(a, b).pvalue
        found[i, j] = int(np.sign(b.mean() - a.mean())) if p < 0.05 else 0
    return found


def by_mean(table: Table) -> Verdicts:
    """Keep if lower."""
    means = table.filled.mean(axis=1)
    return {(i, j): int(np.sign(means[j] - means[i])) for i, j in combinations(range(len(means)), 2)}


def by_autorank(table: Table) -> Verdicts | None:
    """autorank 1.3 with its defaults; groups as its report has them. None where it refuses the table."""
    import pandas as pd
    from autorank import autorank

    methods, seeds = table.losses.shape
    none = dict.fromkeys(combinations(range(methods), 2), 0)
    if seeds < 5:
        return None
    data = pd.DataFrame(table.filled.T, columns=[str(k) for k in range(methods)])
    with contextlib.redirect_stdout(io.StringIO()):
        result = autorank(data, order="ascending")
    if result.pvalue >= 0.05:
        return none
    rows = {int(name): row for name, row in result.rankdf.iterrows()}
    for i, j in none:
        a, b = rows[i], rows[j]
        if methods == 2:
            apart = True
        elif result.cd is not None:
            apart = abs(a.meanrank - b.meanrank) > result.cd
        else:  # Tukey's intervals
            apart = a.ci_lower > b.ci_upper or b.ci_lower > a.ci_upper
        none[i, j] = int(np.sign(b.meanrank - a.meanrank)) if apart else 0
    return none


def by_rliable(table: Table) -> Verdicts:
    """rliable 1.2: 95 % bootstrap intervals of the interquartile mean that do not overlap (2,000 draws)."""
    from rliable import library, metrics

    scores = {k: own[:, None] for k, own in enumerate(table.filled)}
    state = np.random.RandomState(0)
    _, ends = library.get_interval_estimates(
        scores, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=2_000, random_state=state
    )
    found = {}
    for i, j in combinations(scores, 2):
        (low_i, high_i), (low_j, high_j) = ends[i].ravel(), ends[j].ravel()
        found[i, j] = int(low_j > high_i) - int(low_i > high_j)
    return found


WAYS: dict[str, Callable[[Table], Verdicts | None]] = {
    "judge, any difference": by_judge,
    "judge, more than 1 %": lambda table: by_judge(table, 0.01),
    "autorank": by_autorank,
    "rliable, intervals apart": by_rliable,
    "t-test, p < 0.05": by_t_test,
    "keep if lower": by_mean,
}


def compared(tables: int, ways: list[str]) -> dict[str, Any]:
    """By way: tables answered, tables with a false verdict, differences found, all of the same tables."""
    rng = np.random.default_rng(0)
    drawn_tables = [any_table(rng, k) for k in range(tables)]
    found: dict[str, Any] = {}
    for way in ways:
        start, wrong, null_wrong, nulls, answered, hits, real = time.perf_counter(), 0, 0, 0, 0, 0, 0
        by_kind = dict.fromkeys(KINDS, 0)
        for table in drawn_tables:
            verdicts = WAYS[way](table)
            null = not table.truth.any()
            pairs = list(combinations(range(len(table.truth)), 2))
            real += 0 if null else len(pairs)
            if verdicts is None:
                continue
            answered += 1
            right = {(i, j): int(np.sign(table.truth[j] - table.truth[i])) for i, j in pairs}
            false = any(v and v != right[pair] for pair, v in verdicts.items())
            wrong += false
            by_kind[table.kind] += false and null
            null_wrong += false and null
            nulls += null
            hits += sum(bool(v) and v == right[pair] for pair, v in verdicts.items())
        found[way] = {
            "tables": tables, "answered": answered, "null_tables": nulls, "false_in_null_tables": null_wrong, "false_tables": wrong,
            "false_by_kind": by_kind, "differences": real, "found": hits, "seconds": time.perf_counter() - start,
        }  # fmt: skip
        print(f"{way}: {found[way]}", file=sys.stderr, flush=True)
    return found


def markdown(found: dict[str, Any]) -> str:
    """The table of the comparison."""
    lines = [
        "| referee | null tables with a false verdict | differences found | tables answered |",
        "|---|--:|--:|--:|",
    ]
    for way, own in found.items():
        false = f"{own['false_in_null_tables']} of {own['null_tables']} ({own['false_in_null_tables'] / own['null_tables']:.1%})"
        hits = f"{own['found'] / own['differences']:.0%}"
        lines.append(f"| {way} | {false} | {hits} | {own['answered'] / own['tables']:.0%} |")
    return "\n".join(lines)


def picture(found: dict[str, Any], path: Path) -> None:
    """Of each referee a row: the share of false verdicts, and that of differences found."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from steprule.reports import themed
    from steprule.reports.style import LOOK

    rows = list(found.items())[::-1]
    false = [100 * own["false_in_null_tables"] / own["null_tables"] for _, own in rows]
    hits = [100 * own["found"] / own["differences"] for _, own in rows]
    titles = ("% of tables of equal methods with a false verdict", "% of true differences found")
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(8.2, 2.6), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, values, title, colour in zip(
            (left, right), (false, hits), titles, ("#D55E00", "#0072B2"), strict=True
        ):
            axes.barh(range(len(rows)), values, color=colour, height=0.6)
            for height, value in enumerate(values):
                axes.annotate(
                    f"{value:.1f}", (value, height), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8
                )
            axes.set(title=title, xlim=(0, 112), xticks=range(0, 101, 25))
        left.set_yticks(range(len(rows)), [way for way, _ in rows])
        left.axvline(5, color="black", lw=0.8, ls=(0, (3, 2)))
    write_text(path, themed.svg(figure, "False verdicts and differences found of each referee") + "\n")


def null_rates(tables: int) -> str:
    """The share of null tables with any false "real", by kind and seeds, as a table; methods take turns from 2 to 5."""
    seeds = (3, 5, 10, 30)
    lines = [f"| tables of equal methods | {' | '.join(f'{n} seeds' for n in seeds)} |", "|---|" + "--:|" * len(seeds)]
    for kind in KINDS:
        for paired in (False, True):
            shares = []
            for n in seeds:
                rng = np.random.default_rng([KINDS.index(kind), int(paired), n])
                own = (drawn(rng, kind, paired=paired, null=True, methods=2 + k % 4, seeds=n) for k in range(tables))
                shares.append(np.mean([any(by_judge(table).values()) for table in own]))
            name = f"{kind} and unequal" if kind == "skewed" else kind
            lines.append(f"| {name}, {'paired' if paired else 'unpaired'} | {' | '.join(f'{s:.1%}' for s in shares)} |")
            print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


SHAPES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "skewed up": lambda rng, n: (rng.gumbel(size=n) - np.euler_gamma) / (np.pi / np.sqrt(6)),
    "skewed down": lambda rng, n: -(rng.gumbel(size=n) - np.euler_gamma) / (np.pi / np.sqrt(6)),
}
IDEAS = 100


class Night(NamedTuple):
    """What became of a night's ideas."""

    false: int
    """Ideas kept that were no better."""
    found: int
    runs: int


def by_gate(rng: np.random.Generator, shape: str, better: np.ndarray, known: bool) -> Night:
    """The gate, asked as it asks to be."""
    night, best, false, found = judging.Night(), 0.0, 0, 0

    def give(idea: str, mean: float, runs: int) -> judging.Gated:
        losses = np.exp(mean + NOISE * SHAPES[shape](rng, runs)).tolist()
        said, entry = night.answer(idea, losses, noise=NOISE if known else None)
        if entry["losses"]:
            night.add(json.loads(json.dumps(entry)))
        return said

    give("base", 0.0, 10)
    for k, gain in enumerate(better):
        idea, mean = f"idea {k}", best - NOISE * gain
        said = give(idea, mean, 1 if known else 3)
        while said.answer in ("more", "unknown"):
            said = give(idea, mean, said.more)
        if said.answer == "keep":
            false, found, best = false + (gain == 0), found + (gain > 0), mean
            give(idea, mean, said.more)
    return Night(false, found, night.runs)


def by_lower(rng: np.random.Generator, shape: str, better: np.ndarray, known: bool) -> Night:
    """One run of each idea; what is lower than the lowest so far is kept."""
    best, lowest, false, found = 0.0, float(NOISE * SHAPES[shape](rng, 1)[0]), 0, 0
    for gain in better:
        mean = best - NOISE * gain
        loss = mean + float(NOISE * SHAPES[shape](rng, 1)[0])
        if loss < lowest:
            best, lowest, false, found = mean, loss, false + (gain == 0), found + (gain > 0)
    return Night(false, found, 1 + len(better))


def nights(count: int) -> str:
    """Nights of 100 ideas: none better, or each tenth better by one, two or three standard deviations of a run."""
    lines = ["| 100 ideas | noise | way | nights with a false keep | false keeps per night | better ones kept of 10 | runs per night |",
             "|---|---|---|--:|--:|--:|--:|"]  # fmt: skip
    ways = (
        ("gate, fresh seeds", by_gate, False),
        ("gate, known noise", by_gate, True),
        ("keep if lower", by_lower, False),
    )
    for gain in (0, 1, 2, 3):
        better = np.where(np.arange(IDEAS) % 10 == 5, float(gain), 0.0)
        for shape in SHAPES if gain == 0 else ("normal",):
            for way, ask, known in ways:
                rng = np.random.default_rng([gain, list(SHAPES).index(shape)])
                own = [ask(rng, shape, better, known) for _ in range(count)]
                false = np.mean([n.false > 0 for n in own])
                name = "none better" if gain == 0 else f"10 better by {gain} sd"
                found = "" if gain == 0 else f"{np.mean([n.found for n in own]):.1f}"
                lines.append(f"| {name} | {shape} | {way} | {false:.1%} | {np.mean([n.false for n in own]):.2f} | {found} | "
                             f"{np.mean([n.runs for n in own]):.0f} |")  # fmt: skip
                print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def tails(draws: int = 4_000_000) -> str:
    """How often Welch's one-sided test errs at the gate's levels, over what it says, by runs of both and ratio of variances."""
    rng = np.random.default_rng(0)
    ratios = (1 / 9, 1.0, 9.0)
    lines = ["| level | runs | variances 1:9 | equal | 9:1 |", "|---|---|--:|--:|--:|"]
    for level in (1e-4, 4e-4):
        for m, n in ((3, 10), (10, 10), (30, 10)):
            shares = []
            for ratio in ratios:
                own = ratio * rng.chisquare(m - 1, draws) / (m - 1) / m
                other = rng.chisquare(n - 1, draws) / (n - 1) / n
                t = np.abs(rng.standard_normal(draws)) * np.sqrt(ratio / m + 1 / n) / np.sqrt(own + other)
                far = t > 2.5
                df = (own + other)[far] ** 2 / (own[far] ** 2 / (m - 1) + other[far] ** 2 / (n - 1))
                shares.append(float((stats.t.sf(t[far], df) < level).sum()) / draws / 2 / level)
            lines.append(f"| {level:g} | {m} and {n} | {' | '.join(f'{s:.1f}' for s in shares)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table; with --out keep the numbers too."""
    parser = argparse.ArgumentParser(description="False verdicts and differences found.")
    parser.add_argument("--tables", type=int, default=500)
    parser.add_argument("--null", type=int, default=0, help="tables per kind; judge alone")
    parser.add_argument("--nights", type=int, default=0)
    parser.add_argument("--tails", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--of", type=Path, help="print and draw what --out kept")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    if asked.null:
        print(null_rates(asked.null))
        return
    if asked.nights or asked.tails:
        print(nights(asked.nights) if asked.nights else tails())
        return
    ways = list(WAYS)
    for package, way in (("autorank", "autorank"), ("rliable", "rliable, intervals apart")):
        try:
            __import__(package)
        except ImportError:
            ways.remove(way)
            print(f"{package} is not installed, and is left out", file=sys.stderr)
    found = json.loads(asked.of.read_text(encoding="utf-8"))["found"] if asked.of else compared(asked.tables, ways)
    print(markdown(found))
    if asked.out:
        machine = {"hardware": hardware(), "versions": versions(), "date": time.strftime("%Y-%m-%d")}
        write_text(asked.out, json.dumps({"machine": machine, "found": found}, indent=1) + "\n")
    if asked.picture:
        picture(found, asked.picture)


if __name__ == "__main__":
    main()

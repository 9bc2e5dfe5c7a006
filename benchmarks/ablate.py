"""How often `steprule ablate` is wrong, and how small an effect it finds: simulated rules of known truth, and twenty real ones.

    python benchmarks/ablate.py --simulated 1000 [--out FILE]    planted useless parts called useful; effects found; what pairing gains
    python benchmarks/ablate.py --real [--out FILE]              twenty rules, each with a useless part planted, then with a harmful one
    python benchmarks/ablate.py --show FILE                      the tables of a file

A simulated rule has one to three numbers that are tuned, on a bowl of its own (on a torus, so that a bowl that moves is as easy to find),
and two to seven parts. Each study draws Sobol points and chooses by one noisy look at each; winners are looked at on 15 fresh seeds. A
part is useless in one of three ways: the rule without it is the same but for its noise; the bowl lies elsewhere, as where a part only
changes the step's length; the part has a number of its own that changes nothing. A useful or harmful part is such a one with a known
effect added. Noise is normal, skewed (Gumbel) or has heavy tails (Student's t, 3 degrees of freedom), and part of it is common to the rule
with and without the part, for they share points and seeds. In a quarter of the rules a tenth of the range diverges.

A wrong verdict is a useless part that is said to help or to hurt. It is counted with `matters` 0, where nothing protects but the test, and
with the usual one per cent.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import qmc

import steprule
from steprule import rules
from steprule.atomic import write_text
from steprule.maths import sign, where
from steprule.provenance import hardware, versions
from steprule.races import statistics
from steprule.races.ablation import Effect, effects_of, taken_off
from steprule.races.ablation.trials import allowed, same_trials
from steprule.races.measure import Scale
from steprule.rules.parts import before
from steprule.rules.rule import Rule
from steprule.sizes import ABLATED_FRESH, MATTERS, TRIALS

NOISES = ("normal", "skewed", "heavy tails")
USELESS = ("the same", "elsewhere", "a number of its own")
MULTIPLES = (0.5, 0.75, 1.0, 1.25, 1.5)
"""Planted effects, in parts of the smallest that an ablation says it finds at 80 %."""


class Simulated(NamedTuple):
    """Outcomes of known truth: logarithms of losses."""

    on: np.ndarray
    """[studies, seeds]"""
    off: dict[str, np.ndarray]
    """By part the same without it; every part is useless."""
    alone: dict[str, np.ndarray]
    """The same with points and noise of its own, as in a race."""


def noise(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Of mean 0 and standard deviation 1."""
    if kind == "skewed":
        return (rng.gumbel(size=shape) - np.euler_gamma) / (np.pi / np.sqrt(6))
    return rng.standard_t(3, shape) / np.sqrt(3) if kind == "heavy tails" else rng.standard_normal(shape)


def studies_for(parts: int) -> int:
    """As many as `steprule ablate` takes for so many parts."""
    entrant = taken_off("sgd").entrant
    return same_trials(entrant, parts).studies


def simulated(rng: np.random.Generator, k: int, parts: int | None = None, studies: int | None = None) -> Simulated:
    """The k-th rule: kinds of noise take turns, all else is drawn."""
    kind, dims = NOISES[k % len(NOISES)], int(rng.integers(1, 4))
    parts = int(rng.integers(2, 8)) if parts is None else parts
    studies = studies_for(parts) if studies is None else studies
    sharpness = np.exp(rng.uniform(np.log(0.5), np.log(60.0), dims))
    size, shared = float(np.exp(rng.uniform(np.log(0.02), np.log(0.1)))), rng.uniform(0.0, 0.95, parts)
    best, diverges = rng.random(dims), 0.1 if k % 4 == 0 else 0.0
    per_seed = 2 * size * rng.standard_normal(ABLATED_FRESH)

    def drawn() -> np.ndarray:
        """Points [studies, trials, dims and one for each part]."""
        own = [qmc.Sobol(dims + parts, rng=rng).random_base2(int(np.log2(TRIALS))) for _ in range(studies)]
        return np.array(own)

    def looks() -> np.ndarray:
        """Noise of each point on its study's seed and on every fresh one, [studies, trials, 1 + seeds]."""
        return size * noise(rng, kind, (studies, TRIALS, 1 + ABLATED_FRESH))

    def outcomes(points: np.ndarray, seen: np.ndarray, centre: np.ndarray) -> np.ndarray:
        gap = np.abs(points[..., :dims] - centre)
        gap = np.minimum(gap, 1 - gap)
        true = 1.5 * (1 - np.exp(-(gap**2 * sharpness).sum(axis=-1)))
        score = np.where(points[..., 0] > 1 - diverges, np.inf, true + seen[..., 0])
        won = np.argmin(score, axis=1)
        rows = np.arange(studies)
        return true[rows, won][:, None] + seen[rows, won, 1:] + per_seed

    points, common = drawn(), looks()
    off, alone = {}, {}
    for j in range(parts):
        way = USELESS[j % len(USELESS)]
        centre = (best + rng.uniform(-0.2, 0.2, dims)) % 1 if way == "elsewhere" else best
        # As much noise as before, of which a share is that of the whole rule.
        own = math.sqrt(shared[j]) * common + math.sqrt(1 - shared[j]) * looks()
        off[f"{j} {way}"] = outcomes(points, own, centre)
        alone[f"{j} {way}"] = outcomes(drawn(), looks(), centre)
    return Simulated(outcomes(points, common, best), off, alone)


def judged(rule: Simulated, matters: float, added: dict[str, float] | None = None) -> tuple[Effect, ...]:
    """The verdicts, with known effects added to some parts."""
    off = {part: y + (added or {}).get(part, 0.0) for part, y in rule.off.items()}
    return effects_of(rule.on, off, Scale(), matters, ("whole", {part: f"without {part}" for part in off}))


def count(number: int, seed: int = 0) -> dict[str, Any]:
    """The figures over so many simulated rules."""
    rng = np.random.default_rng(seed)
    wrong: dict[str, dict[str, list[bool]]] = {str(m): {"helps": [], "hurts": []} for m in (0.0, MATTERS)}
    ways: dict[str, list[bool]] = {way: [] for way in USELESS}
    found, gains, said = [], [], []
    planted: dict[float, list[bool]] = {m: [] for m in MULTIPLES}
    reversed_ = []
    for k in range(number):
        rule = simulated(rng, k)
        for matters in (0.0, MATTERS):
            effects = judged(rule, matters)
            for verdict in ("helps", "hurts"):
                wrong[str(matters)][verdict].append(any(e.verdict == verdict for e in effects))
            if matters == 0.0:
                for effect in effects:
                    ways[effect.part.partition(" ")[2]].append(effect.verdict in ("helps", "hurts"))
        said += [e.verdict == "nothing" for e in effects]
        found += [e.found for e in effects]
        for part, y in rule.alone.items():
            apart, together = statistics.difference(y, rule.on), statistics.difference(rule.off[part] - rule.on)
            gains.append(together.error / apart.error)
        # One part at a time has an effect of the size that it is said to take; the others stay useless.
        for effect in effects:
            multiple = MULTIPLES[int(rng.integers(len(MULTIPLES)))]
            up = 1.0 if rng.random() < 0.5 else -1.0
            size = up * multiple * math.log1p((effect.found or 0.0) / 100)
            again = next(e for e in judged(rule, MATTERS, {effect.part: size}) if e.part == effect.part)
            planted[multiple].append(again.verdict == ("helps" if up > 0 else "hurts"))
            reversed_.append(again.verdict == ("hurts" if up > 0 else "helps"))
    return {
        "rules": number,
        "parts": len(found),
        "rules with a useless part said to help": {m: float(np.mean(own["helps"])) for m, own in wrong.items()},
        "rules with a useless part said to hurt": {m: float(np.mean(own["hurts"])) for m, own in wrong.items()},
        "useless parts said to help or hurt, matters 0": {way: float(np.mean(own)) for way, own in ways.items()},
        "useless parts said to do nothing": float(np.mean(said)),
        "smallest effect found, per cent": quartiles(found),
        "planted effects found, by multiple of that": {f"{m:g}": float(np.mean(own)) for m, own in planted.items()},
        "planted effects said to be the reverse": float(np.mean(reversed_)),
        "standard error of a pair over that with trials of their own": quartiles(gains),
    }


def quartiles(values: list[Any]) -> list[float]:
    """25, 50 and 75 %."""
    return [float(v) for v in np.percentile(np.array(values, dtype=float), (25, 50, 75))]


REAL = (
    "sgd", "adagrad", "rmsprop", "adadelta", "adam", "adamw", "adamax", "nadam", "radam", "adabelief", "yogi", "adan", "ademamix", "adopt",
    "laprop", "stable_adamw", "lion", "signum", "lamb", "schedule_free_sgd",
)  # fmt: skip
PROBLEM = "airfoil-mlp"


def ripple(p: Any, g: Any) -> tuple[Any, Any]:
    """Useless: the gradient is a thousandth longer where the parameter is positive, and a thousandth shorter where it is negative."""
    return p, g * (1 + 1e-3 * sign(p))


def uphill(p: Any, g: Any) -> tuple[Any, Any]:
    """Harmful: positive parameters go up the loss, half as fast as the others go down."""
    return p, where(p > 0, -0.5 * g, g)


def with_planted(name: str, *parts: Any) -> Rule:
    """A rule of the catalogue with parts before it."""
    found = rules.get(name)
    for part in parts:
        found = before(part, found, name=f"{name}_planted")
    return found


def real(names: tuple[str, ...] = REAL, **sizes: Any) -> dict[str, Any]:
    """The verdicts on real rules: the parts of each and a useless one, then a harmful one; sizes are those of `steprule.ablate`."""
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        began = time.perf_counter()
        harmed = steprule.ablate(with_planted(name, uphill), PROBLEM, "uphill", **{"seeds": 10, **sizes})
        ablation = steprule.ablate(with_planted(name, ripple), PROBLEM, **sizes)
        panel = ablation.panels[0]
        race, where_ = ablation.race, (PROBLEM, panel.cell.schedule)
        on = race.outcomes(*where_, ablation.label)
        rows = []
        for part, effect in zip(ablation.parts, panel.effects, strict=True):
            apart = statistics.difference(race.outcomes(*where_, part.label), on)
            gain = effect.pair.difference.error / apart.error if apart.error else math.nan
            rows.append({**effect.to_dict(), "off": part.off, "error over that of separate trials": gain})
        own = next(s for s in panel.cell.standings if s.label == ablation.label)
        planted = harmed.panels[0].effects[0]
        rows.append(planted.to_dict())
        found[name] = {"loss": own.loss, "studies": race.tuning.studies, "trainings": ablation.trainings,
                       "seconds": round(time.perf_counter() - began, 1), "effects": rows}  # fmt: skip
        print(name, {e.part: e.verdict for e in (*panel.effects, planted)}, flush=True)
    effects = [e for own in found.values() for e in own["effects"]]
    said = {part: [e["verdict"] for e in effects if e["part"] == part] for part in ("ripple", "uphill")}
    parts = [e for e in effects if e["part"] not in said]
    return {
        "problem": PROBLEM,
        "most trainings of one": max(own["trainings"] for own in found.values()),
        "allowed": allowed(),
        "planted": {part: {v: own.count(v) for v in sorted(set(own))} for part, own in said.items()},
        "own parts": {v: sum(e["verdict"] == v for e in parts) for v in ("helps", "hurts", "nothing", "open")},
        "smallest effect of an own part found, per cent": quartiles([e["smallest_found"] for e in parts]),
        "smallest effect of the useless part found": quartiles(
            [e["smallest_found"] for e in effects if e["part"] == "ripple"]
        ),
        "error over that of separate trials": quartiles([e["error over that of separate trials"] for e in parts]),
        "rules": found,
    }


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    for name in ("simulated", "real"):
        own = dict(found.get(name, {}))
        each = own.pop("rules", {}) if name == "real" else {}
        for key, value in own.items():
            print(f"{name}: {key}: {value}")
        for rule, about in each.items():
            for e in about["effects"]:
                seen = f"found from {e['smallest_found']:.2f} %"
                print(f"  {rule:18s} {e['part']:26s} {e['verdict']:8s} {e['percent']:+9.2f} %  {seen}")


def main() -> None:
    """As the text above says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulated", type=int, metavar="N")
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--show", type=Path, metavar="FILE")
    asked = parser.parse_args()
    if asked.show:
        show(json.loads(asked.show.read_text(encoding="utf-8")))
        return
    kept = json.loads(asked.out.read_text(encoding="utf-8")) if asked.out and asked.out.exists() else {}
    began = time.perf_counter()
    if asked.simulated:
        kept["simulated"] = {**count(asked.simulated), "seconds": round(time.perf_counter() - began, 1)}
    if asked.real:
        kept["real"] = real()
    kept |= {"hardware": hardware(), "versions": versions()}
    show(kept)
    if asked.out:
        write_text(asked.out, json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()

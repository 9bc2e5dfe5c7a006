"""The statistics of an ablation, tested as statistics: useless parts are seldom called useful, and what is said to be found is found."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from by_path import ROOT, module_at
from scipy import stats
from tolerances import ABLATION_POWER, ROUNDED64

from steprule.races import statistics
from steprule.races.ablation import Effect, effects_of
from steprule.races.measure import Scale

bench = module_at("benchmarks/ablate.py")
LEVEL = 0.05


def effects(on: np.ndarray, off: dict[str, np.ndarray], matters: float = 0.01) -> dict[str, Effect]:
    found = effects_of(on, off, Scale(), matters, ("whole", {part: f"without {part}" for part in off}))
    return {effect.part: effect for effect in found}


def test_useless_parts_are_called_useful_in_few_rules() -> None:
    """In at most 5 % of rules is any of their parts, all useless, said to help or hurt, though any difference would matter."""
    rng = np.random.default_rng(0)
    wrong, least = [], []
    for k in range(160):
        found = bench.judged(bench.simulated(rng, k, parts=3, studies=8), 0.0)
        wrong.append(any(effect.verdict in ("helps", "hurts") for effect in found))
        least.append(min(effect.pair.p_real for effect in found))
    assert stats.binomtest(sum(wrong), len(wrong), LEVEL, alternative="greater").pvalue > 0.01
    assert np.mean(np.array(least) < 0.3) > 0.05  # it is not that nothing ever comes near


def test_an_effect_as_large_as_is_said_is_found_and_on_the_right_side() -> None:
    rng = np.random.default_rng(1)
    said = []
    for k in range(120):
        rule = bench.simulated(rng, k, parts=3, studies=12)
        part = f"{k % 3} {bench.USELESS[k % 3]}"
        smallest = next(e.found for e in bench.judged(rule, 0.01) if e.part == part)
        assert smallest is not None
        up = 1 if k % 2 else -1
        again = bench.judged(rule, 0.01, {part: up * math.log1p(smallest / 100)})
        verdict = next(e.verdict for e in again if e.part == part)
        said.append({"helps": up, "hurts": -up}.get(verdict, 0))
    assert said.count(-1) == 0
    assert ABLATION_POWER[0] < np.mean(said) < ABLATION_POWER[1]


def test_common_trials_fall_out_of_the_difference() -> None:
    """With the noise of one training in common the error is that of what differs, and a tiny effect is told apart from none."""
    rng = np.random.default_rng(2)
    on = rng.standard_normal((6, 1)) + rng.standard_normal(8) + rng.standard_normal((6, 8))
    near, up = on + 1e-4 * rng.standard_normal((6, 8)), on + 0.05
    found = effects(on, {"near": near, "up": up, "down": on - 0.05})
    assert [found[part].verdict for part in ("near", "up", "down")] == ["nothing", "helps", "hurts"]
    assert found["up"].pair.percent == pytest.approx([100 * math.expm1(0.05)] * 3, rel=ROUNDED64)
    assert statistics.difference(up, on).interval()[0] < 0  # apart, the two cannot be told


def test_verdicts_are_corrected_over_the_parts() -> None:
    rng = np.random.default_rng(3)
    on = np.zeros((10, 10))
    off = {str(k): 0.02 * rng.standard_normal((10, 10)) + 0.004 * k for k in range(4)}
    found = effects(on, off, matters=0.0)
    raw = [statistics.difference(y).p_beyond(0.0) for y in off.values()]
    assert [e.pair.p_real for e in found.values()] == pytest.approx(statistics.holm(raw), rel=ROUNDED64)
    alone = effects(on, {"1": off["1"]}, matters=0.0)["1"]
    assert alone.pair.p_real < found["1"].pair.p_real
    assert alone.found < found["1"].found


def test_what_would_decide_an_open_part_decides_it() -> None:
    """With as many studies and fresh seeds as are said to be needed most such ablations are decided."""
    rng = np.random.default_rng(4)

    def gaps(studies: int, seeds: int) -> np.ndarray:
        per_study, per_seed = 0.04 * rng.standard_normal((studies, 1)), 0.02 * rng.standard_normal(seeds)
        return 0.04 + per_study + per_seed + 0.05 * rng.standard_normal((studies, seeds))

    decided = []
    for _ in range(60):
        first = effects(np.zeros((4, 6)), {"part": gaps(4, 6)})["part"]
        studies = first.needed or 1_000
        if first.verdict != "open" or studies > 400:  # an estimate near to what matters asks for more than anybody has
            continue
        again = effects(np.zeros((studies, 6 * studies // 4)), {"part": gaps(studies, 6 * studies // 4)})["part"]
        decided.append(again.verdict != "open")
    assert len(decided) > 20
    assert np.mean(decided) > 0.6  # the first estimate is as lucky as it is unlucky


def test_one_study_tells_nothing_and_two_that_learnt_nothing_are_not_compared() -> None:
    rng = np.random.default_rng(5)
    one = effects(np.zeros((1, 5)), {"part": 3 + rng.standard_normal((1, 5))})["part"]
    assert (one.verdict, one.found, one.needed) == ("open", None, None)
    on = rng.standard_normal((5, 5))
    idle = effects_of(on, {"part": on}, Scale(), 0.01, ("whole", {"part": "off"}), {"part": True})[0]
    assert (idle.verdict, idle.found) == ("open", None)
    same = effects(on, {"part": on})["part"]
    assert (same.verdict, same.needed) == ("nothing", None)
    assert same.found == pytest.approx(1.0, rel=ROUNDED64)  # what matters: luck hides nothing


def test_differences_in_place_of_ratios() -> None:
    rng = np.random.default_rng(6)
    on = -5 + 0.01 * rng.standard_normal((6, 6))
    found = effects_of(on, {"part": on + 1.0}, Scale(ratios=False, fall=10.0), 0.01, ("whole", {"part": "off"}))[0]
    assert found.verdict == "helps"
    assert found.pair.percent[0] == pytest.approx(10.0, rel=ROUNDED64)


def test_the_page_says_what_was_measured() -> None:
    page = (ROOT / "docs/how-to/ablate.md").read_text(encoding="utf-8")
    measured = json.loads((ROOT / "benchmarks/results/ablate.json").read_text(encoding="utf-8"))
    own, real = measured["simulated"], measured["real"]
    helps, hurts = (own[f"rules with a useless part said to {verb}"] for verb in ("help", "hurt"))
    rows = {m: f"| {100 * helps[m]:.1f} % | {100 * hurts[m]:.1f} % |" for m in ("0.0", "0.01")}
    assert max([*helps.values(), *hurts.values()]) <= LEVEL
    assert f"(`--matters 0`) {rows['0.0']}" in page
    assert f"where 1 % matters {rows['0.01']}" in page
    assert f"{own['rules']:,} simulated rules with {own['parts']:,} parts" in page
    found = own["planted effects found, by multiple of that"]
    assert f"| found | {' | '.join(f'{100 * share:.0f} %' for share in found.values())} |" in page
    low, middle, high = own["smallest effect found, per cent"]
    assert f"is {middle:.1f} % in the middle of those parts, {low:.1f} to {high:.1f} % in the middle half" in " ".join(
        page.split()
    )
    said = real["planted"]
    assert said["uphill"] == {"hurts": 20}
    assert f"| useless | 20 | 0 | 0 | {said['ripple']['nothing']} | {said['ripple']['open']} |" in page
    verdicts = real["own parts"]
    assert f"| {sum(verdicts.values())} | {' | '.join(str(count) for count in verdicts.values())} |" in page

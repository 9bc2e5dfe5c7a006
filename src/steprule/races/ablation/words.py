"""An ablation in words: what helps, what hurts, what does nothing, and from which effect on it would be seen."""

from __future__ import annotations

from collections.abc import Iterator

from steprule.counts import counted
from steprule.races.ablation.effects import ERROR, Effect, Verdict
from steprule.races.ablation.findings import Findings, Panel
from steprule.races.ablation.trials import TIMES, allowed
from steprule.races.verdict import listed

SAID: dict[Verdict, str] = {"helps": "helps", "hurts": "hurts", "nothing": "nothing measurable", "open": "open"}
"""Each verdict as tables have it."""


def in_words(found: Findings) -> list[str]:
    """A paragraph per problem and schedule, then what holds for all."""
    return [*(" ".join(_of_panel(found, panel)) for panel in found.panels), " ".join(_of_all(found))]


def headline(found: Findings) -> str:
    """The whole in a few sentences."""
    if len(found.panels) == 1:
        return " ".join(_of_panel(found, found.panels[0]))
    return " ".join(_counted(found))


def effect_in_words(effect: Effect) -> str:
    """By how much the loss is higher without the part: "+5.2 % [+3.1, +7.3]"."""
    percent, low, high = effect.pair.percent
    shown = f"{percent_in_words(percent)} %{effect.pair.scale.of}"
    if low is None or high is None:
        return shown
    return f"{shown} [{percent_in_words(low)}, {percent_in_words(high)}]"


def percent_in_words(percent: float) -> str:
    """With so many digits as tell something.

    >>> percent_in_words(0.0312), percent_in_words(-1.26), percent_in_words(137.2), percent_in_words(2e6)
    ('+0.03', '-1.3', '+137', '+2e+06')
    """
    size = abs(percent)
    if size >= 1e4:
        return f"{percent:+.2g}"
    if size >= 10:
        return f"{percent:+.0f}"
    return f"{percent:+.1f}" if size >= 1 else f"{percent:+.2f}"


def seen_from(effect: Effect) -> str:
    """The smallest effect that is found at 80 % power: "1.8 %"; a dash where it is not known."""
    return (
        "–" if effect.found is None else f"{percent_in_words(effect.found).removeprefix('+')} %{effect.pair.scale.of}"
    )


def _of_panel(found: Findings, panel: Panel) -> Iterator[str]:
    race, cell = found.race, panel.cell
    config, tuning = race.spec.configs[cell.problem], race.tuning
    yield (
        f"{found.label} on {cell.problem}, batch {config.batch_size}, {counted(config.epochs, 'epoch')}, {cell.schedule} learning"
        f" rate, best of {counted(tuning.trials, 'trial')}, {cell.measure.loss} without a part against that with it:"
    )
    if not cell.tells:
        yield "nobody learnt anything, so nothing is compared."
        return
    if not tuning.tells_luck:
        yield "one study, or one fresh seed, cannot tell luck from an effect, so every part is open."
        return
    named: dict[str, list[Effect]] = {v: [e for e in panel.effects if e.verdict == v] for v in SAID}
    if helps := named["helps"]:
        yield f"{listed([f'{e.part} ({effect_in_words(e)})' for e in helps])} {_verb(helps, 'helps', 'help')}."
    if hurts := named["hurts"]:
        yield f"{listed([f'{e.part} ({effect_in_words(e)})' for e in hurts])} {_verb(hurts, 'hurts', 'hurt')}."
    if nothing := named["nothing"]:
        does = _verb(nothing, "does", "do")
        yield f"{listed([e.part for e in nothing])} {does} nothing measurable: less than {race.threshold}{cell.scale.of}."
    if open_ := named["open"]:
        yield f"Open: {listed([_open(e, tuning.fresh / tuning.studies) for e in open_])}."
    gone = {s.label: s.diverged for s in cell.standings}
    runs = tuning.studies * tuning.fresh
    lost = [f"{label} in {round(share * runs)} of {runs} fresh runs" for label, share in gone.items() if share]
    if lost:
        yield f"Diverged, which counts as the loss before the first step: {listed(lost)}."
    if cell.measure.caution:
        yield cell.measure.caution


def _verb(effects: list[Effect], one: str, several: str) -> str:
    return one if len(effects) == 1 else several


def _open(effect: Effect, fresh: float) -> str:
    text = f"{effect.part} ({effect_in_words(effect)}; an effect from {seen_from(effect)} on is found in four of five"
    if effect.needed is None:
        return f"{text})"
    seeds = max(2, round(effect.needed * fresh))
    return f"{text}; {effect.needed:,} studies with {counted(seeds, 'fresh seed')} would decide)"


def _counted(found: Findings) -> Iterator[str]:
    total = len(found.panels)
    for part in found.parts:
        verdicts = [panel.effect(part.name).verdict for panel in found.panels]
        counts = [f"{SAID[v]} in {verdicts.count(v)}" for v in SAID if v in verdicts]
        yield f"{part.name}: {listed(counts)} of {total} comparisons."


def _of_all(found: Findings) -> Iterator[str]:
    tuning, count = found.race.tuning, len(found.panels)
    each = found.trainings / count
    where = "one study" if tuning.studies == 1 else f"each of {tuning.studies} studies"
    apart = "" if count == 1 else f", {each:,.0f} a comparison"
    yield (
        f"{counted(found.trainings, 'training')}{apart}: as many as {each * TIMES / allowed():.2g} tuned rules of a race take. With each"
        f" part and without it the same {counted(tuning.trials, 'point')} in {where}, and the same seeds."
    )
    if found.idle:
        yield f"As the rule stands these change nothing: {listed(list(found.idle))}."
    yield (
        f"The chance of any wrong verdict of helping or hurting among the parts is {100 * ERROR:.0f} % a comparison. A part is taken off"
        " alone: what two parts do together is not asked."
    )

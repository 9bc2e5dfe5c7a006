"""A race in words: who cannot be told apart, which differences are real and how large, and what they do not say."""

from __future__ import annotations

from collections.abc import Sequence

from steprule.races.results import Cell, Race

NOT_ADVICE = (
    "Small models, small data and short trainings: such a race says how these rules compare here, at this budget, batch size, "
    "horizon and schedule. It is no advice for large models, where batch sizes, horizons and schedules are others."
)


def in_words(race: Race) -> list[str]:
    """The verdicts: a paragraph a cell, then what holds for all."""
    return [*(of_cell(race, cell) for cell in race.cells), *_agreement(race), NOT_ADVICE]


def of_cell(race: Race, cell: Cell) -> str:
    """One problem with one schedule."""
    plan = race.spec.plans[cell.problem]
    where = (
        f"{cell.problem}, batch {plan.batch_size}, {plan.epochs} epochs, {cell.schedule} learning rate, best of "
        f"{race.spec.trials} trials"
    )
    if len(cell.standings) < 2:
        only = cell.standings[0]
        return f"{where}: {only.label} ends at {only.loss:.4g}; nobody to compare it with."
    best = cell.standings[0]
    text = f"{where}: {best.label} has the lowest test loss, {best.loss:.4g}"
    text += f" [{best.low:.4g}, {best.high:.4g}]." if race.spec.studies > 1 else "."
    if race.spec.studies < 2:
        return text + " One study cannot tell the luck of tuning from a difference: nothing is called real."
    against = [p for p in cell.pairs if p.first == best.label]
    named = {v: [p for p in against if p.verdict() == v] for v in ("open", "same", "real")}
    if named["same"]:
        text += f" No more than {race.threshold} from it: {_listed([p.second for p in named['same']])}."
    if named["open"]:
        text += f" Cannot be told apart from it: {_listed([p.second for p in named['open']])}."
    if named["real"]:
        shown = [f"{p.second} {p.percent[0]:+.1f} % [{p.percent[1]:+.1f}, {p.percent[2]:+.1f}]" for p in named["real"]]
        text += f" Really above it: {_listed(shown)}."
    real = sum(p.verdict() == "real" for p in cell.pairs)
    return text + f" Of all {len(cell.pairs)} pairs {real} really differ by more than {race.threshold}."


def _agreement(race: Race) -> list[str]:
    texts = []
    for schedule, (tau, low, high) in race.agreement.items():
        says = "some agreement" if tau < 0.7 else "much agreement"
        if low <= 0 <= high:
            says = "no agreement that could be told from none"
        names = _listed([p.name for p in race.spec.problems])
        texts.append(
            f"Between {names}, {schedule} learning rate, the rankings agree with Kendall's tau {tau:.2f} [{low:.2f}, {high:.2f}]"
            f" (1 the same order, 0 none): {says}. A ranking from one problem carries over to the next no further than that."
        )
    return texts


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]

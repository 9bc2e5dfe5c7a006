"""A race in words: what cannot be told apart, what is real and how large, and what that does not say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from steprule.counts import counted
from steprule.hyper import said
from steprule.races.cell import CONFIDENCE, Cell, Pair, Untuned, interval
from steprule.races.results import SIZES, Results
from steprule.races.setting import in_words as settings_in_words
from steprule.races.statistics import LEAST

ERROR = 1 - CONFIDENCE
NOT_ADVICE = (
    "Small models, small data and short trainings: such a race says how these rules compare here, at this budget, batch size, "
    "horizon and schedule. It is no advice for large models, where batch sizes, horizons and schedules are others."
)


def in_words(race: Results) -> list[str]:
    """The verdicts: one paragraph per problem and schedule, then what holds for all."""
    if not race.is_tuned:
        return _of_settings(race)
    return [*(of_cell(race, cell) for cell in race.cells), *_agreement(race), NOT_ADVICE]


def sentence(race: Results) -> str:
    """A tuned race in one sentence: who is lowest, and how many can be told apart from it."""
    told = [cell for cell in race.cells if cell.tells]
    if len(race.spec.entrants) == 1:
        return f"{race.spec.entrants[0].label} ran alone: there is nobody to compare it with."
    if not told:
        return "Nobody learnt anything, so nothing is compared."
    if not race.tells_luck:
        return "One study, or one fresh seed, cannot tell luck from a difference: nothing is called real."
    if len(race.cells) > 1:
        return _wins(told)
    cell, best = told[0], told[0].standings[0]
    others = len(cell.standings) - 1
    real = others - len(cell.level_with_best) + 1
    count = f"{real or 'none'} of {counted(others, 'other')} {'are' if real > 1 else 'is'}"
    if others == 1:
        count = f"the other is{'' if real else ' not'}"
    return f"{best.label} has the lowest {cell.measure.loss}, {best.loss:.4g}: {count} really above it."


def _wins(told: Sequence[Cell]) -> str:
    """Who is alone at the lowest in how many comparisons."""
    total = len(told)
    won = Counter(cell.standings[0].label for cell in told if len(cell.level_with_best) == 1)
    if won:
        return f"{listed([f'{label} wins {count} of {total} comparisons' for label, count in won.most_common()])}."
    fewest = min(len(cell.level_with_best) for cell in told) - 1
    others = "one other is" if fewest == 1 else f"{fewest} others are"
    return f"Nobody wins: in each of {total} comparisons at least {others} not really above the lowest."


def headline(race: Results) -> str:
    """The whole race in a few sentences: who is really above the lowest, where and by how much, and how sure that is."""
    if not race.is_tuned:
        return " ".join(_of_settings(race))
    if len(race.cells) == 1:
        return " ".join(_order(race, race.cells[0]))
    if len(race.spec.entrants) == 1:
        return f"{race.spec.entrants[0].label} ran alone: there is nobody to compare it with."
    told = [cell for cell in race.cells if cell.tells]
    if not told:
        return "Nobody learnt anything on any problem, so nothing is compared."
    if not race.tells_luck:
        return "One study, or one fresh seed, cannot tell luck from a difference: nothing is called real."
    first = _wins(told)
    above: dict[str, list[Pair]] = {}
    idle: Counter[str] = Counter()
    for cell in told:
        idle.update(s.label for s in cell.standings if not s.learnt)
        learnt = {s.label for s in cell.standings if s.learnt}
        for pair in cell.pairs:
            if pair.first == cell.standings[0].label and pair.second in learnt and pair.is_above:
                above.setdefault(pair.second, []).append(pair)
    worst = sorted(above.items(), key=lambda item: (-len(item[1]), -max(p.percent[0] for p in item[1])))
    worse = listed([f"{label} in {len(pairs)} ({_span(pairs)})" for label, pairs in worst] or ["nobody"])
    nothing = (
        f" Learnt nothing: {listed([f'{label} in {count}' for label, count in idle.most_common()])}." if idle else ""
    )
    sure = f"A comparison is one problem with one schedule; in each, the chance of any wrong difference is {100 * ERROR:.0f} %."
    return f"{first} Really above the lowest, by more than {race.threshold}: {worse}.{nothing} {sure}"


def _of_settings(race: Results) -> list[str]:
    """Of settings as given; with where it was, where there are several problems or schedules."""
    words = {
        f"{problem}, {schedule} learning rate: ": settings_in_words(own)
        for (problem, schedule), own in race.tables.items()
    }
    return [text if len(words) == 1 else where + text for where, text in words.items()]


def _span(pairs: Sequence[Pair]) -> str:
    """From the smallest to the largest, of each way to compare."""
    spans = []
    for of in dict.fromkeys(pair.scale.of for pair in pairs):
        percents = [pair.percent[0] for pair in pairs if pair.scale.of == of]
        low, high = rounded(min(percents)), rounded(max(percents))
        spans.append(f"{low} %{of}" if low == high else f"{low} to {high} %{of}")
    return " and ".join(spans)


def rounded(percent: float) -> str:
    """A difference in whole per cent; what is enormous in three digits."""
    return f"{percent:+.0f}" if abs(percent) < 1e4 else f"{percent:+.3g}"


def of_cell(race: Results, cell: Cell) -> str:
    """One problem with one schedule."""
    config = race.spec.configs[cell.problem]
    where = (
        f"{cell.problem}, batch {config.batch_size}, {counted(config.epochs, 'epoch')}, {cell.schedule} learning rate, best of "
        f"{counted(race.tuning.trials, 'trial')}"
    )
    parts = (_order, _stages, _power, _diverged, _tuning, _at_ends, _scale, _caution)
    return f"{where}: " + " ".join(text for part in parts for text in part(race, cell) if text)


def _order(race: Results, cell: Cell) -> Iterator[str]:
    """Who is lowest, and how the others stand to it."""
    best = cell.standings[0]
    if not cell.tells:
        what = (
            "nobody learnt anything"
            if not any(s.learnt for s in cell.standings)
            else "nobody ended below the first loss"
        )
        yield f"{what}, so nothing is compared. The {cell.measure.loss} of {best.label} is {best.loss:.4g}."
        return
    within = f" {interval(best.low, best.high)}" if best.low is not None else ""
    if len(cell.standings) < 2:
        yield f"{best.label} ends at a {cell.measure.loss} of {best.loss:.4g}{within}; nobody to compare it with."
        return
    yield f"{best.label} has the lowest {cell.measure.loss}, {best.loss:.4g}{within}."
    if not race.tells_luck:
        few = (
            "study cannot tell the luck of tuning"
            if race.tuning.studies < 2
            else "fresh seed cannot tell the luck of seeds"
        )
        yield f"One {few} from a difference: nothing is called real."
        return
    learnt = {s.label for s in cell.standings if s.learnt}
    against = [p for p in cell.pairs if p.first == best.label]
    if same := [p.second for p in against if p.verdict() == "same" and p.second in learnt]:
        yield f"No more than {race.threshold}{cell.scale.of} from it: {listed(same)}."
    if open_ := [_needing(p) for p in against if p.verdict() == "open" and p.second in learnt]:
        yield f"Cannot be told apart from it: {listed(open_)}."
    if real := [f"{p.second} {_by(p)}" for p in against if p.is_above]:
        yield f"Really above it: {listed(real)}."
    if idle := [s.label for s in cell.standings if s.label not in learnt]:
        yield f"Learnt nothing: {listed(idle)}."
    real_pairs = sum(p.verdict() == "real" for p in cell.pairs)
    overall = sum(p.p_overall < ERROR for p in cell.pairs)
    by = f"by more than {race.threshold}{cell.scale.of}"
    if len(cell.pairs) == 1:
        yield f"The one pair {'really differs' if real_pairs else 'does not really differ'} {by}."
    else:
        count = "all" if overall == real_pairs else str(overall)
        several = len(race.cells) > 1 and real_pairs > 0
        held = f", {count} of them with the error held over the whole race" if several else ""
        yield f"Of all {len(cell.pairs)} pairs {real_pairs} really differ {by}{held}."


def _stages(race: Results, cell: Cell) -> Iterator[str]:
    """How long a race until decided went on here, and why it ended."""
    most, had = race.tuning.stages, cell.stages
    if most == 1 or not cell.tells or not cell.standings[0].learnt or len(cell.standings) == 1:
        return
    after = f"after {counted(had, 'stage')} of at most {most}"
    if cell.undecided:
        why = "" if had == most else ", where it stopped; the same command goes on"
        yield f"Not decided {after}{why}: {listed([p.second for p in cell.undecided])} stayed open."
    else:
        yield f"Decided {after}."
    left: dict[int, list[str]] = {}
    for s in cell.standings:
        if s.stages < had:
            left.setdefault(s.stages, []).append(s.label)
    for stages, labels in sorted(left.items()):
        yield f"Left after {stages}: {listed(labels)}."


def _needing(pair: Pair) -> str:
    return pair.second if pair.studies_needed is None else f"{pair.second} ({pair.studies_needed:,} studies)"


def _power(race: Results, cell: Cell) -> Iterator[str]:
    """What so many trainings can tell, and what more would cost."""
    smallest = cell.smallest_found
    if smallest is None or not math.isfinite(smallest):
        return
    chances = listed([f"{size:g} % in {100 * (cell.chance(size) or 0):.0f}" for size in SIZES])
    yield (
        f"Four of five such races find a difference of {smallest:.3g} %{cell.scale.of}; of 100 they find one of {chances}."
    )
    if any(p.studies_needed for p in cell.pairs if p.first == cell.standings[0].label):
        own = race.tuning
        each = counted(own.trials + own.fresh, "training")
        yield f"In brackets: how many studies, {each} of each, would tell; here there are {own.studies * cell.stages}."


def _diverged(race: Results, cell: Cell) -> Iterator[str]:
    """Whose fresh runs diverged: their losses are not what they ended at."""
    runs = race.tuning.studies * race.tuning.fresh
    gone = [
        f"{s.label} in {round(s.diverged * runs * s.stages)} of {runs * s.stages} fresh runs"
        for s in cell.standings
        if s.diverged
    ]
    if gone:
        yield f"Diverged, which counts as the loss before the first step: {listed(gone)}."


def _tuning(race: Results, cell: Cell) -> Iterator[str]:
    """What the tuning was worth, and whether an untuned rule beats all that were tuned."""
    if not cell.untuned or not cell.tells:
        return
    losses = {s.label: s.default for s in cell.standings}
    lowest = min(cell.untuned, key=lambda u: losses[u.label] or 0.0)
    loss = losses[lowest.label]
    best = cell.standings[0].loss
    # Where nothing is searched, tuned and untuned are the same to the last bit of a mean.
    if loss is not None and loss < best and not math.isclose(loss, best):
        how = "really below" if lowest.lowest else "below"
        every = "every tuned rule" if len(cell.standings) > 1 else "tuned"
        luck = ", which may be luck" if race.tells_luck and not lowest.lowest else ""
        yield f"Untuned, {lowest.label} ends at {loss:.4g}, {how} {every}{luck}."
    learnt = {s.label for s in cell.standings if s.learnt}
    own = [u for u in cell.untuned if u.label in learnt]
    if worse := [f"{u.label} (untuned {_by(u.pair)})" for u in own if u.pair.verdict() == "real" and _lower(u)]:
        yield f"Tuning did not pay here for: {listed(worse)}."
    if same := [u.label for u in own if u.pair.verdict() == "same"]:
        yield f"Tuning changed no more than {race.threshold}{cell.scale.of} for: {listed(same)}."
    open_ = [u.label for u in own if u.pair.verdict() == "open"]
    if race.tells_luck and open_:
        yield f"Tuned and untuned cannot be told apart: {listed(open_)}."


def _lower(untuned: Untuned) -> bool:
    return untuned.pair.difference.estimate < 0


def _at_ends(race: Results, cell: Cell) -> Iterator[str]:
    """Whose best setting lies at an end of what was searched."""
    found = []
    for s in cell.standings:
        space = race.stages(cell.problem, cell.schedule, s.label)[0].tuned.space
        for name, end in s.at_end.items():
            moved = f" after {s.moved} moves" if name == "lr" and s.moved else ""
            found.append(
                f"{s.label}'s {name} ({end} of {said(space[name].low, 3)}..{said(space[name].high, 3)}{moved})"
            )
    if found:
        yield f"The best lies at an end of its range, and may lie beyond: {listed(found)}."


def _scale(race: Results, cell: Cell) -> Iterator[str]:
    """How losses were compared, where it is not by ratios, or where some are below what is told apart."""
    if not cell.tells:
        return
    if not cell.scale.ratios:
        text = "A loss here is 0 or less, so that ratios mean nothing: losses are compared by their differences"
        first, last = cell.standings[0].loss + cell.scale.fall, cell.standings[0].loss
        yield f"{text}, in per cent of the fall from {first:.4g}, before the first step, to {last:.4g}."
    elif below := [s.label for s in cell.standings if race.below_least(cell.problem, cell.schedule, s.label)]:
        yield f"Losses below {LEAST:g} of the loss before the first step count as that: {listed(below)}."


def _caution(race: Results, cell: Cell) -> Iterator[str]:
    """What the loss that judged does not say."""
    yield cell.measure.caution


def _by(pair: Pair) -> str:
    """By how much the second is above the first."""
    percent, low, high = pair.percent
    shown = f"{percent:+.1f} %{pair.scale.of}"
    return shown if low is None or high is None else f"{shown} [{low:+.1f}, {high:+.1f}]"


def _agreement(race: Results) -> list[str]:
    texts = []
    for schedule, (tau, low, high) in race.agreement.items():
        says = "some agreement" if tau < 0.7 else "much agreement"
        if low <= 0 <= high:
            says = "no agreement that could be told from none"
        elif high < 0:
            says = "rather the opposite order"
        names = listed([p.name for p in race.spec.problems])
        texts.append(
            f"Between {names}, {schedule} learning rate, the rankings agree with Kendall's tau {tau:.2f} [{low:.2f}, {high:.2f}]"
            f" (1 the same order, 0 none): {says}. A ranking from one problem carries over to the next no further than that."
        )
    return texts


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: a, b and c."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]

"""The methods of a race as a paragraph for a paper, with every number of its protocol."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator

from steprule.counts import counted
from steprule.hyper import Search, said
from steprule.problems.credits import credits_of
from steprule.races import spaces
from steprule.races.cell import CONFIDENCE, placed
from steprule.races.citing.sources import (
    EFRON,
    HOEFFDING,
    HOLM,
    KENDALL,
    LAN,
    OWEN,
    SATTERTHWAITE,
    SCHUIRMANN,
    SMYTH,
    WELCH,
    cited,
)
from steprule.races.competitor import Entrant
from steprule.races.looks import shares
from steprule.races.luck import LENT, TAILS
from steprule.races.measure import Measure
from steprule.races.protocol import MOVES, MULTIPLES, AsGiven
from steprule.races.results import Results
from steprule.races.statistics import LEAST, rank_agreement
from steprule.races.verdict import listed
from steprule.rules.rule import Paper
from steprule.training.recipe import Recipe

SCALES = {"log": "logarithmic", "linear": "linear", "complement": "logarithmic in one minus the value"}


def of_race(race: Results) -> str:
    """The paragraph."""
    how = [_tuning, _searched, _moved, _confirmation, _until, _statistics, _agreement] if race.is_tuned else [_as_given]
    return " ".join(text for part in (_who, *how, _made) for text in part(race))


def papers_of(race: Results) -> Iterator[Paper]:
    """The papers of what the paragraph names, of a tuned race."""
    yield OWEN
    if race.tuning.pools:
        yield HOEFFDING
    if race.tells_luck:
        yield from (EFRON,) if race.tuning.pools else ()
        yield from (WELCH, SATTERTHWAITE, HOLM, SCHUIRMANN)
        if race.tuning.stages > 1:
            yield LAN
        if race.lends_luck:
            yield SMYTH
    if race.agreement:
        yield KENDALL


def _who(race: Results) -> Iterator[str]:
    """Competitors, problems, schedules."""
    spec, plans = race.spec, []
    for task in spec.problems:
        config, sizes = spec.configs[task.name], [f"{held.samples} {part}" for part, held in task.parts.items()]
        steps = Recipe(config.epochs, config.batch_size).steps(task)
        plans.append(
            f"{task.name} ({task.summary}; {listed(sizes)} samples; {counted(config.epochs, 'epoch')} of batches of {config.batch_size},"
            f" {counted(steps, 'step')})"
        )
    names = listed([e.label for e in spec.entrants])
    yield f"We compared {counted(len(spec.entrants), 'optimizer')} ({names}) on {counted(len(plans), 'problem')}: {'; '.join(plans)}."
    schedules = (
        f"{'schedules' if len(spec.schedules) > 1 else 'schedule'} of the learning rate: {listed(spec.schedule_names)}"
    )
    yield f"Each problem was trained with {len(spec.schedules)} {schedules}."
    if own := [e.label for e in spec.entrants if e.model is not None]:
        yield f"A model of its own in place of the problem's had {listed(own)}."


def _tuning(race: Results) -> Iterator[str]:
    """Trials, batches, seeds, and what was chosen by."""
    own = race.tuning
    yield (
        f"A tuning trains {counted(own.trials, 'trial')}, and its best is the one with the lowest"
        f" {_each(race, lambda m: m.choice.removeprefix('the '))} after the last step."
        f" On each problem with each schedule {counted(own.batches * own.batch, 'trial')} of every optimizer were trained, in"
        f" {counted(own.batches, 'batch', 'batches')} of {counted(own.batch, 'scrambled Sobol point')} ({cited(OWEN)}) of the search space"
        f" with a seed per batch ({_seeds(own.tuning_seeds)}, the same for all optimizers: the same initial weights and batches)."
    )
    if own.pools:
        yield (
            "Every choice of as many trials as a tuning has counts as one: a trial's weight is the share of choices of which it is the best"
            f" ({cited(HOEFFDING)}), where scores of different batches are compared by their logarithms, or as they are where some are 0 or"
            " less, each less the mean of the batch's best quarter."
        )


def _searched(race: Results) -> Iterator[str]:
    """The ranges and what was set."""
    told = [f"{e.label} ({text})" for e in race.spec.entrants if (text := "; ".join(_space(e)))]
    if told:
        yield f"Searched were, for {'; '.join(told)}."
    still = [e.label for e in race.spec.entrants if not e.space]
    if still:
        yield f"Nothing was searched for {listed(still)}."
    defaults = [f"{e.label} ({_set(e)})" for e in race.spec.entrants if e.fixed]
    if defaults:
        yield f"Set and not searched were, for {'; '.join(defaults)}."


def _moved(race: Results) -> Iterator[str]:
    """How ranges move, which did, and whose best still lies at an end."""
    with_rate = [e for e in race.spec.entrants if "lr" in e.space]
    if not with_rate:
        return
    widest = max(math.log10(e.space["lr"].high / e.space["lr"].low) for e in with_rate)
    yield (
        f"Where the best learning rates of most batches lay within {spaces.EDGE * widest:g} decades of an end of their range, the range was"
        f" moved by {spaces.SHIFT:g} decades and the trials were repeated, at most {MOVES} times."
    )
    moved = [f"{s.label} on {where} ({_times(s.moved)})" for where, s in placed(race.cells) if s.moved]
    yield f"Moved were the ranges of {listed(moved)}." if moved else "No range moved."
    ends = []
    for where, s in placed(race.cells):
        ends += [f"{name} of {s.label} on {where} ({end})" for name, end in s.at_end.items()]
    if ends:
        yield f"After that the best of most batches still lay at an end of its range for {listed(ends)}."


def _confirmation(race: Results) -> Iterator[str]:
    """Fresh seeds, and what was judged by."""
    own = race.tuning
    who, shared = (
        ("The best trials were", ", shared out by weight") if own.pools else ("The winner of each batch was", "")
    )
    yield (
        f"{who} then trained on {counted(own.fresh, 'fresh seed')} ({_seeds(own.fresh_seeds)}) that no trial had seen, the"
        f" same for all, {counted(own.studies, 'training')} per seed and optimizer{shared}, and judged by the"
        f" {_each(race, lambda m: m.loss)}."
    )
    if any(c.untuned for c in race.cells):
        yield "The defaults of each optimizer were trained on the same fresh seeds."
    if own.pools and any("lr" in e.space for e in race.spec.entrants):
        yield (
            f"Learning rates around the winner's, {len(MULTIPLES)} multiples from {MULTIPLES[0]:.2g} to {MULTIPLES[-1]:.2g}, were trained"
            f" on {counted(own.around, 'fresh seed')}."
        )
    yield "A training that ended above where it began, or not finite, counted with the loss before the first step."
    runs = own.studies * own.fresh
    gone = [
        f"{s.label} on {where} ({round(s.diverged * runs * s.stages)} of {runs * s.stages})"
        for where, s in placed(race.cells)
        if s.diverged
    ]
    if gone:
        yield f"Such were fresh trainings of {listed(gone)}."
    yield from dict.fromkeys(m.caution for m in race.measures.values() if m.caution)


def _until(race: Results) -> Iterator[str]:
    """Stages, looks, and what each look may spend."""
    own = race.tuning
    if own.stages == 1:
        return
    spent = listed([f"{100 * (1 - CONFIDENCE) * share:.3g} %" for share in shares(own.stages).values()])
    per = own.batches + own.fresh
    yield (
        f"All of this was repeated on other seeds ({per} later each time) in the range in which the first tuning ended, at most"
        f" {own.stages} times: each time is a stage. After {listed([str(n) for n in own.looks])} stages the lowest and everyone who could"
        " not be told apart from it went on, until nobody was left. A difference is the mean over the stages that both have."
        f" The error was spent in proportion to trainings ({cited(LAN)}): {spent} at these looks, added up by Bonferroni's inequality."
    )
    told = [f"{c.problem}, {c.schedule} ({c.stages})" for c in race.cells]
    yield f"The stages were those of {listed(told)}."


def _statistics(race: Results) -> Iterator[str]:
    """Means, intervals, tests, corrections."""
    by_fall = [f"{c.problem}, {c.schedule}" for c in race.cells if not c.scale.ratios]
    if len(by_fall) < len(race.cells):
        of = f", but for {listed(by_fall)}," if by_fall else ""
        yield (
            f"Losses{of} were compared by their ratios: means are geometric, and a loss below {LEAST:g} of the one before the first step"
            " counted as that."
        )
    if by_fall:
        yield (
            f"On {listed(by_fall)} a loss was 0 or less: losses were compared by differences, in per cent of the fall from the mean loss"
            " before the first step to the lowest mean."
        )
    if not race.tells_luck:
        few = "study" if race.tuning.studies < 2 else "fresh seed"
        yield f"One {few} cannot tell luck from a difference: no interval is known, and no difference was called real."
        return
    sure, error = 100 * CONFIDENCE, 100 * (1 - CONFIDENCE)
    yield (
        "The squared standard error of a difference is the variance of the tuning of the one, that of the other, and that between the fresh"
        f" seeds, which are paired; what varies with trial and seed is counted once.{_luck(race)}{_lent(race)}"
        f" Intervals are Student's {sure:.0f} % intervals, with degrees of freedom after {cited(WELCH)}, and {cited(SATTERTHWAITE)}; they"
        " are not corrected for many pairs."
    )
    pairs = counted(len(race.cells[0].pairs), "pair")
    of = " of the lower loss, or of the fall" if by_fall else " of the lower loss"
    yield (
        f"A difference is called real where it is larger than {race.threshold}{of}, and the same where it is smaller by two one-sided"
        f" tests ({cited(SCHUIRMANN)}), each at a level of {error:.0f} % with Holm's correction ({cited(HOLM)}) over the {pairs} of each"
        " problem with each schedule; else it is open."
    )  # fmt: skip


def _luck(race: Results) -> str:
    if not race.tuning.pools:
        return " The variance of a tuning is that of the batches' means."
    return (
        f" The variance of a tuning is the jackknife's that leaves one batch out at a time ({cited(EFRON)}), with {TAILS:g} degrees of"
        " freedom for each batch but one, 1 at least."
    )


def _lent(race: Results) -> str:
    if not race.lends_luck:
        return ""
    return (
        f" The variances of a problem with a schedule are moderated by those of all optimizers ({cited(SMYTH)}), with {LENT:g} of the"
        " degrees of freedom that this would add."
    )


def _agreement(race: Results) -> Iterator[str]:
    draws = inspect.signature(rank_agreement).parameters["draws"].default
    for schedule, (tau, low, high) in race.agreement.items():
        yield (
            f"With the {schedule} schedule the rankings of the problems agree with Kendall's tau ({cited(KENDALL)}) of {tau:.2f},"
            f" {100 * CONFIDENCE:.0f} % interval {low:.2f} to {high:.2f}, from {draws:,} draws of tunings and seeds."
        )


def _as_given(race: Results) -> Iterator[str]:
    """The paragraph for settings as given and for a protocol of one's own: no tuning, no verdict."""
    protocol = race.spec.protocol
    if not isinstance(protocol, AsGiven):
        numbers = ", ".join(f"{name} {value}" for name, value in protocol.to_dict().items())
        yield f"What was trained was decided by a protocol of our own, {type(protocol).__name__} ({numbers})."
    seeds = next(iter(race.phases.values()))[0].lanes.seed.tolist()
    yield (
        f"Nothing was tuned: each optimizer was trained at its settings with {counted(len(seeds), 'seed')} ({_seeds(seeds)}), which decide"
        " initial weights and batches and are the same for all."
    )
    told = [f"{e.label} ({_set(e) if e.fixed else 'its defaults'})" for e in race.spec.entrants]
    yield f"The settings were {'; '.join(told)}."
    yield (
        "Judged is the loss on all training samples after the last step: its mean and standard deviation over the seeds that did not"
        " diverge, and the middle 95 % of all seeds. A training that ended above where it began, or not finite, is counted as diverged."
        " Settings are compared, not optimizers, and no difference was tested."
    )


def _made(race: Results) -> Iterator[str]:
    trainings = counted(race.lanes, "training")
    yield f"In all there were {trainings}, on {race.hardware}, device {race.spec.device}."
    yield race.made.in_words()
    if credit := credits_of(p.name for p in race.spec.problems):
        yield f"Data: {credit}."


def _each(race: Results, word: Callable[[Measure], str]) -> str:
    """What holds of the race's problems: once where it is the same for all, else for each."""
    told = {name: word(measure) for name, measure in race.measures.items()}
    if len(set(told.values())) == 1:
        return next(iter(told.values()))
    return listed([f"{text} on {name}" for name, text in told.items()])


def _space(entrant: Entrant) -> Iterator[str]:
    """The ranges of one, those of one scale together."""
    by_scale: dict[str, list[str]] = {}
    for name, range_ in entrant.space.items():
        by_scale.setdefault(range_.scale, []).append(f"{name} from {_range(range_)}")
    for scale, told in by_scale.items():
        yield f"{listed(told)}, {SCALES[scale]}"


def _range(range_: Search) -> str:
    return f"{said(range_.low, 3)} to {said(range_.high, 3)}"


def _set(entrant: Entrant) -> str:
    return ", ".join(f"{name} {value}" for name, value in entrant.fixed.items())


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _seeds(seeds: range | list[int]) -> str:
    """Seeds in words: seeds 0 to 19."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seeds {listed([str(seed) for seed in seeds])}"

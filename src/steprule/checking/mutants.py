"""Known slips: the mistakes of pupils and ports, made from a rule's graph by changing one operation at a time.

Nothing here knows a rule by name. Each slip is a pattern in the graph (a bias correction is `1 - x**t`, an average has a `1 - decay`)
and what is written in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from steprule.checking import state_slips, step_slips
from steprule.checking.places import Places, Slip
from steprule.checking.probe import Formula
from steprule.checking.rewriting import spelled_out, text_of


@dataclass(frozen=True)
class Mutant:
    """A rule with a slip in it, and the slip in a pupil's words."""

    words: str
    formula: Formula


KINDS: tuple[Callable[[Places], Iterator[Slip]], ...] = (
    step_slips.bias,
    step_slips.epsilon,
    step_slips.squares_and_roots,
    step_slips.step,
    state_slips.averages,
    state_slips.states,
    state_slips.weight_decay,
    step_slips.counting,
    step_slips.functions,
)
"""The commonest first."""


def mutants(formula: Formula) -> Iterator[Mutant]:
    """Each slip that the formula has room for, the commonest first; no two give the same formula."""
    ground = spelled_out(formula)
    places = Places(ground)
    seen = {text_of(ground)}
    for kind in KINDS:
        for words, found in kind(places):
            text = text_of(found)
            if text not in seen:
                seen.add(text)
                yield Mutant(words, found)

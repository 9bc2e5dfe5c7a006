"""Which optimizer, after the same tuning effort, and how sure are we: the protocol, its engines and its statistics.

In reading order: spec.py (what a race is), stated.py (what decides its results, as plain values), difference.py (where two races
part), spaces.py (where it looks), plan.py (the protocol as lanes), partial.py (a training in its middle), store.py (the folder), work.py
(a block), running.py (hand out, keep, go on), cost.py (what that will take), on_ray.py (the same on a cluster), measure.py (which loss
judges, and on which scale), statistics.py, results.py, verdict.py; racing.py is `steprule.race`. `as_given/` compares settings as given,
without tuning.
"""

from steprule.races.difference import CannotGoOn
from steprule.races.entry import estimate, merge, race, within
from steprule.races.protocol import Chain, Lanes, Phase
from steprule.races.results import Cell, Pair, Race, Standing
from steprule.races.spec import Competitor
from steprule.races.verdict import headline, in_words

__all__ = [
    "CannotGoOn",
    "Cell",
    "Chain",
    "Competitor",
    "Lanes",
    "Pair",
    "Phase",
    "Race",
    "Standing",
    "estimate",
    "headline",
    "in_words",
    "merge",
    "race",
    "within",
]


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})

"""Which optimizer, after the same tuning effort, and how sure: the protocol, engines and statistics.

`as_given/` compares settings as given, without tuning.
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

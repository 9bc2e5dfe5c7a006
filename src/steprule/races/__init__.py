"""Which optimizer, after the same tuning effort, and how sure: the race, its protocols and its statistics."""

from steprule.modules import public
from steprule.races.cell import Cell, Pair, Standing
from steprule.races.chain import Chain, Lanes, Phase, Planned
from steprule.races.competitor import Competitor
from steprule.races.difference import CannotGoOn
from steprule.races.entry import RaceSettings, estimate, finished, merge, race, within
from steprule.races.protocol import AsGiven, Protocol, Tuned
from steprule.races.raced import Race
from steprule.races.setting import Setting
from steprule.races.verdict import headline, in_words

__all__ = [
    "AsGiven",
    "CannotGoOn",
    "Cell",
    "Chain",
    "Competitor",
    "Lanes",
    "Pair",
    "Phase",
    "Planned",
    "Protocol",
    "Race",
    "RaceSettings",
    "Setting",
    "Standing",
    "Tuned",
    "estimate",
    "finished",
    "headline",
    "in_words",
    "merge",
    "race",
    "within",
]

__dir__ = public(globals())

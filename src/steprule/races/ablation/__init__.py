"""Ablation takes each part off a rule in turn and tunes all alike: which parts help, hurt or do nothing."""

from steprule.modules import public
from steprule.races.ablation.effects import Effect, effects_of
from steprule.races.ablation.entry import AblateSettings, ablate, estimate
from steprule.races.ablation.findings import Findings, Panel
from steprule.races.ablation.parts import Part, Taken, taken_off
from steprule.races.ablation.result import Ablation
from steprule.races.ablation.trials import SameTrials
from steprule.races.ablation.words import headline, in_words

__all__ = [
    "AblateSettings",
    "Ablation",
    "Effect",
    "Findings",
    "Panel",
    "Part",
    "SameTrials",
    "Taken",
    "ablate",
    "effects_of",
    "estimate",
    "headline",
    "in_words",
    "taken_off",
]

__dir__ = public(globals())

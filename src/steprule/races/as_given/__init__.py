"""Optimizers at settings as given, over many seeds.

It shows how wide one setting's spread is. It does not tune, so it ranks settings, not optimizers.
"""

from steprule.races.as_given.results import Row, in_words, percentile, summarise
from steprule.races.as_given.running import Comparison, compare
from steprule.races.as_given.spec import TORCHS, TUTORIAL, Entry

__all__ = ["TORCHS", "TUTORIAL", "Comparison", "Entry", "Row", "compare", "in_words", "percentile", "summarise"]

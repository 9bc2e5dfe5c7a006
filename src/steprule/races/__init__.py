"""Who is faster, and how sure are we: spec.py (who runs), running.py (the runs), results.py (the table), store.py (the file).

This first form runs everyone at given settings over many seeds. It shows how wide one setting's spread is; it does not
tune, so it ranks settings, not optimizers.
"""

from steprule.races.results import Row, in_words, percentile, summarise
from steprule.races.running import Race, race
from steprule.races.spec import TUTORIAL, Entry

__all__ = ["TUTORIAL", "Entry", "Race", "Row", "in_words", "percentile", "race", "summarise"]

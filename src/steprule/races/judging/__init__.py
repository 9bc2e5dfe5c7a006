"""Judging is the race's referee for results that were trained anywhere: a table of runs in, verdicts out."""

from steprule.modules import public
from steprule.races.judging.entry import JudgeSettings, judge, judged
from steprule.races.judging.findings import Comparison, Overall, Pair, Standing
from steprule.races.judging.gate import Gated, Night, gate
from steprule.races.judging.judgement import Judgement
from steprule.races.judging.runs import Runs

__all__ = [
    "Comparison",
    "Gated",
    "JudgeSettings",
    "Judgement",
    "Night",
    "Overall",
    "Pair",
    "Runs",
    "Standing",
    "gate",
    "judge",
    "judged",
]

__dir__ = public(globals())

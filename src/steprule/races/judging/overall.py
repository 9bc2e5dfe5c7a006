"""All problems together: mean ranks, and whether the order of the methods carries over to problems like these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from steprule import extras
from steprule.races.judging.findings import Comparison, Overall
from steprule.races.judging.runs import Array
from steprule.races.statistics import holm

with extras.needed():
    from scipy import stats

FEWEST = 6
"""Problems below which Wilcoxon's signed-rank test cannot reach 5 %."""


def overall_of(comparisons: Sequence[Comparison], outcomes: Mapping[str, Mapping[str, float]]) -> Overall | None:
    """The methods that have runs on every problem, over the problems that tell; None for one problem or one such method.

    `outcomes` has by problem and method the outcome, lower is better, in which problems can be compared: logarithms where all
    compare ratios, else mean ranks.
    """
    telling = [c for c in comparisons if c.yardstick.tells]
    if len(telling) < 2:
        return None
    everywhere = [s.method for s in telling[0].standings if all(s.method in outcomes[c.problem] for c in telling)]
    if len(everywhere) < 2:
        return None
    y = np.array([[outcomes[c.problem][m] for m in everywhere] for c in telling])  # [problems, methods]
    ranks = np.array([stats.rankdata(row) for row in y])
    order = np.argsort(ranks.mean(axis=0), kind="stable")
    return Overall(
        ranks={everywhere[k]: float(ranks[:, k].mean()) for k in order},
        best_on={everywhere[k]: int((ranks[:, k] == 1).sum()) for k in order},
        problems=len(telling),
        p_any=float(stats.friedmanchisquare(*ranks.T).pvalue) if len(everywhere) > 2 else None,
        p_pairs=_pairs([everywhere[k] for k in order], y[:, order]),
    )


def _pairs(methods: Sequence[str], y: Array) -> dict[tuple[str, str], float]:
    if len(y) < FEWEST:
        return {}
    both = list(combinations(range(len(methods)), 2))
    p = [_signed_rank(y[:, k] - y[:, j]) for j, k in both]
    return {(methods[j], methods[k]): float(q) for (j, k), q in zip(both, holm(p), strict=True)}


def _signed_rank(gaps: Array) -> float:
    """Two-sided; exact where no two differences tie."""
    kept = gaps[gaps != 0]
    return float(stats.wilcoxon(kept).pvalue) if len(kept) >= FEWEST else 1.0

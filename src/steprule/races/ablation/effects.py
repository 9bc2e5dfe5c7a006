"""What each part of a rule does: the outcome without it minus that with it, with verdict and power."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from steprule.races import power, statistics
from steprule.races.cell import CONFIDENCE, Pair, record
from steprule.races.measure import Scale

Array = NDArray[Any]
Verdict = Literal["helps", "hurts", "nothing", "open"]
ERROR = 1 - CONFIDENCE


@dataclass(frozen=True)
class Effect:
    """What one part does on one problem with one schedule."""

    part: str
    pair: Pair
    """The rule as it stands, which is the first, and the rule without the part."""
    found: float | None
    """The smallest effect that so many studies find in four of five such ablations, in per cent; None where luck is not known."""
    needed: int | None
    """Of an open one: with how many studies, and as many times the fresh seeds, it would be decided in four of five, were difference and
    spread as they are here; None of a decided one, and where more than 10,000 would be needed."""

    @property
    def verdict(self) -> Verdict:
        """helps (without it the loss is really higher), hurts (lower), nothing (the difference is smaller than what matters) or open."""
        found = self.pair.verdict()
        if found == "real":
            return "helps" if self.pair.difference.estimate > 0 else "hurts"
        return "nothing" if found == "same" else "open"

    def to_dict(self) -> dict[str, Any]:
        """As plain values; `percent` is by how much the loss is higher without the part."""
        own = record(self.pair)
        interval = own["interval"]
        return {"part": self.part, "verdict": self.verdict, "percent": own["percent"], "interval": interval, "p": self.pair.p_real,
                "p_nothing": self.pair.p_same, "smallest_found": self.found, "studies_needed": self.needed}  # fmt: skip


def effects_of(
    on: Array, off: Mapping[str, Array], scale: Scale, matters: float, labels: tuple[str, Mapping[str, str]],
    idle: Mapping[str, bool] | None = None,
) -> tuple[Effect, ...]:  # fmt: skip
    """The effect of each part.

    Args:
        on: outcomes of the rule as it stands, [studies, seeds].
        off: by part the same without it, on the same trials and seeds; so differences are taken study by study and seed by seed.
        scale: how outcomes are compared.
        matters: the smallest effect that matters, as a share.
        labels: of the rule, and by part of the rule without it.
        idle: by part whether neither of the two learnt anything, so that nothing is compared.
    """
    least = scale.least(matters)
    gaps = {part: statistics.difference(y - on) for part, y in off.items()}
    blank = [not scale.tells or (idle or {}).get(part, False) for part in gaps]
    real = statistics.holm([1.0 if no else d.p_beyond(least) for d, no in zip(gaps.values(), blank, strict=True)])
    same = statistics.holm([1.0 if no else d.p_within(least) for d, no in zip(gaps.values(), blank, strict=True)])
    tail = ERROR / max(1, len(gaps)) / 2
    found = []
    for (part, gap), no, p, q in zip(gaps.items(), blank, real, same, strict=True):
        pair = Pair(labels[0], labels[1][part], gap, scale, float(p), float(q))
        told = gap.known and not no
        smallest = None
        if told:
            own = power.Power(gap.error, len(on), gap.freedom, least, tail)
            smallest = scale.percent(own.smallest if gap.error else least)
        needed = power.studies_needed(gap, len(on), least, tail) if told and pair.verdict() == "open" else None
        found.append(Effect(part, pair, smallest, needed))
    return tuple(found)

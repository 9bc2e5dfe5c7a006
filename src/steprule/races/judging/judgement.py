"""`Judgement`: what `steprule.judge` gives, in words, as tables for papers, as pictures and as a page."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from steprule.provenance import Made, made_now
from steprule.races.citing.citable import Citable, Cited
from steprule.races.judging import export, methods, words
from steprule.races.judging.findings import Findings


class Judgement(Findings, Citable):
    """What `steprule.judge` found, and what a paper takes from it."""

    @cached_property
    def made(self) -> Made:
        """When it was first written down, and by what."""
        return made_now()

    def in_words(self) -> str:
        """The verdict, a paragraph per problem."""
        return "\n".join(words.in_words(self))

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON; what is not finite is None."""
        return {**super().to_dict(), "made": vars(self.made)}

    @cached_property
    def _cited(self) -> Cited:
        ranked = list(self.overall.ranks) if self.overall else []
        return Cited(
            tables=tuple(export.tables_of(self)), order=tuple(dict.fromkeys([*ranked, *self.compared])),
            paragraphs=tuple(words.in_words(self)), methods=methods.of_judgement(self, self.made), papers=tuple(methods.papers_of(self)),
            made=self.made,
        )  # fmt: skip

    def cited(self) -> Cited:
        """The parts from which every form is made."""
        return self._cited

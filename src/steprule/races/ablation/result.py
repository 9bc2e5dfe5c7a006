"""`Ablation`: what `steprule.ablate` gives, in words and as a page."""

from __future__ import annotations

from pathlib import Path

from steprule import display
from steprule.counts import counted
from steprule.races.ablation import words
from steprule.races.ablation.findings import Findings


class Ablation(Findings, display.Shown):
    """What `steprule.ablate` found."""

    def in_words(self) -> str:
        """What it took, then the verdicts, a paragraph per problem and schedule."""
        head = f"{self.label} without each of {counted(len(self.parts), 'part')}: {counted(self.trainings, 'training')}"
        return "\n".join([head, *words.in_words(self)])

    def save(self, path: str | Path) -> Path:
        """Write the page, an HTML file. Raises `OutputError` where it cannot be written, `MissingPackageError` without matplotlib."""
        path = Path(path)
        display.write_page(self, path)
        return path

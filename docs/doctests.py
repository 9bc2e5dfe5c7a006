"""For the reference: examples in docstrings, which begin with >>>, as code and not as quotations."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Puts a fence around each example."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of each object that was read."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """Text with each paragraph of >>> lines and what they print in a fence."""
    return re.sub(r"^([ ]*)(>>> .*(?:\n[ ]*\S.*)*)", r"\1```pycon\n\1\2\n\1```", text, flags=re.MULTILINE)

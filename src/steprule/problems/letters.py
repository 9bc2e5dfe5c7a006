"""A short text to predict letter by letter: six sonnets of William Shakespeare, printed in 1609.

They are sonnets 18, 29, 30, 73, 116 and 130, in the public domain everywhere. A sample is the letters before, the target the next one.
"""

from __future__ import annotations

from importlib import resources

import numpy as np
from numpy.typing import NDArray

CREDIT = "Text: William Shakespeare, Sonnets 18, 29, 30, 73, 116, 130 (1609), public domain"
ALPHABET = "\n abcdefghijklmnopqrstuvwxyz'.,:;?!-"
BEFORE = 4


def load() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Letters before, as numbers in `ALPHABET`, [samples, 4]; and the next one, [samples]. In the order of the text."""
    text = (resources.files("steprule.problems") / "data" / "sonnets.txt").read_text(encoding="ascii").lower()
    numbers = np.array([ALPHABET.index(letter) for letter in text], dtype=np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(numbers, BEFORE + 1)
    return windows[:, :-1].copy(), windows[:, -1].copy()

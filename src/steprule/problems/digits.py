"""Handwritten digits: 1,797 images of 8 x 8 pixels (Kaynak and Alpaydin, 1998).

The test set of UCI dataset 80, "Optical Recognition of Handwritten Digits", doi 10.24432/C50P49, CC BY 4.0; the same images
that scikit-learn carries. The file travels with the package, a line an image: a letter a pixel (0 to 9, a to g for 10 to
16), then the digit.
"""

from __future__ import annotations

import hashlib
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from steprule.errors import DataError

CREDIT = "Digits: Alpaydin, Kaynak, UCI 80 (1998), doi 10.24432/C50P49, CC BY 4.0"
ROWS, SHA1 = 1797, "3bb971d934ee2fc92ca66ae6fcdffbb69ceebfe7"


def load() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images [1797, 64], pixels in [0, 1], row by row; and the digit of each, [1797].

    Raises `DataError` where the file is missing, cut off or altered.
    """
    where = "the package's digits.txt"
    try:
        data = (resources.files("steprule.problems") / "data" / "digits.txt").read_bytes().replace(b"\r\n", b"\n")
    except OSError as error:
        got = error.strerror or type(error).__name__
        raise DataError(where, expected=f"{ROWS:,} images", got=got, hint="Install steprule again.") from error
    if (sha1 := hashlib.sha1(data, usedforsecurity=False).hexdigest()) != SHA1:
        raise DataError(where, expected=f"sha1 {SHA1}", got=f"{sha1} (altered)", hint="Install steprule again.")
    lines = data.decode("ascii").split()
    pixels = np.array([[int(letter, 17) for letter in line[:64]] for line in lines])
    return (pixels / 16).astype(np.float32), np.array([int(line[64]) for line in lines], dtype=np.int64)

"""Airfoil self-noise: 1,503 wind-tunnel measurements of how loud a wing section is (NASA RP-1218, 1989).

Brooks, Pope and Marcolini measured them; UCI dataset 291, doi 10.24432/C5VW2C, CC BY 4.0. The file travels with the
package and its checksum is verified at each load.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steprule.errors import DataError, InputError

COLUMNS = (
    ("frequency", "Hz"),
    ("angle of attack", "deg"),
    ("chord length", "m"),
    ("free-stream velocity", "m/s"),
    ("suction-side displacement thickness", "m"),
    ("scaled sound pressure level", "dB"),
)
"""Name and unit of each column; the last is the target."""

CREDIT = "Airfoil self-noise: Brooks, Pope, Marcolini, NASA RP-1218 (1989); UCI 291, doi 10.24432/C5VW2C, CC BY 4.0"
FILE = resources.files("steprule.problems") / "data" / "airfoil_self_noise.dat"
"""Where the package has the measurements."""
ROWS, BYTES, SHA1 = 1503, 58_481, "d9dfd00ed1ff52487b87aceb5ff20462d8e0801c"
TUTORIAL_ROWS = 1500
THICKNESS = 4  # its 105 distinct values are the experiments

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Split:
    """Row numbers of a split in which no experiment is on two sides."""

    train: NDArray[np.intp]
    validation: NDArray[np.intp]
    test: NDArray[np.intp]


def load(path: Path | None = None) -> Array:
    """The measurements as they were made: [1503, 6], units as `COLUMNS` says.

    `path` reads another copy of the file. Raises `DataError` where it is missing, empty, cut off or altered.
    """
    where = str(path) if path else "the package's airfoil_self_noise.dat"
    source = path or FILE
    again = "Install steprule again." if path is None else "Take the file from doi 10.24432/C5VW2C."
    try:
        raw = source.read_bytes()
    except OSError as error:
        got = error.strerror or type(error).__name__
        raise DataError(where, expected=f"a file of {BYTES:,} bytes", got=got, hint=again) from error
    data = raw.replace(b"\r\n", b"\n")  # git on Windows may have turned the line ends
    if len(data) != BYTES:
        cut = " (cut off)" if len(data) < BYTES else ""
        got = f"{len(data):,}{cut}" if raw else "an empty file"
        raise DataError(where, expected=f"{BYTES:,} bytes", got=got, hint=again)
    if (sha1 := hashlib.sha1(data, usedforsecurity=False).hexdigest()) != SHA1:
        raise DataError(where, expected=f"sha1 {SHA1}", got=f"{sha1} (altered)", hint=again)
    return np.array([line.split("\t") for line in data.decode("ascii").splitlines()], dtype=np.float64)


def tutorial(rows: int = TUTORIAL_ROWS) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features [rows, 5] and labels [rows] as the tutorial has them, without unit.

    All six columns are brought to mean 0 and standard deviation 1 over all 1,503 rows; then the first `rows` are taken.
    """
    scaled = _scaled(rows).astype(np.float32)
    return scaled[:, :-1], scaled[:, -1]


def grouped_split(seed: int = 0, *, validation: float = 0.2, test: float = 0.2) -> Split:
    """Rows of whole experiments for training, validation and test, so that a score is of wings not seen before.

    `validation` and `test` are the shares of the 105 experiments, each in (0, 1), together below 1.
    """
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise InputError("grouped split", expected="shares above 0, together below 1", got=f"{validation}, {test}")
    groups, of_row = np.unique(load()[:, THICKNESS], return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(groups))
    cuts = [round(test * len(groups)), round((test + validation) * len(groups))]
    for_test, for_validation, for_training = (np.flatnonzero(np.isin(of_row, part)) for part in np.split(order, cuts))
    return Split(for_training, for_validation, for_test)


def least_squares_floor() -> float:
    """The least half mean squared error that a linear model can reach on the tutorial's rows: 0.24168796."""
    scaled = _scaled()
    with_bias = np.column_stack([scaled[:, :-1], np.ones(len(scaled))])
    weights = np.linalg.lstsq(with_bias, scaled[:, -1], rcond=None)[0]
    return float(np.mean((with_bias @ weights - scaled[:, -1]) ** 2) / 2)


def _scaled(rows: int = TUTORIAL_ROWS) -> Array:
    data = load()
    scaled: Array = (data - data.mean(axis=0)) / data.std(axis=0)
    return scaled[:rows]

"""The problems that travel with the package, by name, with a line on each and their sizes; known without torch.

A shell asks for them at TAB, and `steprule problems` lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_AIRFOIL = "airfoil self-noise with whole experiments held out"
_DIGITS = "handwritten digits of 8 x 8 pixels"

EMBEDDED = {
    "airfoil": "Linear regression of airfoil self-noise on five features, as the tutorial has it",
    "airfoil-linear": f"{_AIRFOIL}, linear regression",
    "airfoil-mlp": f"{_AIRFOIL}, 64 tanh units",
    "digits-softmax": f"{_DIGITS}, softmax regression",
    "digits-mlp": f"{_DIGITS}, one hidden layer of 32",
    "digits-cnn": f"{_DIGITS}, a small convolutional network",
    "letters": "the next letter of six sonnets from the four before, embedding and one hidden layer",
    "letters-deep": "the same letters by two residual blocks of width 64: four hidden matrices, 19,940 numbers",
}


@dataclass(frozen=True)
class Usual:
    """How many samples a problem has in each part, and how it is usually trained."""

    samples: Mapping[str, int]
    batch_size: int
    epochs: int


_WINGS = {"train": 904, "validation": 305, "test": 294}
_IMAGES = {"train": 1078, "validation": 359, "test": 360}
USUAL = {
    "airfoil": Usual({"train": 1500}, 10, 2),
    "airfoil-linear": Usual(_WINGS, 10, 2),
    "airfoil-mlp": Usual(_WINGS, 50, 5),
    "digits-softmax": Usual(_IMAGES, 50, 5),
    "digits-mlp": Usual(_IMAGES, 50, 5),
    "digits-cnn": Usual(_IMAGES, 50, 5),
    "letters": Usual({"train": 2211, "validation": 737, "test": 737}, 50, 4),
    "letters-deep": Usual({"train": 2211, "validation": 737, "test": 737}, 50, 2),
}
"""As the problems themselves say it; a list of them is printed without torch too."""

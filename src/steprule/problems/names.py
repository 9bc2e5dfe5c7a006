"""The names of the problems that travel with the package, with a line on each, known without torch."""

from __future__ import annotations

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
}

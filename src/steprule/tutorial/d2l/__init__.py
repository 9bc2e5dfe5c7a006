"""The tutorial's own helper names: its cells run with only their import lines changed.

The optimization chapter of *Dive into Deep Learning* is served in both editions. Cells that begin with

    import d2lzh_pytorch as d2l
    from d2l import torch as d2l

run with `from steprule import d2l`. Unlike the rest of the package these functions print and draw, because the tutorial's do. The
book's helpers for images and networks, which its cells on schedules of the learning rate use, are not here.

`plt`, `np` and `torch` are here too, and torch's functions under the names by which the later edition calls them.
"""

import matplotlib.pyplot as plt  # noqa: F401
import numpy as np
import torch  # noqa: F401
from numpy.typing import NDArray
from torch import Tensor, arange, cos, cosh, exp, linspace, meshgrid, nn, normal, ones, sin, sinh, tanh, tensor, zeros  # noqa: F401

from steprule.tutorial.d2l.figures import Animator, plot, set_figsize, use_svg_display
from steprule.tutorial.d2l.first import get_data_ch7, train_ch7, train_pytorch_ch7
from steprule.tutorial.d2l.later import DATA_HUB, DATA_URL, download, get_data_ch11, train_ch11, train_concise_ch11
from steprule.tutorial.d2l.pieces import Accumulator, Timer, evaluate_loss, linreg, load_array, squared_loss
from steprule.tutorial.d2l.walks import show_trace_2d, train_2d

__all__ = [
    "DATA_HUB", "DATA_URL", "Accumulator", "Animator", "Timer", "download", "evaluate_loss", "get_data_ch7", "get_data_ch11", "linreg",
    "load_array", "numpy", "plot", "set_figsize", "show_trace_2d", "squared_loss", "train_2d", "train_ch7", "train_ch11",
    "train_concise_ch11", "train_pytorch_ch7", "use_svg_display",
]  # fmt: skip


def numpy(x: Tensor) -> NDArray[np.generic]:
    """A tensor's values as an array, without its gradient."""
    return x.detach().numpy()

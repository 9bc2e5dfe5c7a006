"""The tutorial's cells run with only their import lines changed. The cells here are our own, in its calling style."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

import matplotlib
import numpy as np
import pytest
import torch
from tolerances import PRINTED_SIX_DECIMALS

matplotlib.use("agg")
import matplotlib.pyplot as plt

from steprule import d2l

CELL_2D = """
def adagrad_2d(x1, x2, s1, s2):
    g1, g2, eps = 0.2 * x1, 4 * x2, 1e-6
    s1 += g1 ** 2
    s2 += g2 ** 2
    x1 -= eta / math.sqrt(s1 + eps) * g1
    x2 -= eta / math.sqrt(s2 + eps) * g2
    return x1, x2, s1, s2

def f_2d(x1, x2):
    return 0.1 * x1 ** 2 + 2 * x2 ** 2

eta = 0.4
path = d2l.train_2d(adagrad_2d)
d2l.show_trace_2d(f_2d, path)
"""

CELL_FORMULA = """
features, labels = d2l.get_data_ch7()

def init_states():
    return (torch.zeros((features.shape[1], 1), dtype=torch.float32), torch.zeros(1, dtype=torch.float32))

def adagrad(params, states, hyperparams):
    eps = 1e-6
    for p, s in zip(params, states):
        s.data += (p.grad.data ** 2)
        p.data -= hyperparams['lr'] * p.grad.data / torch.sqrt(s + eps)

d2l.train_ch7(adagrad, init_states(), {'lr': 0.1}, features, labels)
"""

CELL_CLASS = """
d2l.train_pytorch_ch7(torch.optim.Adagrad, {'lr': 0.1}, features, labels)
d2l.train_pytorch_ch7(torch.optim.Adadelta, {'rho': 0.9}, features, labels, batch_size=50, num_epochs=1)
"""

CELL_ADAM = """
def adam(params, states, hyperparams):
    beta1, beta2, eps = 0.9, 0.999, 1e-6
    for p, (v, s) in zip(params, states):
        v[:] = beta1 * v + (1 - beta1) * p.grad.data
        s[:] = beta2 * s + (1 - beta2) * p.grad.data**2
        v_bias_corr = v / (1 - beta1 ** hyperparams['t'])
        s_bias_corr = s / (1 - beta2 ** hyperparams['t'])
        p.data -= hyperparams['lr'] * v_bias_corr / (torch.sqrt(s_bias_corr) + eps)
    hyperparams['t'] += 1

states = ((torch.zeros((5, 1)), torch.zeros((5, 1))), (torch.zeros(1), torch.zeros(1)))
d2l.train_ch7(adam, states, {'lr': 0.01, 't': 1}, features, labels)
"""


@pytest.fixture(autouse=True)
def no_figures_left() -> Iterator[None]:
    yield
    plt.close("all")


def test_the_cells_run(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    scope: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec("import math\nimport torch\nfrom steprule import d2l", scope)
        for cell in (CELL_2D, CELL_FORMULA, CELL_CLASS, CELL_ADAM):
            exec(cell, scope)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "epoch 20, x1 -2.382563, x2 -0.158591"
    assert len(out) == 5
    for line in out[1:]:
        found = re.fullmatch(r"loss: (\d\.\d{6}), (\d+\.\d{6}) sec per epoch", line)
        assert found, line
        assert 0.2416 < float(found[1]) < 0.5
    assert float(out[1].split()[1][:-1]) < 0.25
    path = scope["path"]
    assert isinstance(path, list)
    assert len(path) == 21
    assert path[0] == (-5, -2)
    assert np.abs(np.array(path[-1]) - (-2.382563, -0.158591)).max() <= PRINTED_SIX_DECIMALS
    assert len(plt.get_fignums()) == 5


def test_figures_hold_the_path_and_the_curve() -> None:
    d2l.show_trace_2d(lambda x1, x2: 0.1 * x1**2 + 2 * x2**2, d2l.train_2d(lambda a, b, c, d: (a * 0.9, b * 0.5, c, d)))
    (axes,) = plt.gcf().axes
    assert axes.get_xlabel() == "x1"
    assert np.array_equal(axes.lines[0].get_xdata()[:2], [-5.0, -4.5])  # type: ignore[index]
    features, labels = d2l.get_data_ch7()
    d2l.train_pytorch_ch7(torch.optim.SGD, {"lr": 0.05}, features, labels)
    (axes,) = plt.gcf().axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "loss")
    assert len(axes.lines[0].get_ydata()) == 31  # type: ignore[arg-type]


def test_data() -> None:
    features, labels = d2l.get_data_ch7()
    assert (features.shape, labels.shape) == ((1500, 5), (1500,))
    assert features.dtype is labels.dtype is torch.float32

"""The tutorial's cells run with only their import lines changed. The cells here are our own, in its calling style."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from tolerances import PRINTED_SIX_DECIMALS, ROUNDED32, SUMMED32

matplotlib.use("agg")
import matplotlib.pyplot as plt

from steprule import d2l, rules
from steprule.errors import StepruleError

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
    with matplotlib.rc_context():
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
        assert 0.2416 < float(found[1]) < 1
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


# ---- The sections before AdaGrad, and the later edition: helpers by the names and signatures that their cells call.

CELLS_EARLY = """
d2l.set_figsize()
x = np.arange(-1.0, 2.0, 0.1)
line, = d2l.plt.plot(x, x * np.cos(np.pi * x))
line.axes.annotate('lowest', xy=(1.1, -0.95), xytext=(0.6, 0.8), arrowprops=dict(arrowstyle='->'))
d2l.plt.xlabel('x')
---
features, labels = d2l.get_data_ch7()
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(features, labels), 100, shuffle=True)
w, b = torch.zeros(5, 1, requires_grad=True), torch.zeros(1, requires_grad=True)
net, loss = d2l.linreg, d2l.squared_loss
before = loss(net(features, w, b), labels).mean().item()
for X, y in loader:
    loss(net(X, w, b), y).mean().backward()
    for p in (w, b):
        p.data -= 0.2 * p.grad.data
        p.grad.data.zero_()
after = loss(net(features, w, b), labels).mean().item()
"""

CELLS_LATER = """
d2l.set_figsize((4.5, 2.5))
x = d2l.arange(0.5, 1.5, 0.01)
d2l.plot(x, [x * d2l.cos(np.pi * x), x * d2l.cos(np.pi * x) + 0.2 * d2l.sin(6 * x)], 'x', 'risk', legend=['true', 'seen'])
d2l.plt.gca().annotate('lowest', xy=(1.1, -1.1), xytext=(0.6, 0.4))
---
d2l.use_svg_display()
_, panels = d2l.plt.subplots(1, 2, figsize=(6, 3))
x, chord = torch.arange(-2, 2, 0.01), torch.tensor([-1.5, 1])
for panel, f in zip(panels, (lambda x: 0.5 * x ** 2, lambda x: torch.cos(np.pi * x))):
    d2l.plot([x, chord], [f(x), f(chord)], axes=panel)
---
def walked(eta, f_grad, x=10.0):
    found = [x]
    for _ in range(10):
        x = x - eta * f_grad(x)
        found.append(x)
    return found

c = torch.tensor(0.3, requires_grad=True)
found = walked(0.05, lambda x: c * torch.sinh(c * x))
line = torch.arange(-10, 10, 0.1)
d2l.set_figsize()
d2l.plot([line, found], [[torch.cosh(c * v) for v in line], [torch.cosh(c * v) for v in found]], 'x', 'f(x)', fmts=['-', '-o'])
---
def noisy(x1, x2, s1, s2, f_grad):
    g1, g2 = f_grad(x1, x2)
    rate = schedule()
    return x1 - rate * (g1 + torch.normal(0.0, 1, (1,))), x2 - rate * (g2 + torch.normal(0.0, 1, (1,)).item()), 0, 0

def schedule():
    global t
    t += 1
    return 0.1 * (1 + 0.1 * t) ** -0.5

t = 0
path = d2l.train_2d(noisy, steps=50, f_grad=lambda x1, x2: (2 * x1, 4 * x2))
d2l.show_trace_2d(lambda x1, x2: torch.sqrt(x1 ** 2 + 2 * x2 ** 2), path)
---
timer = d2l.Timer()
A, B = d2l.zeros(32, 32), d2l.normal(0, 1, (32, 32))
for j in range(0, 32, 8):
    A[:, j:j + 8] = torch.mm(B, B[:, j:j + 8])
timer.stop()
timer.start()
A = torch.mm(B, B)
timer.stop()
rates = [2 / 1000 / seconds for seconds in timer.times]
---
table = np.genfromtxt(d2l.download('airfoil'), dtype=np.float32, delimiter='\\t')
table = torch.from_numpy((table - table.mean(axis=0)) / table.std(axis=0))
loader = d2l.load_array((table[:1500, :-1], table[:1500, -1]), 100, is_train=True)
---
def sgd(params, states, hyperparams):
    for p in params:
        p.data.sub_(hyperparams['lr'] * p.grad)
        p.grad.data.zero_()

def tried(lr, batch_size, num_epochs=2):
    data_iter, feature_dim = d2l.get_data_ch11(batch_size)
    return d2l.train_ch11(sgd, None, {'lr': lr}, data_iter, feature_dim, num_epochs)

runs = [tried(1, 1500, 10), tried(0.4, 100), tried(0.05, 10)]
d2l.set_figsize([6, 3])
d2l.plot(*list(map(list, zip(*runs))), 'time (sec)', 'loss', xlim=[1e-3, 10], legend=['gd', 'batch 100', 'batch 10'])
d2l.plt.gca().set_xscale('log')
---
data_iter, feature_dim = d2l.get_data_ch11(batch_size=10)

def init_states(feature_dim):
    return (torch.zeros((feature_dim, 1)), torch.zeros(1)), (torch.zeros((feature_dim, 1)), torch.zeros(1))

def adam(params, states, hyperparams):
    for p, m, v in zip(params, *states):
        with torch.no_grad():
            m[:] = 0.9 * m + 0.1 * p.grad
            v[:] = 0.999 * v + 0.001 * torch.square(p.grad)
            t = hyperparams['t']
            p[:] -= hyperparams['lr'] * (m / (1 - 0.9 ** t)) / (torch.sqrt(v / (1 - 0.999 ** t)) + 1e-6)
        p.grad.data.zero_()
    hyperparams['t'] += 1

seconds, losses = d2l.train_ch11(adam, init_states(feature_dim), {'lr': 0.01, 't': 1}, data_iter, feature_dim)
---
d2l.train_concise_ch11(torch.optim.SGD, {'lr': 0.005, 'momentum': 0.9}, data_iter)
d2l.train_concise_ch11(steprule.optim.Adam, {'lr': 0.01}, data_iter, 1)
---
animator = d2l.Animator(xlabel='epoch', xlim=[0, 2], legend=['train', 'test'])
sums = d2l.Accumulator(2)
sums.add(torch.tensor(3.0), 2)
animator.add(0.5, (sums[0] / sums[1], None))
animator.add(1, (1.0, 0.5))
---
for rate in (0.95, 0.6):
    powers = d2l.numpy(d2l.arange(40))
    d2l.plt.plot(powers, rate ** powers)
d2l.plot(torch.arange(30), [0.3 * (k + 1) ** -0.5 for k in range(30)])
"""


def test_the_cells_of_the_other_sections_run(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    scope: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec("import numpy as np\nimport torch\nimport steprule\nfrom steprule import d2l", scope)
        for cell in (CELLS_EARLY + "---" + CELLS_LATER).split("---\n"):
            exec(cell, scope)
            plt.close("all")
    assert scope["after"] < 0.25 < 0.49 < scope["before"]
    assert np.allclose(scope["loader"].dataset[7][0], d2l.get_data_ch7()[0][7], atol=SUMMED32, rtol=SUMMED32)
    assert len(scope["rates"]) == 2
    walk, *trainings = capsys.readouterr().out.splitlines()
    found = re.fullmatch(r"epoch 50, x1 (-?\d\.\d{6}), x2 (-?\d\.\d{6})", walk)
    assert found
    assert max(abs(float(found[1])), abs(float(found[2]))) < 1
    assert len(trainings) == 6
    for line in trainings:
        found = re.fullmatch(r"loss: (0\.\d{3}), \d+\.\d{3} sec/epoch", line)
        assert found, line
        assert 0.2416 < float(found[1]) < 0.262, line
    seconds, losses = scope["seconds"], scope["losses"]
    assert len(seconds) == len(losses) == 15  # after 200, 400, ..., 3,000 samples
    assert seconds == sorted(seconds)
    assert losses[0] > 0.3 > losses[-1]
    assert scope["animator"].Y == [[1.5, 1.0], [0.5]]
    assert scope["animator"].X == [[0.5, 1.0], [1.0]]


def momentum(x1: float, x2: float, v1: float, v2: float, eta: float, beta: float) -> tuple[float, ...]:
    v1, v2 = beta * v1 + eta * 0.2 * x1, beta * v2 + eta * 4 * x2
    return x1 - v1, x2 - v2, v1, v2


def adagrad(x1: float, x2: float, s1: float, s2: float, eta: float) -> tuple[float, ...]:
    s1, s2 = s1 + (0.2 * x1) ** 2, s2 + (4 * x2) ** 2
    return x1 - eta * 0.2 * x1 / (s1 + 1e-6) ** 0.5, x2 - eta * 4 * x2 / (s2 + 1e-6) ** 0.5, s1, s2


def rmsprop(x1: float, x2: float, s1: float, s2: float, eta: float, gamma: float) -> tuple[float, ...]:
    s1, s2 = gamma * s1 + (1 - gamma) * (0.2 * x1) ** 2, gamma * s2 + (1 - gamma) * (4 * x2) ** 2
    return x1 - eta * 0.2 * x1 / (s1 + 1e-6) ** 0.5, x2 - eta * 4 * x2 / (s2 + 1e-6) ** 0.5, s1, s2


@pytest.mark.parametrize(
    ("trainer", "settings", "x1", "x2"),
    [
        (momentum, {"eta": 0.4, "beta": 0}, -0.943467, -0.000073),
        (momentum, {"eta": 0.4, "beta": 0.5}, -0.062843, 0.001202),
        (momentum, {"eta": 0.6, "beta": 0.5}, 0.007188, 0.002553),
        (momentum, {"eta": 0.6, "beta": 0.25}, -0.126340, -0.186632),
        (adagrad, {"eta": 0.4}, -2.382563, -0.158591),
        (adagrad, {"eta": 2}, -0.002295, -0.000000),
        (rmsprop, {"eta": 0.4, "gamma": 0.9}, -0.010599, 0.000000),
    ],
)
def test_printed_points(
    trainer: Any, settings: dict[str, float], x1: float, x2: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the chapter prints after 20 steps on 0.1 x1^2 + 2 x2^2, in either edition."""
    path = d2l.train_2d(partial(trainer, **settings))
    assert capsys.readouterr().out == f"epoch 20, x1 {x1:f}, x2 {x2:f}\n"
    assert np.abs(np.array(path[-1]) - (x1, x2)).max() <= PRINTED_SIX_DECIMALS


class Recorded(torch.optim.SGD):
    """Keeps what it was given."""

    def step(self, closure: Any = None) -> None:
        weight, bias = self.param_groups[0]["params"]
        gradients.append((weight.detach().clone(), bias.detach().clone(), weight.grad.clone(), bias.grad.clone()))
        super().step(closure)


gradients: list[tuple[torch.Tensor, ...]] = []


def test_what_is_trained_is_the_tutorials(capsys: pytest.CaptureFixture[str]) -> None:
    """From the formula: half the mean squared error. The concise one: twice its gradient. Both tell the half."""
    X, y = d2l.get_data_ch7()
    whole, rows = [(X, y)], len(y)
    states, told = object(), []

    def trainer(params: list[torch.Tensor], given: Any, hyperparams: dict[str, Any]) -> None:
        w, b = params
        errors = (X @ w + b - y[:, None]).detach()
        told.append(float((errors**2).mean() / 2))
        assert given is states
        assert torch.allclose(w.grad, X.T @ errors / rows, atol=ROUNDED32, rtol=SUMMED32)
        assert torch.allclose(b.grad, errors.mean(0), atol=ROUNDED32, rtol=SUMMED32)
        if len(told) == 1:
            assert 0.001 < w.abs().max().item() < 0.05
            assert b.item() == 0
        with torch.no_grad():
            for p in params:  # whose gradients nobody has to set to zero
                p -= hyperparams["lr"] * p.grad

    seconds, losses = d2l.train_ch11(trainer, states, {"lr": 0.3}, whole, 5, num_epochs=40)
    assert np.allclose(losses[:-1], told[1:], rtol=SUMMED32, atol=0)
    assert len(seconds) == 40
    gradients.clear()
    d2l.train_concise_ch11(Recorded, {"lr": 0.15}, whole, num_epochs=40)
    for w, b, by_w, by_b in gradients:
        errors = X @ w.T + b - y[:, None]
        assert torch.allclose(by_w, 2 * errors.T @ X / rows, atol=ROUNDED32, rtol=SUMMED32)
        assert torch.allclose(by_b, 2 * errors.mean(0), atol=ROUNDED32, rtol=SUMMED32)
    printed = re.findall(r"loss: (\S+),", capsys.readouterr().out)
    assert printed == [f"{losses[-1]:.3f}"] * 2  # both have come to the same
    assert d2l.evaluate_loss(lambda X: d2l.linreg(X, torch.zeros(5, 1), torch.zeros(1)), whole, d2l.squared_loss) == (
        pytest.approx(0.49325897, rel=ROUNDED32)
    )
    (axes,) = plt.gcf().axes
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 40), (0.22, 0.35))
    assert len(axes.lines[0].get_ydata()) == 40  # type: ignore[arg-type]


def test_plot_takes_curves_in_every_form() -> None:
    x = torch.arange(4.0)
    for given, shapes in [
        ((x,), [4]),
        (([x, x[:2]],), [4, 2]),
        ((x, x**2), [4]),
        ((x, [x, 2 * x, 3 * x, 4 * x, 5 * x]), [4] * 5),
        (([x, x[:3]], [x, x[:3]]), [4, 3]),
        ((x.numpy(), [x.requires_grad_(), [1, 2, 3, 4]]), [4, 4]),
        ((torch.ones(2, 4), np.ones((2, 4))), [4, 4]),
        ((range(3), [torch.tensor(1.0, requires_grad=True), 2, np.float32(3)]), [3]),
    ]:
        d2l.plot(*given, xlabel="a", ylabel="b", legend=list("abcde")[: len(shapes)], yscale="log", figsize=(2, 1))
        axes = plt.gca()
        assert [len(line.get_xydata()) for line in axes.lines] == shapes  # type: ignore[arg-type]
        assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("a", "b", "log")
    assert tuple(plt.gcf().get_size_inches()) == (2, 1)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: d2l.train_2d(lambda *p: p, steps=0), "steps: expected 1 or more, got 0"),
        (lambda: d2l.train_2d(lambda *p: p[:2]), r"trainer: expected a result \(x1, x2, s1, s2\), got \(-5.0, -2.0\)"),
        (lambda: d2l.train_2d(lambda *p: None), "trainer: .* got None"),
        (lambda: d2l.plot([1, 2, 3], [[1, 2], [1, 2, 3]]), "plot: .* got x: 3 and 3; y: 2 and 3"),
        (lambda: d2l.get_data_ch11(0), "batch_size: expected 1 or more, got 0"),
        (lambda: d2l.get_data_ch11(n=1504), "n: expected 1 to 1,503, got 1504"),
        (lambda: d2l.download("house"), "unknown data set: expected one of airfoil, got 'house'"),
        (lambda: d2l.load_array((torch.ones(3), torch.ones(2)), 1), "data_arrays: expected as many rows in each, got 3 and 2"),
        (lambda: d2l.train_concise_ch11(torch.optim.SGD, {"lr": 1.0}, []), "data_iter: .* got none"),
        (lambda: d2l.train_concise_ch11(torch.optim.SGD, {"lr": 1.0}, iter([(torch.ones(2, 5), torch.ones(2))])), "data_iter: .* got none"),
        (lambda: d2l.train_concise_ch11(torch.optim.SGD, {"lr": 1.0}, [(torch.ones(2, 5), torch.ones(2))], 0), "num_epochs: expected 1"),
        (lambda: d2l.train_ch11(None, None, {}, [(torch.ones(2, 5), torch.ones(2))], 6), "feature_dim: expected 5, as the data have, got 6"),
        (lambda: d2l.train_concise_ch11("sgd", {}, d2l.get_data_ch11()[0]), "optimizer: expected a class such as torch.optim.SGD, got 'sgd'"),
        (lambda: d2l.train_concise_ch11(rules.get("adam"), {}, d2l.get_data_ch11()[0]), "optimizer: .* got the rule adam. .*from_rule"),
        (lambda: d2l.train_pytorch_ch7(torch.optim.SGD, {"rate": 1}, *d2l.get_data_ch7()), "SGD: .*unexpected keyword argument 'rate'"),
        (lambda: d2l.train_concise_ch11(torch.optim.SGD, {"lr": 1}, (torch.ones(4, 5), torch.ones(4))), r"data_iter: .* got \[4, 5\]"),
        (lambda: d2l.train_2d("adam"), "trainer: expected a function"),
        (lambda: d2l.plot("abc"), "plot: expected numbers, or rows of numbers, got 'abc'"),
        (lambda: d2l.set_figsize((3, 0)), "figsize: expected width and height in inches, above 0, got"),
        (lambda: d2l.Accumulator(2).add(1), "Accumulator.add: expected 2 numbers, got 1"),
        (lambda: (a := d2l.Animator(), a.add(1, 2), a.add(2, (3, 4))), "Animator.add: expected 1 point, got 2 x and 2 y"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(call: Any, said: str) -> None:
    with pytest.raises(StepruleError, match=f"^{said}") as caught:
        call()
    assert "\n" not in str(caught.value)


def test_what_diverges_is_drawn_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = d2l.train_2d(lambda a, b, c, d: (a * -1e30, b * -1e30, c, d))
        assert capsys.readouterr().out == "epoch 20, x1 -inf, x2 -inf\n"
        d2l.show_trace_2d(lambda x1, x2: np.exp(x1) + x2**2, path)
        d2l.show_trace_2d(lambda x1, x2: math.cosh(x1 / 1e300) if x2 > 0 else 0.0, path)
        data_iter, _ = d2l.get_data_ch11(100)
        d2l.train_concise_ch11(torch.optim.SGD, {"lr": 1e9}, data_iter)
        plt.gcf().canvas.draw()
    assert re.fullmatch(r"loss: nan, \S+ sec/epoch\n", capsys.readouterr().out)


CELL_IN_A_NOTEBOOK = """
from steprule import d2l
data_iter, _ = d2l.get_data_ch11(100)
d2l.train_concise_ch11(d2l.torch.optim.SGD, {'lr': 0.1}, data_iter, 1)
"""


@pytest.mark.long
def test_a_notebook_shows_one_figure_as_svg() -> None:
    """It grows while the training goes on, and stands there once."""
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    book = new_notebook(cells=[new_code_cell("%matplotlib inline"), new_code_cell(CELL_IN_A_NOTEBOOK)])
    NotebookClient(book, timeout=120, kernel_name="python3").execute()
    outputs = book.cells[1].outputs
    pictures = [o for o in outputs if "image/svg+xml" in o.get("data", {})]
    assert len(pictures) == 1, outputs
    assert sum("sec/epoch" in o.get("text", "") for o in outputs) == 1


def test_data_of_ones_own_may_be_arrays_of_any_float(capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(0).normal(size=(64, 3))
    y = x @ [1.0, 2.0, 3.0]
    for kind in (np.float32, np.float64):
        d2l.train_pytorch_ch7(torch.optim.SGD, {"lr": 0.5}, x.astype(kind), y.astype(kind), batch_size=7, num_epochs=9)
        d2l.train_concise_ch11(torch.optim.SGD, {"lr": 0.2}, d2l.load_array((x.astype(kind), y.astype(kind)), 7))
    losses = [float(line.split()[1][:-1]) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 4
    assert max(losses) < 0.01

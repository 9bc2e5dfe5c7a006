"""What is printed of a model has torch's loss and gradients, run as plain Python; what is not is refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from thinning import thinned
from tolerances import LANE_GRADIENT, LANE_GRADIENT_64
from torch import Tensor, nn
from torch.nn import functional

from steprule.lanes import kernel
from steprule.lanes.model import NotPrintable, traced
from steprule.lanes.step import compiled, printed
from steprule.problems import catalogue as problems
from steprule.problems.problem import Problem
from steprule.surfaces import catalogue as surfaces

PRINTED: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "sin": torch.sin, "log": lambda h: torch.log(h.abs() + 1),
    "root": lambda h: (h * h + 1).sqrt(), "cube": lambda h: h**3, "one minus": lambda h: 1 - h, "over": lambda h: h / (1 + h * h),
    "mean of a row": lambda h: h - h.mean(1, keepdim=True), "mean of all": lambda h: h - h.mean(), "sum of a column": lambda h: h + h.sum(0),
    "transposed": lambda h: h.t().contiguous().t(), "cut anew": lambda h: h.reshape(-1, 2, 3).transpose(1, 2).reshape(-1, 6),
    "log softmax": lambda h: functional.log_softmax(h, -1), "expanded": lambda h: h.unsqueeze(1).expand(-1, 3, -1).sum(1),
    "outer": lambda h: (h[:, :, None] * h[:, None, :]).sum(2), "gram": lambda h: (h @ h.t()) @ h, "detached": lambda h: h.detach() * h,
    "whole": lambda h: h * h.sum(), "nothing": lambda h: h * 0, "one over the root": lambda h: (h * h + 1).rsqrt(),
    "layer norm": lambda h: functional.layer_norm(h, (6,)), "layer norm, gain": lambda h: functional.layer_norm(h, (6,), h.detach()[0] + 2, eps=0.3),
    "layer norm of the norm": lambda h: functional.layer_norm(functional.layer_norm(h, (6,)) * h, (6,)),
    "layer norm of a matrix": lambda h: functional.layer_norm(h.reshape(-1, 2, 3), (2, 3)).reshape(-1, 6),
    "layer norm of rows": lambda h: functional.layer_norm(h.reshape(-1, 2, 3), (3,), eps=0.1).reshape(-1, 6),
    "layer norm, other order": lambda h: functional.layer_norm(h.reshape(-1, 2, 3).transpose(1, 2), (2,)).reshape(-1, 6),
}  # fmt: skip
REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "half": (lambda h: h.half().float(), "aten._to_copy.default in torch.float16"),
    "a sum in double": (lambda h: h - h.sum(1, keepdim=True, dtype=torch.float64).float(), "in torch.float64"),
    "alpha": (lambda h: torch.add(h, h, alpha=3), "add with alpha"),
    "alpha of a number": (lambda h: torch.rsub(h, 2, alpha=3), "rsub with alpha"),
    "a power": (lambda h: (h * h + 1) ** 1.5, "aten.pow.Tensor_Scalar"),
    "softmax": (lambda h: functional.softmax(h, 1), "aten._softmax.default"),
    "over samples": (lambda h: functional.log_softmax(h, 0), "log_softmax other than"),
    "in place": (lambda h: h.add_(1), "aten.add_.Tensor"),
    "by the data": (lambda h: h if float(h.sum()) > 0 else -h, "data-dependent control flow"),
}
PRINTABLE = [n for n in problems.names() if n != "digits-cnn" and n not in surfaces.names()]


class Around(nn.Module):
    """Two layers around a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.first, self.last = function, nn.Linear(5, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))  # type: ignore[no-any-return]


def problem(function: Callable[[Tensor], Tensor]) -> Problem:
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    return Problem("around", "", x, x[:, :1] * 2, lambda: Around(function), functional.mse_loss)


def as_python(text: str) -> Any:
    """The printed function without Numba, and with numpy's exp and tanh."""
    text = re.sub(r"from steprule.*", "Disjoint, exp_, tanh_ = None, np.exp, np.tanh", text)
    names: dict[str, Any] = {}
    exec(text.replace("from numba import njit", "def njit(*a, **k): return lambda f: f"), names)
    return names["block"]


@pytest.mark.parametrize("name", PRINTED)
def test_printed_gradients_are_torchs(name: str) -> None:
    task = problem(PRINTED[name])
    compare_with_torch(task, task.initial_model(0))


def compare_with_torch(task: Problem, model: nn.Module, compute: str = "float32", bound: float = LANE_GRADIENT) -> None:
    """The printed loss and gradients of 7 samples, run as Python, against autograd's, in two lanes."""
    width = 2
    source = printed(traced(task, model, 7), compute, width=width)
    lanes = [{n: q.detach() * scale for n, q in model.named_parameters()} for scale in (1.0, 0.8)]
    p = np.stack([torch.cat([q.reshape(-1) for q in own.values()]).numpy() for own in lanes], axis=1)
    g, loss = np.full_like(p, np.nan), np.full(width, np.nan, dtype=p.dtype)
    rows = source.lane_rows * width, source.sum_rows * width, source.shared_rows
    scratch = [np.full(count, np.nan, dtype=p.dtype) for count in rows]
    data = [part.reshape(-1).numpy() for part in (task.features, task.targets)]
    as_python(source.text)(p.reshape(-1), g.reshape(-1), *data, loss, *scratch)
    for lane, own in enumerate(lanes):
        params = {n: q.requires_grad_() for n, q in own.items()}
        wanted = task.loss(torch.func.functional_call(model, params, (task.features,)), task.targets)
        gradients = torch.autograd.grad(wanted, list(params.values()))
        flat = torch.cat([v.reshape(-1) for v in gradients]).numpy()
        assert loss[lane] == pytest.approx(wanted.item(), rel=bound)
        assert np.abs(g[:, lane] - flat).max() <= bound * np.abs(flat).max()


def drawn(seed: int) -> Callable[[Tensor], Tensor]:
    """A function made of several of the table at random, whose operations share loops in many ways."""
    random = np.random.default_rng(seed)
    names = [n for n in PRINTED if n not in ("nothing", "whole", "cube", "gram")]
    chosen = [PRINTED[str(n)] for n in random.choice(names, size=int(random.integers(2, 6)))]
    ways = [str(way) for way in random.choice(["through", "sum", "product", "difference"], size=len(chosen))]

    def function(h: Tensor) -> Tensor:
        found = h
        for own, way in zip(chosen, ways, strict=True):
            value = own(found)
            if value.shape != h.shape or way == "through":
                found = value if value.shape == h.shape else found + value.sum()
            elif way == "product":
                found = torch.tanh(value) * torch.sigmoid(h)
            else:
                found = value + h if way == "sum" else found - value
        return found

    return function


@pytest.mark.parametrize("seed", range(12))
def test_drawn_models_have_torchs_gradients(seed: int) -> None:
    task = problem(drawn(seed))
    task = replace(task, features=task.features.double(), targets=task.targets.double())
    compare_with_torch(task, task.initial_model(0).double(), "float64", LANE_GRADIENT_64)


class Normed(nn.Module):
    """A layer norm whose weight and bias are trained, in the places that are asked for."""

    def __init__(self, weight: bool, bias: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 6), nn.Linear(6, 1)
        self.norm = nn.LayerNorm((2, 3), elementwise_affine=weight, bias=bias, eps=0.01)
        for p in self.norm.parameters():
            nn.init.normal_(p)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.first(x).reshape(-1, 2, 3)).reshape(-1, 6).tanh())  # type: ignore[no-any-return]


@pytest.mark.parametrize(("weight", "bias"), [(True, True), (True, False), (False, False)])
def test_a_trained_layer_norm_has_torchs_gradients(weight: bool, bias: bool) -> None:
    task = replace(problem(torch.tanh), model=lambda: Normed(weight, bias))
    model = task.initial_model(0)
    names = [n for n, _ in model.named_parameters()]
    assert names.count("norm.weight") == weight
    assert names.count("norm.bias") == bias
    compare_with_torch(task, model)


@pytest.mark.parametrize("affine", [True, False])
def test_a_norm_of_the_data_has_torchs_gradients(affine: bool) -> None:
    task = replace(
        problem(torch.tanh), model=lambda: nn.Sequential(nn.LayerNorm(5, elementwise_affine=affine), nn.Linear(5, 1))
    )
    compare_with_torch(task, task.initial_model(0))


@pytest.mark.parametrize("name", thinned(PRINTABLE, 4))
def test_the_kernels_gradients_are_torchs(name: str) -> None:
    task = problems.get(name)
    torch.manual_seed(3)
    models = [task.model() for _ in range(5)]
    x, y = task.features[:7], task.targets[:7]
    source = kernel.source_of(task, 7)
    width = source.width
    flat = np.stack([np.concatenate([p.detach().numpy().ravel() for p in m.parameters()]) for m in models], axis=1)
    p = np.ascontiguousarray(np.resize(flat.T, (width, len(flat))).T)
    g, losses = np.empty_like(p), np.empty(width, dtype=np.float32)
    s, w, u = (np.empty(n, np.float32) for n in (source.lane_rows * width, source.sum_rows * width, source.shared_rows))
    data = [part.reshape(-1).numpy().copy() for part in (x, y)]
    compiled(source).block(p.reshape(-1), g.reshape(-1), *data, losses, s, w, u)
    for k, model in enumerate(models):
        loss = task.loss(model(x), y)
        wanted = torch.cat([v.reshape(-1) for v in torch.autograd.grad(loss, list(model.parameters()))]).numpy()
        assert losses[k] == pytest.approx(loss.item(), rel=LANE_GRADIENT)
        assert np.abs(g[:, k] - wanted).max() <= LANE_GRADIENT * np.abs(wanted).max()


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_printed_is_named(name: str) -> None:
    function, reason = REFUSED[name]
    task = problem(function)
    with pytest.raises(NotPrintable, match=re.escape(reason)):
        printed(traced(task, task.initial_model(0), 7))


@pytest.mark.parametrize(
    ("loss", "embedding", "reason"),
    [
        (lambda y, c: functional.cross_entropy(y, c, ignore_index=7), {}, "nll_loss other than"),
        (functional.cross_entropy, {"scale_grad_by_freq": True}, "an embedding whose gradient is scaled"),
        (functional.cross_entropy, {"padding_idx": 0}, "an embedding with padding"),
    ],
)
def test_losses_of_classes_and_embeddings_that_have_no_kernel(loss: Any, embedding: Any, reason: str) -> None:
    letters = torch.arange(60).reshape(20, 3) % 5
    model = lambda: nn.Sequential(nn.Embedding(5, 2, **embedding), nn.Flatten(), nn.Linear(6, 4))  # noqa: E731
    task = Problem("letters", "", letters, letters[:, 0] % 4, model, loss, batch_size=10)
    with pytest.raises(NotPrintable, match=reason):
        printed(traced(task, task.initial_model(0), 10))


def test_a_step_is_printed_alike_in_every_order_of_memory() -> None:
    """Rows of scratch are given back in the order of the graph, not of addresses: the compiled kernel of another process serves."""
    task, texts = problem(PRINTED["outer"]), set()
    for _ in range(8):
        texts.add(printed(traced(task, task.initial_model(0), 7)).text)
    assert len(texts) == 1

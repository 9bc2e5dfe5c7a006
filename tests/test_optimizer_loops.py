"""Optimizers of every kind, each beside the loop that its authors write: the same parameters to the bit."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sized import sized
from thinning import thinned
from torch import Tensor, nn

import steprule
from steprule.cli import main
from steprule.errors import InputError
from steprule.problems import catalogue as problems
from steprule.problems.facts import facts_of
from steprule.problems.source import batches, stream
from steprule.steppers import ClassStepper
from steprule.ways import WAYS

po = pytest.importorskip("pytorch_optimizer")
sf = pytest.importorskip("schedulefree")

SMALL = [*sized(2, 2, 2, "constant"), "--on", "airfoil-linear"]
ON, SIZE, SEED = "airfoil-mlp", 100, 3
Loop = Callable[[Any, Callable[[], Tensor]], None]
"""One step of an optimizer; the other argument computes the loss."""


def usual(optimizer: Any, loss: Callable[[], Tensor]) -> None:
    """What torch's documentation writes."""
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()


def by_closure(optimizer: Any, loss: Callable[[], Tensor]) -> None:
    """What torch's documentation writes for L-BFGS."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)


def twice(optimizer: Any, loss: Callable[[], Tensor]) -> None:
    """What SAM's authors write: a gradient, then a step with a closure, then none is left."""

    def closure() -> Tensor:
        value = loss()
        value.backward()
        return value

    closure()
    optimizer.step(closure)
    optimizer.zero_grad()


def twice_cleared(optimizer: Any, loss: Callable[[], Tensor]) -> None:
    """What pytorch_optimizer's documentation writes for its kinds of SAM."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    closure()
    optimizer.step(closure)


def in_halves(optimizer: Any, loss: Callable[[], Tensor]) -> None:
    """What they write where there is no closure."""
    loss().backward()
    optimizer.first_step(zero_grad=True)
    loss().backward()
    optimizer.second_step(zero_grad=True)


def second_order(optimizer: Any, loss: Callable[[], Tensor]) -> None:
    """What AdaHessian's authors write."""
    optimizer.zero_grad()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss().backward(create_graph=True)
    optimizer.step()
    optimizer.zero_grad()


def of_a_known_loss(optimizer: Any, loss: Callable[[], Tensor]) -> None:
    """What ALI-G's authors write."""
    optimizer.zero_grad()
    value = loss()
    value.backward()
    optimizer.step(lambda: float(value))


class Sam(torch.optim.Optimizer):
    """SAM as its authors publish it, whose `step` insists on a closure."""

    def __init__(self, params: Any, base: Any = torch.optim.SGD, rho: float = 0.5, **hypers: Any) -> None:
        super().__init__(params, {"rho": rho, **hypers})
        self.base = base(self.param_groups, **hypers)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False) -> None:
        norms = [p.grad.norm(p=2) for group in self.param_groups for p in group["params"] if p.grad is not None]
        scale = 0.5 / (torch.norm(torch.stack(norms), p=2) + 1e-12)
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["old_p"] = p.data.clone()
                p.add_(p.grad * scale)
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad: bool = False) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.data = self.state[p]["old_p"]
        self.base.step()
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        assert closure is not None, "Sharpness Aware Minimization requires closure, but it was not provided"
        closure = torch.enable_grad()(closure)
        self.first_step(zero_grad=True)
        closure()
        self.second_step()


class SilentSam(Sam):
    """One that goes on in silence where no closure comes."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.first_step(zero_grad=True)
        if closure is not None:
            with torch.enable_grad():
                closure()
        self.second_step()


class OtherSam(torch.optim.SGD):
    """Two evaluations under other names, and another message."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        if closure is None:
            raise RuntimeError("two passes are needed here")
        parameters = self.param_groups[0]["params"]
        for p in parameters:
            p.data.add_(p.grad.data, alpha=0.1)
        moved = [p.grad.clone() for p in parameters]
        self.zero_grad()
        with torch.enable_grad():
            closure()
        for p, g in zip(parameters, moved, strict=True):
            p.data.add_(g, alpha=-0.1)
        super().step()


class Halving(torch.optim.SGD):
    """A line search, which asks for the loss first of all and again as often as it must."""

    @torch.no_grad()
    def step(self, closure: Any) -> Any:  # type: ignore[override]
        with torch.enable_grad():
            first = closure()
        parameters = self.param_groups[0]["params"]
        before, slope = [p.clone() for p in parameters], [p.grad.clone() for p in parameters]
        lr = 1.0
        while lr > 1e-6:
            for p, b, g in zip(parameters, before, slope, strict=True):
                p.copy_(b - lr * g)
            with torch.enable_grad():
                if closure() < first:
                    break
            lr /= 2
        return first


class Curved(torch.optim.Optimizer):
    """Second derivatives by torch's own message: this one asks for nothing in words of its own."""

    def __init__(self, params: Any, lr: float = 0.05) -> None:
        super().__init__(params, {"lr": lr})

    def step(self) -> None:  # type: ignore[override]
        parameters = self.param_groups[0]["params"]
        grads = [p.grad for p in parameters]
        curvature = torch.autograd.grad(grads, parameters, [torch.ones_like(p) for p in parameters])
        with torch.no_grad():
            for p, g, h in zip(parameters, grads, curvature, strict=True):
                p.sub_(self.param_groups[0]["lr"] * g.detach() / (h.abs() + 1))


class Late(Curved):
    """Second derivatives from the fourth step on."""

    def __init__(self, params: Any, lr: float = 0.05) -> None:
        super().__init__(params, lr)
        self.taken = 0

    def step(self) -> None:  # type: ignore[override]
        self.taken += 1
        if self.taken >= 4:
            super().step()
            return
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                p.sub_(p.grad.detach() * 0.01)


class Marked(Curved):
    """One that says so by an attribute, and would take a plain gradient in silence."""

    is_second_order = True

    def step(self) -> None:  # type: ignore[override]
        if self.param_groups[0]["params"][0].grad.grad_fn is not None:
            super().step()


def po_sam(params: Any, **hypers: Any) -> Any:
    return po.SAM(params, base_optimizer=torch.optim.SGD, rho=0.5, **hypers)


def mixed(params: Any, lr: float = 0.02) -> Any:
    """Matrices by Muon; the rest is left alone."""
    return torch.optim.Muon([p for p in params if p.ndim == 2], lr=lr)


KINDS: dict[str, tuple[Any, dict[str, Any], Loop]] = {
    **{n: (getattr(torch.optim, n), {"lr": 0.01}, usual) for n in ("SGD", "Adam", "ASGD", "Rprop", "Adafactor")},
    "ours": (steprule.optim.Adam, {"lr": 0.01}, usual),
    "Muon on matrices": (mixed, {}, usual),
    "LBFGS": (torch.optim.LBFGS, {"lr": 0.1, "max_iter": 4}, by_closure),
    "LBFGS, one evaluation": (torch.optim.LBFGS, {"lr": 0.1, "max_iter": 1}, by_closure),
    "LBFGS, line search": (torch.optim.LBFGS, {"line_search_fn": "strong_wolfe", "max_iter": 3}, by_closure),
    "Halving": (Halving, {"lr": 1.0}, by_closure),
    "Sam": (Sam, {"lr": 0.05}, twice),
    "Sam in halves": (Sam, {"lr": 0.05, "momentum": 0.9}, in_halves),
    "Sam over Adam": (Sam, {"base": torch.optim.Adam, "lr": 0.01}, twice),
    "SilentSam": (SilentSam, {"lr": 0.05}, twice),
    "OtherSam": (OtherSam, {"lr": 0.05}, twice),
    "po.SAM": (po_sam, {"lr": 0.05}, twice_cleared),
    "po.FriendlySAM": (lambda p: po.FriendlySAM(p, torch.optim.SGD, lr=0.05), {}, twice_cleared),
    "po.LookSAM": (lambda p: po.LookSAM(p, torch.optim.SGD, lr=0.05), {}, twice_cleared),
    "po.BSAM": (po.BSAM, {"num_data": 900, "lr": 1e-3}, twice_cleared),
    "po.AliG": (po.AliG, {"max_lr": 0.1}, of_a_known_loss),
    "po.AdaHessian": (po.AdaHessian, {"lr": 0.01}, second_order),
    "po.AdaHessian, every third": (po.AdaHessian, {"lr": 0.01, "update_period": 3}, second_order),
    "po.SophiaH": (po.SophiaH, {"lr": 0.01}, second_order),
    "Curved": (Curved, {}, second_order),
    "Late": (Late, {}, second_order),
    "Marked": (Marked, {}, second_order),
    "po.Lookahead": (lambda p: po.Lookahead(torch.optim.SGD(p, lr=0.05)), {}, usual),
    "po.TRAC": (lambda p: po.TRAC(torch.optim.SGD(p, lr=0.05)), {}, usual),
    "po.OrthoGrad": (lambda p: po.OrthoGrad(torch.optim.SGD(p, lr=0.05)), {}, usual),
    **{f"po.{n}": (getattr(po, n), {}, usual) for n in ("Shampoo", "SOAP", "Prodigy", "Lion", "DAdaptAdam", "StableAdamW")},
    **{f"sf.{n}": (getattr(sf, n), {"lr": 0.01}, usual) for n in ("SGDScheduleFree", "AdamWScheduleFree", "RAdamScheduleFree")},
    **{f"sf.{n}Closure": (getattr(sf, f"{n}Closure"), {"lr": 0.01}, by_closure) for n in ("SGDScheduleFree", "AdamWScheduleFree")},
    "sf wrapper": (lambda p: sf.ScheduleFreeWrapper(torch.optim.SGD(p, lr=0.05), momentum=0.9), {}, usual),
}  # fmt: skip


def look(optimizer: Any) -> None:
    """What a loop does around an evaluation: averages are rounded when they are swapped in and out."""
    for mode in ("train", "eval", "train"):
        getattr(optimizer, mode, lambda: None)()


def by_a_plain_loop(make: Any, hypers: dict[str, Any], loop: Loop, task: Any) -> list[Any]:
    model = task.initial_model(SEED)
    optimizer = make(model.parameters(), **hypers)
    look(optimizer)
    for rows in batches(len(task.features), SIZE, 1, SEED):
        x, y = task.features[rows], task.targets[rows]
        loop(optimizer, lambda: task.loss(model(x), y))  # noqa: B023
        look(optimizer)
    if hasattr(optimizer, "eval"):
        optimizer.eval()  # a training's parameters are those that the model is evaluated with
    return [p.detach().numpy() for p in model.parameters()]


@pytest.mark.parametrize("name", thinned(KINDS, 3))
def test_every_kind_trains_as_its_authors_loop_does(name: str) -> None:
    make, hypers, loop = KINDS[name]
    task = problems.get(ON)
    torch.manual_seed(stream(SEED, 2))  # what an optimizer draws hangs on the seed alone
    theirs = by_a_plain_loop(make, hypers, loop, task)
    ours = steprule.train(make, ON, SEED, epochs=1, batch_size=SIZE, **hypers)
    assert np.isfinite(ours.losses).all()
    assert ours.final_loss != ours.losses[0]
    for a, b in zip(ours.parameters, theirs, strict=True):
        assert np.array_equal(a, b)


def test_the_usual_kinds_are_evaluated_once_a_step() -> None:
    """Trying how an optimizer is called costs torch's own classes nothing."""
    calls = {}
    task = problems.get(ON)

    def counted(name: str, make: Any, **hypers: Any) -> None:
        loss, calls[name] = task.loss, 0

        def count(a: Tensor, b: Tensor) -> Tensor:
            calls[name] += torch.is_grad_enabled()
            return loss(a, b)

        own = dataclasses.replace(task, loss=count)
        facts_of(own)  # looks once at a problem
        calls[name] = 0
        steprule.train(make, own, epochs=1, batch_size=SIZE, **hypers)

    steps = -(-len(task.features) // SIZE)
    counted("Adam", torch.optim.Adam)
    counted("LBFGS", torch.optim.LBFGS, lr=0.1, max_iter=1)
    counted("schedulefree", sf.SGDScheduleFreeClosure, lr=0.01)
    counted("SAM", Sam, lr=0.05)
    assert calls == {"Adam": steps, "LBFGS": steps, "schedulefree": steps, "SAM": 2 * steps}


def test_dropout_draws_what_it_draws_in_the_authors_loop() -> None:
    """Nothing is evaluated beside what that loop evaluates: the model's random numbers are the same."""
    x, y = torch.randn(200, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(200, 1)

    def net() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 1))

    task = steprule.Problem("dropped", "", x, y, net, nn.functional.mse_loss)
    for name in ("SGD", "LBFGS", "Sam", "Halving", "sf.SGDScheduleFreeClosure"):
        make, hypers, loop = KINDS[name]
        found = []
        for run in (by_a_plain_loop, lambda m, h, loop, task: in_steps(m, h, task)):
            torch.manual_seed(5)
            found.append(run(make, hypers, loop, task))
        for a, b in zip(*found, strict=True):
            assert np.array_equal(a, b), name


def in_steps(make: Any, hypers: dict[str, Any], task: Any) -> list[Any]:
    """Our steps alone, without the evaluations between them."""
    model = task.initial_model(SEED)
    way = WAYS[make is not torch.optim.SGD]
    stepper = ClassStepper(make, "it", model, hypers, way)
    look(stepper.optimizer)
    for rows in batches(len(task.features), SIZE, 1, SEED):
        x, y = task.features[rows], task.targets[rows]
        stepper.step(lambda: task.loss(model(x), y))  # noqa: B023
        look(stepper.optimizer)
    return [p.detach().numpy() for p in model.parameters()]


class Broken(torch.optim.SGD):
    """A user's slip, two lines below a call of torch's."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)
        self.counts["steps"] += 1  # type: ignore[attr-defined]


class Unclosed(torch.optim.SGD):
    """One that refuses a closure, and cannot step either."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        if closure is not None:
            raise RuntimeError("no closure is taken")
        raise ZeroDivisionError("division by zero")


def broken_factory(params: Any) -> Any:
    return torch.optim.SGD(params, lr={}["lr"])


def not_for_nan(params: Any, lr: float = 1e12) -> Any:
    """As decompositions of matrices are: nan is an error there."""

    class Strict(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            if not all(bool(torch.isfinite(p.grad).all()) for p in self.param_groups[0]["params"]):
                raise RuntimeError("the input has nan")
            super().step(closure)

    return Strict(params, lr=lr)


REFUSED = {
    "sparse": (torch.optim.SparseAdam, r"^torch.optim.SparseAdam, step 1: RuntimeError: SparseAdam does not support dense gradients"),
    "matrices": (torch.optim.Muon, r"^torch.optim.Muon: Muon only supports 2D parameters .*torch.Size\(\[64\]\)"),
    "LOMO": (po.LOMO, r"^LOMO: AttributeError: 'generator' object has no attribute 'parameters'"),
    "GSAM": (lambda p: po.GSAM(p, torch.optim.SGD(p), None, None), r"test_optimizer_loops.py:\d+: <lambda>: "),
    "a slip": (Broken, r"test_optimizer_loops.py:\d+: Broken, step 1: AttributeError: 'Broken' object has no attribute 'counts'"),
    "no closure": (Unclosed, r"test_optimizer_loops.py:\d+: Unclosed, step 1: ZeroDivisionError: division by zero"),
    "factory": (broken_factory, r"test_optimizer_loops.py:\d+: broken_factory: KeyError: 'lr'"),
    "not one": (lambda p: nn.Linear(1, 1), r"^factory <lambda>: expected a torch.optim.Optimizer, got a Linear"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("entry", ["train", "sweep", "race", "as given"])
def test_what_cannot_step_is_refused_in_one_line(name: str, entry: str) -> None:
    make, line = REFUSED[name]
    small: dict[str, Any] = {"trials": 2, "fresh": 2, "schedules": ["constant"], "workers": 1}
    calls: dict[str, Callable[[], Any]] = {
        "train": lambda: steprule.train(make, ON, epochs=1),
        "sweep": lambda: steprule.sweep(make, ON, {}, epochs=1),
        "race": lambda: steprule.race([make, "sgd"], ON, seeds=2, epochs=1, **small),
        "as given": lambda: steprule.race([make, "sgd"], ON, trials=0, seeds=2, epochs=1, workers=1),
    }
    with pytest.raises((InputError, steprule.errors.InputTypeError), match=line) as caught:
        calls[entry]()
    assert "\n" not in str(caught.value)


def test_an_error_at_numbers_that_are_not_finite_is_a_divergence() -> None:
    run = steprule.train(not_for_nan, ON, epochs=1)
    assert run.diverged
    assert np.isnan(run.losses[-1])
    assert np.isfinite(run.losses[0])


def test_groups_without_a_learning_rate_take_a_schedule() -> None:
    """Of several groups, and of an optimizer that has none."""
    run = steprule.train(po.AliG, ON, epochs=1, schedule="linear")
    assert run.final_loss < run.losses[0]


FAULTY = """import torch


class Faulty(torch.optim.SGD):
    def step(self, closure=None):
        return self.nowhere
"""


@pytest.mark.parametrize(
    "args", [["train"], ["race", "sgd", "--trials", "0", "--seeds", "2"], ["race", "sgd", "--workers", "2", *SMALL]]
)
def test_a_users_file_is_named_with_its_line_on_the_command_line(
    args: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a worker process too; blocks that are finished are kept, and nothing is half-written."""
    monkeypatch.chdir(tmp_path)
    Path("faulty.py").write_text(FAULTY)
    assert main([args[0], "faulty.py:Faulty", *args[1:]]) == 2
    out, err = capsys.readouterr()
    line = "faulty.py:6: Faulty, step 1: AttributeError: 'Faulty' object has no attribute 'nowhere'"
    assert line in err
    assert err.count("\n") == 1
    assert out == ""
    assert not [p for p in tmp_path.rglob(".*") if p.suffix == ".parquet"]


def test_which_takes_an_optimizer_that_wants_a_closure(capsys: pytest.CaptureFixture[str]) -> None:
    """The one line of `which`, and no traceback, for SAM and L-BFGS."""
    for spec in ("pytorch_optimizer:AliG", "torch.optim.LBFGS"):
        assert main(["which", spec]) == 0
    assert capsys.readouterr().out


def test_the_mode_is_put_back_where_measuring_fails() -> None:
    """An optimizer with `train()` and `eval()` goes on training though a loss could not be measured."""
    modes: list[str] = []

    class Switched(torch.optim.SGD):
        def train(self) -> None:
            modes.append("train")

        def eval(self) -> None:
            modes.append("eval")

    stepper = ClassStepper(Switched, "switched", nn.Linear(2, 1), {"lr": 0.1}, WAYS[0])
    modes.clear()
    with pytest.raises(ZeroDivisionError), stepper.averaged():
        raise ZeroDivisionError
    assert modes == ["eval", "train"]

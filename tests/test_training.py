"""Training on airfoil: the data, the tutorial's table, rule against class, what a `Run` holds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from thinning import thinned
from tolerances import (
    PRINTED_EIGHT_DECIMALS,
    PRINTED_FIVE_DECIMALS,
    PRINTED_SIX_DIGITS,
    PRINTED_TWO_DECIMALS,
    SPREAD_OF_STARTS,
    STANDARD_ERRORS,
    TRAIN_RULE_AGAINST_CLASS,
)

import steprule
from steprule.problems import airfoil, catalogue
from steprule.races.competitor import entrant_of
from steprule.training import train
from steprule.tutorial import TUTORIAL, by_class

STATISTICS = [  # min, max, mean, sd (ddof 0) of each column, as printed in the data's description
    (200, 20000, 2886.38, 3151.52),
    (0, 22.2, 6.78230, 5.91616),
    (0.0254, 0.3048, 0.136548, 0.0935096),
    (31.7, 71.3, 50.8607, 15.5676),
    (0.000400682, 0.0584113, 0.0111399, 0.0131459),
    (103.38, 140.987, 124.836, 6.89636),
]


def test_the_data() -> None:
    data = airfoil.load()
    assert data.shape == (airfoil.ROWS, len(airfoil.COLUMNS))
    for column, (low, high, mean, sd) in zip(data.T, STATISTICS, strict=True):
        assert column.min() == pytest.approx(low, rel=PRINTED_SIX_DIGITS)
        assert column.max() == pytest.approx(high, rel=PRINTED_SIX_DIGITS)
        assert column.mean() == pytest.approx(mean, rel=PRINTED_SIX_DIGITS)
        assert column.std() == pytest.approx(sd, rel=PRINTED_SIX_DIGITS)


def test_the_tutorials_preprocessing_and_floor() -> None:
    features, labels = airfoil.tutorial()
    assert features.shape == (1500, 5)
    assert labels.shape == (1500,)
    assert features.dtype == labels.dtype == np.float32
    assert airfoil.least_squares_floor() == pytest.approx(0.24168796, abs=PRINTED_EIGHT_DECIMALS)
    assert np.mean(labels.astype(np.float64) ** 2) / 2 == pytest.approx(0.49325897, abs=PRINTED_EIGHT_DECIMALS)
    with_bias = np.column_stack([features.astype(np.float64), np.ones(1500)])
    weights = np.linalg.lstsq(with_bias, labels, rcond=None)[0]
    assert weights == pytest.approx(
        [-0.58318, -0.36551, -0.48433, 0.22387, -0.27133, 0.00196], abs=PRINTED_FIVE_DECIMALS
    )
    assert np.linalg.cond(with_bias.T @ with_bias) == pytest.approx(12.08, abs=PRINTED_TWO_DECIMALS)


@pytest.mark.parametrize("seed", range(5))
def test_no_experiment_is_on_two_sides_of_the_grouped_split(seed: int) -> None:
    split = airfoil.grouped_split(seed)
    thickness = airfoil.load()[:, airfoil.THICKNESS]
    sides = [set(thickness[rows]) for rows in (split.train, split.validation, split.test)]
    assert sum(len(s) for s in sides) == len(set.union(*sides)) == 105
    rows = np.concatenate([split.train, split.validation, split.test])
    assert sorted(rows) == list(range(airfoil.ROWS))
    assert [len(s) for s in sides] == [63, 21, 21]
    with pytest.raises(ValueError, match="shares above 0"):
        airfoil.grouped_split(test=1.0)


def test_the_credit_travels() -> None:
    assert "CC BY 4.0" in airfoil.CREDIT
    assert "10.24432/C5VW2C" in airfoil.CREDIT


PAIRS = [
    ("sgd", "SGD", {"lr": 0.05, "momentum": 0.5, "nesterov": True}),
    ("adagrad", "Adagrad", {"lr": 0.1, "eps": 1e-6}),
    ("rmsprop", "RMSprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-6, "momentum": 0.3, "centered": True}),
    ("adadelta", "Adadelta", {"rho": 0.9, "eps": 1e-5}),
    ("adam", "Adam", {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": 0.01, "amsgrad": True}),
    ("adamw", "AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    ("adamax", "Adamax", {"lr": 0.01}),
    ("nadam", "NAdam", {"lr": 0.01}),
    ("radam", "RAdam", {"lr": 0.01}),
]


@pytest.mark.parametrize(("rule", "name", "hypers"), thinned(PAIRS, 3, [p[0] for p in PAIRS]))
def test_rule_and_class_agree_along_the_whole_curve(rule: str, name: str, hypers: dict[str, Any]) -> None:
    for seed in (0, 1):
        ours = train(rule, seed=seed, **hypers)
        theirs = train(getattr(torch.optim, name), seed=seed, **hypers)
        assert np.array_equal(ours.samples, theirs.samples)
        assert ours.losses[0] == theirs.losses[0]
        assert np.abs(ours.losses / theirs.losses - 1).max() <= TRAIN_RULE_AGAINST_CLASS
        assert ours.losses[-1] < 0.3


# Mean and standard deviation over 2,000 seeds of the tutorial's eight runs.
TABLE = {
    "AdaGrad formula": (0.24293, 0.00089),
    "AdaGrad class": (0.24311, 0.00094),
    "RMSProp formula": (0.24427, 0.00177),
    "RMSProp class": (0.24461, 0.00192),
    "AdaDelta formula": (0.24379, 0.00136),
    "AdaDelta class": (0.28318, 0.03237),
    "Adam formula": (0.24400, 0.00159),
    "Adam class": (0.24426, 0.00166),
}
EIGHT = [e for e in TUTORIAL if e.label in TABLE]


def means_agree(entries: Any, seeds: int, table: dict[str, tuple[float, float]], table_seeds: int) -> None:
    for entry in entries:
        task = entrant_of(entry.competitor).trains(catalogue.get("airfoil"))
        finals = [train(entry.optimizer, task, seed=s, **entry.hypers).final_loss for s in range(seeds)]
        mean, sd = table[entry.label]
        error = sd * math.sqrt(1 / seeds + 1 / table_seeds)
        assert abs(np.mean(finals) - mean) <= STANDARD_ERRORS * error, f"{entry.label}: {np.mean(finals)}"


@pytest.mark.parametrize("entry", thinned(EIGHT, 5, [e.label for e in EIGHT]))
def test_means_of_twenty_seeds_agree_with_the_table(entry: Any) -> None:
    means_agree([entry], 20, TABLE, 2000)


@pytest.mark.long
@pytest.mark.parametrize("entry", EIGHT, ids=[e.label for e in EIGHT])
def test_means_of_two_hundred_seeds_agree_with_the_table(entry: Any) -> None:
    means_agree([entry], 200, TABLE, 2000)


def test_the_tutorials_starts() -> None:
    task = catalogue.get("airfoil")
    formula = [task.initial_model(s).weight.detach().numpy() for s in range(200)]  # type: ignore[union-attr,operator]
    theirs = [by_class().initial_model(s).weight.detach().numpy() for s in range(200)]  # type: ignore[union-attr,operator]
    assert np.std(formula) == pytest.approx(0.01, rel=SPREAD_OF_STARTS)
    assert np.max(np.abs(theirs)) <= 1 / math.sqrt(5)
    assert np.std(theirs) == pytest.approx(
        1 / math.sqrt(15), rel=SPREAD_OF_STARTS
    )  # uniform on [-1/sqrt(5), 1/sqrt(5)]
    same = task.initial_model(3), task.initial_model(3)
    assert torch.equal(same[0].weight, same[1].weight)  # type: ignore[arg-type]


def test_a_run_holds_what_it_was_made_with() -> None:
    before = torch.random.get_rng_state()
    run = steprule.train("adam", "airfoil", 7, 1, 10, lr=0.01)
    assert torch.equal(before, torch.random.get_rng_state())  # the global generator is left alone
    assert run.samples.tolist() == list(range(0, 1501, 100))
    assert run.losses.shape == (16,)
    assert run.final_loss == run.losses[-1]
    assert (run.optimizer, run.problem, run.seed, run.epochs, run.batch_size) == (
        "adam",
        "airfoil",
        7,
        1,
        10,
    )
    assert run.hypers["lr"] == 0.01
    assert run.seconds > 0
    assert set(run.versions) == {"steprule", "torch", "numpy", "python"}
    assert run.versions["torch"] == torch.__version__
    assert [p.shape for p in run.parameters] == [(1, 5), (1,)]
    again = steprule.train("adam", "airfoil", 7, 1, 10, lr=0.01)
    assert np.array_equal(run.losses, again.losses)
    assert not np.array_equal(run.losses, steprule.train("adam", seed=8, epochs=1, lr=0.01).losses)
    assert run.to_dict()["final_loss"] == run.final_loss


def test_a_batch_that_does_not_divide_the_data() -> None:
    run = train("sgd", batch_size=64, epochs=1, lr=0.05)
    assert run.samples[-1] == 1500
    assert np.all(np.diff(run.samples) > 0)


def test_everyone_gets_the_same_batches() -> None:
    """A factory that records the gradients of a rule that does not move sees what a class sees."""
    seen: dict[str, list[float]] = {"a": [], "b": []}

    class Still(torch.optim.Optimizer):
        def __init__(self, params: Any, log: list[float]) -> None:
            super().__init__(params, {})
            self.log = log

        def step(self, closure: Any = None) -> Any:  # type: ignore[override]
            loss = closure()
            self.log.append(loss.item())
            return loss

    train(lambda params: Still(params, seen["a"]), seed=5)
    train(lambda params: Still(params, seen["b"]), seed=5)
    assert len(seen["a"]) == 300
    assert seen["a"] == seen["b"]


def test_an_optimizer_with_a_mode_of_its_own_is_evaluated_in_it() -> None:
    """Schedule-free optimizers hold averaged weights that `eval()` swaps in."""
    calls: list[str] = []

    class Moded(torch.optim.SGD):
        def train(self) -> None:
            calls.append("train")

        def eval(self) -> None:
            calls.append("eval")

    run = train(Moded, lr=0.05)
    assert calls == ["train", *["eval", "train"] * (len(run.losses) + 1)], (
        "at each point, and for the parameters at the end"
    )


def test_a_closure_is_what_lbfgs_needs() -> None:
    assert train(torch.optim.LBFGS, lr=0.1, batch_size=1500, epochs=10, max_iter=5).final_loss < 0.2417

"""A rule per kind where a rule is read elsewhere than where it trains, or asks for totals: each of its own, the clipping of all."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import schedulefree
import torch
from compare import all_apart, apart, states_apart
from kinds import FOUND, TASK, Small, loss_of, model_of, small, stepped
from tolerances import TORCH_FLOAT64
from torch import Tensor, nn

import steprule
from steprule import optim, rule, steppers
from steprule.cli import main
from steprule.errors import InputError
from steprule.maths import sqrt, total
from steprule.optim.mixed import Mixed
from steprule.per_kind import KINDS
from steprule.rules.points import MODE

FREE = {"lr": 0.03, "betas": (0.85, 0.97), "eps": 1e-3, "weight_decay": 0.05, "warmup_steps": 4, "r": 0.3}
FINDS = {"lr": 0.8, "betas": (0.85, 0.97), "eps": 1e-3, "d0": 1e-3, "d_decay": 0.93, "use_bias_correction": True,
         "weight_decay": 0.03, "growth_rate": 1.3}  # fmt: skip
PEERS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "schedule_free_adamw": (schedulefree.AdamWScheduleFree, FREE),
    "prodigy": (optim.class_of("Prodigy"), FINDS),
    "adamw": (torch.optim.AdamW, {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.2}),
    "sgd": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.8, "dampening": 0.2}),
}
"""What each rule is held to. Prodigy's class is held to its authors' elsewhere."""
PAIRS = (
    "schedule_free_adamw+adamw", "sgd+schedule_free_adamw", "prodigy+adamw", "sgd+prodigy", "prodigy+prodigy",
    "prodigy+schedule_free_adamw",
)  # fmt: skip
DOUBLE = replace(TASK, name="small in float64", model=lambda: Small().double())


def made(pair: str, model: nn.Module, **more: Any) -> Mixed:
    matrix, other = pair.split("+")
    mixture = steprule.by_kind(matrix=matrix, other=other)
    return mixture(model, matrix=PEERS[matrix][1], other=PEERS[other][1], show=False, **more)


def members(model: nn.Module, *, of_matrix: bool) -> list[Tensor]:
    return [p for n, p in model.named_parameters() if (FOUND[n] == "matrix") == of_matrix]


def peers(pair: str, model: nn.Module) -> list[Any]:
    (one, of_one), (other, of_other) = (PEERS[name] for name in pair.split("+"))
    return [one(members(model, of_matrix=True), **of_one), other(members(model, of_matrix=False), **of_other)]


def switched(optimizers: Iterable[Any], mode: str) -> None:
    for optimizer in optimizers:
        getattr(optimizer, mode, lambda: None)()


def together(model: nn.Module, others: Iterable[Any], clip: float) -> None:
    for optimizer in others:
        optimizer.zero_grad()
    loss_of(model).backward()
    if clip:
        assert nn.utils.clip_grad_norm_(model.parameters(), clip) > 2 * clip
    for optimizer in others:
        optimizer.step()


@pytest.mark.parametrize("clip", [0.0, 0.05])
@pytest.mark.parametrize("backend", ["auto", "eager"])
@pytest.mark.parametrize("pair", PAIRS)
def test_each_rule_walks_as_it_does_alone(pair: str, backend: str, clip: float, tmp_path: Path) -> None:
    """Both points and the totals at every step; saved in each mode and loaded, copied and pickled on the way."""
    model, reference = small(), small()
    mixed, others = made(pair, model, backend=backend, clip_norm=clip), peers(pair, reference)
    for t in range(24):
        if t in (6, 11):
            mixed.eval() if t == 11 else mixed.train()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                torch.save([mixed.state_dict(), model.state_dict()], tmp_path / "kept.pt")
            states, weights = torch.load(tmp_path / "kept.pt")
            model = small()
            model.load_state_dict(weights)
            mixed = made(pair, model, backend=backend, clip_norm=clip)
            mixed.load_state_dict(states)
        if t == 15:
            mixed.eval()
            model, mixed = copy.deepcopy((model, mixed))
        if t == 19:
            model, mixed = pickle.loads(pickle.dumps((model, mixed)))
        mixed.train()
        switched(others, "train")
        stepped(model, [mixed])
        together(reference, others, clip)
        assert all_apart(model.parameters(), reference.parameters()) <= TORCH_FLOAT64
        if "prodigy" in pair:
            same_distances(mixed, others, model, reference)
        switched(others, "eval")
        with mixed.evaluated():
            assert all_apart(model.parameters(), reference.parameters()) <= TORCH_FLOAT64


def same_distances(mixed: Mixed, others: Iterable[Any], model: nn.Module, reference: nn.Module) -> None:
    """The states of the parameters that a Prodigy steps, its numbers of the model among them."""
    theirs = {p: other.state[p] for other in others if "Prodigy" in type(other).__name__ for p in other.state}
    found = [(p, theirs[q]) for p, q in zip(model.parameters(), reference.parameters(), strict=True) if q in theirs]
    assert found
    assert max(states_apart(mixed.state[p], state) for p, state in found) <= TORCH_FLOAT64


def test_two_that_find_a_distance_find_one_each() -> None:
    model = small()
    mixed = made("prodigy+prodigy", model)
    for _ in range(12):
        stepped(model, [mixed])
    held = [{id(mixed.state[p]["d"]) for p in members(model, of_matrix=own)} for own in (True, False)]
    assert [len(own) for own in held] == [1, 1]  # one number that all tensors of a rule share
    assert held[0] != held[1]
    distances = [float(mixed.state[members(model, of_matrix=own)[0]]["d"]) for own in (True, False)]
    assert apart(*distances) > 100 * TORCH_FLOAT64


@rule
def normed(p, g, *, lr=0.1):  # type: ignore[no-untyped-def]
    """A step of one length over all tensors that it steps."""
    return p - lr * g / sqrt(total(g**2))


@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_a_total_is_over_the_tensors_of_its_rule(backend: str) -> None:
    """One rule given twice is two rules; the kinds that `other` steps are one."""
    model, reference = small(), small()
    mixed = steprule.by_kind(matrix=normed, other=normed)(model, head_lr=0.3, show=False, backend=backend)
    heads = [p for n, p in reference.named_parameters() if FOUND[n] == "head"]
    for _ in range(5):
        stepped(model, [mixed])
        reference.zero_grad()
        loss_of(reference).backward()
        with torch.no_grad():
            for own in (members(reference, of_matrix=True), members(reference, of_matrix=False)):
                norm = torch.sqrt(sum((p.grad**2).sum() for p in own))  # type: ignore[operator, misc]
                for p in own:
                    p -= (0.3 if any(p is q for q in heads) else 0.1) * p.grad / norm  # type: ignore[operator]
        assert all_apart(model.parameters(), reference.parameters()) <= TORCH_FLOAT64


def test_only_kinds_that_clip_add_to_the_norm() -> None:
    model, reference = small(), small()
    mixed = steprule.by_kind(matrix="sgd", other="sgd")(model, lr=0.1, matrix_clip_norm=0.01, show=False)
    stepped(model, [mixed])
    loss_of(reference).backward()
    nn.utils.clip_grad_norm_(members(reference, of_matrix=True), 0.01)
    with torch.no_grad():
        for p in reference.parameters():
            p -= 0.1 * p.grad  # type: ignore[operator]
    assert all_apart(model.parameters(), reference.parameters()) <= TORCH_FLOAT64


# The two points of one optimizer.


def test_only_groups_of_two_points_have_a_mode() -> None:
    model = small()
    mixed = made("schedule_free_adamw+adamw", model)
    stepped(model, [mixed])
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    mixed.eval()
    assert {group["kind"]: group.get(MODE) for group in mixed.param_groups} == {
        "matrix": False, "embedding": None, "head": None, "vector": None, "other": None,
    }  # fmt: skip
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, weights[n])}
    assert moved == set()  # after one step the average is what was stepped to
    with pytest.raises(RuntimeError, match=r"step in eval mode: call optimizer\.train\(\) first"):
        mixed.step()
    mixed.train()
    for _ in range(3):
        stepped(model, [mixed])
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    with mixed.evaluated():
        moved = {n for n, p in model.named_parameters() if not torch.equal(p, weights[n])}
    assert moved == {"first.weight", "second.weight"}
    assert all(torch.equal(p, weights[n]) for n, p in model.named_parameters())


def test_a_group_that_joins_in_eval_mode_is_in_it() -> None:
    model = small()
    mixed = made("schedule_free_adamw+adamw", model)
    stepped(model, [mixed])
    mixed.eval()
    late = nn.Parameter(torch.ones(3, 4, dtype=torch.float64))
    mixed.add_param_group({"params": [("late", late)], "kind": "matrix"})
    assert mixed.param_groups[-1][MODE] is False
    mixed.train()
    late.grad = torch.ones_like(late)
    mixed.step()
    assert not torch.equal(late, torch.ones_like(late))


def test_training_weights_are_told_of_once_and_only_where_a_group_has_two_points() -> None:
    model = small()
    mixed = made("schedule_free_adamw+adamw", model)
    stepped(model, [mixed])
    with pytest.warns(UserWarning, match=r"in train mode: the model holds the weights of training"):
        mixed.state_dict()
    alone = nn.Sequential(nn.Linear(3, 2))  # its weight is a head: the rule of matrices steps nothing
    without = made("schedule_free_adamw+adamw", alone)
    alone(torch.ones(1, 3)).sum().backward()
    without.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mixed.state_dict()
        without.state_dict()
        without.eval()
    assert all(MODE not in group for group in without.param_groups)


def test_a_grad_scaler_that_leaves_unscaling_to_the_step() -> None:
    model, reference = small(), small()
    mixed = made("prodigy+schedule_free_adamw", model, clip_norm=0.1, fused_unscale=True)
    plain = made("prodigy+schedule_free_adamw", reference, clip_norm=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    for _ in range(6):
        mixed.zero_grad()
        scaler.scale(loss_of(model)).backward()
        scaler.step(mixed)
        scaler.update()
        stepped(reference, [plain])
        assert all_apart(model.parameters(), reference.parameters()) <= TORCH_FLOAT64


OTHERS = {
    "prodigy to adamw": ("prodigy", "adamw", "what adamw needs: lr, .*got no amsgrad"),
    "adamw to prodigy": ("adamw", "prodigy", "what prodigy needs: lr, .*got no d_decay"),
    "lion to adamw": ("lion", "adamw", "what adamw needs: lr, .*got no eps"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_checkpoint_of_another_rule_is_refused_before_anything_is_loaded(case: str) -> None:
    saved, loading, words = OTHERS[case]
    model = small()
    first = steprule.by_kind(matrix="sgd", other=saved)(model, show=False)
    stepped(model, [first])
    second = steprule.by_kind(matrix="sgd", other=loading)(small(), show=False, lr=0.125)
    with pytest.raises(InputError, match=f"load_state_dict: group 1: expected {words}") as caught:
        second.load_state_dict(first.state_dict())
    assert "\n" not in str(caught.value)
    assert not second.state
    assert {group["lr"] for group in second.param_groups} == {0.125}


# Trainings, sweeps, races.

OF_PAIR: dict[str, dict[str, Any]] = {
    "schedule_free_adamw+adamw": {"matrix_lr": 0.02, "matrix_warmup_steps": 3, "vector_weight_decay": 0.1},
    "sgd+prodigy": {"matrix_lr": 0.02, "other_d0": 1e-3, "vector_d0": 1e-2, "head_lr": 0.7, "vector_weight_decay": 0.1},
    "prodigy+prodigy": {"matrix_d0": 1e-3, "other_d0": 3e-3, "embedding_clip_norm": 0.0},
    "prodigy+schedule_free_adamw": {"matrix_d0": 1e-3, "other_lr": 0.02, "head_weight_decay": 0.2},
}


@pytest.mark.parametrize("clip", [0.0, 0.3])
@pytest.mark.parametrize("pair", OF_PAIR)
def test_training_class_and_lane_are_the_same(pair: str, clip: float) -> None:
    """The authors' functions on open states, the compiled classes, and lanes, whose others differ in numbers and in variant."""
    settings = {**OF_PAIR[pair], "clip_norm": clip}
    alone = steprule.train(f"by_kind:{pair}", DOUBLE, seed=1, schedule="linear", **settings)
    mixture = steprule.by_kind(**dict(zip(("matrix", "other"), pair.split("+"), strict=True)))

    def in_order(params: Iterable[Tensor]) -> Any:
        """Groups in the order of kinds, as of a model: settings of the first begin the numbers of a rule."""
        return mixture(sorted(model_of(params), key=lambda group: KINDS.index(group["kind"])), show=False, **settings)

    by_class = steprule.train(in_order, DOUBLE, seed=1, schedule="linear")
    assert all_apart(alone.parameters, by_class.parameters) <= TORCH_FLOAT64
    assert alone.final_loss == pytest.approx(by_class.final_loss, rel=TORCH_FLOAT64)
    others = {n: [v, 1.5 * v, v] for n, v in settings.items()} | {"clip_norm": [0.2, 0.4, clip]}
    found = steprule.sweep(f"by_kind:{pair}", DOUBLE, others, seeds=2, schedule="linear")
    assert found.engine == "vmap: no kernel for a rule per kind of parameter"
    assert found.train[2, 1] == pytest.approx(alone.final_loss, rel=TORCH_FLOAT64)


def test_a_large_model_is_trained_by_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**OF_PAIR["prodigy+schedule_free_adamw"], "clip_norm": 0.2}
    pair = "by_kind:prodigy+schedule_free_adamw"
    one = steprule.train(pair, DOUBLE, seed=1, **settings)
    monkeypatch.setattr(steppers, "LARGE", 10)
    large = steprule.train(pair, DOUBLE, seed=1, **settings)
    assert all_apart(one.parameters, large.parameters) <= TORCH_FLOAT64
    assert one.final_loss == pytest.approx(large.final_loss, rel=TORCH_FLOAT64)


def test_settings_that_make_several_of_a_models_number_are_refused_everywhere() -> None:
    words = "prodigy: the new d.*: expected one number for the whole model"
    model = small()
    mixed = steprule.by_kind(matrix="sgd", other="prodigy")(model, show=False, head_d_decay=0.5, other_d0=1e-3)
    for _ in range(2):  # as long as the numbers that differ are all 0
        stepped(model, [mixed])
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(InputError, match=words):
        stepped(model, [mixed])
    assert all_apart(model.parameters(), before) == 0  # all kinds are where they were
    with pytest.raises(InputError, match=words):
        steprule.train("by_kind:sgd+prodigy", DOUBLE, head_d_decay=0.5)
    with pytest.raises(InputError, match=words):
        steprule.sweep("by_kind:sgd+prodigy", DOUBLE, {"head_d_decay": [0.0, 0.5]})


def test_they_race() -> None:
    rules = ["by_kind:schedule_free_adamw+adamw", "by_kind:sgd+prodigy", "schedule_free_adamw"]
    race = steprule.race(rules, TASK, trials=4, seeds=1, fresh=2, epochs=1, schedules="constant")
    assert {s.label for s in race.cells[0].standings} == set(rules)
    stated = race.spec.stated["competitors"]
    assert "evaluated at" in stated[rules[0]]["rules"]["matrix"]["formula"]
    assert "total" in stated[rules[1]]["rules"]["other"]["formula"]


def test_they_are_typed(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["by_kind:prodigy+schedule_free_adamw", "--on", "letters-deep", "--epochs", "1"]
    assert main(["train", *typed, "--set", "matrix_d0=1e-4", "--set", "clip_norm=0.5"]) == 0
    assert main(["sweep", *typed, "--vary", "matrix_d0=1e-5..1e-3", "--points", "2"]) == 0
    told = capsys.readouterr()
    assert "matrix_d0" in told.out
    assert "Traceback" not in told.err
    assert main(["sweep", *typed, "--vary", "matrix_d1=1e-5..1e-3"]) == 2
    assert "Did you mean 'matrix_d0'" in capsys.readouterr().err

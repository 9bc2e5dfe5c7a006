"""A rule per kind of parameter: what is found in models, one optimizer beside torch's several, trainings, sweeps and races."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compare import all_apart, states_apart
from kinds import FOUND, LETTERS, TASK, loss_of, model_of, small, stepped
from tolerances import LANE_AGAINST_SOLO, TORCH_FLOAT64, TRAIN_RULE_AGAINST_CLASS
from torch import Tensor, nn

import steprule
from steprule.cli import main
from steprule.errors import InputError, InputTypeError, UnknownNameError
from steprule.optim.kinds import kinds_of
from steprule.optim.mixed import Mixed
from steprule.optim.mixture import ByKind, table
from steprule.per_kind import NoMatrices
from steprule.races.competitor import entrant_of


def found_in(model: nn.Module, **how: Any) -> dict[str, str]:
    return {one.name: one.kind for one in kinds_of(model, **how)}


# What is found in a model.


def test_the_kinds_of_a_model() -> None:
    assert found_in(small()) == FOUND
    assert found_in(small(), convolutions="matrix") == {**FOUND, "conv.weight": "matrix"}
    assert found_in(small(), said={"first.*": "head", "f*.bias": "other"})["first.bias"] == "head"


class Gpt(nn.Module):
    """Blocks, and a head that is tied, is apart, or is not there."""

    def __init__(self, head: str, blocks: int = 2) -> None:
        super().__init__()
        self.wte = nn.Embedding(9, 8)
        if head == "first":
            self.lm_head = nn.Linear(8, 9)
        self.h = nn.ModuleList([nn.TransformerEncoderLayer(8, 2, 16) for _ in range(blocks)])
        if head in ("tied", "last"):
            self.out = nn.Linear(8, 9, bias=False)
        if head == "tied":
            self.out.weight = self.wte.weight


@pytest.mark.parametrize(
    ("head", "heads"), [("tied", []), ("last", ["out.weight"]), ("first", ["lm_head.weight"]), ("none", [])]
)
def test_heads_tied_apart_called_so_and_missing(head: str, heads: list[str]) -> None:
    found = found_in(Gpt(head))
    assert [n for n, kind in found.items() if kind == "head"] == heads
    assert [n for n, kind in found.items() if kind == "embedding"] == ["wte.weight"]
    assert sum(kind == "matrix" for kind in found.values()) == 8
    assert sorted(found) == sorted(dict(Gpt(head).named_parameters()))


def test_other_modules_that_hold_parameters() -> None:
    normed = nn.Sequential(nn.Linear(4, 4), nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)))
    of_normed = ["matrix", "vector", "vector", "vector", "head"]  # bias, gain [3, 1], direction [3, 4]
    assert list(found_in(normed).values()) == of_normed
    assert set(found_in(nn.LSTM(3, 4)).values()) == {"matrix", "vector"}
    assert found_in(nn.Linear(5, 1)) == {"weight": "head", "bias": "vector"}
    assert found_in(nn.Sequential(nn.LayerNorm((2, 3)), nn.Bilinear(2, 3, 4))) == {
        "0.weight": "vector", "0.bias": "vector", "1.weight": "other", "1.bias": "vector",
    }  # fmt: skip


def test_models_that_have_no_kinds_yet_and_patterns_that_fit_nothing() -> None:
    with pytest.raises(InputError, match=r"parameter 0\.weight: expected a shape, got none yet: its module is lazy"):
        kinds_of(nn.Sequential(nn.LazyLinear(3)))
    with pytest.raises(UnknownNameError, match=r"got 'first\.wieght'. Did you mean 'first\.weight'"):
        kinds_of(small(), {"first.wieght": "other"})
    with pytest.raises(UnknownNameError, match=r"unknown kind: .* got 'matrx'. Did you mean 'matrix'"):
        kinds_of(small(), {"first.*": "matrx"})


# One optimizer, beside one of torch's per rule.

PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any], dict[str, Any], dict[str, Any]]] = {
    "sgd+adamw": (torch.optim.SGD, torch.optim.AdamW, {"lr": 0.05, "momentum": 0.8, "dampening": 0.2},
                  {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.2}),
    "adagrad+adamax": (torch.optim.Adagrad, torch.optim.Adamax, {"lr": 0.05, "initial_accumulator_value": 0.3, "lr_decay": 0.1},
                      {"lr": 0.02, "betas": (0.7, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    "adamw+rmsprop": (torch.optim.AdamW, torch.optim.RMSprop, {"lr": 0.02, "amsgrad": True, "weight_decay": 0.3},
                      {"lr": 0.005, "centered": True, "momentum": 0.6, "alpha": 0.8, "eps": 1e-3}),
}  # fmt: skip


def mixture(pair: str) -> ByKind:
    matrix, other = pair.split("+")
    return steprule.by_kind(matrix=matrix, other=other)


def made(pair: str, model: nn.Module, **more: Any) -> Mixed:
    _, _, of_matrix, of_other = PAIRS[pair]
    return mixture(pair)(model, matrix=of_matrix, other=of_other, show=False, **more)


def torchs(pair: str, model: nn.Module) -> list[torch.optim.Optimizer]:
    one, other, of_matrix, of_other = PAIRS[pair]
    matrices = [p for n, p in model.named_parameters() if FOUND[n] == "matrix"]
    rest = [p for n, p in model.named_parameters() if FOUND[n] != "matrix"]
    return [one(matrices, **of_matrix), other(rest, **of_other)]


def same(model: nn.Module, mixed: Mixed, reference: nn.Module, others: Iterable[torch.optim.Optimizer]) -> None:
    """Parameters and all states."""
    theirs = {p: optimizer.state[p] for optimizer in others for p in optimizer.state}
    assert all_apart(model.parameters(), reference.parameters()) <= TORCH_FLOAT64
    for p, q in zip(model.parameters(), reference.parameters(), strict=True):
        assert states_apart(mixed.state[p], theirs[q]) <= TORCH_FLOAT64


@pytest.mark.parametrize("backend", ["auto", "eager"])
@pytest.mark.parametrize("pair", PAIRS)
def test_each_kind_steps_by_its_own_rule(pair: str, backend: str, tmp_path: Path) -> None:
    """Every step, parameters and states; saved and reloaded, copied and pickled on the way."""
    model, reference = small(), small()
    mixed, others = made(pair, model, backend=backend), torchs(pair, reference)
    for t in range(24):
        if t == 7:
            torch.save([mixed.state_dict(), model.state_dict()], tmp_path / "kept.pt")
            states, weights = torch.load(tmp_path / "kept.pt")
            model = small()
            model.load_state_dict(weights)
            mixed = mixture(pair)(model, show=False, backend=backend)
            mixed.load_state_dict(states)
        if t == 13:
            model, mixed = copy.deepcopy((model, mixed))
        if t == 18:
            model, mixed = pickle.loads(pickle.dumps((model, mixed)))
        stepped(model, [mixed])
        stepped(reference, others)
        same(model, mixed, reference, others)


def test_the_layout_of_groups_and_states_is_torchs() -> None:
    model = small()
    mixed = made("sgd+adamw", model)
    stepped(model, [mixed])
    kept = mixed.state_dict()
    assert [group["kind"] for group in kept["param_groups"]] == ["matrix", "embedding", "head", "vector", "other"]
    assert [n for group in kept["param_groups"] for n in group["param_names"]] == sorted(
        FOUND, key=lambda n: (["matrix", "embedding", "head", "vector", "other"].index(FOUND[n]), list(FOUND).index(n))
    )
    of_torch = torch.optim.AdamW(small().parameters()).state_dict()["param_groups"][0]
    assert set(of_torch) <= set(kept["param_groups"][1])
    assert set(kept["state"][0]) == {"momentum_buffer"}
    assert set(kept["state"][2]) == {"step", "exp_avg", "exp_avg_sq"}


def test_groups_may_name_their_kinds() -> None:
    model, reference = small(), small()
    names = dict(model.named_parameters())
    matrices = [p for n, p in names.items() if FOUND[n] == "matrix"]
    rest = [p for n, p in names.items() if FOUND[n] != "matrix"]
    one, other = PAIRS["sgd+adamw"][2:]
    mixed = mixture("sgd+adamw")(
        [{"params": matrices[:1], "kind": "matrix", **one}, {"params": rest, "kind": "other"}],
        other=other,
        matrix_lr=9.0,
        show=False,
    )
    mixed.add_param_group({"params": matrices[1:], "kind": "matrix", **one})
    others = torchs("sgd+adamw", reference)
    for _ in range(6):
        stepped(model, [mixed])
        stepped(reference, others)
        same(model, mixed, reference, others)
    assert [group["lr"] for group in mixed.param_groups] == [0.05, 0.01, 0.05]


def test_settings_of_all_of_a_kind_and_of_what_other_steps() -> None:
    mixed = mixture("sgd+adamw")(
        small(), lr=0.1, matrix_lr=0.2, momentum=0.5, other={"weight_decay": 0.3, "betas": (0.5, 0.6)}, vector={"weight_decay": 0.0},
        head_beta2=0.7, head_lr=0.4, show=False,
    )  # fmt: skip
    groups = {group["kind"]: group for group in mixed.param_groups}
    assert {kind: group["lr"] for kind, group in groups.items()} == {
        "matrix": 0.2, "embedding": 0.1, "head": 0.4, "vector": 0.1, "other": 0.1,
    }  # fmt: skip
    assert groups["matrix"]["momentum"] == 0.5
    assert "momentum" not in groups["other"]
    assert [groups[kind]["weight_decay"] for kind in ("matrix", "embedding", "vector")] == [0, 0.3, 0.0]
    assert [groups[kind]["betas"] for kind in ("embedding", "head")] == [(0.5, 0.6), (0.5, 0.7)]


def test_the_norm_that_clips_is_that_of_all_gradients() -> None:
    model, reference = small(), small()
    mixed, others = made("sgd+adamw", model, clip_norm=0.05), torchs("sgd+adamw", reference)
    for _ in range(6):
        stepped(model, [mixed])
        for optimizer in others:
            optimizer.zero_grad()
        loss_of(reference).backward()
        norm = nn.utils.clip_grad_norm_(reference.parameters(), 0.05)
        assert norm > 0.1
        for optimizer in others:
            optimizer.step()
        same(model, mixed, reference, others)


def test_schedulers_closures_and_hooks_see_one_optimizer() -> None:
    model, reference = small(), small()
    mixed, others = made("sgd+adamw", model), torchs("sgd+adamw", reference)
    schedulers = [torch.optim.lr_scheduler.OneCycleLR(o, [g["lr"] for g in o.param_groups], 10, cycle_momentum=False)
                  for o in (mixed, *others)]  # fmt: skip
    calls: list[str] = []
    mixed.register_step_pre_hook(lambda *_: calls.append("before"))
    mixed.register_step_post_hook(lambda *_: calls.append("behind"))

    def closure() -> Tensor:
        mixed.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    for _ in range(8):
        assert float(mixed.step(closure).detach()) == pytest.approx(
            float(loss_of(reference).detach()), rel=TORCH_FLOAT64
        )
        stepped(reference, others)
        for scheduler in schedulers:
            scheduler.step()
        same(model, mixed, reference, others)
    assert calls == ["before", "behind"] * 8


@pytest.mark.parametrize("fused", [True, False])
def test_a_grad_scaler_steps_it(fused: bool) -> None:
    model, reference = small(torch.float32), small(torch.float32)
    mixed = made("adamw+rmsprop", model, fused_unscale=fused)
    plain = made("adamw+rmsprop", reference)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    for t in range(6):
        mixed.zero_grad()
        scaler.scale(loss_of(model)).backward()
        if t == 3:  # a step that must be skipped whole
            model.head.weight.grad[0, 0] = torch.inf
        scaler.step(mixed)
        scaler.update()
        if t != 3:
            stepped(reference, [plain])
        assert all_apart(model.parameters(), reference.parameters()) <= TRAIN_RULE_AGAINST_CLASS
    assert scaler.get_scale() == 128.0


def test_averages_of_the_weights_and_gradients_that_are_zeroed() -> None:
    model = small()
    mixed = made("sgd+adamw", model, matrix_ema_decay=0.5, zero_grad=True)
    before = [p.detach().clone() for p in model.parameters()]
    for _ in range(3):
        loss_of(model).backward()
        mixed.step()
        assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    with mixed.ema_weights():
        moved = {n for n, p in model.named_parameters() if not torch.equal(p, weights[n])}
    assert moved == {"first.weight", "second.weight"}
    assert not torch.equal(before[0], next(model.parameters()))


@pytest.mark.parametrize(("other", "peer"), [("adamw", torch.optim.AdamW), ("lion", steprule.optim.class_of("Lion"))])
def test_tensors_that_no_kernel_may_touch_are_stepped_by_their_own_class(other: str, peer: Any) -> None:
    """Sparse gradients go to torch's SGD, the others of the model to kernels, also of a rule that torch has not."""
    model = nn.Sequential(
        nn.Embedding(LETTERS, 4, sparse=True), nn.Flatten(), nn.Linear(12, 12), nn.Linear(12, LETTERS)
    ).double()
    reference = copy.deepcopy(model)
    mixed = steprule.by_kind(embedding="sgd", other=other)(model, embedding_lr=0.3, other_lr=0.01, show=False)
    others = [
        torch.optim.SGD(reference[0].parameters(), lr=0.3),
        peer(reference[2:].parameters(), lr=0.01),
    ]
    for _ in range(5):
        stepped(model, [mixed])
        stepped(reference, others)
        assert all_apart(model.parameters(), reference.parameters()) <= TORCH_FLOAT64


def test_a_rule_of_ones_own_and_a_class_may_be_given(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from steprule import rule\nfrom steprule.maths import norm\n\n@rule\ndef mine(p, g, *, lr=0.1):\n    return p - lr * g / norm(g)\n"
    )
    model, reference = small(), small()
    mixed = steprule.by_kind(matrix=f"{tmp_path}/mine.py:mine", other=steprule.optim.AdamW)(model, show=False)
    rest = torch.optim.AdamW([p for n, p in reference.named_parameters() if FOUND[n] != "matrix"])
    for _ in range(4):
        stepped(model, [mixed])
        stepped(reference, [rest])
        for n, p in reference.named_parameters():
            if FOUND[n] == "matrix" and p.grad is not None:
                p.data -= 0.1 * p.grad / p.grad.norm()
                p.grad = None
        assert all_apart(model.parameters(), reference.parameters()) <= TORCH_FLOAT64


def test_what_is_told_before_the_first_step(capsys: pytest.CaptureFixture[str]) -> None:
    mixed = mixture("sgd+adamw")(small())
    told = capsys.readouterr().err
    assert told == table(mixed) + "\n"
    rows = [line.split() for line in told.splitlines()[1:-1]]
    assert sorted(row[0] for row in rows) == sorted(FOUND)
    assert {row[0]: row[-2:] for row in rows} == {
        n: [kind, "sgd" if kind == "matrix" else "adamw"] for n, kind in FOUND.items()
    }
    assert told.splitlines()[-1] == "12 parameters: 126 numbers by sgd, 171 numbers by adamw."
    mixture("sgd+adamw")(nn.Linear(3, 2))
    assert capsys.readouterr().err.splitlines()[-1].startswith("by_kind: the model has no hidden matrices")


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a kind": (lambda: steprule.by_kind(matrx="sgd"), "unknown kind: .* Did you mean 'matrix'"),
    "nothing": (lambda: steprule.by_kind(), "by_kind: expected a rule for a kind: matrix, .* got none"),
    "a rule": (lambda: steprule.by_kind(matrix="sdg"), "unknown rule: .* Did you mean 'sgd'"),
    "a class of torch's": (lambda: steprule.by_kind(matrix=torch.optim.SGD), "expected a rule.* The rule is called sgd"),
    "no other": (lambda: steprule.by_kind(matrix="sgd")(small()), "expected a rule for every parameter, got position, .*'embedding'"),
    "parameters": (lambda: made("sgd+adamw", small().parameters()), "expected a model, or groups with a kind, got parameters alone"),
    "no group": (lambda: made("sgd+adamw", []), "expected a model, or groups with a kind, got nothing"),
    "no kind": (lambda: made("sgd+adamw", [{"params": [small().scale]}]), "a parameter group: expected a kind: .* got none"),
    "another kind": (lambda: made("sgd+adamw", [{"params": [small().scale], "kind": "vektor"}]), "unknown kind that has a rule"),
    "a setting": (lambda: mixture("sgd+adamw")(small(), matrix_beta1=0.9), "unknown hyperparameter of by_kind:sgd.adamw"),
    "of a kind without": (lambda: steprule.by_kind(matrix="sgd")(small(), other_lr=0.9), "unknown hyperparameter of by_kind:matrix=sgd"),
    "twice": (lambda: mixture("sgd+adamw")(small(), matrix_lr=1, matrix={"lr": 1}), "matrix_lr: expected it once, got twice"),
    "betas twice": (lambda: mixture("sgd+adamw")(small(), head_betas=(0.1, 0.2), head_beta1=0.1), "either betas or beta1"),
    "out of bounds": (lambda: mixture("sgd+adamw")(small(), other_lr=-1.0), "Invalid learning rate: -1.0"),
    "kinds of groups": (lambda: made("sgd+adamw", [{"params": [], "kind": "head"}], kinds={"a": "head"}), "expected a model beside it"),
    "one rule": (lambda: steprule.trace("by_kind:sgd+adamw"), "expected one rule, got a rule per kind of parameter"),
    "which": (lambda: steprule.which("by_kind:sgd+adamw"), "which: expected one rule"),
    "spelled": (lambda: steprule.train("by_kind:sgd"), "by_kind:sgd: expected two rules, or each kind once with its rule"),
    "kind twice": (lambda: steprule.train("by_kind:head=sgd+head=adam"), "each kind once with its rule"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    ask, words = REFUSED[name]
    with pytest.raises((InputError, InputTypeError, ValueError), match=words) as caught:
        ask()
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_other_kinds_is_refused_before_anything_is_loaded() -> None:
    model = small()
    mixed = made("sgd+adamw", model)
    stepped(model, [mixed])
    kept = copy.deepcopy(mixed.state_dict())
    kept["param_groups"].reverse()
    before = copy.deepcopy(mixed.state_dict())
    with pytest.raises(InputError, match="group 0: expected kind 'matrix', got 'other'"):
        mixed.load_state_dict(kept)
    assert mixed.state_dict()["param_groups"] == before["param_groups"]
    with pytest.raises(InputError, match="got None"):
        mixed.load_state_dict(torch.optim.AdamW(small().parameters()).state_dict())


# Trainings, sweeps, races.

SETTINGS = {
    "matrix_lr": 0.02,
    "other_lr": 0.01,
    "vector_weight_decay": 0.1,
    "clip_norm": 0.3,
    "matrix_weight_decay": 0.2,
}


def test_a_training_in_the_open_is_the_optimizers() -> None:
    """Author's functions on open states, against the compiled classes in a loop of one's own."""
    pair = steprule.by_kind(matrix="adamax", other="adamw")
    found = steprule.train(pair, TASK, seed=2, **SETTINGS)
    again = steprule.train("by_kind:adamax+adamw", TASK, seed=2, **SETTINGS)
    assert np.array_equal(found.losses, again.losses)
    factory = lambda params: pair(model_of(params), show=False, **SETTINGS)  # noqa: E731
    by_class = steprule.train(factory, TASK, seed=2)
    assert all_apart(found.parameters, by_class.parameters) <= TRAIN_RULE_AGAINST_CLASS
    assert found.hypers["matrix_lr"] == 0.02
    assert found.hypers["vector_weight_decay"] == 0.1


@pytest.mark.parametrize("schedule", ["constant", "linear"])
@pytest.mark.parametrize("rules", ["sgd+adamw", "lamb+nadam"])
def test_a_lane_is_a_training_alone(rules: str, schedule: str) -> None:
    """Settings of all, of one kind and of what `other` steps differ by lane, over variants."""
    points = {"matrix_lr": [0.02, 0.005, 0.02], "other_lr": [0.01, 0.02, 0.005], "vector_weight_decay": [0.1, 0.0, 0.3],
              "clip_norm": [0.3, 0.0, 0.2], "matrix_weight_decay": [0.0, 0.1, 0.2]}  # fmt: skip
    found = steprule.sweep(f"by_kind:{rules}", TASK, points, seeds=2, schedule=schedule)
    assert found.engine == "vmap: no kernel for a rule per kind of parameter"
    for k in range(3):
        own = {n: v[k] for n, v in points.items()}
        alone = steprule.train(f"by_kind:{rules}", TASK, seed=1, schedule=schedule, **own)
        assert found.train[k, 1] == pytest.approx(alone.final_loss, rel=LANE_AGAINST_SOLO)


def test_betas_of_a_kind_in_a_sweep() -> None:
    one = steprule.sweep("by_kind:sgd+adamw", TASK, {"other_betas": (0.5, 0.6), "lr": [0.01, 0.02]}, epochs=1)
    same = steprule.sweep(
        "by_kind:sgd+adamw", TASK, {"other_beta1": 0.5, "other_beta2": 0.6, "lr": [0.01, 0.02]}, epochs=1
    )
    other = steprule.sweep("by_kind:sgd+adamw", TASK, {"lr": [0.01, 0.02]}, epochs=1)
    assert np.array_equal(one.train, same.train)
    assert (one.train != other.train).all()


def test_it_races_and_everybody_on_its_problem_by_its_engine() -> None:
    pair = steprule.by_kind(matrix="lion", other="adamw")
    race = steprule.race([pair, "adamw"], TASK, trials=4, seeds=1, fresh=2, epochs=1, schedules="constant")
    assert race.spec.configs["small"].engine == "vmap"
    assert {s.label for s in race.cells[0].standings} == {"by_kind:lion+adamw", "adamw"}
    rows = race.spec.stated["competitors"]["by_kind:lion+adamw"]
    assert list(rows["rules"]) == ["matrix", "other"]
    assert "sign" in rows["rules"]["matrix"]["formula"]


def test_what_a_race_searches() -> None:
    pair, alone = steprule.by_kind(matrix="lion", other="adamw"), entrant_of("adamw")
    found = entrant_of(pair)
    assert {n.removeprefix("other_"): s for n, s in found.space.items() if n.startswith("other_")} == alone.space
    assert found.space["matrix_lr"] == alone.space["lr"]
    of_one = entrant_of(steprule.races.Competitor(pair, hypers={"lr": 0.1, "matrix_beta1": 0.5}))
    assert set(found.space) - set(of_one.space) == {"matrix_lr", "other_lr", "matrix_beta1"}


def test_a_model_without_hidden_matrices_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    line = "by_kind: the model of digits-softmax has no hidden matrices, so the rule for them steps nothing"
    for ask in (steprule.train, steprule.sweep):
        with pytest.warns(NoMatrices, match=line):
            ask("by_kind:lion+adamw", "digits-softmax", epochs=1)
    assert main(["train", "by_kind:lion+adamw", "--on", "digits-softmax", "--epochs", "1"]) == 0
    assert capsys.readouterr().err == f"steprule: {line}.\n"


def test_it_is_typed(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["by_kind:lion+adamw", "--on", "letters-deep", "--epochs", "1"]
    assert main(["sweep", *typed, "--points", "2", "--set", "other_betas=0.8,0.9"]) == 0
    told = capsys.readouterr()
    assert "matrix_lr" in told.out
    assert "other_lr" in told.out
    assert main(["train", *typed, "--set", "matrx_lr=1"]) == 2
    assert "Did you mean 'matrix_lr'" in capsys.readouterr().err

"""`steprule ablate`: what is a part, the same trials for all, real rules with planted parts, the command, its page, errors."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from by_path import module_at
from tolerances import ROUNDED64

import steprule
from steprule import rule
from steprule.cli import main
from steprule.errors import InputError, RuleError, StepruleError
from steprule.hyper import Decay, FirstMoment, Momentum, Neutral, Rate, Search, WeightDecay
from steprule.maths import sign
from steprule.races import Competitor, ablation
from steprule.races.ablation import taken_off
from steprule.rules.parts import before, behind

TINY: dict[str, Any] = {"trials": 4, "seeds": 3, "fresh": 4, "epochs": 1, "workers": 1}
SIZES = ["--trials", "4", "--seeds", "3", "--fresh", "4", "--epochs", "1", "--workers", "1"]
MINE = '''
from steprule import rule
from steprule.hyper import Decay, FirstMoment, Rate


@rule
def mine(p, g, exp_avg: FirstMoment, *, lr: Rate = 0.1, beta: Decay = 0.9, steady: bool = True, t):
    """Momentum, with a term that does nothing to speak of."""
    if steady:
        g = g * (1 + 1e-4 * (t % 2))
    exp_avg = beta * exp_avg + (1 - beta) * g
    return p - lr * exp_avg, exp_avg


@rule
def bare(p, g, *, lr: Rate = 0.1):
    """Nothing to take off."""
    return p - lr * g
'''
Boost = Annotated[float, Neutral(1.0), Search(0.5, 2.0)]


@rule
def many(
    p, g, m: FirstMoment, *, lr: Rate = 0.1, beta: Decay = 0.9, momentum: Momentum = 0.0, boost: Boost = 1.5, plain: bool = True,
    unused: bool = True, off: bool = False, weight_decay: WeightDecay = 0.0, floor: float = 0.0,
):  # fmt: skip
    """Parts of every kind."""
    m = beta * m + (1 - beta) * g
    if plain:
        m = m * boost
    if momentum:
        m = m + momentum * g
    if off and unused:
        m = m + g
    return p - lr * (m + weight_decay * p + floor * g), m


def centred(p: Any, g: Any) -> tuple[Any, Any]:
    """The gradient's sign added to it."""
    return p, g + 0.1 * sign(g)


def drawn_in(p: Any, *, pull: Annotated[float, Search(1e-4, 1e-1)] = 0.01) -> tuple[Any, ...]:
    """Towards zero behind the step."""
    return (p * (1 - pull),)


def found(given: Any, chosen: Any = None) -> dict[str, str]:
    return {part.name: part.off for part in taken_off(given, chosen).parts}


def test_parts_are_what_is_on_and_has_a_value_at_which_it_is_off() -> None:
    """Searched numbers and flags that are on; not a flag that is off, nor one that changes nothing, nor a number of no known neutral."""
    taken = taken_off(many)
    assert {p.name: p.off for p in taken.parts} == {
        "beta": "beta=0", "momentum": "momentum=0", "boost": "boost=1", "plain": "plain=False", "weight_decay": "weight_decay=0",
    }  # fmt: skip
    assert taken.idle == ("unused",)
    assert "off" in found(Competitor(many, hypers={"off": True}))
    assert "unused" in found(Competitor(many, hypers={"off": True}))  # now it is asked for
    assert "momentum" not in found(Competitor(many, hypers={"momentum": 0.0}))
    assert found(Competitor("sgd", hypers={"momentum": 0.9, "dampening": 0.0, "nesterov": True, "maximize": True})) == {
        "momentum": "momentum=0", "nesterov": "nesterov=False",
    }  # fmt: skip
    assert "clip_norm" in found(Competitor("sgd", hypers={"clip_norm": 1.0}))
    assert found("scion")["momentum"] == "momentum=1"


def test_the_rule_without_a_part_is_tuned_alike_and_keeps_what_is_set() -> None:
    own = Competitor(
        many, space={"lr": Search(1e-3, 1.0), "beta": Search(0.5, 0.99, "complement")}, hypers={"floor": 0.5}
    )
    for part in taken_off(own).parts:
        assert part.competitor.hypers["floor"] == 0.5
        assert set(part.competitor.space or {}) == {"lr", "beta"} - {part.name}
        assert part.competitor.label == f"without {part.name}"


def test_what_was_put_around_a_rule_is_left_out_by_itself() -> None:
    whole = behind(drawn_in, before(centred, steprule.rules.sgd))
    parts = {p.name: p for p in taken_off(whole).parts}
    assert {"momentum", "dampening", "centred", "drawn_in"} == set(parts)
    assert parts["centred"].meaning == "The gradient's sign added to it."
    p, g = 2.0, 4.0

    def step(name: str) -> float:
        what = parts[name].competitor.optimizer if name else whole
        return what(p, g, None, lr=0.5)[0]

    assert step("") == (2.0 - 0.5 * (4.0 + 0.1)) * (1 - 0.01)
    assert step("centred") == (2.0 - 0.5 * 4.0) * (1 - 0.01)
    assert step("drawn_in") == 2.0 - 0.5 * (4.0 + 0.1)


def test_sam_and_lookahead_are_parts() -> None:
    assert set(found("sam_adamw")) == {"beta1", "beta2", "weight_decay", "sharpest"}
    assert "look_back" in found("lookahead_adam")
    bare = next(p for p in taken_off("sam_adamw").parts if p.name == "sharpest").competitor.optimizer
    assert not bare.looks_twice


def test_on_and_off_train_the_same_trials_and_seeds() -> None:
    result = steprule.ablate(many, "airfoil-linear", ["beta", "plain"], **TINY)
    chains = [result.race.chain("airfoil-linear", "linear", e.label) for e in result.race.spec.entrants]
    whole, *others = (done[0].lanes for done in chains)
    assert {e.label for e in result.race.spec.entrants} == {"many", "without beta", "without plain"}
    for lanes in others:
        assert np.array_equal(lanes.seed, whole.seed)
        for name, values in lanes.hypers.items():
            assert np.array_equal(values, whole.hypers[name])
    assert set(others[0].hypers) == set(whole.hypers) - {"beta"}
    assert set(others[1].hypers) == set(whole.hypers)
    for done in chains:
        assert set(done[-1].lanes.role) == {"winner"}
        assert len(done[0].lanes) == 4 * 3
        assert len(np.unique(done[0].lanes.hypers["lr"])) == 12  # each study its own points
    assert result.trainings == sum(len(p.lanes) for done in chains for p in done)


@rule
def far(p, g, *, lr: Rate = 1e-8, twice: bool = True):
    """Its best learning rates lie where no race begins to look."""
    return p - (2e8 if twice else 1e8) * lr * g


def test_where_a_range_moves_the_points_stay_the_same() -> None:
    result = steprule.ablate(far, "airfoil-linear", **TINY)
    chains = [result.race.chain("airfoil-linear", "linear", label) for label in ("far", "without twice")]
    tuned = [[phase for phase in done if phase.name != "confirm"] for done in chains]
    assert min(map(len, tuned)) >= 2
    for mine, theirs in zip(*tuned, strict=False):
        shares = [[phase.space["lr"].share(v) for v in phase.lanes.hypers["lr"]] for phase in (mine, theirs)]
        assert shares[0] == pytest.approx(shares[1], rel=ROUNDED64)
    first, second = (phase.space["lr"] for phase in tuned[0][:2])
    assert (second.low, second.high) == pytest.approx((first.low / 100, first.high / 100), rel=ROUNDED64)


def test_a_rule_per_kind_has_parts_by_kind() -> None:
    parts = found("by_kind:lion+adamw")
    assert parts["matrix_beta1"] == "matrix_beta1=0"
    assert parts["other_weight_decay"] == "other_weight_decay=0"
    assert not [name for name in parts if "maximize" in name]


def test_a_usual_ablation_takes_no_more_than_twenty_tuned_rules() -> None:
    entrant = taken_off("adam").entrant
    for parts in range(1, 59):
        sizes = ablation.trials.same_trials(entrant, parts)
        assert 2 <= sizes.studies <= 30
        assert (parts + 1) * sizes.studies * (sizes.trials + sizes.fresh) <= 20 * 5 * (64 + 30)
    with pytest.raises(InputError, match="Name fewer parts"):
        ablation.trials.same_trials(entrant, 60)


def test_planted_parts_of_a_real_rule() -> None:
    """A term that does nothing is told to do nothing; one that goes uphill hurts."""
    bench = module_at("benchmarks/ablate.py")
    result = steprule.ablate(
        bench.with_planted("sgd", bench.uphill, bench.ripple),
        "airfoil-mlp",
        ["ripple", "uphill"],
        trials=16,
        seeds=6,
        fresh=8,
        epochs=2,
    )
    verdicts = {e.part: e for e in result.panels[0].effects}
    assert verdicts["uphill"].verdict == "hurts"
    assert verdicts["ripple"].verdict == "nothing"
    words = result.in_words()
    assert re.search(r"uphill \(-\d+(\.\d)? % \[.*\]\) hurts\. ripple does nothing measurable: less than 1 %", words)
    told = result.to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert [e["verdict"] for e in told["panels"][0]["effects"]] == ["nothing", "hurts"]


def test_an_ablation_goes_on_and_gives_the_same(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"parts": "momentum", "out": tmp_path / "kept", **TINY}
    first = steprule.ablate("sgd", "airfoil-linear", **asked)
    kept = sorted((tmp_path / "kept" / "blocks").iterdir())
    kept[0].unlink()
    again = steprule.ablate("sgd", "airfoil-linear", **asked)
    assert 0 < again.race.trained < first.race.trained
    assert [e.to_dict() for e in again.panels[0].effects] == [e.to_dict() for e in first.panels[0].effects]
    text = first.race.methods() + first.race.bibtex()
    assert "The winner of each batch was then trained on 4 fresh seeds" in text
    assert not re.search("Hoeffding|jackknife|Efron|multiples", text)
    with pytest.raises(InputError, match="holds another race"):
        steprule.ablate("sgd", "airfoil-linear", **{**asked, "parts": "dampening"})


@pytest.mark.parametrize("few", ["seeds", "fresh"])
def test_one_study_or_one_fresh_seed_tells_nothing(few: str) -> None:
    found = steprule.ablate("sgd", "airfoil-linear", "momentum", **{**TINY, few: 1})
    (effect,) = found.panels[0].effects
    assert (effect.verdict, effect.found, effect.needed, effect.pair.percent[1]) == ("open", None, None, None)
    words = found.in_words()
    assert "one study, or one fresh seed, cannot tell luck from an effect, so every part is open" in words
    assert f"the same 4 points in {'one study' if few == 'seeds' else 'each of 3 studies'}, and the same seeds" in words
    assert "nan" not in words


def test_a_class_is_ablated_by_named_parts() -> None:
    result = steprule.ablate(
        torch.optim.SGD,
        "airfoil-linear",
        {"momentum": 0.0},
        hypers={"momentum": 0.9},
        **{**TINY, "trials": 2, "seeds": 2, "fresh": 2},
    )
    assert [p.off for p in result.parts] == ["momentum=0"]
    assert result.race.spec.entrant("torch.optim.SGD").fixed == {"momentum": 0.9}


@pytest.mark.parametrize(
    ("given", "chosen", "says"),
    [
        (steprule.rules.rprop, None, "ablate rprop: expected a part that can be taken off"),
        ("torch.optim.Adam", None, "expected the parts of a class by name"),
        ("torch.optim.Adam", ["amsgrad"], "expected the value at which it is off"),
        ("adam", ["amsgrd"], "Did you mean 'amsgrad'"),
        (
            "adam",
            ["amsgrad"],
            r"expected a part that is on, got amsgrad=False, which is off. Set it: --set amsgrad=True\.",
        ),
        ("adam", ["eps"], "part eps of adam: expected the value at which it is off, got none"),
        ("adam", {"eps": -1.0}, "hyperparameter eps: expected a number in"),
        ("adam", [], "parts: expected at least one"),
        (many, ["unused"], "the same formula with unused=False"),
        (Competitor("sgd", hypers={"momentum": 0.0}), ["momentum"], "momentum=0, which is off"),
    ],
)
def test_what_cannot_be_taken_off(given: Any, chosen: Any, says: str) -> None:
    with pytest.raises(StepruleError, match=says):
        taken_off(given, chosen)


def test_a_neutral_number_is_one_that_is_allowed() -> None:
    with pytest.raises(RuleError, match=r"hyperparameter share: Neutral\(2\): expected a number in"):

        @rule
        def wrong(p, g, *, lr: Rate = 0.1, share: Annotated[Decay, Neutral(2)] = 0.5):
            return p - lr * share * g


def test_unknown_arguments_are_named() -> None:
    with pytest.raises(StepruleError, match="Did you mean 'trials'"):
        steprule.ablate("adam", trails=3)  # type: ignore[call-arg]


def test_the_command(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(MINE, encoding="utf-8")
    typed = ["ablate", "mine.py:mine", "--on", "airfoil-linear", *SIZES]
    assert main([*typed, "--out", "kept"]) == 0
    out = capsys.readouterr().out
    assert "airfoil-linear, linear learning rate: test loss" in out
    assert re.search(r"^steady +steady=False +\S+ % \[.*\] +nothing", out, re.MULTILINE)
    assert re.search(r"^beta +beta=0 ", out, re.MULTILINE)
    page = Path("kept/report.html").read_text(encoding="utf-8")
    for text in (
        "mine without each of 2 parts",
        "steady=False",
        "nothing measurable",
        "The formula with each part off",
        "Repeat with",
    ):
        assert text in page
    assert page.count('<div class="card">') == 2  # with steady and without; beta=0 leaves the formula
    assert main([*typed, "--out", "kept", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["trained"], told["kept"]) == (0, told["trainings"])
    assert [p["name"] for p in told["parts"]] == ["beta", "steady"]
    assert Path(told["report"]).exists()


def test_the_command_takes_settings_ranges_and_parts(in_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["ablate", "sgd", "--on", "airfoil-linear", "--vary", "weight_decay", "--set", "nesterov=true", "--part", "weight_decay",
             "--part", "nesterov", "--part", "clip_norm=2", "--set", "clip_norm=1", *SIZES]  # fmt: skip
    assert main([*typed, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {p["name"]: p["off"] for p in told["parts"]} == {
        "weight_decay": "weight_decay=0", "nesterov": "nesterov=False", "clip_norm": "clip_norm=2",
    }  # fmt: skip
    assert "weight_decay" in told["spec"]["competitors"]["sgd"]["space"]
    assert "weight_decay" not in told["spec"]["competitors"]["without weight_decay"]["space"]
    assert told["report"].startswith("runs/ablate-sgd-")


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["mine.py:bare"], "ablate bare: expected a part that can be taken off"),
        (["adam", "--part", "eps"], "Write --part eps=0"),
        (["adam", "--part", "eps=x"], "hyperparameter eps"),
        (["adam", "--set", "bogus=1"], "unknown hyperparameter"),
        (["adam", "--on", "nowhere"], "unknown problem"),
        (["adam", "--trials", "0"], "trials: expected 1 or more, got 0"),
        (["nobody"], "nobody"),
    ],
)
def test_bad_input_is_one_line(
    typed: list[str], says: str, in_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.py").write_text(MINE, encoding="utf-8")
    assert main(["ablate", *typed]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert len(err.splitlines()) == 1


def test_it_draws_itself(tmp_path: Path) -> None:
    result = steprule.ablate("rmsprop", ["airfoil-linear", "digits-softmax"], **{**TINY, "epochs": 1})
    figure = result.plot()
    assert len([axes for axes in figure.axes if axes.get_visible()]) == 2
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["momentum", "alpha"]
    assert "<img" in str(result._repr_html_())
    assert "rmsprop without each of 2 parts" in result.save(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "of 2 comparisons" in ablation.headline(result)

"""What results show of themselves: words in a terminal, pictures in a notebook, a step taken apart."""

from __future__ import annotations

import base64
import pickle
import re
from html import unescape
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import steprule
from steprule import rules
from steprule.errors import InputTypeError, StepruleError
from steprule.hyper import Rate
from steprule.races.as_given import TUTORIAL, compare
from steprule.reports.notebook import apart, show
from steprule.rules.parts import composed
from steprule.shown import sparkline

WAVE = torch.linspace(-1, 1, 60)[:, None]


@pytest.fixture(scope="module")
def race() -> steprule.Race:
    return steprule.race(["sgd", "adam"], "airfoil-linear", trials=4, seeds=2, fresh=3, epochs=1, workers=1)


def picture(html: str) -> tuple[str, bytes]:
    (kind, data) = re.search(r'src="data:image/(svg\+xml|png);base64,([^"]+)"', html).groups()  # type: ignore[union-attr]
    return kind, base64.b64decode(data)


def test_every_result_shows_itself(race: steprule.Race) -> None:
    found: list[tuple[Any, str]] = [
        (steprule.trace("adam", lr=0.2), "adam on quadratic, 20 steps: lr=0.2"),
        (steprule.train("adam", lr=0.01), "adam on airfoil: loss 0.49"),
        (steprule.sweep("adam", hypers={"lr": np.geomspace(1e-4, 10, 40)}), "adam on airfoil: 40 points x 1 seeds"),
        (compare(TUTORIAL[4:6], seeds=3), "The lowest mean training loss"),
        (race, "Race of 2 on 1 problems"),
    ]
    for result, words in found:
        assert repr(result).startswith(words), repr(result)
        html = result._repr_html_()
        kind, data = picture(html)
        assert data.startswith(b"<svg" if kind == "svg+xml" else b"\x89PNG")
        assert len(html) < 600_000


def test_every_result_gives_its_picture(race: steprule.Race, tmp_path: Any) -> None:
    """`plot()`: of a training and of a sweep the one that `--out` draws; where there is none, a cell has words alone."""
    run = steprule.train("sgd", epochs=1, lr=0.05)
    (line,) = run.plot().axes[0].get_lines()
    assert line.get_ydata().tolist() == run.losses.tolist()
    sweep = steprule.sweep("sgd", "airfoil", {"lr": [0.01, 0.1]}, epochs=1, compile=False)
    assert sweep.plot().axes[0].get_xlabel() == "lr"
    assert [t.get_text() for t in race.plot().axes[0].get_yticklabels()]
    figure = steprule.trace("sgd", lr=0.4).plot()
    figure.savefig(tmp_path / "path.png")
    assert (tmp_path / "path.png").read_bytes()[:4] == b"\x89PNG"
    bare = steprule.sweep("sgd", "airfoil", {}, epochs=1, compile=False)
    with pytest.raises(StepruleError, match="expected a number that varies, got none"):
        bare.plot()
    assert bare._repr_html_().startswith("<p")


def test_a_shard_shows_itself() -> None:
    found = steprule.race(
        ["sgd", "adam"], "airfoil-linear", trials=2, seeds=2, fresh=2, epochs=1, workers=1, shard=(0, 2)
    )
    assert "one shard of several" in repr(found)
    assert "one shard of several" in found._repr_html_()
    with pytest.raises(StepruleError, match="expected a whole race, got one shard of several"):
        found.plot()


def test_what_diverged_shows_itself() -> None:
    path = steprule.trace("sgd", "rosenbrock", lr=9.0, steps=60)
    assert f"not finite from step {path.diverged_at}" in repr(path)
    assert repr(path).endswith("×")
    picture(path._repr_html_())
    found = steprule.sweep("sgd", hypers={"lr": [1e3, 1e4]})
    assert "2 diverged" in repr(found)
    picture(found._repr_html_())


def test_a_rules_variant_shows_its_formula() -> None:
    plain, rolling = show(steprule.rules.sgd), show(steprule.rules.sgd, momentum=0.5)
    assert "<math" in plain._repr_html_()
    assert "μ" not in unescape(plain._repr_html_())
    assert "μ" in unescape(rolling._repr_html_())
    with pytest.raises(InputTypeError, match="settings for a rule alone"):
        show(steprule.trace("sgd", lr=0.4), momentum=0.5)


def test_several_in_one_picture(tmp_path: Any) -> None:
    shown = show(steprule.trace("sgd", lr=0.4), steprule.trace("adam", lr=0.4))
    assert shown.svg.startswith("<svg")
    assert "adam  lr 0.4" in shown.svg
    assert 'alt="sgd on quadratic, 20 steps: lr=0.4; adam on quadratic, 20 steps: lr=0.4' in shown._repr_html_()
    kind, data = picture(shown._repr_html_())
    assert kind == "png"  # filled contours
    (tmp_path / "a.png").write_bytes(data)
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 1000
    runs = show(steprule.train("sgd", lr=0.05), steprule.train(torch.optim.SGD, lr=0.05))
    assert "torch.optim.SGD" in runs.svg
    assert "<math" in show(rules.adam)._repr_html_()


def test_what_cannot_be_shown_together() -> None:
    with pytest.raises(InputTypeError, match="results of one kind, got nothing"):
        show()
    with pytest.raises(InputTypeError, match="got Rule, Trace"):
        show(rules.adam, steprule.trace("adam"))
    with pytest.raises(InputTypeError, match="got int"):
        show(3)


@steprule.rule
def doubling(p, g, count, *, lr: Rate = 0.1, t):  # type: ignore[no-untyped-def]
    """A rule of one's own."""
    return p - lr * g * t, count + 1


@pytest.mark.parametrize("rule", [*rules.CATALOGUE.values(), doubling], ids=lambda r: r.name)
@pytest.mark.parametrize("step", [1, 2, 9])
def test_a_step_taken_apart_is_the_step(rule: steprule.Rule, step: int) -> None:
    """The new p is the path's next point to the bit; so with noise, and where a state is absent at first."""
    settings: dict[str, Any] = {"momentum": 0.5} if "momentum" in composed(rule).defaults else {}
    path = steprule.trace(rule, "noisy_ravine", steps=10, seed=2, lr=0.05, **settings)
    found = dict(path.anatomy(step))
    assert np.array_equal(found["p"], path.points[step - 1])
    assert np.array_equal(found["new p"], path.points[step])
    assert f"{found['g'][0]:.6g}" in apart(path, step).html


@pytest.mark.parametrize("step", [0, 11, True, 1.0])
def test_a_step_that_is_not_there(step: Any) -> None:
    with pytest.raises(StepruleError, match=r"step: expected (a whole number, )?1 to 10"):
        steprule.trace("adam", steps=10).anatomy(step)


def test_a_trace_is_plain_data() -> None:
    path = steprule.trace(rules.adam, lr=0.2)
    again = pickle.loads(pickle.dumps(path))
    assert np.array_equal(again.points, path.points)
    assert dict(again.anatomy(3))["m_hat"] == pytest.approx(dict(path.anatomy(3))["m_hat"])


def test_sparklines() -> None:
    assert sparkline([]) == ""
    assert sparkline([float("nan")] * 2) == "××"
    assert sparkline([1.0, 1.0]) == "▁▁"
    assert sparkline([1, 10, float("inf")]) == "▁█×"
    assert sparkline([-1, 0, 1]) == "▁▅█"
    assert len(sparkline(range(1, 1000))) == 24

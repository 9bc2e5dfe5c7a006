"""What results show of themselves: words in a terminal, pictures in a notebook, a step taken apart."""

from __future__ import annotations

import base64
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch
from tolerances import ROUNDED64

import steprule
from steprule import display, rules
from steprule.display import sparkline
from steprule.errors import InputError, InputTypeError, StepruleError
from steprule.hyper import Rate
from steprule.reports import notebook
from steprule.reports.address import address
from steprule.reports.notebook import apart, figure, show
from steprule.reports.panels import curves, heights, paths
from steprule.reports.style import DARK
from steprule.rules.parts import composed
from steprule.tutorial import TUTORIAL

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
        (steprule.train("adam", lr=0.01), "adam on airfoil: training loss 0.49"),
        (steprule.sweep("adam", hypers={"lr": np.geomspace(1e-4, 10, 40)}), "adam on airfoil: 40 points x 1 seed\n"),
        (
            steprule.race([run.competitor for run in TUTORIAL[4:6]], trials=0, seeds=3),
            "Race of 2 on 1 problem: 6 trainings\n    The lowest mean training loss",
        ),
        (race, "Race of 2 on 1 problem"),
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
    assert r"\theta_{t} &= \theta_{t-1} - \eta \, g_{t}" in plain._repr_latex_()
    assert r"\mu" not in plain._repr_markdown_()
    assert r"| $\mu$ | `momentum` | momentum |" in rolling._repr_markdown_()
    assert repr(rolling).endswith("p = p - lr * momentum_buffer")
    # A number that chooses no variant is written, a factor 1 is not.
    printed = show(rules.adadelta, lr=1)._repr_latex_()
    assert r"\theta_{t} &= \theta_{t-1} - \delta_{t}" in printed
    assert r"\eta" not in printed
    assert r"0.5 \, \delta_{t}" in show(rules.adadelta, lr=0.5)._repr_latex_()
    assert r"- \eta \, \delta_{t}" in show(rules.adadelta)._repr_latex_()
    with pytest.raises(InputTypeError, match="settings for a rule alone"):
        show(steprule.trace("sgd", lr=0.4), momentum=0.5)


def test_several_in_one_picture() -> None:
    shown = show(steprule.trace("sgd", lr=0.4), steprule.trace("adam", lr=0.4))
    assert shown.svg.startswith("<svg")
    assert "adam  lr 0.4" in shown.svg
    noisy = show(steprule.paths.tuned_trace("adam", "noisy_ravine", seed=3)).svg
    assert ">noisy ravine, gradient noise 1, seed 3<" in noisy
    assert ">at its best learning rate here<" in noisy
    long = show(steprule.trace("sgd", "x^2/10 + y^2/100 + x^2/1000 + y^2/10000 + x^4/1e5", lr=0.1)).svg
    assert ">x^2/10 + y^2/100 + x^2/1000 + y^2/10000 + x^4…<" in long
    assert 'alt="sgd on quadratic, 20 steps: lr=0.4; adam on quadratic, 20 steps: lr=0.4' in shown._repr_html_()
    assert picture(shown._repr_html_()) == ("svg+xml", shown.svg.encode())
    runs = show(steprule.train("sgd", lr=0.05), steprule.train(torch.optim.SGD, lr=0.05))
    assert "torch.optim.SGD" in runs.svg


def test_a_figure_follows_the_page_and_leads_to_the_playground() -> None:
    """Text is text, no size below 11 points at a phone's width, every colour has its dark one; the address is the paths' state."""
    walked = steprule.trace("adam", "noisy_ravine", lr=0.3, steps=30, seed=4, amsgrad=True)
    other = steprule.trace("sgd", "noisy_ravine", lr=0.02, steps=30, seed=4)
    rows = {"Adam": [1.0, 0.1, 1e-6], "sgd, 100 < 200 & more": ([1, 10, 300], [1, 2, 3])}
    drawn = figure(
        paths({"Adam": walked, "plain": other}),
        heights({"Adam": walked}),
        curves("a title", rows, log="xy", guides={"a law": ([1, 9], [0.1, 0.1])}),
        says='what "it" says',
        playground="play.html",
    )
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", drawn.svg)
    assert {"Adam", "sgd, 100 &lt; 200 &amp; more", "a title", "a law", "start", "minimum", "step"} <= set(texts)
    assert 'aria-label="what &quot;it&quot; says"' in drawn.svg
    assert min(float(size) for size in re.findall(r"font-size: ([\d.]+)px", drawn.svg)) >= 11
    assert "font:" not in drawn.svg, "the page's font"
    colours = re.sub(
        r"light-dark\([^)]*\)", "", re.sub(r"(fill|stroke): (#\w+); \1: light-dark", r"\1: light-dark", drawn.svg)
    )
    left = set(re.findall(r"#[0-9a-f]{6}\b", colours))
    assert left <= {"#1b1b1b", "#ececec", *(light for light, dark in DARK.items() if light == dark)}
    assert (
        'href="play.html#rule=adam,lr=0.3,amsgrad=true&amp;rule=sgd,lr=0.02&amp;surface=noisy_ravine&amp;start=-5,2&amp;'
        'steps=30&amp;seed=4"' in drawn.html
    )
    formula = steprule.trace("sgd", "x^2/10 + y^2", (1.5, -2.0), 7, lr=0.1, noise=0.5)
    assert address([formula]) == "rule=sgd,lr=0.1&surface=x%5E2%2F10%20%2B%20y%5E2&start=1.5,-2&steps=7&noise=0.5"


@pytest.mark.parametrize(("surface", "settings"), [
    ("rosenbrock", {"lr": 9.0, "steps": 60}),  # diverges
    ("-x^2", {"lr": 0.1}),  # without a lowest point
    ("log(x)", {"start": (1.0, 1.0)}),  # not defined everywhere
])  # fmt: skip
def test_strange_ground_is_drawn(surface: str, settings: dict[str, Any]) -> None:
    walked = steprule.trace("sgd", surface, **settings)
    labels = {f"{k} $own$ label, by no method": walked for k in range(9)}
    drawn = figure(paths(labels), heights(labels), says="strange ground")
    assert "8 $own$ label, by no method" in drawn.svg


def test_panels_that_cannot_be() -> None:
    for bad in (([1, 2], [1, 2, 3]), [[1, 2]], 3.0, ([[1]], [1])):
        with pytest.raises(InputError, match=r"line 'a': expected numbers y \[n\]"):
            curves("title", {"a": bad})
    with pytest.raises(InputError, match="log: expected"):
        curves("title", {"a": [1]}, log="z")
    with pytest.raises(InputError, match="one start"):
        address([steprule.trace("sgd", steps=3), steprule.trace("sgd", steps=4)])
    with pytest.raises(InputError, match="one panel or more, got none"):
        figure(says="nothing")
    with pytest.raises(InputError, match="paths on one surface, got beale, quadratic"):
        paths({"a": steprule.trace("sgd", lr=0.1), "b": steprule.trace("sgd", "beale", lr=1e-3)})
    with pytest.raises(InputError, match="paths on one surface, got no path"):
        paths({})


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
    assert f"| {found['g'][0]:.6g} |" in apart(path, step)._repr_markdown_()


@pytest.mark.parametrize("step", [0, 11, True, 1.0])
def test_a_step_that_is_not_there(step: Any) -> None:
    with pytest.raises(StepruleError, match=r"step: expected (a whole number, )?1 to 10"):
        steprule.trace("adam", steps=10).anatomy(step)


def test_a_trace_is_plain_data() -> None:
    path = steprule.trace(rules.adam, lr=0.2)
    again = pickle.loads(pickle.dumps(path))
    assert np.array_equal(again.points, path.points)
    assert dict(again.anatomy(3))["m_hat"] == pytest.approx(dict(path.anatomy(3))["m_hat"], rel=ROUNDED64)


def test_sparklines() -> None:
    assert sparkline([]) == ""
    assert sparkline([float("nan")] * 2) == "××"
    assert sparkline([1.0, 1.0]) == "▁▁"
    assert sparkline([1, 10, float("inf")]) == "▁█×"
    assert sparkline([-1, 0, 1]) == "▁▅█"
    assert len(sparkline(range(1, 1000))) == 24


def test_who_draws_is_said_at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result knows nobody who draws: another drawer would draw all of them."""

    class Other:
        def html(self, result: Any) -> str:
            return f"<b>{result.rule}</b>"

        def drawn(self, result: Any) -> Any:
            return result.surface

    assert display._drawers[0]() is notebook
    monkeypatch.setattr(display, "_drawers", [])
    display.draw_by(Other)
    path = steprule.trace("sgd")
    assert (path._repr_html_(), path.plot()) == ("<b>sgd</b>", "quadratic")

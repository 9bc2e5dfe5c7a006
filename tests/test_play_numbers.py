"""The playground's numbers against Python's, in real Chromium: surfaces, functions, steps, paths, formulas of text."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import numpy as np
import pytest
from chromium_page import needs_chromium
from playground import RULES, go, reopen, settle
from playwright.sync_api import Page
from thinning import thinned
from tolerances import BROWSER_PATH, BROWSER_STEP, FORMULA, ROUNDED64, STABLE_PATH

import steprule
from steprule import paths, rules
from steprule.cli import main
from steprule.compiler import eager
from steprule.compiler.points import reduces
from steprule.compiler.variant import variant_of
from steprule.errors import InputError
from steprule.play.data import SEEDS
from steprule.rules.parts import composed
from steprule.surfaces import catalogue as surfaces, elementary, formulas
from steprule.surfaces.surface import Surface

pytestmark = needs_chromium
# Where one ulp in the start moves Python's own path by 1e-10 or more within 200 steps: at a cusp, or where both g and its
# running averages have become rounding alone. LAMB's steps never shrink: where it circles a minimum, each round doubles what the
# start was off by, unless its first step happens to round it away.
UNSTABLE = {
    (rule, surface)
    for surface, names in {
        "ackley": "sgd adagrad adagrad_eps_inside rmsprop rmsprop_eps_inside adadelta adam adamax nadam radam adam_uncorrected",
        "rastrigin": "sgd rmsprop_eps_inside adadelta lamb",
        "rosenbrock": "rmsprop_eps_inside adadelta nadam",
        "beale": "rmsprop_eps_inside lamb",
        "three_hump_camel": "nadam lamb",
        "saddle": "nadam lamb",
        "himmelblau": "lamb",
        "styblinski_tang": "lamb",
    }.items()
    for rule in names.split()
}


def test_surfaces_to_the_bit(page: Page) -> None:
    """Value and gradient: a browser's own sin would differ in the last place, and near a minimum that is all there is."""
    for surface in surfaces.SURFACES.values():
        (x0, x1), (y0, y1) = surface.window
        points = np.random.default_rng(0).uniform((x0, y0), (x1, y1), (2000, 2))
        script = (
            "([name, points]) => points.map(([x, y]) => [SURFACES[name].value(x, y), ...SURFACES[name].gradient(x, y)])"
        )
        theirs = np.array(page.evaluate(script, [surface.name, points.tolist()]))
        assert np.array_equal(theirs[:, 0], surface.value(points)), surface.name
        assert np.array_equal(theirs[:, 1:], surface.gradient(points)), surface.name


def test_functions_to_the_bit(page: Page) -> None:
    """sin, cos and exp by arithmetic alone; what is far out is the library's."""
    drawn = np.random.default_rng(0)
    near = np.concatenate(
        [drawn.uniform(-10, 10, 2000), drawn.uniform(-1e5, 1e5, 2000), np.arange(-99, 99) * np.pi / 4]
    )
    for name, ours in elementary.python().items():
        x = near if name != "exponential" else drawn.uniform(-700, 700, 3000)
        theirs = np.array(page.evaluate(f"(x) => x.map({name})", x.tolist()), dtype=np.float64)
        assert np.array_equal(theirs, ours(x)), name
        far = page.evaluate(f"[1e6, 800, -Infinity, NaN].map({name})")
        with np.errstate(all="ignore"):
            assert far == pytest.approx(
                list(ours(np.array([1e6, 800, -np.inf, np.nan]))), nan_ok=True, rel=ROUNDED64
            ), name


def _plain(states: eager.State) -> dict[str, Any]:
    return {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in states.items() if v is not None}


def _walked(rule: rules.Rule, surface: Surface, hypers: dict[str, Any], steps: int) -> list[Any]:
    """(p, states, gradient, new p, new states, where the model is read) at each step of Python's path, as long as it is finite."""
    p, held, found = np.array(surface.start), {}, []
    with np.errstate(all="ignore"):
        for t in range(1, steps + 1):
            g = surface.gradient(p)
            q, new = eager.step(rule, p, g, held, t, hypers)
            if not np.isfinite(q).all():
                break
            read = eager.evaluated(rule, q, new, t, hypers)
            found.append([p.tolist(), _plain(held), g.tolist(), q.tolist(), _plain(new), read.tolist()])
            p, held = q, new
    return found


def _rate(rule: rules.Rule, surface: Surface) -> float:
    # A norm, or a number of a tensor, would be that of all rates at once, so these are tried one by one: too slow here.
    alone = reduces(variant_of(composed(rule), composed(rule).defaults)) or any(s.is_number for s in rule.slots)
    return 1e-3 if alone else paths.best_rate(rule, surface, steps=60)


ONE_STEP = """([rule, surface, hypers, steps]) => {
  const { step, begin, read } = stepperOf({ rule, hypers }), ground = SURFACES[surface];
  const far = (a, b) => (a === b ? 0 : Math.abs(a - b) / Math.max(Math.abs(b), 1e-300));
  let worst = 0;
  const look = (a, b) => [].concat(a).forEach((v, k) => (worst = Math.max(worst, far(v, [].concat(b)[k]))));
  steps.forEach(([p, states, g, q, after, point], k) => {
    const found = ground.gradient(p[0], p[1]), next = step(p, found, k ? states : begin(), k + 1, false);
    look(found, g);
    look(next.p, q);
    look(read(next.p, next.states, k + 1), point);
    for (const [name, value] of Object.entries(after)) look(next.states[name], value);
  });
  return worst;
}"""


@pytest.mark.parametrize("count", [4, *(pytest.param(k, marks=pytest.mark.long) for k in (40, 500))])
def test_one_step_from_every_visited_state(page: Page, count: int) -> None:
    """Every rule on every surface, at its best rate there: gradient, parameter and all states."""
    for rule in RULES:
        whole = composed(rule)
        for surface in surfaces.SURFACES.values():
            hypers = {**whole.defaults, "lr": _rate(rule, surface)}
            steps = _walked(whole, surface, hypers, count)
            assert len(steps) == count, (rule.name, surface.name)
            worst = page.evaluate(ONE_STEP, [rule.name, surface.name, hypers, steps])
            assert worst <= BROWSER_STEP, (rule.name, surface.name, worst)


@pytest.mark.long
def test_whole_paths(page: Page) -> None:
    """200 steps, wherever Python's own path does not hang on the last bit of the start; the rest are named."""
    unstable = []
    for rule in RULES:
        for surface in surfaces.SURFACES.values():
            rate, x = _rate(rule, surface), surface.start
            ours = steprule.trace(rule, surface, steps=200, noise=0.0, lr=rate).points
            near = steprule.trace(rule, surface, (float(np.nextafter(x[0], 9)), x[1]), 200, noise=0.0, lr=rate).points
            width = max(high - low for low, high in surface.window)
            if not np.isfinite(ours).all() or np.abs(near - ours).max() >= STABLE_PATH:
                unstable.append((rule.name, surface.name))
                continue
            script = "([rule, surface, lr]) => walk(groundOf(surface), {rule, hypers: {lr}}, DATA.surfaces[surface].start, 200, 0, 0).points"
            theirs = np.array(page.evaluate(script, [rule.name, surface.name, rate]))
            assert np.abs(theirs - ours).max() <= BROWSER_PATH * width, (rule.name, surface.name)
    assert set(unstable) <= UNSTABLE


@pytest.mark.parametrize("surface", ["noisy_ravine", "x^2/8 + y^2 + sin(2*x)*cos(y)"])
def test_three_ways_out(page: Page, capsys: pytest.CaptureFixture[str], surface: str) -> None:
    """The permalink, the commands and the Python lines give the path that the page shows; noise is numpy's own."""
    given = f"rule=adam,lr=0.3,beta1=0.8&rule=sgd,lr=0.05,momentum=0.7,nesterov=true&start=-3,1.5&steps=30&seed=3&noise=0.5&surface={surface.replace('+', '%2B')}"
    go(page, given)
    shown = np.array(page.evaluate("model.walks.map((w) => w.points)"))
    link, commands, python = page.locator("#ways pre").all_text_contents()
    scope: dict[str, Any] = {}
    exec(python, scope)  # what the page tells a reader to run
    ours = np.array([p.points for p in scope["paths"]])
    assert np.abs(shown - ours).max() < BROWSER_PATH
    for command, path in zip(commands.splitlines(), ours, strict=True):
        assert main([*shlex.split(command)[1:], "--json"]) == 0
        assert np.array_equal(json.loads(capsys.readouterr().out)[0]["points"], path)
    reopen(page, link)
    settle(page)
    assert np.array_equal(page.evaluate("model.walks.map((w) => w.points)"), shown)


GOOD = ["x^2/10 + 2*y^2", "-x**2 + y^4", "2^-2*x", "sin(x)*exp(-y^2)", "sqrt(x^2+y^2+1)", "abs(x) + .5e1*tanh(y)", "log(x^2+1)/(1+y^2)",
        "x*y*pi - e", "-(x - 1)^3", "cos(tan(x/9))", "2*-y + x",
        "x-2", "2^0.5*x^2 - (1/3)^7.5*y", "x^70/1e30 + y", "1.00001^900*x^3^2/9", "cos(9^99)*x"]  # fmt: skip
BAD = ["", "x +", "x y", "2x", "foo(x)", "x^y", "sin x", "(x", "x)", "x $ y", "1", "x..y", "__import__('os')", "constructor", "x" * 201, "(" * 60 + "x",
       "9^9^9^9*x", "x^100000000", "(x*2)^-1001", "1e400*x", "y + x/0", "x/(1-1)", "log(0)*x", "0/0+x", "sqrt(-1)*x", "(-8)^(1/3)*x",
       "exp(1e9)*x", "x + 0^-1", "x + 1e300*1e300", "((1.00001^1000)^900)^1e9*x"]  # fmt: skip


def test_formulas_on_both_sides(page: Page) -> None:
    """The page reads the grammar that Python reads: the same values and gradients, errors at the same place."""
    points = np.random.default_rng(0).uniform(-3, 3, (40, 2))
    for text in GOOD:
        ours = formulas.surface_of(text)
        script = "([text, points]) => { const s = surfaceOf(text); return points.map(([x, y]) => [s.value(x, y), ...s.gradient(x, y)]); }"
        theirs = np.array(page.evaluate(script, [text, points.tolist()]))
        assert theirs[:, 0] == pytest.approx(ours.value(points), rel=FORMULA, abs=FORMULA), text
        assert theirs[:, 1:] == pytest.approx(ours.gradient(points), rel=FORMULA, abs=FORMULA), text
    for text in ("x^2 + y^2", "log(x)", "sqrt(-y) + x^2", "1/(x+4)", "log(x*y-1)", "x^1000", "sqrt(2-x^2-y^2)"):
        assert tuple(page.evaluate("(text) => groundOf(text).start", text)) == formulas.surface_of(text).start, text
    for text in BAD:
        at = page.evaluate(
            "(text) => { try { surfaceOf(text); return null; } catch (e) { return e instanceof FormulaError ? e.at : 'other'; } }",
            text,
        )
        with pytest.raises(InputError) as error:
            formulas.surface_of(text)
        assert isinstance(at, int), (text, at)
        if found := re.search(r"character (\d+)", str(error.value)):
            assert at + 1 == int(found[1]), text


@pytest.mark.parametrize("text", thinned(["log(x) + y^2", "-1/x^2 + y", "sqrt(x)"], 3))
def test_a_formula_that_is_finite_in_part_of_the_window(page: Page, text: str) -> None:
    """Both sides take it; a pole is no minimum."""
    surface = formulas.surface_of(text)
    assert -1e6 < surface.minimum < 1e6
    go(page, f"rule=sgd,lr=0.01&surface={text.replace('+', '%2B')}&start=2,1&steps=5")
    assert page.locator("#said").text_content() == ""
    assert np.isfinite(page.evaluate("model.ground.least"))
    assert page.evaluate("model.ground.terrain.contours.some((lines) => lines.length)")


def test_a_mistake_in_a_formula_is_shown(page: Page) -> None:
    page.select_option("#surface", "")
    page.fill("#formula", "x^2 + sn(y)")
    page.press("#formula", "Enter")
    assert (page.locator("#formula-error").text_content() or "").startswith("Character 7: expected one of x, y")
    assert page.evaluate("[document.getElementById('formula').selectionStart, model.ground.name]") == [
        6,
        "x^2/10 + 2*y^2 + sin(2*x)",
    ]


@pytest.mark.long
def test_noise_lies_in_the_page_as_numpy_draws_it(page: Page) -> None:
    for seed in (0, SEEDS - 1):
        ours = np.random.default_rng(seed).standard_normal((500, 2))
        theirs = page.evaluate(
            "(seed) => [...NOISE.slice(2 * seed * DATA.mostSteps, 2 * (seed + 1) * DATA.mostSteps)]", seed
        )
        assert np.array_equal(theirs, ours.ravel())

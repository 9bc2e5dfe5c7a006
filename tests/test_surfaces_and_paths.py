"""Surfaces against finite differences; paths against the tutorial's reference points; pictures that hold what they say."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import matplotlib
import mpmath
import numpy as np
import pytest
import sympy
from PIL import Image
from thinning import thinned
from tolerances import BOTTOM, FINITE_DIFFERENCES, FORMULA, GRID_OF_A_SURFACE, PRINTED_SIX_DECIMALS, ROUNDED64, SUMMED64

import steprule
from steprule import paths, rules
from steprule.errors import InputError, UnknownNameError
from steprule.hyper import Rate
from steprule.maths import norm
from steprule.reports import notebook, path_figure, paths as pictures, walked
from steprule.reports.address import address
from steprule.reports.style import STYLES, Style, style_of, styles_of
from steprule.surfaces import catalogue as surfaces, elementary
from steprule.surfaces.surface import Surface

matplotlib.use("agg")
SURFACES = list(surfaces.SURFACES.values())
IDS = [s.name for s in SURFACES]


@pytest.mark.parametrize("surface", SURFACES, ids=IDS)
def test_gradient_against_central_differences(surface: Surface) -> None:
    (x0, x1), (y0, y1) = surface.window
    points = np.random.default_rng(0).uniform((x0, y0), (x1, y1), size=(200, 2))
    h = 1e-6
    for axis in range(2):
        shift = np.eye(2)[axis] * h
        difference = (surface.value(points + shift) - surface.value(points - shift)) / (2 * h)
        scale = np.maximum(1, np.abs(difference))
        assert np.all(np.abs(surface.gradient(points)[:, axis] - difference) <= FINITE_DIFFERENCES * scale)


@pytest.mark.parametrize("surface", SURFACES, ids=IDS)
def test_minima_start_and_window(surface: Surface) -> None:
    (x0, x1), (y0, y1) = surface.window
    for point in (*surface.minima, surface.start):
        assert x0 < point[0] < x1
        assert y0 < point[1] < y1
    x, y = np.meshgrid(np.linspace(x0, x1, 301), np.linspace(y0, y1, 301))
    everywhere = surface.value(np.stack([x, y], axis=-1))
    assert surface.minimum <= everywhere.min() + SUMMED64
    for point in surface.minima:
        assert surface.value(point) == pytest.approx(surface.minimum, abs=SUMMED64)
        assert np.abs(surface.gradient(point)).max() < SUMMED64 * max(
            1.0, np.abs(surface.gradient(surface.start)).max()
        )
    assert surface.latex
    assert surfaces.get(surface.name.replace("_", "-").upper()) is surface


def test_the_saddle_is_one() -> None:
    saddle = surfaces.get("saddle")
    assert np.array_equal(saddle.gradient((0.0, 0.0)), (0.0, 0.0))
    assert saddle.value((0.1, 0.0)) > saddle.value((0.0, 0.0)) > saddle.value((0.0, 0.1))


POINTS = [
    ("sgd", {"lr": 0.4}, (-0.943467, -0.000073)),
    ("sgd", {"lr": 0.4, "momentum": 0.5}, (-0.062843, 0.001202)),
    ("adagrad_eps_inside", {"lr": 0.4, "eps": 1e-6}, (-2.382563, -0.158591)),
    ("rmsprop_eps_inside", {"lr": 0.4, "alpha": 0.9, "eps": 1e-6}, (-0.010599, 0.000000)),
]


@pytest.mark.parametrize(("rule", "hypers", "end"), POINTS, ids=["descent", "momentum", "adagrad", "rmsprop"])
def test_reference_points_of_the_tutorial(rule: str, hypers: dict[str, float], end: tuple[float, float]) -> None:
    path = steprule.trace(rule, "quadratic", **hypers)
    assert path.points.shape == (21, 2)
    assert path.values.shape == (21,)
    assert tuple(path.points[0]) == (-5.0, -2.0)
    assert np.abs(path.points[-1] - end).max() <= PRINTED_SIX_DECIMALS
    assert np.array_equal(path.values, surfaces.get("quadratic").value(path.points))


def test_sin_cos_and_exp_by_arithmetic() -> None:
    """Within two units in the last place of mpmath's."""
    drawn = np.random.default_rng(0)
    turns = np.concatenate([drawn.uniform(-9, 9, 300), drawn.uniform(-1e5, 1e5, 300), np.arange(-40, 40) * np.pi / 4])
    for name, exact, x in (
        ("sine", mpmath.sin, turns),
        ("cosine", mpmath.cos, turns),
        ("exponential", mpmath.exp, drawn.uniform(-700, 700, 300)),
    ):
        with mpmath.workdps(40):
            for a, b in zip(x.tolist(), elementary.python()[name](x).tolist(), strict=True):
                assert abs(mpmath.mpf(b) - exact(mpmath.mpf(a))) <= 2 * np.spacing(abs(b)), (name, a)


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("9^9^9^9*x", "character 3: expected a finite number"),
        ("1e-999999999*x", "x or y in it"),
        ("1e200*x*1e200", "character 1: expected a finite number"),
        ("((((2*x)^1000)^900)^900)^900", "expected a finite number"),
        ("((((1.00001*x)^1000)^900)^900)^900", "expected a finite number"),
        ("x^1000000000", "an exponent from -1000 to 1000"),
        ("x/(2-2)", "a divisor other than 0"),
        ("(-8)^(1/3)*x", "a finite number, got nan"),
        ("x-x", "x or y in it"),
    ],
)
def test_a_short_formula_asks_for_no_giant_number(formula: str, said: str) -> None:
    """sympy would compute these exactly, for hours; they are refused at once."""
    with pytest.raises(InputError) as error:
        surfaces.get(formula)
    assert said in str(error.value)


def test_long_fractions_and_powers_are_what_floats_say() -> None:
    points = np.random.default_rng(0).uniform(-1.5, 1.5, (30, 2))
    x, y = points.T
    for formula, value in (
        ("1.00001^900*x + y", 1.00001**900 * x + y),
        ("(1.00001*x)^900 + y", (1.00001 * x) ** 900 + y),
        ("x^200/1e30 + sin(1e300)*y", x**200 / 1e30 + np.sin(1e300) * y),
        ("x-2", x - 2),
    ):
        assert surfaces.get(formula).value(points) == pytest.approx(value, rel=FORMULA), formula


@pytest.mark.parametrize("name", ["noisy-ravin", "rosenbrok", "x_y"])
def test_a_misspelt_surface_is_no_formula(name: str) -> None:
    with pytest.raises(UnknownNameError):
        surfaces.get(name)


@pytest.mark.parametrize("rule", rules.names())
@pytest.mark.parametrize("surface", thinned(IDS, 5))
def test_every_rule_moves_on_every_surface_and_goes_down(rule: str, surface: str) -> None:
    path = paths.tuned_trace(rule, surface)
    assert path.tuned
    assert path.hypers["lr"] in paths.LR_GRID
    assert path.diverged_at is None
    assert path.values[-1] < path.values[0]
    assert np.linalg.norm(path.points[-1] - path.points[0]) > 0.01


def test_the_best_rate_is_the_best_of_the_grid() -> None:
    surface = surfaces.get("beale")
    (x0, x1), (y0, y1) = surface.window
    for rule in ("sgd", "adam", "adadelta", "nadam"):
        best, at = np.inf, 0.0
        for lr in paths.LR_GRID:
            path = steprule.trace(rule, "beale", lr=float(lr))
            inside = ((path.points >= (x0, y0)) & (path.points <= (x1, y1))).all()
            if inside and path.values[-1] < best:
                best, at = path.values[-1], float(lr)
        assert paths.best_rate(rule, "beale") == at


def test_a_rule_with_a_norm_is_tuned_one_path_at_a_time() -> None:
    @steprule.rule
    def normalised(p, g, *, lr: Rate = 0.1):  # type: ignore[no-untyped-def]
        return p - lr * g / (norm(g) + 1e-12)

    path = paths.tuned_trace(normalised)
    scores = [steprule.trace(normalised, lr=float(lr)).values[-1] for lr in paths.LR_GRID]
    assert path.values[-1] == min(scores)


def test_noise_is_seeded_and_counted_by_step() -> None:
    a, b = (steprule.trace("sgd", "noisy_ravine", lr=0.01, seed=3, steps=n) for n in (10, 20))
    assert np.array_equal(a.points, b.points[:11])
    other = steprule.trace("sgd", "noisy_ravine", lr=0.01, seed=4)
    assert not np.array_equal(other.points, b.points)
    assert np.array_equal(
        steprule.trace("sgd", "quadratic", seed=3).points, steprule.trace("sgd", "quadratic", seed=4).points
    )


def test_cross_cutting_settings_and_betas() -> None:
    plain = steprule.trace("adam", lr=0.1, betas=(0.8, 0.9))
    assert plain.hypers["beta1"] == 0.8
    assert plain.hypers["beta2"] == 0.9
    up = steprule.trace("sgd", lr=0.1, maximize=True)
    assert up.values[-1] > up.values[0]
    decayed = steprule.trace("adam", lr=0.1, weight_decay=0.5, decoupled_weight_decay=True)
    assert np.array_equal(decayed.points, steprule.trace("adamw", lr=0.1, weight_decay=0.5).points)
    assert not np.array_equal(decayed.points, steprule.trace("adam", lr=0.1, weight_decay=0.5).points)


@pytest.fixture
def five() -> list[paths.Trace]:
    return [paths.tuned_trace(r, "beale") for r in ("sgd", "adagrad", "rmsprop", "adadelta", "adam")]


@pytest.mark.long
def test_pictures_in_every_format(five: list[paths.Trace], tmp_path: Path) -> None:
    for ending in pictures.FORMATS:
        pictures.save(five, tmp_path / f"paths{ending}")
    with Image.open(tmp_path / "paths.png") as picture:
        assert picture.size[0] > 1000
    with Image.open(tmp_path / "paths.gif") as animation:
        assert getattr(animation, "n_frames", 1) > 20
    svg = (tmp_path / "paths.svg").read_text()
    assert svg.startswith("<svg")
    points = json.loads((tmp_path / "paths.json").read_text())
    assert [p["rule"] for p in points] == ["sgd", "adagrad", "rmsprop", "adadelta", "adam"]
    assert points[0]["points"] == five[0].points.tolist()


def test_the_same_paths_give_the_same_bytes(five: list[paths.Trace], tmp_path: Path) -> None:
    for ending in (".png", ".svg", ".json"):
        one, two = tmp_path / f"one{ending}", tmp_path / f"two{ending}"
        pictures.save(five, one)
        pictures.save(five, two)
        assert one.read_bytes() == two.read_bytes()


def test_the_legend_says_rates_start_minimum_and_divergence() -> None:
    wild = steprule.trace("sgd", "rosenbrock", lr=1.0)
    assert wild.diverged_at is not None
    figure = path_figure.draw([wild, paths.tuned_trace("adam", "rosenbrock")])
    words = " ".join(t.get_text() for t in figure.legends[0].get_texts())
    assert "lr 1 " in words
    assert f"diverged: not finite from step {wild.diverged_at}" in words
    assert "start" in words
    assert "minimum" in words
    plane, fall = figure.axes
    assert fall.get_yscale() == "log"
    assert fall.get_xlabel() == "step"
    assert plane.get_xlabel() == "$x$"
    assert wild.to_dict()["points"][-1] == [None, None]
    far = steprule.trace("sgd", "quadratic", lr=0.55)
    assert "leaves the picture at step" in walked.note(far, surfaces.get("quadratic"))


def test_paths_of_one_rule_are_told_apart() -> None:
    """By what differs, and by colour and dash; another rule's path says only what is not at its default."""
    traces = [
        steprule.trace("adadelta"),
        steprule.trace("adadelta", eps=1e-3),
        steprule.trace("adam", lr=0.1, amsgrad=True),
    ]
    figure = path_figure.draw(traces)
    words = [t.get_text() for t in figure.legends[0].get_texts()]
    assert words[:3] == ["adadelta  lr 1, eps 1e-06", "adadelta  lr 1, eps 0.001", "adam  lr 0.1, amsgrad"]
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.legends[0].get_lines()[:3]}
    assert len(looks) == 3
    assert len({colour for colour, _ in looks}) == 3
    family = styles_of(["rmsprop", "rmsprop_eps_inside", "adam"])
    assert len({style.colour for style in family}) == 3
    assert family[0] == style_of("rmsprop")


def test_an_animations_legend_covers_no_axis(five: list[paths.Trace]) -> None:
    """Frames keep the layout of the first: the legend lies below both panels, tick and axis labels included."""
    figure = path_figure.draw(five)
    path_figure._lay_out(figure)
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    for axes in figure.axes:
        assert not axes.get_tightbbox().overlaps(legend)  # type: ignore[union-attr]


def test_contours_are_spaced_in_the_logarithm() -> None:
    levels = walked.log_levels(np.geomspace(1e-3, 1e3, 1000).reshape(20, 50), 0.0)
    ratios = levels[1:] / levels[:-1]
    assert np.allclose(ratios, ratios[0], rtol=ROUNDED64, atol=0)


def test_each_rule_of_a_full_picture_is_told_apart() -> None:
    """More rules than colours: then by colour, dash and marker together."""
    for names in (rules.names(), [*rules.names(), *(f"rule{k}" for k in range(60))]):
        found = styles_of(names)
        assert len(set(found)) == len(names)
    few = styles_of([n for n in rules.names() if n in STYLES])
    assert len({s.colour for s in few}) == len(few)


def test_one_colour_a_family_everywhere() -> None:
    assert style_of("adagrad") == style_of("torch.optim.Adagrad") == style_of("AdaGrad")
    inside = style_of("adagrad_eps_inside")
    assert (inside.colour, inside.marker) == (style_of("adagrad").colour, style_of("adagrad").marker)
    assert inside.dash != style_of("adagrad").dash
    stated = {(style.colour, style.dash) for style in STYLES.values()}
    assert len(stated) == len(STYLES)
    dotted = {(style.colour, ":") for style in STYLES.values()}
    for name in ("mine", "cautious", "adan", "muon", *(f"rule{k}" for k in range(50))):
        spare = style_of(name)
        assert (spare.colour, spare.dash) not in stated | dotted, name
        assert spare == style_of(name)
    assert style_of("cautious") == Style("#56B4E9", (0, (8, 3)), "s"), "the same in every process and version"


def test_a_surface_of_ones_own_symbols() -> None:
    """Symbols called x and y are the surface's, with whatever assumptions; others, and what is no expression, are refused."""
    window = ((-3.0, 3.0), (-3.0, 3.0))
    for x, y in (sympy.symbols("x y"), sympy.symbols("x y", positive=True)):
        own = Surface("own", x**2 + 3 * y**2, ((0.0, 0.0),), window, (-2.0, 1.0))
        assert np.array_equal(own.gradient([-2.0, 1.0]), [-4.0, 6.0])
        path = steprule.trace("sgd", own, lr=0.1)
        assert np.array_equal(path.points, steprule.trace("sgd", "x^2 + 3*y^2", (-2.0, 1.0), lr=0.1).points)
        assert "<img" in path._repr_html_()
    with pytest.raises(InputError, match="an expression in x and y, got one in a"):
        Surface("own", sympy.symbols("a") * x, (), window, (0.0, 0.0))
    with pytest.raises(InputError, match="a sympy expression in x and y, got str"):
        Surface("own", "x^2", (), window, (0.0, 0.0))
    with pytest.raises(InputError, match="a sympy expression in x and y, got function"):
        Surface("own", lambda x, y: x, (), window, (0.0, 0.0))


X, Y = sympy.symbols("x y")
BOX = ((-3.0, 3.0), (-2.0, 2.0))
BOWL = X**2 + 3 * Y**2
STRANGE = {
    "in symbols of one's own": Surface("own", BOWL, ((0.0, 0.0),), BOX, (-2.0, 1.0)),
    "under a catalogue's name": Surface("quadratic", BOWL, ((0.0, 0.0),), BOX, (-2.0, 1.0)),
    "unnamed": Surface("", BOWL, ((0.0, 0.0),), BOX, (-2.0, 1.0)),
    "of whole numbers in lists": Surface("own", BOWL, [[0, 0]], [[-3, 3], [-2, 2]], [-2, 1]),  # type: ignore[arg-type]
    "without a known minimum": Surface("own", sympy.cos(X) + Y**2, (), BOX, (-2.0, 1.0)),
    "flat": Surface("own", sympy.Integer(2), (), BOX, (-2.0, 1.0)),
    "of one variable": Surface("own", (X - 1) ** 2, (), BOX, (-2.0, 1.0)),
    "in a window beside start and minimum": Surface("own", BOWL, ((0.0, 0.0),), ((5.0, 6.0), (5.0, 6.0)), (-2.0, 1.0)),
    "in a tiny window": Surface("own", BOWL, ((0.0, 0.0),), ((-1e-9, 1e-9), (-1e-9, 1e-9)), (1e-9, 0.0)),
    "in a huge window": Surface("own", BOWL, ((0.0, 0.0),), ((-1e9, 1e9), (-1e9, 1e9)), (1e8, 1.0)),
    "half defined": Surface("own", sympy.sqrt(X) + Y**2, ((0.0, 0.0),), BOX, (2.0, 1.0)),
    "without a lowest point": Surface("own", X + Y, (), BOX, (-2.0, 1.0)),
    "noisy": Surface("own", BOWL, ((0.0, 0.0),), BOX, (-2.0, 1.0), noise=0.5),
    "in words of another tongue": Surface("碗 <b>&", BOWL, ((0.0, 0.0),), BOX, (-2.0, 1.0)),
    "in functions that no formula has": Surface("own", sympy.Piecewise((X**2, X < 0), (X, True)), (), BOX, (-2.0, 1.0)),
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_a_trace_on_a_surface_of_ones_own_shows_itself(name: str, tmp_path: Path) -> None:
    """In words, as a picture, in a notebook, in every format: and all of it of that surface, not of another of its name."""
    ground = STRANGE[name]
    walked = steprule.trace("sgd", ground, steps=4, lr=0.01)
    assert walked.ground == ground
    assert walked.surface == ground.name != ""
    assert f"on {ground.name}, 4 steps" in repr(walked)
    assert "<img" in walked._repr_html_()
    assert walked.plot().axes
    for kind in pictures.FORMATS if name == "unnamed" else (".svg", ".json"):
        pictures.save([walked, paths.tuned_trace("adam", ground, steps=4)], tmp_path / f"a{kind}")
        assert (tmp_path / f"a{kind}").stat().st_size > 500
    assert np.allclose(walked.points[1], walked.points[0] - 0.01 * walked.gradients[0], rtol=SUMMED64, atol=0)
    again = pickle.loads(pickle.dumps(walked))
    assert again.ground == ground
    assert np.array_equal(again.gradients, walked.gradients)
    assert dict(walked.anatomy(1))["g"] == pytest.approx(walked.gradients[0], rel=ROUNDED64)


def test_paths_on_two_surfaces_of_one_name_are_not_one_figure() -> None:
    one, other = (STRANGE[n] for n in ("in symbols of one's own", "without a known minimum"))
    with pytest.raises(InputError, match="paths on one surface, got own, own"):
        notebook.show(steprule.trace("sgd", one, lr=0.01), steprule.trace("sgd", other, lr=0.01))


def test_the_playground_is_told_the_formula_of_a_surface_of_ones_own() -> None:
    own = STRANGE["noisy"]
    told = address([steprule.trace("sgd", own, lr=0.01)])
    assert told == "rule=sgd,lr=0.01&surface=x%5E2%20%2B%203*y%5E2&start=-2,1&steps=20&noise=0.5"
    assert surfaces.get(own.formula).value([1.0, 2.0]) == own.value([1.0, 2.0])


def test_the_least_value_of_a_surface_without_a_known_minimum() -> None:
    assert STRANGE["without a known minimum"].minimum == pytest.approx(np.cos(3.0), rel=ROUNDED64)
    assert STRANGE["of one variable"].minimum == pytest.approx(0.0, abs=GRID_OF_A_SURFACE)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ({"window": ((3.0, -3.0), (-2.0, 2.0))}, "window: expected low below high"),
        ({"window": (-3.0, 3.0)}, "window: expected ((low, high) of x, (low, high) of y), got (-3.0, 3.0)"),
        ({"window": None}, "window: expected"),
        ({"start": (1.0,)}, "start: expected two finite numbers (x, y), got (1.0,)"),
        ({"start": (1.0, float("nan"))}, "start: expected"),
        ({"minima": (0.0, 0.0)}, "minima: expected points (x, y), got (0.0, 0.0)"),
        ({"minima": "none"}, "minima: expected points"),
    ],
)
def test_places_that_are_none(place: dict[str, Any], words: str) -> None:
    usual: dict[str, Any] = {"minima": ((0.0, 0.0),), "window": BOX, "start": (-2.0, 1.0)}
    with pytest.raises(InputError) as caught:
        Surface("own", BOWL, **{**usual, **place})
    assert words in str(caught.value)


def test_the_package_shows_only_what_is_its_own() -> None:
    assert [name for name in dir(steprule) if not name.startswith("__")] == sorted(steprule.__all__)


@pytest.mark.parametrize(
    ("text", "bottom"),
    [
        ("100*(y - x^2)^2 + (1.03 - x)^2", (1.03, 1.0609)),  # a curved valley
        ("1e-8*(x - 0.53)^2 + 1e8*(y - 0.11)^2", (0.53, 0.11)),
        ("exp(x) + y^2", (-5, 0)),  # at the border
        ("sin(x)*cos(y)", (3 * np.pi / 2, 0)),
        ("-exp(-(x - 0.53)^2 - (y - 0.17)^2)", (0.53, 0.17)),
    ],
)
def test_the_minimum_of_a_formula(text: str, bottom: tuple[float, float]) -> None:
    assert surfaces.get(text).minima[0] == pytest.approx(bottom, abs=BOTTOM)


def test_no_minimum_is_looked_for_in_a_pole() -> None:
    """1/x falls without end to the left of 0; what is drawn is a point of the grid."""
    ((x, y),) = surfaces.get("1/x + y^2").minima
    assert (x, y) == pytest.approx((-0.05, 0), rel=ROUNDED64, abs=0)

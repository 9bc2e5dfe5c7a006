"""The charts of a race, drawn by plotly: the spread over seeds, the loss against samples, the paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from steprule.paths import Trace, trace, tuned_trace
from steprule.races.as_given import TUTORIAL, Comparison, Entry, Row, percentile
from steprule.reports.style import style_of, styles_of
from steprule.reports.walked import above_minimum, grid, log_levels, note, view
from steprule.rules.rule import Rule
from steprule.trainable import Trainable

# Each method's path on the tutorial's quadratic: at the tutorial's settings, where it has a path; AdaDelta and Adam, whose
# chapters draw none, with the hyperparameters of their formulas and Adam at the learning rate of the others.
TUTORIAL_PATHS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("SGD", "sgd", {"lr": 0.4}),
    ("Momentum", "sgd", {"lr": 0.4, "momentum": 0.5}),
    ("AdaGrad", "adagrad_eps_inside", {"lr": 0.4, "eps": 1e-6}),
    ("RMSProp", "rmsprop_eps_inside", {"lr": 0.4, "alpha": 0.9, "eps": 1e-6}),
    ("AdaDelta", "adadelta", {"rho": 0.9, "eps": 1e-5}),
    ("Adam", "adam", {"lr": 0.4, "eps": 1e-6}),
)


def distributions(race: Comparison) -> go.Figure:
    """A row an entry: every seed's final loss, the middle 95 %, the book's figures, the floor."""
    figure = go.Figure()
    rows = race.rows[::-1]
    for height, row in enumerate(rows):
        style = style_of(row.method)
        losses = _final_losses(race, row)
        # A fixed spread over the row's height, so that the same race gives the same picture.
        lift = height + 0.28 * np.sin(np.arange(len(losses)) * 2.4)
        shape = style.plotly_marker + ("-open" if row.form == "class" else "")
        figure.add_scatter(
            x=losses, y=lift, mode="markers", showlegend=False, name=escape(row.label),
            marker={"color": style.colour, "symbol": shape, "size": 8, "opacity": 0.75},
            hovertemplate="%{x:.6f}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
        figure.add_shape(
            type="line",
            x0=row.low,
            x1=row.high,
            y0=height,
            y1=height,
            line={"color": style.colour, "width": 3},
            opacity=0.5,
        )
    books = [(figure_, height) for height, row in enumerate(rows) for figure_ in row.book]
    if books:
        x, y = zip(*books, strict=True)
        look = {"symbol": "diamond", "size": 13, "color": "#ffd700", "line": {"color": "black", "width": 1.5}}
        figure.add_scatter(
            x=x,
            y=y,
            mode="markers",
            name="printed by the book",
            marker=look,
            hovertemplate="%{x:.6f}<extra>book</extra>",
        )
    figure.add_scatter(
        x=[None],
        y=[None],
        mode="markers",
        name="formula, one seed",
        marker={"symbol": "circle", "color": "#555", "size": 8},
    )
    figure.add_scatter(
        x=[None],
        y=[None],
        mode="markers",
        name="torch class, one seed",
        marker={"symbol": "circle-open", "color": "#555", "size": 8},
    )
    if len(race.seeds) > 1:
        figure.add_scatter(
            x=[None], y=[None], mode="lines", name="middle 95 % of seeds", line={"color": "#999", "width": 3}
        )
    if race.floor is not None:
        figure.add_vline(x=race.floor, line={"dash": "dash", "color": "black"})
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="lines",
            name=f"{race.floor_name} {race.floor:.6g}",
            line={"dash": "dash", "color": "black"},
        )
    near, whole = _ranges(race, rows)
    figure.update_xaxes(title="final loss on all training samples", range=near, tickformat=".5~g")
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=[escape(r.label) for r in rows], range=[-0.6, len(rows) - 0.4]
    )
    buttons = [
        {"label": "near the floor", "method": "relayout", "args": [{"xaxis.range": near}]},
        {"label": "everything", "method": "relayout", "args": [{"xaxis.range": whole}]},
    ]
    figure.update_layout(height=130 + 44 * len(rows), legend={"orientation": "h", "y": -0.14})
    if near != whole:
        figure.update_layout(
            updatemenus=[
                {"type": "buttons", "direction": "right", "x": 0, "xanchor": "left", "y": 1.1, "buttons": buttons}
            ]
        )
        for height, row in enumerate(rows):
            if beyond := int((_final_losses(race, row) > near[1]).sum()):
                text = f"{beyond} of {row.seeds} seeds beyond →"
                figure.add_annotation(
                    x=near[1], y=height, text=text, xanchor="right", yshift=16, showarrow=False, font={"size": 11}
                )
    return figure


def curves(race: Comparison) -> go.Figure:
    """A panel a method: median and middle 95 % of the loss against samples seen, formula and class."""
    rows = race.rows
    methods = list(dict.fromkeys(row.method for row in rows))
    columns = min(3, len(methods))
    lines = -(-len(methods) // columns)
    figure = make_subplots(
        rows=lines, cols=columns, subplot_titles=[escape(m) for m in methods], shared_xaxes=True, shared_yaxes=True,
        horizontal_spacing=0.03, vertical_spacing=0.12 if lines < 4 else 0.05,
    )  # fmt: skip
    shown = [0.0 + run.losses[0] for run in race.runs.values()]
    for row in rows:
        k = methods.index(row.method)
        place = {"row": k // columns + 1, "col": k % columns + 1}
        runs = [run for (label, _), run in race.runs.items() if label == row.label]
        losses = np.stack([run.losses for run in runs])
        samples, style = runs[0].samples, style_of(row.method)
        spread = [[percentile(at, q) for at in losses.T] for q in (2.5, 50, 97.5)]
        low, middle, high = np.where(np.isfinite(spread), spread, np.nan) - (race.floor or 0.0)
        shown += [float(v) for v in middle if np.isfinite(v)]
        band = {"x": [*samples, *samples[::-1]], "y": [*high, *low[::-1]], "fill": "toself", "mode": "none"}
        formula_ = row.form == "formula"
        colour = _faded(style.colour, 0.25 if formula_ else 0.12)
        figure.add_scatter(**band, fillcolor=colour, hoverinfo="skip", showlegend=False, **place)
        line = {"color": style.colour, "dash": "solid" if formula_ else "dash", "width": 2.5}
        figure.add_scatter(
            x=samples, y=middle, mode="lines", line=line, name=escape(row.label), showlegend=False, **place
        )
    for name, dash in (("formula", "solid"), ("torch class", "dash")):
        figure.add_scatter(x=[None], y=[None], mode="lines", name=name, line={"color": "#555", "dash": dash})
    if race.floor is not None or min(shown) > 0:
        figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    for line_ in range(1, lines + 1):
        figure.update_yaxes(title="loss" if race.floor is None else "loss above the least", row=line_, col=1)
    for column in range(1, columns + 1):
        figure.update_xaxes(title="samples seen", row=lines, col=column)
    return figure.update_layout(
        height=120 + 270 * lines, legend={"orientation": "h", "y": -0.12 if lines > 1 else -0.25}
    )


def paths_of(race: Comparison) -> list[Trace]:
    """The tutorial's paths for the tutorial's race; else each rule at its best learning rate on the same surface."""
    if race.entries == TUTORIAL:
        return [replace(trace(rule, "quadratic", **hypers), label=label) for label, rule, hypers in TUTORIAL_PATHS]
    found = [(entry, rule) for entry in race.entries if isinstance(rule := Trainable.of(entry.optimizer).what, Rule)]
    return [replace(tuned_trace(rule, "quadratic", **_without_rate(entry)), label=entry.label) for entry, rule in found]


def paths_figure(traces: Sequence[Trace]) -> go.Figure | None:
    """Paths over the surface's contours, and the value against the step."""
    if not traces:
        return None
    surface = traces[0].ground
    part = view(traces, surface)
    x, y, f = grid(surface, part, 120)
    levels = np.log10(log_levels(f, surface.minimum) - surface.minimum)
    levels = levels if len(levels) else np.array([0.0, 1.0])
    figure = make_subplots(rows=1, cols=2, column_widths=[0.58, 0.42], horizontal_spacing=0.1)
    contours = {"start": levels[0], "end": levels[-1], "size": levels[1] - levels[0], "coloring": "heatmap"}
    figure.add_contour(
        x=x, y=y, z=np.log10(np.maximum(f - surface.minimum, 1e-16)), contours=contours, colorscale=[[0, "#bdbdbd"], [1, "#fafafa"]],
        zmin=levels[0], zmax=levels[-1], showscale=False, hoverinfo="skip", line={"color": "#9a9a9a", "width": 0.6}, row=1, col=1,
    )  # fmt: skip
    styles = styles_of([t.label or t.rule for t in traces])
    for k, (path, style) in enumerate(zip(traces, styles, strict=True)):
        line = {"color": style.colour, "dash": style.plotly_dash, "width": 2 + 0.7 * (len(traces) - 1 - k)}
        look = {"symbol": style.plotly_marker, "size": 7, "color": style.colour}
        common = {"mode": "lines+markers", "line": line, "marker": look, "legendgroup": str(k)}
        name = escape(note(path, surface, traces))
        figure.add_scatter(x=path.points[:, 0], y=path.points[:, 1], name=name, **common, row=1, col=1)
        figure.add_scatter(
            x=np.arange(path.steps + 1),
            y=above_minimum(path, surface),
            name=name,
            showlegend=False,
            **common,
            row=1,
            col=2,
        )
    ends = (("start", traces[0].points[:1], "circle", "white"), ("minimum", surface.minima, "star", "#ffd700"))
    for name, points, symbol, colour in ends:
        px, py = np.reshape(points, (-1, 2)).T
        look = {"symbol": symbol, "size": 14, "color": colour, "line": {"color": "black", "width": 2}}
        figure.add_scatter(x=px, y=py, mode="markers", name=name, marker=look, row=1, col=1)
    figure.update_xaxes(title="x", range=part[0], row=1, col=1)
    figure.update_yaxes(title="y", range=part[1], row=1, col=1)
    figure.update_xaxes(title="step", row=1, col=2)
    figure.update_yaxes(title="value above the minimum", type="log", exponentformat="power", dtick=2, row=1, col=2)
    return figure.update_layout(height=560, legend={"orientation": "h", "y": -0.16})


def _without_rate(entry: Entry) -> dict[str, Any]:
    return {k: v for k, v in entry.hypers.items() if k != "lr"}


def _final_losses(race: Comparison, row: Row) -> NDArray[np.float64]:
    return np.array([run.final_loss for (label, _), run in race.runs.items() if label == row.label])


def _ranges(race: Comparison, rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    """The axis that shows nearly all rows well, and the one that shows everything."""
    finals = [losses[np.isfinite(losses)] for row in rows if len(losses := _final_losses(race, row))]
    everything = np.concatenate([*finals, [b for row in rows for b in row.book]])
    if not len(everything):
        return [0.0, 1.0], [0.0, 1.0]
    least = min(float(everything.min()), race.floor if race.floor is not None else np.inf)
    # Half of the rows decide how wide the near view is: a row far out does not press the others together.
    near = 1.25 * float(np.median([np.max(losses, initial=least) for losses in finals]) - least)
    whole = 1.05 * float(everything.max() - least)
    if whole <= 1.6 * near:
        near = whole
    return [least - 0.04 * near, least + near], [least - 0.04 * whole, least + whole]


def _faded(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"

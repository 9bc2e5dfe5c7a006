"""The pictures of a training (loss against samples seen) and of a sweep (loss against what was varied)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steprule import extras
from steprule.atomic import write_aside
from steprule.counts import counted
from steprule.errors import InputError
from steprule.hyper import said
from steprule.problems.credits import credits_of
from steprule.reports.style import LOOK, style_of
from steprule.sweeps import Sweep
from steprule.training import Run

with extras.needed():
    import matplotlib as mpl
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

PICTURES = (".png", ".svg")
WIDE = 30.0
"""The axis of losses is logarithmic where the largest is more than this many times the least."""
BEST = "#D55E00"
Array = NDArray[Any]


def check_ending(path: Path, more: tuple[str, ...] = ()) -> None:
    """Raise `InputError`, before any work, for a name that ends neither as a picture nor as one of `more`."""
    endings = (*more, *PICTURES)
    if path.suffix.lower() not in endings:
        expected = f"a name that ends in {', '.join(endings[:-1])} or {endings[-1]}"
        raise InputError(str(path), expected=expected, got=repr(path.suffix))


def save(figure: Figure, path: Path) -> None:
    """Write a figure by the ending of `path`, .png or .svg; the same figure gives the same bytes.

    Raises `InputError` for another ending, `OutputError` where the file cannot be written.
    """
    check_ending(path)
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}
    held = io.BytesIO()
    with mpl.rc_context(LOOK):
        figure.savefig(held, format=path.suffix.lower()[1:], dpi=150, metadata=metadata)
    with write_aside(path) as aside:
        aside.write_bytes(held.getvalue())


def of_run(run: Run) -> Figure:
    """The loss on all training samples against the samples seen."""
    with mpl.rc_context(LOOK):
        figure = Figure(figsize=(6.0, 3.8), layout="constrained")
        axes = figure.subplots()
        style = style_of(run.optimizer)
        axes.plot(run.samples, run.losses, color=style.colour, ls=style.dash, lw=1.8)
        axes.set_title(f"{run.optimizer} on {run.problem}")
        epochs = counted(run.epochs, "epoch")
        axes.set_xlabel(f"samples seen ({epochs}, batch {run.batch_size}, seed {run.seed}{run.scheduled})")
        axes.set_ylabel("loss on all training samples")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
        _loss_axis(axes, run.losses)
        axes.annotate(
            f"final loss {run.final_loss:.4g}" + (", diverged" if run.diverged else ""), (1, 1), xycoords="axes fraction",
            ha="right", va="top", color=style.colour,
        )  # fmt: skip
        if credit := credits_of([run.problem]):
            figure.supxlabel(f"Data: {credit}", fontsize=6, color="#666666")
    return figure


def of_sweep(sweep: Sweep) -> Figure:
    """The loss that chooses against each number that was varied; where these are two, a map of both.

    Raises `InputError` where no number was varied.
    """
    check_varied(sweep.hypers)
    across = varied(sweep.hypers)
    with mpl.rc_context(LOOK):
        size = f"{counted(len(sweep.train), 'point')}, {counted(len(sweep.seeds), 'seed')}"
        title = f"{sweep.optimizer} on {sweep.problem}: {size}"
        if len(across) == 2:
            figure = Figure(figsize=(6.4, 4.6), layout="constrained")
            _map(figure, sweep, across)
        else:
            figure = Figure(figsize=(max(6.0, 3.6 * len(across)), 3.9), layout="constrained")
            row = figure.subplots(1, len(across), squeeze=False)[0]
            for axes, name in zip(row, across, strict=True):
                _against(axes, sweep, name, alone=len(across) == 1)
            row[0].set_ylabel(_loss_name(sweep))
        figure.suptitle(title, fontsize=10.5, fontweight="bold")
        credit = credits_of([sweep.problem])
        figure.legend(
            *figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4 if len(across) > 2 else 2,
            fontsize=8.5, title=f"Data: {credit}" if credit else None, title_fontproperties={"size": 6},
        )  # fmt: skip
    return figure


def varied(hypers: Mapping[str, Array]) -> list[str]:
    """The numbers that differ from point to point."""
    return [n for n, v in hypers.items() if v.dtype.kind in "if" and len(np.unique(v)) > 1]


def check_varied(hypers: Mapping[str, Array]) -> None:
    """Raise `InputError`, before any work, where no number differs from point to point, so that there is nothing to draw."""
    if not varied(hypers):
        raise InputError("a picture of a sweep", expected="a number that varies", got="none")


def _loss_name(sweep: Sweep) -> str:
    return f"{sweep.chosen_by}, mean over seeds" if len(sweep.seeds) > 1 else sweep.chosen_by


def _against(axes: Any, sweep: Sweep, name: str, *, alone: bool) -> None:
    """Means as marks, joined where only this was varied; the range of the seeds; diverged points at the upper edge; the best."""
    x, shown = _along(axes.xaxis, axes.set_xscale, name, sweep.hypers[name])
    scores = sweep.scores
    lived = np.isfinite(scores).all(axis=1)
    order = np.flatnonzero(lived)[np.argsort(x[lived], kind="stable")]
    means = scores[order].mean(axis=1)
    if len(order):
        if len(sweep.seeds) > 1:
            low, high = scores[order].min(axis=1), scores[order].max(axis=1)
            if alone:
                axes.fill_between(x[order], low, high, color="#0072B2", alpha=0.2, lw=0, label="lowest to highest seed")
            else:
                axes.vlines(x[order], low, high, color="#0072B2", alpha=0.25, lw=1, label="lowest to highest seed")
        axes.plot(x[order], means, "o-" if alone else "o", color="#0072B2", ms=3.5, lw=1.2, label="a point")
        _loss_axis(axes, means)
    if not lived.all():
        above = np.full((~lived).sum(), 0.97)
        transform = axes.get_xaxis_transform()
        axes.plot(x[~lived], above, "x", color="#555555", ms=5, transform=transform, label="diverged with some seed")
    if sweep.best is not None:
        loss = scores[sweep.best].mean()
        label = f"best: {name} {shown(sweep.hypers[name][sweep.best])}, loss {loss:.4g}" if alone else "best"
        axes.plot(x[sweep.best], loss, "*", color=BEST, mec="black", mew=0.6, ms=13, label=label, zorder=5)
    axes.grid(alpha=0.25)


def _map(figure: Figure, sweep: Sweep, varied: list[str]) -> None:
    axes = figure.subplots()
    x, across = _along(axes.xaxis, axes.set_xscale, varied[0], sweep.hypers[varied[0]])
    y, up = _along(axes.yaxis, axes.set_yscale, varied[1], sweep.hypers[varied[1]])
    means = sweep.scores.mean(axis=1)
    lived = np.isfinite(means)
    if lived.any():
        low, high = means[lived].min(), means[lived].max()
        norm = LogNorm(low, high) if 0 < low < high else Normalize(low, high)
        size = float(np.clip(9_000 / len(means), 6, 60))
        drawn = axes.scatter(x[lived], y[lived], c=means[lived], norm=norm, cmap="viridis_r", s=size, label="a point")
        bar = figure.colorbar(drawn, ax=axes, label=_loss_name(sweep))
        bar.formatter = FuncFormatter(lambda v, _: f"{v:.3g}")
        bar.ax.yaxis.set_minor_formatter(FuncFormatter(lambda v, _: f"{v:.2g}"))
        bar.ax.yaxis.set_minor_locator(MaxNLocator(5))
    if not lived.all():
        axes.plot(x[~lived], y[~lived], "x", color="#888888", ms=4.5, label="diverged with some seed")
    if (best := sweep.best) is not None:
        where = f"{varied[0]} {across(sweep.hypers[varied[0]][best])}, {varied[1]} {up(sweep.hypers[varied[1]][best])}"
        label = f"best: {where}, loss {means[best]:.4g}"
        axes.plot(x[best], y[best], "*", color=BEST, mec="black", mew=0.6, ms=14, label=label, zorder=5)


def _along(axis: Any, set_scale: Any, name: str, values: Array) -> tuple[Array, Any]:
    """The values' places on the axis, and a function that says one. The scale is the one on which they lie most evenly."""
    found = values.astype(np.float64)
    ways = {name: found}
    if found.min() > 0:
        ways[f"{name} (logarithmic)"] = np.log(found)
    if found.min() > 0 and found.max() < 1:
        ways[f"1 - {name} (logarithmic)"] = -np.log1p(-found)
    label = min(ways, key=lambda way: round(_unevenness(ways[way]), 9))
    axis.set_label_text(label)
    if label != name:
        set_scale("log")
    if label.startswith("1 - "):
        axis.set_inverted(True)
        found = 1 - found
    return found, lambda value: said(value.item(), 3)


def _unevenness(values: Array) -> float:
    """The distance of their distribution from the uniform one between their ends, 0 to 1."""
    share = np.unique((values - values.min()) / (values.max() - values.min()))
    return float(np.abs(share - np.linspace(0, 1, len(share))).max())


def _loss_axis(axes: Any, losses: Array) -> None:
    """Make the axis logarithmic where the losses spread wide, with plain numbers at its ticks."""
    finite = losses[np.isfinite(losses)]
    if len(finite) and finite.min() > 0 and finite.max() / finite.min() > WIDE:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.grid(alpha=0.25)

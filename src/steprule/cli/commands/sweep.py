"""`steprule sweep` trains thousands of hyperparameter points at once and prints the best."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steprule.cli.arguments import (
    BatchOption,
    CompileOption,
    DeviceOption,
    DryRunOption,
    EpochsOption,
    JsonOption,
    OnOption,
    ScheduleOption,
    SetOption,
    TrainsArgument,
    YesOption,
    ranges_option,
    whole,
)

if TYPE_CHECKING:
    from steprule.cli.options import Taker
    from steprule.sweeps import Sweep

DATA = (".parquet", ".json")
"""Endings of files that hold numbers; others are pictures."""


def sweep(
    rule: TrainsArgument,
    on: OnOption = "airfoil",
    vary: Annotated[list[str] | None, ranges_option("A hyperparameter to draw; lr if not given.")] = None,
    points: Annotated[int, typer.Option(help="How many hyperparameter points.", parser=whole, metavar="N")] = 64,
    seeds: Annotated[int, typer.Option(help="How many seeds per point.", parser=whole, metavar="N")] = 1,
    schedule: ScheduleOption = "constant",
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    compiled: CompileOption = None,
    device: DeviceOption = "cpu",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Every lane, .parquet or .json; or a picture, .png or .svg.")
    ] = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    settings: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Train thousands of hyperparameter points at once.

    Sobol points over the ranges, each point with each seed.
    """
    from steprule import sweeps
    from steprule.cli import cost, options, output
    from steprule.per_kind import NoMatrices
    from steprule.trainable import Trainable

    drawing = out is not None and out.suffix.lower() not in DATA
    if out is not None and drawing:
        from steprule.reports import training_charts

        training_charts.check_ending(out, DATA)
    who = Trainable.of(rule)
    taker = options.taker_of(who, rule)
    (fixed,) = options.settings_for([taker], settings or [])
    drawn = _drawn(taker, vary or [], fixed, points)
    if drawing:
        training_charts.check_varied(drawn)
    how: dict[str, Any] = {
        "schedule": schedule, "epochs": epochs, "batch_size": batch_size, "compile": "auto" if compiled is None else compiled,
        "device": device,
    }  # fmt: skip
    known = cost.known_first("sweep", dry_run=dry_run, yes=yes, json=json)
    with known as told, output.progress("sweep") as advance, output.warnings_as_lines(NoMatrices):
        result = sweeps.sweep(who, on, {**fixed, **drawn}, seeds, progress=advance, told=told, measure=dry_run, **how)
    if out is not None and drawing:
        training_charts.save(training_charts.of_sweep(result), out)
    elif out is not None:
        sweeps.save(result, out)
    if json:
        output.as_json(result.to_dict())
        return
    _say(result, list(drawn), taker, seeds, sweeps.pays_after(who, on, result))
    if out is not None:
        output.say(f"Written: {out}")


def _drawn(taker: Taker, vary: list[str], fixed: Mapping[str, Any], points: int) -> dict[str, Any]:
    """The points: for each hyperparameter that varies its values, whole where it is a whole number."""
    from steprule import sweeps
    from steprule.cli import options

    ranges = {name: search for name, search in options.ranges_for(taker, vary).items() if name not in fixed}
    drawn = dict(sweeps.sobol(ranges, points))
    for name, hyper in taker.who.hypers.items():
        if name in drawn and hyper.is_whole:
            drawn[name] = drawn[name].round()
    return drawn


def _say(result: Sweep, drawn: list[str], taker: Taker, seeds: int, pays: float | None) -> None:
    """Print what came out."""
    from steprule.cli import output

    _best(result, drawn, taker, seeds)
    for caution in result.cautions:
        output.say(f"\n{caution}")
    _pace(result, pays)


def _best(result: Sweep, drawn: list[str], taker: Taker, seeds: int) -> None:
    """Print the ten best points."""
    from steprule.cli import output
    from steprule.cli.tables import table
    from steprule.hyper import said

    order = result.order[:10]
    who = f"{result.optimizer} on {result.problem}"
    if not len(order):
        output.say(f"{who}: no best, every point diverged with some seed.")
        return
    points = len(result.train)
    best = f"the best {len(order)} of {points} points" if points > 1 else "one point"
    means = f", means of {seeds} seeds" if seeds > 1 else ""
    output.say(f"{who}: {best} by the {result.chosen_by}{means}")
    rows = []
    for k in order:
        values = [said(result.hypers[name][k].item(), 4, taker.who.hypers.get(name)) for name in drawn]
        rows.append(values + [f"{measured[k].mean():#.5g}" for measured in result.measured.values()])
    table("", (*drawn, *result.measured), rows, left=())
    if scores := result.scores_of(int(order[0])):
        output.say(f"\nThe best: {scores}")


def _pace(result: Sweep, pays: float | None) -> None:
    """Print how fast it went, and from when on compiling would have paid."""
    from steprule.cli import output
    from steprule.counts import counted

    pace = f"{counted(result.lanes, 'lane')} in {result.seconds:.2f} s, {result.lanes_per_second:,.0f} per second"
    built = f", {result.compile_seconds:.2f} s of it to build the kernel" if result.compile_seconds else ""
    diverged = f"{int(result.diverged.sum()):,} of {result.lanes:,} diverged"
    output.say(f"\n{pace}{built}; {result.engine}; {diverged}.")
    if pays is not None:
        output.say(f"Without a kernel it would have caught up after {pays:.2g} s: compiling pays beyond that.")

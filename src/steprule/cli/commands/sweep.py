"""`steprule sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from steprule.cli import completion
from steprule.cli.arguments import (
    BatchOption,
    DeviceOption,
    DryRunOption,
    EpochsOption,
    JsonOption,
    OnOption,
    ScheduleOption,
    SetOption,
    TrainsArgument,
    YesOption,
    whole,
)


def sweep(
    rule: TrainsArgument,
    on: OnOption = "airfoil",
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=LOW..HIGH]",
            help="What to draw; lr if not given. Repeatable.",
            autocompletion=completion.ranges,
        ),
    ] = None,
    points: Annotated[int, typer.Option(help="How many hyperparameter points.", parser=whole, metavar="N")] = 64,
    seeds: Annotated[int, typer.Option(help="How many seeds each.", parser=whole, metavar="N")] = 1,
    schedule: ScheduleOption = "constant",
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    compiled: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Compile the model, or not; if not given, when it pays."),
    ] = None,
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

    Sobol points over ranges, every one with every seed.
    """
    from steprule import sweeps
    from steprule.cli import cost, options, output
    from steprule.cli.tables import table
    from steprule.hyper import said
    from steprule.trainable import Trainable

    if out is not None:
        from steprule.reports import training_charts

        training_charts.check_ending(out, (".parquet", ".json"))
    drawing = out is not None and out.suffix.lower() in training_charts.PICTURES
    who = Trainable.of(rule)
    taker, of = options.taker_of(who, rule), who.hypers
    (fixed,) = options.settings_for([taker], settings or [])
    drawn = sweeps.sobol({n: s for n, s in options.ranges_for(taker, vary or []).items() if n not in fixed}, points)
    drawn = {n: v.round() if n in of and of[n].is_whole else v for n, v in drawn.items()}
    if drawing:
        training_charts.check_varied(drawn)
    how: dict[str, Any] = {
        "schedule": schedule, "epochs": epochs, "batch_size": batch_size, "compile": "auto" if compiled is None else compiled,
        "device": device,
    }  # fmt: skip
    known = cost.known_first("sweep", dry_run=dry_run, yes=yes, json=json)
    with known as told, output.progress("sweep") as advance:
        result = sweeps.sweep(who, on, {**fixed, **drawn}, seeds, progress=advance, told=told, measure=dry_run, **how)
    if out is not None and drawing:
        training_charts.save(training_charts.of_sweep(result), out)
    elif out is not None:
        sweeps.save(result, out)
    if json:
        output.as_json(result.to_dict())
        return
    order = result.order[:10]
    rows = [
        (
            *(said(result.hypers[n][k].item(), 4, of.get(n)) for n in drawn),
            *(f"{v[k].mean():#.5g}" for v in result.measured.values()),
        )
        for k in order
    ]
    best = f"the best {len(order)} of {points} points" if points > 1 else "one point"
    title = f"{result.optimizer} on {result.problem}: {best} by the {result.chosen_by}"
    title += f", means of {seeds} seeds" if seeds > 1 else ""
    if len(order):
        output.say(title)
        table("", (*drawn, *result.measured), rows, left=())
        if scores := result.scores_of(int(order[0])):
            output.say(f"\nThe best: {scores}")
    else:
        output.say(f"{result.optimizer} on {result.problem}: no best, every point diverged with some seed.")
    for caution in result.cautions:
        output.say(f"\n{caution}")
    dead = int(result.diverged.sum())
    pays = sweeps.pays_after(who, on, result)
    pace = f"{result.lanes:,} lane{'s' if result.lanes > 1 else ''} in {result.seconds:.2f} s, {result.lanes_per_second:,.0f} a second"
    built = f", {result.compile_seconds:.2f} s of it to build the kernel" if result.compile_seconds else ""
    output.say(f"\n{pace}{built}; {result.engine}; {dead:,} of {result.lanes:,} diverged.")
    if pays is not None:
        output.say(f"Without a kernel it would have caught up after {pays:.2g} s: compiling pays beyond that.")
    if out is not None:
        output.say(f"Written: {out}")

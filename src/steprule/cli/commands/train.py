"""`steprule train` trains a problem once and prints the loss."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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

if TYPE_CHECKING:
    from steprule.training import Run


def train(
    rule: TrainsArgument,
    on: OnOption = "airfoil",
    seed: Annotated[
        int, typer.Option(help="Seed of the initial weights and the order of samples.", parser=whole, metavar="N")
    ] = 0,
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    device: DeviceOption = "cpu",
    schedule: ScheduleOption = "constant",
    log: Annotated[
        str | None, typer.Option(metavar="file.py:NAME", help="A function (step, numbers), called after each step.")
    ] = None,
    diagnostics: Annotated[
        bool, typer.Option("--diagnostics", help="Let --log also have the norms of each step's gradient and update.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A picture of the loss against the samples: .png or .svg.")
    ] = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    settings: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Train a problem with one rule, or with a torch.optim class."""
    from steprule.cli import cost, options, output
    from steprule.per_kind import NoMatrices
    from steprule.problems import catalogue as problems
    from steprule.sweeps import estimate as costs
    from steprule.trainable import Trainable
    from steprule.training import train as trained

    if out is not None:
        from steprule.reports import training_charts

        training_charts.check_ending(out)

    who = Trainable.of(rule)
    (hypers,) = options.settings_for([options.taker_of(who, rule)], settings or [])
    task = problems.get(on)
    with cost.known_first("train", dry_run=dry_run, yes=yes, json=json) as told:
        told(costs.of_training(task, who.what, hypers, epochs, batch_size, device, measure=dry_run))
    how: dict[str, Any] = {
        "schedule": schedule,
        "device": device,
        "log": options.log_of(log),
        "diagnostics": diagnostics,
    }
    with output.warnings_as_lines(NoMatrices):
        run = trained(who, task, seed, epochs, batch_size, **how, **hypers)
    if out is not None:
        training_charts.save(training_charts.of_run(run), out)
    if json:
        output.as_json(run.to_dict())
        return
    _ended(run, out)


def _ended(run: Run, out: Path | None) -> None:
    """Print how a training ended, and where its picture is."""
    from steprule.cli import output
    from steprule.counts import counted
    from steprule.problems import scoring

    diverged = "  (diverged: no lower than at the start)" if run.diverged else ""
    output.say(f"{run.optimizer} on {run.problem}: {run.fall}{diverged}")
    how = f"{counted(run.epochs, 'epoch')}, batch {run.batch_size}, seed {run.seed}{run.scheduled}"
    output.say(f"{how}; {run.seconds:.3f} s of training steps")
    if run.metrics:
        output.say(scoring.in_words(run.metrics))
    if out is not None:
        output.say(f"Written: {out}")

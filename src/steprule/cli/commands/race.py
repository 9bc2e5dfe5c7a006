"""`steprule race`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from steprule.cli import completion
from steprule.cli.arguments import (
    RULE_HELP,
    BatchOption,
    CitedOption,
    CompileOption,
    DeviceOption,
    DryRunOption,
    EpochsOption,
    JsonOption,
    SetOption,
    YesOption,
    fresh_option,
    number,
    problems_option,
    ranges_option,
    schedules_option,
    whole,
)
from steprule.sizes import FRESH, MATTERS, RULES, SEEDS, STUDIES, TRIALS


def race(
    rules: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RULE",
            help=f"{RULE_HELP} Without any: {', '.join(RULES)}. merge DIR...: shards; cite DIR: a finished race.",
            autocompletion=completion.rule_names,
        ),
    ] = None,
    on: Annotated[list[str] | None, problems_option("What to train.")] = None,
    trials: Annotated[
        int, typer.Option(help="Trainings per tuning; 0: settings as given, not tuned.", parser=whole, metavar="N")
    ] = TRIALS,
    seeds: Annotated[
        int | None,
        typer.Option(
            help=f"How many times as many trials ({STUDIES}); with --trials 0 seeds ({SEEDS}).",
            parser=whole,
            metavar="N",
        ),
    ] = None,
    fresh: Annotated[int | None, fresh_option(FRESH)] = None,
    schedule: Annotated[list[str] | None, schedules_option("constant and linear")] = None,
    vary: Annotated[
        list[str] | None,
        ranges_option("Search this too, or in this range: weight_decay, clip_norm; RULE.NAME for one."),
    ] = None,
    matters: Annotated[
        float | None,
        typer.Option(
            help=f"The smallest difference that matters, as a share of the loss ({MATTERS:g}).",
            parser=number,
            metavar="SHARE",
        ),
    ] = None,
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    compiled: CompileOption = None,
    engine: Annotated[
        str,
        typer.Option(
            metavar="local|ray",
            help="Where blocks are trained.",
            autocompletion=completion.one_of(*completion.ENGINES),
        ),
    ] = "local",
    address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Of the Ray cluster; one is started here if not given.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes of the local engine; all cores if not given.", parser=whole, metavar="N"),
    ] = None,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Only the I-th of N parts, from 1.")] = None,
    device: DeviceOption = "cpu",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where results go; a folder in runs/ if not given. Of cite a file."),
    ] = None,
    form: CitedOption = "",
    until: Annotated[
        str | None,
        typer.Option(
            metavar="decided",
            help="Run it again, on other seeds, until it is known who is really above the lowest.",
            autocompletion=completion.one_of("decided"),
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="30m, say: the largest race, no larger than asked for, that takes about so long. With --until the time it has.",
        ),
    ] = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    settings: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Tune all rules alike, and say which differences are real.

    The winners are confirmed on seeds that no tuning saw. Interrupted, it goes on where it was.
    """
    from steprule.cli import racing
    from steprule.cli.cited import check_form

    check_form(form)
    asked = {
        "rules": rules, "on": on, "trials": trials, "seeds": seeds, "fresh": fresh, "schedule": schedule,
        "epochs": epochs, "batch_size": batch_size, "compile": compiled, "device": device, "settings": settings,
        "vary": vary, "until": until, "budget": budget,
    }  # fmt: skip
    how = {"engine": engine, "address": address, "workers": workers}
    given = {k: v for k, v in asked.items() if v is not None}
    racing.race(racing.Typed(given, how, matters, shard, out, _typed(), json, dry_run, yes, form))


def _typed() -> list[str]:
    """The command as it was typed, for the page that repeats it."""
    return sys.argv[1:]

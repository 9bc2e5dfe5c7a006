"""`steprule judge` says which differences in a table of results are real."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steprule.cli import completion
from steprule.cli.arguments import CitedOption, JsonOption, number
from steprule.sizes import MATTERS

if TYPE_CHECKING:
    from steprule.races.judging import Judgement


def _column(what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(metavar="COLUMN", help=what)
    return option


def judge(
    results: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A row per run: .csv, .tsv, .parquet, .jsonl, .json; W&B's and MLflow's exports too."
        ),
    ],
    method: Annotated[str | None, _column("What is compared; guessed if not given, as all columns are.")] = None,
    loss: Annotated[str | None, _column("The loss or score of a run, its curve as a list, or a row per step.")] = None,
    problem: Annotated[str | None, _column("Each problem is judged for itself.")] = None,
    seed: Annotated[str | None, _column("Runs of one seed are paired.")] = None,
    group: Annotated[str | None, _column("Runs of one tuning, which share its luck.")] = None,
    cost: Annotated[str | None, _column("What a run cost; shown beside its loss.")] = None,
    step: Annotated[str | None, _column("The step, where there is a row per step.")] = None,
    seconds: Annotated[str | None, _column("Seconds since the run's start.")] = None,
    run: Annotated[str | None, _column("Tells runs apart, where there is a row per step and no seed.")] = None,
    by: Annotated[
        str,
        typer.Option(
            metavar="final|steps|seconds",
            help="Judge the loss at the end, or when the target is reached.",
            autocompletion=completion.one_of("final", "steps", "seconds"),
        ),
    ] = "final",
    target: Annotated[
        float | None, typer.Option(help="The loss to reach, with --by.", parser=number, metavar="LOSS")
    ] = None,
    higher: Annotated[
        bool | None, typer.Option("--higher/--lower", help="Which is better; by the column's name if not given.")
    ] = None,
    paired: Annotated[
        bool | None,
        typer.Option("--paired/--unpaired", help="Whether seeds pair runs; where they are the same if not given."),
    ] = None,
    matters: Annotated[
        float | None,
        typer.Option(
            help=f"The smallest difference that matters, as a share of the loss; {MATTERS:g} if not given, with --gate 0.",
            parser=number,
            metavar="SHARE",
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            help="The same in the column's own units; differences are then compared, not ratios.",
            parser=number,
            metavar="X",
        ),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            help="Known standard deviation of one run, as a share of the loss; with --margin in its units.",
            parser=number,
            metavar="X",
        ),
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Write the report (.html), the picture (.svg, .png, .pdf), the table (.md, .tex), the pairs (.csv), the sources (.bib)."
            " Repeatable.",
        ),
    ] = None,
    form: CitedOption = "",
    gate: Annotated[
        bool, typer.Option("--gate", help="Keep this one new result or not, against the one that was kept; with --log.")
    ] = False,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --gate: all results so far, a JSON line each.")
    ] = None,
    idea: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --gate: what is new; the table's method if not given.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Say which differences in your results are real.

    The race's referee for runs that were trained anywhere: real, same or open for every two methods, and how many runs the open ones need.

    With --gate the file holds the runs of one new idea. The answer is keep, not, or how often to run it again; in at most 5 % of nights
    without any better idea is one kept.
    """
    from steprule.cli import output
    from steprule.cli.cited import check_form
    from steprule.races import judging
    from steprule.races.citing.citable import check_ending

    if gate or log is not None or idea is not None:
        if not gate or log is None:
            raise typer.BadParameter("expected --gate and --log FILE together")
        said = judging.gate(results, log, idea=idea, loss=loss, noise=noise, matters=matters or 0.0, higher=higher)
        if json:
            output.as_json(said.to_dict())
        else:
            output.say(str(said))
        return
    check_form(form)
    for path in out or []:
        check_ending(path)
    columns = {
        "method": method, "loss": loss, "problem": problem, "seed": seed, "group": group, "cost": cost, "step": step,
        "seconds": seconds, "run": run,
    }  # fmt: skip
    share = MATTERS if matters is None else matters
    found = judging.judge(
        results, **columns, by=by, target=target, higher=higher, paired=paired, matters=share, margin=margin, noise=noise
    )  # fmt: skip
    _say(found, out or [], form, json=json)


def _say(found: Judgement, out: Sequence[Path], form: str, *, json: bool) -> None:
    """Write what was asked for, and print the rest."""
    from steprule.cli import cited, judge_tables, output

    written = [found.save(path) for path in out]
    if json:
        output.as_json(found.to_dict() | {"written": [str(path) for path in written]})
        return
    if form:
        cited.say(found, form)
        return
    judge_tables.say(found)
    for path in written:
        output.say(f"Written: {path}")

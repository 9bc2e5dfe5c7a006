"""`steprule ablate` takes each part off a rule in turn, and says which parts help."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steprule.cli import completion
from steprule.cli.arguments import (
    BatchOption,
    CompileOption,
    DeviceOption,
    DryRunOption,
    EpochsOption,
    JsonOption,
    SetOption,
    TrainsArgument,
    YesOption,
    fresh_option,
    number,
    problems_option,
    ranges_option,
    schedules_option,
    whole,
)
from steprule.sizes import ABLATED_FRESH, MATTERS, TRIALS

if TYPE_CHECKING:
    from steprule.cli.options import Taker
    from steprule.races.ablation import Ablation


def ablate(
    rule: TrainsArgument,
    on: Annotated[list[str] | None, problems_option("What to train; airfoil-mlp if not given.")] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=OFF]",
            help="Take this part off, at OFF where that is not known; all that are known if not given. Repeatable.",
            autocompletion=completion.parts,
        ),
    ] = None,
    trials: Annotated[int, typer.Option(help="Trainings per study.", parser=whole, metavar="N")] = TRIALS,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Studies, each tuned anew; if not given as many as 20 tuned rules of a race allow, 30 at most.",
            parser=whole,
            metavar="N",
        ),
    ] = None,
    fresh: Annotated[int | None, fresh_option(ABLATED_FRESH)] = None,
    schedule: Annotated[list[str] | None, schedules_option("linear")] = None,
    vary: Annotated[
        list[str] | None, ranges_option("Search this too, or in this range: weight_decay, clip_norm.")
    ] = None,
    matters: Annotated[
        float,
        typer.Option(help="The smallest effect that matters, as a share of the loss.", parser=number, metavar="SHARE"),
    ] = MATTERS,
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    compiled: CompileOption = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes; all cores if not given.", parser=whole, metavar="N")
    ] = None,
    device: DeviceOption = "cpu",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where results go; a folder in runs/ if not given.")
    ] = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    settings: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Say which parts of a rule help.

    Each part is taken off in turn: a flag that is on, a number that has a value at which it does nothing, what before() put around the
    rule. With and without it the same trials and seeds train. Interrupted, it goes on where it was.
    """
    from steprule.cli import ablation_tables, cost, options, output
    from steprule.races.competitor import competitor_of
    from steprule.reports import ablation_page
    from steprule.trainable import Trainable

    own = competitor_of(rule)
    who = Trainable.of(own.optimizer)
    taker = options.taker_of(who, rule, own.label)
    asked: dict[str, Any] = {"rule": rule, "on": on, "part": part, "trials": trials, "seeds": seeds, "fresh": fresh, "schedule": schedule,
                             "vary": vary, "epochs": epochs, "batch_size": batch_size, "compile": compiled, "device": device,
                             "set": settings}  # fmt: skip
    folder = out or Path("runs") / ablation_tables.folder_name({n: v for n, v in asked.items() if v is not None})
    (hypers,) = options.settings_for([taker], settings or [])
    (varied,) = options.searches_for([taker], vary or [])
    given: dict[str, Any] = {
        "rule": own, "problems": on, "parts": _parts(taker, part), "hypers": hypers, "vary": varied, "trials": trials, "seeds": seeds,
        "fresh": fresh, "schedules": schedule, "epochs": epochs, "batch_size": batch_size,
        "compile": "auto" if compiled is None else compiled, "device": device,
    }  # fmt: skip
    with cost.known_first("ablate", dry_run=dry_run, yes=yes, json=json) as told:
        found = _ablated(given, folder, workers, matters, told, dry_run=dry_run)
    report = folder / "report.html"
    ablation_page.write(found, report, command=["steprule", *sys.argv[1:]])
    if json:
        output.as_json({**found.to_dict(), "report": str(report)})
    else:
        ablation_tables.say(found, report)


def _ablated(
    given: dict[str, Any], folder: Path, workers: int | None, matters: float, told: Callable[[Any], None], *, dry_run: bool
) -> Ablation:  # fmt: skip
    """The ablation of what is `given`; `told` is called with what it will take, and ends a dry run."""
    from steprule.cli import output
    from steprule.per_kind import NoMatrices
    from steprule.races import CannotGoOn, ablation

    with output.warnings_as_lines(CannotGoOn, NoMatrices), output.progress("ablate") as advance:
        if dry_run:  # without a folder
            told(ablation.estimate(**given, out=folder, workers=workers))
        return ablation.ablate(**given, matters=matters, out=folder, workers=workers, progress=advance, told=told)


def _parts(taker: Taker, texts: Sequence[str] | None) -> dict[str, Any] | None:
    """What was typed as `--part`, by name with the value at which it is off; None for the one that is known."""
    if texts is None:
        return None
    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = (word.strip() for word in text.partition("="))
        found[name] = taker.parsed(name, value, text) if sign else None
    return found

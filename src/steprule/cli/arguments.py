"""Arguments and options that several commands share, with their help, parsing and completion."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from steprule.cli import completion

RULE_HELP = "A catalogue name, file.py:name or package.module:name."
RuleArgument = Annotated[str, typer.Argument(metavar="RULE", help=RULE_HELP, autocompletion=completion.rule_names)]
RuleArguments = Annotated[
    list[str], typer.Argument(metavar="RULE", help=RULE_HELP, autocompletion=completion.rule_names)
]
TrainsArgument = Annotated[
    str, typer.Argument(metavar="RULE", help=f"{RULE_HELP} Or torch.optim.Adam.", autocompletion=completion.rule_names)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A hyperparameter; RULE.NAME=VALUE for one rule. Repeatable.",
        autocompletion=completion.settings,
    ),
]


def whole(text: str) -> int:
    """Read a whole number. Raises `BadParameter`."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"expected a whole number, got {text!r}") from None


def number(text: str) -> float:
    """Read a number. Raises `BadParameter`."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"expected a number, got {text!r}") from None


CitedOption = Annotated[
    str,
    typer.Option(
        "--as",
        metavar="FORM",
        help=f"Only the result, as {', '.join(completion.CITED)}.",
        autocompletion=completion.one_of(*completion.CITED),
    ),
]
ON_HELP = "A problem's name (steprule problems), a surface's, or file.py:name."
OnOption = Annotated[
    str, typer.Option("--on", metavar="PROBLEM", help=f"What to train. {ON_HELP}", autocompletion=completion.problem_names)
]  # fmt: skip
SCHEDULE_HELP = (
    "How the learning rate changes: constant, linear, cosine, one_cycle, step, inverse_root; "
    '"step(every=0.25,by=0.5)"; "warmup(0.1)+cosine"; or file.py:name.'
)
ScheduleOption = Annotated[
    str, typer.Option(metavar="SCHEDULE", help=SCHEDULE_HELP, autocompletion=completion.schedule_names)
]


def schedules_option(unless: str) -> Any:
    """One schedule or several; `unless` is what there is where none is given."""
    return typer.Option(
        metavar="SCHEDULE",
        help=f"{SCHEDULE_HELP} Repeatable; {unless} if not given.",
        autocompletion=completion.schedule_names,
    )


def problems_option(what: str) -> Any:
    """One problem or several; `what` they are for."""
    return typer.Option(
        "--on", metavar="PROBLEM", help=f"{what} {ON_HELP} Repeatable.", autocompletion=completion.problem_names
    )


def ranges_option(what: str) -> Any:
    """Hyperparameters with their ranges; `what` is what becomes of them."""
    return typer.Option(metavar="NAME[=LOW..HIGH]", help=f"{what} Repeatable.", autocompletion=completion.ranges)


def fresh_option(usual: int) -> Any:
    """How many seeds that no trial saw."""
    return typer.Option(help=f"Seeds on which winners are compared ({usual}).", parser=whole, metavar="N")


EpochsOption = Annotated[
    int | None, typer.Option(help="Passes over the data; the problem's own if not given.", parser=whole, metavar="N")
]
BatchOption = Annotated[
    int | None, typer.Option(help="Samples per step; the problem's own if not given.", parser=whole, metavar="N")
]
DeviceOption = Annotated[
    str,
    typer.Option(
        metavar="DEVICE",
        help="Where to train, as torch names it: cpu, cuda.",
        autocompletion=completion.one_of("cpu", "cuda"),
    ),
]
CompileOption = Annotated[
    bool | None,
    typer.Option("--compile/--no-compile", help="Compile the model or not; if not given, where it pays."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Only say what it would take: trainings, steps, time and memory.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask before work that takes hours.")]


def _json(context: typer.Context, value: bool) -> bool:
    """With --json, anything that the user's own file prints goes to stderr."""
    if value:
        from steprule.cli import output

        context.with_resource(output.json_alone())
    return value


JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout.", callback=_json)]

"""Every command with an example, what `steprule` alone shows, and the answer to an unknown command."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from steprule import rules as catalogue
from steprule.cli.commands.ablate import ablate
from steprule.cli.commands.bench import bench
from steprule.cli.commands.check import check
from steprule.cli.commands.judge import judge
from steprule.cli.commands.play import play
from steprule.cli.commands.problems import problems, surfaces
from steprule.cli.commands.race import race
from steprule.cli.commands.rules import rules
from steprule.cli.commands.show import show
from steprule.cli.commands.sweep import sweep
from steprule.cli.commands.trace import trace
from steprule.cli.commands.train import train
from steprule.cli.commands.which import which
from steprule.errors import UnknownNameError, nearest

COMMANDS: dict[Callable[..., None], str] = {
    rules: "steprule rules",
    problems: "steprule problems",
    surfaces: "steprule surfaces",
    show: "steprule show adam --as latex",
    trace: "steprule trace sgd rmsprop adam --surface beale --steps 40 --out paths.png",
    play: "steprule play",
    train: "steprule train adam --on digits-mlp --set lr=0.01 --out curve.png",
    sweep: "steprule sweep adam --on airfoil-mlp --vary lr=1e-4..1 --vary beta1 --points 256 --out lr.png",
    race: "steprule race sgd adam --on airfoil-linear",
    ablate: "steprule ablate adam --on airfoil-mlp --set amsgrad=true",
    judge: "steprule judge results.csv --loss val_loss --out report.html",
    check: "steprule check adam",
    which: "steprule which torch.optim:NAdam",
    bench: "steprule bench adam --quick",
}
"""Every command with the example that its help shows, in the order of the list."""
FIRST = (COMMANDS[trace], "steprule show adam", COMMANDS[race])
"""The examples that `steprule` alone shows to a newcomer."""


class _Commands(TyperGroup):
    def make_context(self, *args: Any, **extra: Any) -> Any:
        columns = shutil.get_terminal_size().columns
        if columns < 52:  # click would still write lines of 50
            extra["terminal_width"] = max(columns, 40)
        return super().make_context(*args, **extra)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        unknown = args and not args[0].startswith("-") and args[0] not in self.commands
        if unknown and not ctx.resilient_parsing:  # a shell parses so to complete
            raise _no_command(args[0], list(self.commands))
        return super().resolve_command(ctx, args)

    def first_words(self, ctx: Any) -> str:
        """One sentence, three examples and the list of commands."""
        formatter = ctx.make_formatter()
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        formatter.write("\nExamples:\n" + "".join(f"  {example}\n" for example in FIRST))
        self.format_commands(ctx, formatter)
        formatter.write(f"{self.epilog}\n")
        # Without blank lines below the first and above the last line, so that all of it fits a terminal's height.
        return str(formatter.getvalue()).rstrip().replace("\n\n", "\n", 1)


def _no_command(typed: str, commands: list[str]) -> UnknownNameError:
    """The nearest command, or how to see the rule that was meant."""
    hint = "steprule --help explains them."
    if ".py" in typed:
        hint = f"Did you mean steprule show {typed}?"
    elif near := nearest(typed, [*commands, *catalogue.names()]):
        command = near if near in commands else f"show {near}"
        hint = f"Did you mean steprule {command}?"
    return UnknownNameError("unknown command", expected=f"one of {', '.join(commands)}", got=repr(typed), hint=hint)


app = typer.Typer(
    name="steprule",
    cls=_Commands,
    help="An optimizer is one function: see it, walk it, train with it, race it.",
    epilog="steprule COMMAND --help explains a command, with an example.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command, _example in COMMANDS.items():
    # click would cut a long first line; \b keeps the example on a line of its own.
    _first_line = (_command.__doc__ or "").partition("\n")[0]
    app.command(short_help=_first_line, epilog=f"\b\nExample:\n  {_example}")(_command)


@app.callback(invoke_without_command=True)
def _alone(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        from importlib.metadata import version as installed

        sys.stdout.write(f"steprule {installed('steprule')}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        from steprule.cli import output

        output.say(cast(_Commands, context.command).first_words(context))

"""`steprule trace` walks rules over a surface, draws their paths and prints where they end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steprule import rules as catalogue
from steprule.cli import completion
from steprule.cli.arguments import JsonOption, RuleArguments, SetOption, number, whole
from steprule.errors import InputError
from steprule.rules.rule import Rule

if TYPE_CHECKING:
    from steprule.paths import Trace


def trace(
    rules: RuleArguments,
    surface: Annotated[
        str,
        typer.Option(
            metavar="SURFACE",
            help="A surface's name (steprule surfaces), or a formula in x and y.",
            autocompletion=completion.surface_names,
        ),
    ] = "quadratic",
    start: Annotated[
        str | None, typer.Option(metavar="X,Y", help="Where to begin; the surface's own if not given.")
    ] = None,
    steps: Annotated[int, typer.Option(help="How many steps.", parser=whole, metavar="N")] = 20,
    settings: SetOption = None,
    defaults: Annotated[
        bool, typer.Option("--defaults", help="The rules' own learning rates, not the best ones.")
    ] = False,
    seed: Annotated[
        int, typer.Option(help="Seed of the gradient noise, where there is any.", parser=whole, metavar="N")
    ] = 0,
    noise: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of the gradient noise; the surface's own if not given.",
            parser=number,
            metavar="NUMBER",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A picture, the points, or a page to play with: .png, .svg, .gif, .json, .html."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Walk rules over a surface, and draw their paths.

    Each rule walks at its best learning rate, unless --set lr or --defaults says otherwise: the best of 141 from 0.0001 to 1000. The
    table says where the best is the lowest or the highest of them.
    """
    from steprule import paths
    from steprule.cli import options, output
    from steprule.rules.parts import composed

    resolved = [catalogue.resolve(r) for r in rules]
    _check_once(rules, resolved)
    found = [composed(r) for r in resolved]
    takers = [options.walker_of(r, typed) for r, typed in zip(found, rules, strict=True)]
    hypers = options.settings_for(takers, settings or [])
    begin = options.point(start)
    walked, hopeless = [], []
    for rule, own in zip(found, hypers, strict=True):
        tune = not defaults and "lr" not in own
        walk = paths.tuned_trace if tune else paths.trace
        walked.append(walk(rule, surface, begin, steps, seed=seed, noise=noise, **own))
        hopeless.append(tune and "lr" in rule.defaults and not walked[-1].tuned)
    walked = _told_apart(walked, rules)
    if out is not None:
        _save(walked, out, list(zip(rules, resolved, strict=True)))
    if json:
        output.as_json([t.to_dict() for t in walked])
        return
    _ends(walked, hopeless, steps)
    if out is not None:
        output.say(f"\nWritten: {out}")


def _check_once(typed: Sequence[str], rules: Sequence[Rule]) -> None:
    """Raises `InputError` for a rule that was typed twice: both would walk one path, and every --set is for both."""
    known = set()
    for name, rule in zip(typed, rules, strict=True):
        if (rule.name, rule.lines) in known:
            raise InputError("rules", expected="each once", got=f"{name!r} twice")
        known.add((rule.name, rule.lines))


def _save(walked: list[Trace], out: Path, rules: list[tuple[str, Rule]]) -> None:
    """Write the paths: a page to play with, which needs their rules as typed, or a picture or the points."""
    if out.suffix.lower() == ".html":
        from steprule import play

        play.write_paths(out, walked, rules)
    else:
        from steprule.reports import paths as pictures

        pictures.save(walked, out)


def _ends(walked: list[Trace], hopeless: list[bool], steps: int) -> None:
    """Print where each path ends."""
    from steprule.cli import output
    from steprule.cli.tables import table

    rows = []
    for path, none in zip(walked, hopeless, strict=True):
        x, y = path.evaluated[-1]
        cautions = list(path.cautions)
        if none:
            cautions.append("so at every lr tried")
        rows.append((path.rule, _rate(path), _decimals(x), _decimals(y), f"{path.values[-1]:.6g}", "; ".join(cautions)))
    x, y = walked[0].points[0]
    output.say(f"{walked[0].surface}, {steps} steps from ({x:g}, {y:g})")
    table("", ("rule", "lr", "x", "y", "value", ""), rows, left=(0, 5))


def _rate(path: Trace) -> str:
    """The learning rate, and whether it is the best one."""
    if "lr" not in path.hypers:
        return "-"
    best = " best" if path.tuned and not path.rose else ""
    return f"{path.hypers['lr']:.4g}{best}"


def _told_apart(walked: Sequence[Trace], typed: Sequence[str]) -> list[Trace]:
    """The paths, of which those of different rules of one name say which rule was typed."""
    ways: dict[str, set[str]] = {}
    for path, own in zip(walked, typed, strict=True):
        ways.setdefault(path.rule, set()).add(own)
    return [
        replace(path, rule=own) if len(ways[path.rule]) > 1 else path for path, own in zip(walked, typed, strict=True)
    ]


def _decimals(value: float) -> str:
    """Six decimals, as the tutorial prints points; an exponent where six decimals would not show the number."""
    if value == 0 or 5e-7 <= abs(value) < 1e6:
        return f"{value:.6f}"
    return f"{value:.6g}"

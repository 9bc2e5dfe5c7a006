"""`steprule trace`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steprule import rules as catalogue
from steprule.cli import completion
from steprule.cli.arguments import JsonOption, RuleArguments, SetOption, number, whole


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
        int, typer.Option(help="Of the gradient noise, where there is any.", parser=whole, metavar="N")
    ] = 0,
    noise: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of noise on the gradient; the surface's own if not given.",
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

    Each walks at its best learning rate, unless --set lr or --defaults says otherwise: the best of 141 from 0.0001 to 1000. Where it is
    the lowest or the highest of them, the table says so.
    """
    from steprule import paths
    from steprule.cli import options, output
    from steprule.cli.tables import table
    from steprule.rules.parts import composed

    resolved = [catalogue.resolve(r) for r in rules]
    found = [composed(r) for r in resolved]
    takers = [options.taker_of(r, typed) for r, typed in zip(found, rules, strict=True)]
    hypers = options.settings_for(takers, settings or [])
    begin = options.point(start)
    walked, hopeless = [], []
    for rule, own in zip(found, hypers, strict=True):
        tune = not defaults and "lr" not in own
        walk = paths.tuned_trace if tune else paths.trace
        walked.append(walk(rule, surface, begin, steps, seed=seed, noise=noise, **own))
        hopeless.append(tune and "lr" in rule.defaults and not walked[-1].tuned)
    if out is not None and out.suffix.lower() == ".html":
        from steprule import play

        play.write_paths(out, walked, list(zip(rules, resolved, strict=True)))
    elif out is not None:
        from steprule.reports import paths as pictures

        pictures.save(walked, out)
    if json:
        output.as_json([t.to_dict() for t in walked])
        return
    rows = []
    for t, none in zip(walked, hopeless, strict=True):
        said = [*t.cautions, *(["so at every lr tried"] if none else [])]
        rate = f"{t.hypers['lr']:.4g}" + (" best" if t.tuned and not t.rose else "") if "lr" in t.hypers else "-"
        rows.append((t.rule, rate, *(_decimals(v) for v in t.points[-1]), f"{t.values[-1]:.6g}", "; ".join(said)))
    title = f"{walked[0].surface}, {steps} steps from ({walked[0].points[0, 0]:g}, {walked[0].points[0, 1]:g})"
    output.say(title)
    table("", ("rule", "lr", "x", "y", "value", ""), rows, left=(0, 5))
    if out is not None:
        output.say(f"\nWritten: {out}")


def _decimals(value: float) -> str:
    """Six decimals, as the tutorial prints points; what has no place there in six digits, with its exponent."""
    return f"{value:.6f}" if 5e-7 <= abs(value) < 1e6 or value == 0 else f"{value:.6g}"

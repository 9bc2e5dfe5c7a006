"""`steprule bench` times optimizers, and a swap of the optimizer in one's own training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from steprule.cli import completion
from steprule.cli.arguments import RULE_HELP, JsonOption


def bench(
    optimizers: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RULE", help=f"{RULE_HELP} Without any: all that torch has.", autocompletion=completion.rule_names
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="PROBLEM",
            help="Your own training: how much of it a swap saves.",
            autocompletion=completion.problem_names,
        ),
    ] = None,
    peer: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS",
            help="With --on: the class that RULE replaces; torch's of that name, or AdamW.",
            autocompletion=completion.class_names,
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only two small workloads; takes seconds.")] = False,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Also torch's step by torch.compile; compiling takes minutes.")
    ] = False,
    device: Annotated[
        str,
        typer.Option(
            metavar="cpu|cuda", help="Where the tensors lie.", autocompletion=completion.one_of("cpu", "cuda")
        ),
    ] = "cpu",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write bench.json, bench.svg, bench.png here.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Time whole steps against torch's, or what a swap saves.

    Every form that torch has runs in turn with ours; whole training iterations show what a step is worth in them.
    """
    if on is not None:
        if quick or compiled or device != "cpu" or out is not None:
            raise typer.BadParameter("--on takes neither --quick, --compile, --device nor --out")
        _swaps(optimizers, on, peer, json=json)
        return
    if peer is not None:
        raise typer.BadParameter("--peer is for --on PROBLEM")
    _steps(optimizers, out, json=json, quick=quick, compiled=compiled, device=device)


def _steps(optimizers: list[str] | None, out: Path | None, *, json: bool, **how: Any) -> None:
    """`steprule bench`."""
    from steprule import benching
    from steprule.cli import bench_tables, output

    with output.progress("bench") as advance:
        found = benching.report(optimizers, progress=lambda text: advance(0, 1, text), **how)
    if out is not None:
        from steprule.reports import speed

        speed.save(found, out)
    if json:
        output.as_json(found)
    else:
        bench_tables.show(found)


def _swaps(optimizers: list[str] | None, on: str, peer: str | None, *, json: bool) -> None:
    """`steprule bench --on`."""
    from steprule import benching
    from steprule.cli import output

    replacing: Sequence[str | None] = optimizers or [None]
    with output.progress("bench") as advance:
        found = [benching.swap(one, on, peer=peer, progress=lambda text: advance(0, 1, text)) for one in replacing]
    if json:
        output.as_json([swap.to_dict() for swap in found])
    else:
        output.say("\n\n".join(map(str, found)))

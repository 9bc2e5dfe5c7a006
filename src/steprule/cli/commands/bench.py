"""`steprule bench`: of optimizers, and of a swap in one's own training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
            help="Your own training: what a swap saves of it.",
            autocompletion=completion.problem_names,
        ),
    ] = None,
    peer: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS",
            help="With --on: in whose place; torch's of that name, or AdamW.",
            autocompletion=completion.class_names,
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Two small workloads and nothing else; some seconds.")] = False,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Also torch.compile of torch's step; minutes to compile.")
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

    Against every form that torch has, in turn; and what they are worth in a training iteration.
    """
    from steprule import benching
    from steprule.cli import bench_tables, output

    if on is not None:
        _swaps(optimizers, on, peer, json=json, others=quick or compiled or device != "cpu" or out is not None)
        return
    if peer is not None:
        raise typer.BadParameter("--peer is for --on PROBLEM")
    with output.progress("bench") as advance:
        found = benching.report(
            optimizers, quick=quick, compiled=compiled, device=device, progress=lambda text: advance(0, 1, text)
        )
    if out is not None:
        from steprule.reports import speed

        speed.save(found, out)
    if json:
        output.as_json(found)
    else:
        bench_tables.show(found)


def _swaps(optimizers: list[str] | None, on: str, peer: str | None, *, json: bool, others: bool) -> None:
    """`steprule bench --on`"""
    from steprule import benching
    from steprule.cli import output

    if others:
        raise typer.BadParameter("--on takes neither --quick, --compile, --device nor --out")
    with output.progress("bench") as advance:
        whom: list[str | None] = [*(optimizers or [])] or [None]
        found = [benching.swap(one, on, peer=peer, progress=lambda text: advance(0, 1, text)) for one in whom]
    if json:
        output.as_json([swap.to_dict() for swap in found])
    else:
        output.say("\n\n".join(map(str, found)))

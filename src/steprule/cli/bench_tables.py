"""The tables that `steprule bench` prints."""

from __future__ import annotations

from typing import Any

from steprule.cli import output
from steprule.cli.tables import table


def show(found: dict[str, Any]) -> None:
    """The tables of one bench."""
    _steps(found["steps"])
    if found["once"]:
        _once(found["once"])
    if found["iterations"]:
        _iterations(found["iterations"])
    machine = found["machine"]
    where = machine.get("device", machine["hardware"])
    output.say(f"\n{where}; torch {machine['torch']}, steprule {machine['steprule']}; {machine['date']}")


def _steps(rows: list[dict[str, Any]]) -> None:
    tables: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in rows:
        first_form = next(iter(r["ratios"]))
        tables.setdefault((r["workload"], first_form), []).append(r)
    for workload in dict.fromkeys(r["workload"] for r in rows):
        for (of, _), part in tables.items():
            if of == workload:
                _workload(workload, part)
    if any("function" in r["ratios"] for r in rows):
        output.say("\nfunction: torch has no such class, so a loop calls the rule's own function on each parameter.")
    off = max(r["parity"] for r in rows)
    output.say("\nTimes are medians; the forms run in turn. x: the other form's time divided by ours.")
    output.say("95 %: the interval of the smallest x.")
    output.say(f"After all rounds every parameter agrees within {off:.0e} of its tensor's largest element.")


def _workload(workload: str, rows: list[dict[str, Any]]) -> None:
    forms = list(dict.fromkeys(form for r in rows for form in r["ratios"]))
    shown = []
    for r in rows:
        best = min(r["ratios"], key=r["ratios"].__getitem__)
        low, high = r["intervals"][best]
        share = r["share_of_bandwidth"]
        shown.append(
            [
                r["optimizer"],
                f"{r['microseconds']['steprule'] / 1e3:,.3f}",
                f"{r['host_microseconds']['steprule']:,.0f}",
                f"{r['gigabytes_a_second']:.1f}",
                "-" if share is None else f"{share:.0%}",
                *[f"{r['ratios'][form]:.2f}x" if form in r["ratios"] else "-" for form in forms],
                f"{low:.2f}-{high:.2f}",
            ]
        )
    heads = ("", "ms", "host us", "GB/s", "limit", *(f.removeprefix("torch.") for f in forms), "95 %")
    output.say()
    table(workload, heads, shown)


def _once(rows: list[dict[str, Any]]) -> None:
    shown = []
    for r in rows:
        extra = "-" if r["extra_bytes"] is None else f"{r['extra_bytes'] / 2**20:.1f}"
        seconds = (f"{r['cold_seconds']:.2f}", f"{r['warm_seconds']:.3f}", f"{r['import_seconds']:.2f}")
        shown.append((r["optimizer"], r["form"], r["workload"], *seconds, extra))
    heads = ("class", "form", "workload", "cold s", "warm s", "imports s", "extra MiB")
    output.say()
    title = "First step in a fresh process, imports apart; memory of later steps"
    table(title, heads, shown, left=(0, 1, 2))


def _iterations(rows: list[dict[str, Any]]) -> None:
    shown = []
    for r in rows:
        forms = ", ".join(f"{form} {ms:.1f} ({r['share'][form]:.1%})" for form, ms in r["milliseconds"].items())
        size = f"{r['parameters'] / 1e6:.1f}M"
        shown.append((r["optimizer"], r["model"], size, f"{r['ratio']:.3f}x", f"{r['best_ratio']:.3f}x", forms))
    heads = ("class", "model", "size", "over default", "over best", "ms per iteration (the step's share)")
    output.say()
    table("Whole training iterations: torch's time divided by ours", heads, shown, left=(0, 1, 5))

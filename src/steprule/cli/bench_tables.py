"""What `steprule bench` prints."""

from __future__ import annotations

from typing import Any

from steprule.cli import output


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
    times, ratios = [], []
    forms = list(dict.fromkeys(form for r in rows for form in r["ratios"]))
    for r in rows:
        limit = f"{r['share_of_bandwidth']:.0%}" if r["share_of_bandwidth"] is not None else "-"
        numbers = f"{r['microseconds']['steprule'] / 1e3:,.3f}", f"{r['host_microseconds']['steprule']:,.0f}"
        speed = f"{r['gigabytes_a_second']:.1f}", limit
        times.append((r["optimizer"], r["workload"], *numbers, *speed, f"{r['parity']:.0e}"))
        best = min(r["ratios"], key=r["ratios"].__getitem__)
        low, high = r["intervals"][best]
        shown = (f"{r['ratios'][form]:.2f}x" if form in r["ratios"] else "-" for form in forms)
        ratios.append((r["optimizer"], r["workload"], *shown, f"[{low:.2f}, {high:.2f}]"))
    heads = ("class", "workload", "ms a step", "host us", "GB/s", "of limit", "off torch")
    output.table("Whole steps of steprule, medians of rounds in turn", heads, times, left=(0, 1), wrap=True)
    output.say()
    heads = ("class", "workload", *forms, "95 % of the least")
    output.table("torch's time over ours", heads, ratios, left=(0, 1), wrap=True)


def _once(rows: list[dict[str, Any]]) -> None:
    shown = []
    for r in rows:
        extra = "-" if r["extra_bytes"] is None else f"{r['extra_bytes'] / 2**20:.1f}"
        seconds = (f"{r['cold_seconds']:.2f}", f"{r['warm_seconds']:.3f}", f"{r['import_seconds']:.2f}")
        shown.append((r["optimizer"], r["form"], r["workload"], *seconds, extra))
    heads = ("class", "form", "workload", "cold s", "warm s", "imports s", "extra MiB")
    output.say()
    title = "First step in a fresh process, imports apart; memory of later steps"
    output.table(title, heads, shown, left=(0, 1, 2), wrap=True)


def _iterations(rows: list[dict[str, Any]]) -> None:
    shown = []
    for r in rows:
        forms = ", ".join(f"{form} {ms:.1f} ({r['share'][form]:.1%})" for form, ms in r["milliseconds"].items())
        ratio = f"{r['ratio']:.3f}x", f"{r['best_ratio']:.3f}x"
        shown.append((r["optimizer"], r["model"], f"{r['parameters'] / 1e6:.1f}M", *ratio, forms))
    heads = ("class", "model", "size", "over default", "over best", "ms an iteration (the step's share)")
    output.say()
    output.table("Whole training iterations: torch's time over ours", heads, shown, left=(0, 1, 5), wrap=True)

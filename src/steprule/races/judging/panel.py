"""W&B's export of one panel, a column per run, as a table with a row per run and step."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from steprule import extras
from steprule.errors import InputError, named
from steprule.problems.table import Lines
from steprule.races.judging.columns import SECONDS, STEP, loss_of, plain

with extras.needed():
    import pyarrow as pa

CLOCKS = (*STEP, *SECONDS, "relative time (process)", "relative time (wall)", "wall time")
"""What the first column may be, in lower case: W&B's names of its axes too."""
OF_A_RUN = re.compile(r"^(?P<run>.+) - (?P<metric>.+?)(?P<about>__MIN|__MAX)?$")
"""A column of a run: "adam-0 - val_loss", with what W&B writes beside it of several points in one."""
SEEDED = re.compile(
    r"^(?P<method>.+?)[\s_./:-]*(?:\(?(?:seed|s|run|rep|trial)[\s_=:-]*)?(?P<seed>\d+)\)?$", re.IGNORECASE
)
"""A run's name that ends with its seed: adam-0, adam_seed0, "adam (seed=0)"."""


def is_panel(names: Sequence[str]) -> bool:
    """Whether these are the columns of such an export: an axis, and columns of runs."""
    runs = [n for n in names if OF_A_RUN.match(n)]
    rest = [n for n in names if n not in runs]
    return bool(runs) and len(rest) == 1 and plain(rest[0]) in CLOCKS


def unrolled(lines: Lines, given: Mapping[str, str | None], where: str) -> Lines:
    """The export with a row per run and step: columns run, method and seed, the axis, and the loss.

    Methods and seeds come from the runs' names. Raises `InputError` where names do not say which runs are of one method, or several
    metrics may be meant; `UnknownNameError` for a loss that is not among them.
    """
    columns = lines.table.column_names
    found = {n: match for n in columns if (match := OF_A_RUN.match(n))}
    (clock,) = (n for n in columns if n not in found)
    own = {n: m for n, m in found.items() if not m["about"]}
    metrics = list(dict.fromkeys(m["metric"] for m in own.values()))
    asked = given.get("loss")
    metric = named("metric", asked, {n: n for n in metrics}, where=f" of {where}") if asked else _metric(metrics, where)
    by_run = {m["run"]: n for n, m in own.items() if m["metric"] == metric}
    methods, seeds = _told_apart(list(by_run), where)
    runs: list[str] = []
    at: list[int] = []
    values: list[float] = []
    for run, name in by_run.items():
        points = [(k, v) for k, v in enumerate(lines.table[name].to_pylist()) if v is not None]
        if not points:
            hint = "Leave its columns out, or write nan at its last step if it diverged."
            raise InputError(where, expected=f"a {metric} of each run", got=f"none of {run}", hint=hint)
        runs += [run] * len(points)
        at += [k for k, _ in points]
        values += [_number(v, f"{where}, column {name!r}", lines.row(k)) for k, v in points]
    table = pa.table(
        {
            "run": runs,
            "method": [methods[run] for run in runs],
            "seed": [seeds[run] for run in runs],
            clock: lines.table[clock].take(pa.array(at)),
            metric: values,
        }
    )
    return Lines(table, lambda k: f"{lines.row(at[k])}, run {runs[k]}")


def _number(value: object, where: str, row: str) -> float:
    """A cell as a number. Raises `InputError`."""
    try:
        return float("" if isinstance(value, bool) else value)  # type: ignore[arg-type]  # its errors are what is asked for
    except (TypeError, ValueError):
        raise InputError(where, expected="numbers", got=f"{str(value)[:60]!r} in {row}") from None


def _metric(metrics: Sequence[str], where: str) -> str:
    return metrics[0] if len(metrics) == 1 else loss_of(metrics, metrics, where)


def _told_apart(runs: Sequence[str], where: str) -> tuple[dict[str, str], dict[str, str]]:
    """By run its method and its seed. Raises `InputError` where no two runs are of one method."""
    parts = {run: SEEDED.match(run) for run in runs}
    methods = {run: match["method"] if match else run for run, match in parts.items()}
    if len(runs) > 1 and len(set(methods.values())) == len(runs):
        shown = ", ".join(runs[:3]) + (" …" if len(runs) > 3 else "")
        hint = "Name runs so, or export the table of runs, with a column for the optimizer."
        raise InputError(where, expected="runs named by method and seed, as adam-0 and adam-1", got=shown, hint=hint)
    return methods, {run: match["seed"] if match else "0" for run, match in parts.items()}

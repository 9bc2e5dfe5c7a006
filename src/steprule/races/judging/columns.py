"""Which column of a table holds what: as named, or guessed by its name, those of W&B's and MLflow's exports too."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steprule.errors import InputError, named

METHOD = (
    "method",
    "optimizer",
    "optimiser",
    "algorithm",
    "algo",
    "competitor",
    "solver",
    "approach",
    "rule",
    "model",
    "label",
)
PROBLEM = ("problem", "task", "dataset", "data", "benchmark", "workload", "environment", "env")
SEED = ("seed", "random_seed", "rng_seed", "replicate", "repetition", "repeat", "fold")
GROUP = ("tuning", "tuning_group", "tuning_seed", "study")
STEP = ("step", "_step", "global_step", "iteration", "iter", "epoch", "update")
SECONDS = ("seconds", "time", "_runtime", "runtime", "wall_time", "walltime", "elapsed", "wall_seconds")
COST = ("cost", "trials", "budget", "flops", "gpu_hours", "price")
STATE = ("state", "status")
INITIAL = ("initial", "initial_loss", "first_loss")
RUN = ("run", "run_id", "run id", "id", "name")
"""Names that a column of each kind goes by, in lower case, the surest first."""
BEFORE = re.compile(r"^(config|params?|metrics?|summary|tags?|hparams)[./]")
"""What W&B's and MLflow's tables write before a name."""
ABOUT = re.compile(r"(__min|__max|_std|_sd|_stderr|_var)$")
"""Endings of what is told about a loss beside it."""
LOWER = {
    "loss",
    "nll",
    "error",
    "err",
    "mse",
    "rmse",
    "mae",
    "perplexity",
    "ppl",
    "bpb",
    "bpc",
    "objective",
    "regret",
    "cer",
    "wer",
}
HIGHER = {
    "accuracy",
    "acc",
    "auc",
    "auroc",
    "f1",
    "score",
    "reward",
    "return",
    "bleu",
    "rouge",
    "precision",
    "recall",
    "map",
    "miou",
    "r2",
}
"""Words in the name of a number that is the better the lower, and the better the higher, it is."""
FINISHED = {"finished", "completed", "complete", "done", "success", "succeeded"}


@dataclass(frozen=True)
class Columns:
    """The column of each kind; None where there is none."""

    method: str
    loss: str
    problem: str | None = None
    seed: str | None = None
    group: str | None = None
    step: str | None = None
    seconds: str | None = None
    cost: str | None = None
    state: str | None = None
    initial: str | None = None
    run: str | None = None

    @property
    def said(self) -> Mapping[str, str]:
        """The kinds that there are, with the column of each."""
        return {kind: name for kind, name in vars(self).items() if name is not None}


def plain(name: str) -> str:
    """A column's name without what W&B and MLflow write around it, in lower case.

    >>> plain("config.Optimizer"), plain("metrics.val_loss"), plain("optimizer.value")
    ('optimizer', 'val_loss', 'optimizer')
    """
    return BEFORE.sub("", name.strip().lower()).removesuffix(".value")


def words(name: str) -> set[str]:
    """The words of a name.

    >>> sorted(words("eval/valLoss_1"))
    ['1', 'eval', 'loss', 'val']
    """
    apart = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return {word for word in re.split(r"[^a-z0-9]+", apart.lower()) if word}


def is_higher_better(name: str) -> bool:
    """Whether a number of this name is the better the higher it is.

    >>> is_higher_better("test_acc"), is_higher_better("val_loss")
    (True, False)
    """
    return bool(words(name) & HIGHER) and not words(name) & LOWER


def columns_of(names: Sequence[str], numeric: Sequence[str], given: Mapping[str, str | None], where: str) -> Columns:
    """The columns of a table.

    Args:
        names: of all columns.
        numeric: of those that hold numbers, or curves.
        given: by kind the column that was named; what is None is guessed.
        where: the table, as errors say it.

    Raises `UnknownNameError` for a name that no column has, `InputError` where the method's or the loss's is not found, or
    where several may be meant.
    """
    known_names, found = {n: n for n in names}, {}
    for kind, name in given.items():
        if name:
            found[kind] = named("column", name, known_names, where=f" of {where}")
    taken = set(found.values())
    for kind, known in _KNOWN.items():
        if kind not in found and (name := _first(known, [n for n in names if n not in taken])):
            found[kind] = name
            taken.add(name)
    if "method" not in found:
        hint = "Name the column of the methods: --method COLUMN."
        raise InputError(where, expected="a column method, optimizer or algorithm", got=_listed(names), hint=hint)
    if "loss" not in found:
        found["loss"] = loss_of([n for n in numeric if n not in taken], names, where)
    return Columns(**found)


_KNOWN = {
    "method": METHOD, "problem": PROBLEM, "seed": SEED, "group": GROUP, "step": STEP, "seconds": SECONDS, "cost": COST,
    "state": STATE, "initial": INITIAL, "run": RUN,
}  # fmt: skip


def _first(known: Sequence[str], names: Sequence[str]) -> str | None:
    by_name = {plain(name): name for name in reversed(names)}
    return next((by_name[k] for k in known if k in by_name), None)


def loss_of(numeric: Sequence[str], names: Sequence[str], where: str) -> str:
    """The one column of numbers whose name has a word for a loss or a score."""
    may_be = [n for n in numeric if words(n) & (LOWER | HIGHER) and not ABOUT.search(n.lower())]
    hint = "Name it: --loss COLUMN."
    if len(may_be) == 1:
        return may_be[0]
    if may_be:
        raise InputError(
            where, expected="one column of losses", got=_listed(may_be), hint=f"Name one: --loss {may_be[0]}."
        )
    raise InputError(where, expected="a column of numbers named loss, error or accuracy", got=_listed(names), hint=hint)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:12])
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown or "no column"

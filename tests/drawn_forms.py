"""The comparison of a drawn rule's forms with the author's function, beyond what rounding alone explains."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from drawn_rules import Drawn, drawn, shrunk
from drawn_walks import (
    AGAIN,
    BACKENDS,
    EPS,
    NODE,
    SHAKES,
    SIZE,
    Case,
    PythonKernel,
    Walk,
    cases,
    in_latex,
    javascript_of,
    run_javascript,
    walk,
    walk_by_class,
    walk_by_floats,
    walk_by_kernel,
    walk_by_lane_tensors,
    walk_by_lanes,
    walk_by_text,
    walk_by_vmap,
    walk_of,
    walk_shaken,
)
from tolerances import DRAWN_RULE, STORED, STORED_AGAIN

# Comparison.


def gap(found: Walk, wanted: Walk, spread: Walk | None, eps: float) -> str:
    """Where two walks differ by more than rounding can explain; without a spread, by more than some ulp."""
    for t, (mine, theirs) in enumerate(zip(found, wanted, strict=True), 1):
        if set(mine) != set(theirs):
            return f"step {t}: has {sorted(mine)}, not {sorted(theirs)}"
        for name, right in theirs.items():
            got = mine[name]
            if got is None or right is None:
                if got is not right:
                    return f"step {t}: {name} is {'absent' if got is None else 'there'}, and should not be"
                continue
            if got.shape != right.shape:
                return f"step {t}: {name} has shape {got.shape}, not {right.shape}"
            noise = spread[t - 1][name] if spread else np.zeros(())
            # Below the smallest normal number an ulp is no share of it any more.
            least = 5e-324 if eps == EPS["float64"] else 1.5e-45
            allowed = DRAWN_RULE * (noise + eps * np.abs(right) + least)
            with np.errstate(all="ignore"):
                same = (
                    (got == right)
                    | (np.isnan(got) & np.isnan(right))
                    | (np.abs(got - right) <= allowed)
                    | np.isnan(noise)
                )
            if not same.all():
                k = np.unravel_index(int(np.argmin(same)), same.shape)
                return f"step {t}: {name} has {got[k]!r} for {right[k]!r}, where rounding explains {np.asarray(allowed)[k]:.1e}"
    return ""


def spread_of(case: Case, dtype: str, seed: int, shakes: int) -> Walk:
    """How far rounding alone may move each number; nan where it decides what is nan, or all."""
    runs = [walk_shaken(case, seed + k, dtype) for k in range(shakes)]
    # Beside the graph itself and not beside the author's function: where those two differ, it is no rounding.
    wanted = walk_shaken(case, None, dtype)
    much = 0.1 if dtype == "bfloat16" else 1e-3
    found = []
    for t, right in enumerate(wanted):
        row = {}
        for name, value in right.items():
            if value is None:
                row[name] = None
                continue
            others = np.stack([run[t][name] for run in runs])
            with np.errstate(all="ignore"):
                distance = np.where(others == value, 0.0, np.abs(others - value))
                worst = np.where((np.isnan(others) & np.isnan(value)).all(axis=0), 0.0, distance.max(axis=0))
                wild = worst > much * np.abs(value) + 1e-280
                if dtype != "float64":  # what float32 cannot hold is nothing to compare
                    wild |= (value != 0) & ((np.abs(value) < 1e-30) | (np.abs(value) > 1e30))
            # What follows from a number that rounding decides is decided by it too.
            row[name] = np.where(np.isfinite(worst) & ~wild, worst, np.nan)
            if dtype == "bfloat16" and value.shape == (
                SIZE,
            ):  # an element may be stored as its neighbour, in these runs and others
                row[name] = (row[name] * STORED_AGAIN + STORED * np.abs(value)) / DRAWN_RULE
        found.append(row)
    for t in range(1, len(found)):
        earlier = np.logical_or.reduce(
            [np.isnan(v) for v in found[t - 1].values() if v is not None and v.shape == (SIZE,)]
        )
        number = any(np.isnan(v).any() for v in found[t - 1].values() if v is not None)
        for name, value in found[t].items():
            if value is not None and (number and (case.variant.reduces or value.shape == ())):
                found[t][name] = np.full_like(value, np.nan)
            elif value is not None and value.shape == (SIZE,):
                found[t][name] = np.where(earlier, np.nan, value)
    return found


@dataclass
class Waiting:
    """A walk that JavaScript has to repeat."""

    case: Case
    size: int | None
    wanted: Walk
    spread: Callable[[], Walk]

    @property
    def form(self) -> str:
        return f"javascript {self.size or 'any size'}"


def _said(run: Callable[[], Walk], wanted: Walk, spread: Callable[[], Walk], dtype: str) -> str:
    """What is wrong with a form; that it raises is, too. How far rounding leads is looked at only where it may matter."""
    try:
        found = run()
        return gap(found, wanted, None, EPS[dtype]) and gap(found, wanted, spread(), EPS[dtype])
    except Exception as error:  # noqa: BLE001  # a form that raises is what is looked for
        return f"{type(error).__name__}: {error}"[:300]


Draw = Callable[[], Iterable[Case]]
"""The cases of one rule; it raises where the rule cannot be traced."""


def by_numbers(
    draw: Draw, seed: int, *, compiled: bool = False, shakes: int = SHAKES
) -> tuple[dict[str, str], list[Waiting]]:
    """What differs, by form, and the walks that are left to JavaScript."""
    found: dict[str, str] = {}
    waiting: list[Waiting] = []
    try:
        all_cases = list(draw())
        references = [walk(case, torch.from_numpy) for case in all_cases]
    except Exception as error:  # noqa: BLE001  # the generator's mistake or the tracer's
        return {"reference": f"{type(error).__name__}: {error}"}, []
    for case, wanted in zip(all_cases, references, strict=True):
        if "LaTeX" not in found and (said := in_latex(case)):
            found["LaTeX"] = said
        dtypes = EPS if compiled else ["float64", "float32"]
        for dtype in ["float64"] if case.special else dtypes:
            kind = getattr(torch, dtype)
            right = wanted if dtype == "float64" else walk(case, lambda a: torch.from_numpy(a).to(kind))  # noqa: B023
            spread = cache(partial(spread_of, case, dtype, seed, shakes))
            for name, run in forms_of(case, dtype, compiled=compiled).items():
                if name not in found and (said := _said(run, right, spread, dtype)):
                    found[name] = said
            if dtype == "float64" and NODE:
                waiting += [Waiting(case, size, wanted, spread) for size in (None, SIZE)]
    return found, waiting


def by_javascript(waiting: Sequence[Waiting]) -> list[str]:
    """What differs in each of the walks, by one run of Node."""
    programs: list[str] = []
    raised: dict[int, str] = {}
    for k, one in enumerate(waiting):
        try:
            programs.append(javascript_of(one.case, one.size))
        except Exception as error:  # noqa: BLE001
            raised[k] = f"{type(error).__name__}: {error}"[:300]
            programs.append("null")
    told = run_javascript(programs) if programs else []
    return [
        raised.get(k) or _said(partial(walk_of, words, one.case), one.wanted, one.spread, "float64")
        for k, (one, words) in enumerate(zip(waiting, told, strict=True))
    ]


def failing_forms(draw: Draw, seed: int, *, compiled: bool = False, shakes: int = SHAKES) -> dict[str, str]:
    """What differs, by form."""
    found, waiting = by_numbers(draw, seed, compiled=compiled, shakes=shakes)
    for one, said in zip(waiting, by_javascript(waiting), strict=True):
        if said:
            found.setdefault(one.form, said)
    return found


def cases_of(rule: Drawn, seed: int) -> Draw:
    return lambda: cases(rule.rule(), seed)


def forms_of(case: Case, dtype: str, *, compiled: bool) -> dict[str, Callable[[], Walk]]:
    kind = getattr(torch, dtype)
    forms: dict[str, Callable[[], Walk]] = {}
    if dtype != "bfloat16":  # whose bits only compiled code takes apart
        forms[f"kernel's source, {dtype}"] = lambda: walk_by_kernel(case, PythonKernel, dtype)
    if dtype == "float64":
        forms |= {
            "numpy": lambda: walk(case, np.copy),
            "vmap": lambda: walk_by_vmap(case),
            "printed Python": lambda: walk_by_text(case),
            "lanes on tensors": lambda: walk_by_lane_tensors(case),
            "lanes' source": lambda: walk_by_lanes(case, compiled=False),
        }
        if not case.variant.reduces:
            forms["floats"] = lambda: walk_by_floats(case)
    if compiled:
        # Triton's interpreter cuts bfloat16 off where a GPU rounds to the nearest (`test_triton.py` looks at the machine code).
        backends = [b for b in BACKENDS if (b, dtype) != ("triton", "bfloat16")]
        forms |= {f"class, {backend}, {dtype}": partial(walk_by_class, case, kind, backend) for backend in backends}
        if dtype == "float64":
            forms["lanes"] = lambda: walk_by_lanes(case, compiled=True)
    return forms


def failing(draws: Mapping[int, Draw], *, compiled_each: int = 0) -> dict[int, dict[str, str]]:
    """What differs, by seed and form. All JavaScript runs at once."""
    found: dict[int, dict[str, str]] = {}
    waiting: list[tuple[int, Waiting]] = []
    for seed, draw in draws.items():
        forms, more = by_numbers(draw, seed, compiled=bool(compiled_each) and seed % compiled_each == 0)
        if forms:
            found[seed] = forms
        waiting += [(seed, one) for one in more]
    for (seed, one), said in zip(waiting, by_javascript([one for _, one in waiting]), strict=True):
        if said:
            found.setdefault(seed, {}).setdefault(one.form, said)
    for seed in list(found):
        compiled = bool(compiled_each) and seed % compiled_each == 0
        again = failing_forms(draws[seed], seed, compiled=compiled, shakes=AGAIN)
        if not again:
            del found[seed]
    return found


def drawn_cases(seeds: Iterable[int]) -> dict[int, Draw]:
    return {seed: cases_of(drawn(seed), seed) for seed in seeds}


def told(seed: int, forms: Mapping[str, str]) -> str:
    """The failure of a seed, with the simplest rule found that fails in the same form."""
    form = next(iter(forms))
    compiled = form.startswith(("class", "lanes")) and "source" not in form

    def fails(rule: Drawn) -> bool:
        found = failing_forms(cases_of(rule, seed), seed, compiled=compiled)
        return form in found and kind_of_difference(found[form]) == kind_of_difference(forms[form])

    rule = shrunk(drawn(seed), fails) if form != "reference" else drawn(seed)
    again = failing_forms(cases_of(rule, seed), seed, compiled=compiled)
    return f"seed {seed}: {', '.join(forms)}\n  {form}: {again.get(form, forms[form])}\n{rule.source.split('@rule')[1]}"


def kind_of_difference(said: str) -> str:
    return re.sub(r"[-\d.e+]+", "#", said)[:40] if "Error" in said else "numbers"

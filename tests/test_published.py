"""Published optimizers, in the catalogue and outside, each one rule: equal to its reference implementation, and the same in every form."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import published_adam
import published_adaptive
import published_catalogue
import published_steps
import pytest
import torch
from compare import apart
from drawn_forms import failing, failing_forms
from drawn_walks import Case, case_of
from published import Published
from thinning import thinned

from steprule import rules
from steprule.compiler.eager import step
from steprule.compiler.variant import variant_of

THEMES = {
    module.__name__: {name: value for name, value in vars(module).items() if isinstance(value, Published)}
    for module in (published_adam, published_adaptive, published_steps, published_catalogue)
}
PUBLISHED = {name: one for theme in THEMES.values() for name, one in theme.items()}
STEPS, MANY_STEPS = 12, 40
FORM_STEPS = 4
"""Enough to meet what begins late: AdaShift first moves at its fourth step."""
EACH = pytest.mark.parametrize("one", PUBLISHED.values(), ids=PUBLISHED)
Tensors = list[torch.Tensor]


@dataclass
class Walk:
    """Where both start, and the gradients that both are given: some steps long, some short."""

    starts: Tensors
    gradients: list[Tensors]


def walk_of(one: Published, steps: int) -> Walk:
    generator = torch.Generator().manual_seed(3)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    return Walk(
        [3 * draw(s) for s in one.shapes], [[draw(s) * draw(()).exp() for s in one.shapes] for _ in range(steps)]
    )


def flipped(hypers: Mapping[str, Any]) -> dict[str, Any]:
    """The same numbers with every flag the other way."""
    return {name: not value if isinstance(value, bool) else value for name, value in hypers.items()}


def by_rule(
    one: Published, hypers: Mapping[str, Any], walk: Walk, rates: Sequence[float] | None = None
) -> Iterator[tuple[Tensors, list[dict[str, Any]]]]:
    """The parameters and the states after each step."""
    params, states = list(walk.starts), [{} for _ in walk.starts]
    for t, gradients in enumerate(walk.gradients, 1):
        bound = one.rule.bind({**hypers, "lr": rates[t - 1]} if rates else hypers)
        pairs = [step(one.rule, p, g, s, t, bound) for p, g, s in zip(params, gradients, states, strict=True)]
        params, states = [p for p, _ in pairs], [s for _, s in pairs]
        yield params, states


@EACH
@pytest.mark.parametrize("steps", [STEPS, pytest.param(MANY_STEPS, marks=pytest.mark.long)])
def test_it_is_its_reference(one: Published, steps: int, float64_default: None) -> None:
    walk = walk_of(one, steps)
    compare(one, one.hypers, walk)
    if flipped(one.hypers) != one.hypers:
        compare(one, flipped(one.hypers), walk)


@pytest.mark.parametrize("one", THEMES["published_catalogue"].values(), ids=THEMES["published_catalogue"])
def test_it_is_its_reference_as_the_learning_rate_changes(one: Published, float64_default: None) -> None:
    """Up from nothing and down again: which rate a gradient counts with is a part of the rule."""
    walk = walk_of(one, STEPS)
    compare(one, one.hypers, walk, [one.hypers["lr"] * min(t - 1, STEPS + 1 - t) for t in range(1, STEPS + 1)])


def test_a_rate_of_zero_moves_nothing() -> None:
    """LaProp's authors divide by the rate and take 1 where it is zero, so theirs goes on; AdEMAMix may begin at beta1=0."""
    for name, others in (("laprop", {}), ("ademamix", {"beta1": 0.0, "warmup": 5.0})):
        rule = rules.get(name)
        p, state = step(rule, 1.0, 0.5, {}, 1, rule.bind({"lr": 0.1, **others}))
        assert p < 1.0
        again, state = step(rule, p, -3.0, state, 2, rule.bind({"lr": 0.0, **others}))
        assert again == p
        assert all(np.isfinite(value) for value in state.values() if value is not None)
        assert step(rule, 1.0, 0.5, {}, 1, rule.bind({"lr": 0.0, **others}))[0] == 1.0


def as_one(found: Any, wanted: Any) -> Any:
    """A number of a tensor in the shape in which the reference keeps it: [] or [1]."""
    return torch.as_tensor(found).reshape(wanted.shape) if wanted.numel() == 1 else found


def compare(one: Published, hypers: Mapping[str, Any], walk: Walk, rates: Sequence[float] | None = None) -> None:
    theirs = [s.clone().requires_grad_() for s in walk.starts]
    optimizer = one.reference(theirs, **hypers)
    for t, (params, states) in enumerate(by_rule(one, hypers, walk, rates), 1):
        if rates:
            for group in optimizer.param_groups:
                group["lr"] = rates[t - 1]
        for p, g in zip(theirs, walk.gradients[t - 1], strict=True):
            p.grad = g.clone()  # the reference may write to it
        optimizer.step()
        for mine, p, state in zip(params, theirs, states, strict=True):
            assert apart(mine, p) <= one.tolerance, f"p after step {t}"
            kept = {n: v for n, v in optimizer.state[p].items() if n in state and isinstance(v, torch.Tensor)}
            for name, value in kept.items():
                # A state that the rule begins later than the reference, at None, is nothing there yet.
                if state[name] is not None:
                    assert apart(as_one(state[name], value), value) <= one.tolerance, f"{name} after step {t}"


def is_seen(one: Published, walk: Walk, changed: Mapping[str, Any]) -> bool:
    """Whether a parameter or a state gets away from where it should be when hyperparameters change."""
    for found, right in zip(by_rule(one, {**one.hypers, **changed}, walk), by_rule(one, one.hypers, walk), strict=True):
        (params, states), (their_params, their_states) = found, right
        pairs = list(zip(params, their_params, strict=True))
        for state, theirs in zip(states, their_states, strict=True):
            pairs += [(v, theirs[n]) for n, v in state.items() if isinstance(v, torch.Tensor)]
        if max(apart(a, b) for a, b in pairs) > 100 * one.tolerance:
            return True
    return False


@EACH
def test_every_hyperparameter_counts(one: Published) -> None:
    """Else the comparison above says nothing about it. All are given, none at its default, and a little more of one is seen.

    A number that only a comparison reads, such as the step at which something begins, needs more than a little.
    """
    assert set(one.hypers) == set(one.rule.defaults)
    walk = walk_of(one, STEPS)
    for name, value in one.hypers.items():
        assert value != one.rule.defaults[name], f"{name} is at its default"
        others = [not value] if isinstance(value, bool) else [value * 1.01, value * 1.5]
        assert any(is_seen(one, walk, {name: other}) for other in others), f"{name} changes nothing"


def drawn_cases(one: Published) -> Iterator[Case]:
    """One case with plain values; a second one with every flag flipped and, where nothing is reduced, with nan, inf and their like."""
    seed = zlib.crc32(one.rule.name.encode())
    hypers = one.rule.bind(one.hypers)
    yield case_of(one.rule, hypers, np.random.default_rng(seed), steps=FORM_STEPS)
    others = flipped(hypers)
    special = not variant_of(one.rule, others).reduces
    if special or others != hypers:
        yield case_of(one.rule, others, np.random.default_rng(seed + 1), steps=FORM_STEPS, special=special)


# numpy warns of nan and inf, in Triton's interpreter and on its own.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("theme", THEMES)
def test_they_are_the_same_in_every_form(theme: str) -> None:
    found = failing({k: partial(drawn_cases, one) for k, one in enumerate(THEMES[theme].values())})
    assert not found, {list(THEMES[theme])[k]: forms for k, forms in found.items()}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("one", thinned(PUBLISHED.values(), 40, PUBLISHED))
def test_it_is_the_same_compiled(one: Published) -> None:
    found = failing_forms(lambda: islice(drawn_cases(one), 1), seed=0, compiled=True)
    assert not found, found


def test_each_is_in_the_catalogue_or_outside() -> None:
    assert len(PUBLISHED) >= 40
    assert set(PUBLISHED) & set(rules.CATALOGUE) == set(THEMES["published_catalogue"])
    assert {one.rule.name for one in PUBLISHED.values()} == set(PUBLISHED)

"""Parameters in bfloat16 and float16 without a float32 copy: rounding by chance, against a plain loop and against statistics."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from compare import apart
from rounded_by_hand import LOW, betas, by_chance, others
from scipy import stats
from tolerances import CHANCE, FORMS_FLOAT32, OTHER_ROUNDINGS
from torch import Tensor, nn

import steprule
from steprule import optim, rule
from steprule.compiler import eager, rounding
from steprule.compiler.drawing import Key
from steprule.errors import InputError, InputTypeError, RuleError
from steprule.hyper import Rate
from steprule.maths import noise
from steprule.optim.classes import class_of

EACH_DTYPE = pytest.mark.parametrize("dtype", LOW, ids=["bfloat16", "float16"])
SEED = 2**40 + 7
MULTIPLIES = ("Muon", "NorMuon", "Scion", "Dion")


def test_a_checkpoint_without_rounding_and_torchs_class() -> None:
    """Of torch's class, whose SGD counts no steps: rounding stays as it was set here. And back: torch's class takes ours."""
    p, q = nn.Parameter(torch.ones(64, dtype=torch.bfloat16)), nn.Parameter(torch.ones(64, dtype=torch.bfloat16))
    theirs = torch.optim.SGD([p], lr=1e-3, momentum=0.9)
    p.grad = torch.ones_like(p)
    theirs.step()
    ours = optim.SGD([q], lr=1e-3, momentum=0.9, rounding="stochastic", seed=2)
    ours.load_state_dict(theirs.state_dict())
    assert ours.param_groups[0]["rounding"] == "stochastic"
    assert ours.param_groups[0]["seed"] == 2
    q.grad = torch.ones_like(q)
    ours.step()
    assert ours.state[q]["step"] == 1
    assert len(set(q.tolist())) > 1, "a step below half of the distance between two numbers moves some"
    theirs.load_state_dict(ours.state_dict())
    theirs.step()


def test_groups_frozen_ones_and_groups_that_come_later() -> None:
    """A group may round otherwise; a parameter's number counts frozen ones; a group that is added has the seed and the rounding."""

    def made() -> list[nn.Parameter]:
        return [nn.Parameter(torch.ones(400, dtype=torch.bfloat16)) for _ in range(4)]

    a = made()
    optimizer = optim.SGD(
        [{"params": a[:1]}, {"params": a[1:3], "rounding": None}], lr=1e-3, rounding="stochastic", seed=9
    )
    optimizer.add_param_group({"params": a[3:]})
    assert [g["rounding"] for g in optimizer.param_groups] == ["stochastic", None, "stochastic"]
    for p in (a[0], a[2], a[3]):
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert len(set(a[0].tolist())) == len(set(a[3].tolist())) == 2
    assert len(set(a[2].tolist())) == 1, "to the nearest"
    assert not torch.equal(a[0], a[3]), "each tensor draws numbers of its own"
    for k in (0, 3):
        x = torch.full((400,), 1 - 1e-3)
        assert torch.equal(a[k], by_chance(x, a[k], 9, k, 1))
    b = made()
    told = optim.SGD([{"params": b[:2], "rounding": "stochastic"}, {"params": b[2:]}], lr=1e-3, seed=9)
    b[0].grad = torch.ones_like(b[0])
    told.step()
    assert torch.equal(a[0], b[0])


def test_the_seed_is_torchs_unless_said() -> None:
    def after(**seed: int) -> Tensor:
        p = nn.Parameter(torch.ones(300, dtype=torch.bfloat16))
        optimizer = optim.AdamW([p], lr=1e-3, rounding="stochastic", **seed)
        p.grad = torch.ones_like(p)
        optimizer.step()
        return p.detach()

    torch.manual_seed(7)
    first = after()
    assert torch.equal(first, after()), "nothing is drawn from torch's generator"
    assert torch.equal(first, after(seed=7))
    assert not torch.equal(first, after(seed=8))
    assert not torch.equal(after(seed=2**63), after(seed=0))


@pytest.mark.parametrize("seed", [np.int64(3), np.uint64(2**63 + 3), np.array(3), torch.tensor(3)], ids=repr)
def test_a_seed_of_another_library_is_saved_as_a_plain_number(seed: Any) -> None:
    """`torch.load` refuses a checkpoint with numpy's numbers, and a tensor could change afterwards."""
    p, q = (nn.Parameter(torch.ones(3, dtype=torch.bfloat16)) for _ in range(2))
    optimizer = optim.AdamW([p], rounding="stochastic", seed=seed)
    optimizer.add_param_group({"params": [q], "seed": seed})
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    groups = torch.load(file, weights_only=True)["param_groups"]
    assert [(type(g["seed"]), g["seed"]) for g in groups] == [(int, int(seed))] * 2


@pytest.mark.parametrize("backend", ["numba", "eager"])
def test_a_group_is_told_to_round_between_two_steps(backend: str) -> None:
    """It has torch's seed then, which the checkpoint has too; a seed that is none is refused before anything moves."""
    torch.manual_seed(11)
    ps = [nn.Parameter(torch.ones(300, dtype=torch.bfloat16)) for _ in range(2)]
    optimizer = optim.AdamW([{"params": [p]} for p in ps], lr=1e-3, weight_decay=0.0, backend=backend)
    for rounds in (False, True):
        if rounds:
            optimizer.param_groups[1]["rounding"] = "stochastic"
        for p in ps:
            p.grad = torch.ones_like(p)
        optimizer.step()
    assert [len(set(p.tolist())) for p in ps] == [1, 2]
    assert optimizer.state_dict()["param_groups"][1]["seed"] == 11
    before = [p.detach().clone() for p in ps]
    for seed, words in ((-1, "2\\^64 - 1, got -1"), (1.5, "a whole number, got 1.5")):
        optimizer.param_groups[1]["seed"] = seed
        with pytest.raises((InputError, InputTypeError), match=f"AdamW: seed: expected .*{words}"):
            optimizer.step()
        assert all(torch.equal(p, q) for p, q in zip(ps, before, strict=True))
        assert float(optimizer.state[ps[0]]["step"]) == 2.0


def test_a_rule_that_draws_noise_has_one_seed_for_both() -> None:
    @rule
    def shaken(p, g, *, lr: Rate = 0.01):  # type: ignore[no-untyped-def]
        return p - lr * g + 0.01 * noise(p)

    found = []
    for backend in ("numba", "eager"):
        p = nn.Parameter(torch.ones(500, dtype=torch.bfloat16))
        optimizer = optim.from_rule(shaken)([p], seed=4, rounding="stochastic", backend=backend)
        assert optimizer.param_groups[0]["seed"] == 4
        p.grad = torch.ones_like(p)
        optimizer.step()
        found.append(p.detach())
    assert others(*found) <= OTHER_ROUNDINGS * 500
    assert set(optimizer.state[p]) == {"step"}


def test_by_kind_and_what_stands_around_a_step() -> None:
    """A rule per kind of parameter, a scaler whose step is skipped, a closure, hooks: as without, and only steps that are taken count."""
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1)).to(torch.bfloat16)
    mixture = steprule.by_kind(matrix="muon", other="adamw")
    mixed = mixture(model, rounding="stochastic", seed=3, lr=1e-3, show=False)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for t in range(3):
        mixed.zero_grad()
        loss = model(torch.ones(4, 6, dtype=torch.bfloat16)).float().square().mean()
        scaler.scale(loss * (float("inf") if t == 1 else 1.0)).backward()
        scaler.step(mixed)
        scaler.update()
    assert {g["seed"] for g in mixed.param_groups} == {3}
    assert {float(s["step"]) for s in mixed.state.values()} == {2.0}
    mixed.step(lambda: model(torch.ones(4, 6, dtype=torch.bfloat16)).float().mean())
    assert {float(s["step"]) for s in mixed.state.values()} == {3.0}


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"rounding": "stochastik"}, InputError, "AdamW: rounding: expected 'stochastic'.*got 'stochastik'"),
        ({"rounding": True}, InputError, "AdamW: rounding: expected 'stochastic'"),
        ({"rounding": "stochastic", "seed": -1}, InputError, "whole number from 0 to 2\\^64 - 1, got -1"),
        ({"rounding": "stochastic", "seed": 1.5}, InputTypeError, "seed: expected a whole number, got 1.5"),
        ({"rounding": "stochastic", "seed": torch.tensor(1.5)}, InputTypeError, "AdamW: seed: expected a whole number"),
        (
            {"rounding": "stochastic", "seed": torch.tensor(True)},
            InputTypeError,
            "AdamW: seed: expected a whole number",
        ),
        ({"rounding": "stochastic", "seed": np.array([4, 5])}, InputTypeError, "AdamW: seed: expected a whole number"),
        ({"seed": 1}, InputError, "AdamW: seed: expected rounding='stochastic' beside it, got 1 alone"),
    ],
)
def test_bad_input(given: dict[str, Any], error: type[Exception], words: str) -> None:
    p = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    with pytest.raises(error, match=words):
        optim.AdamW([p], **given)
    if "rounding" in given:
        with pytest.raises(error, match="AdamW"):
            optim.AdamW([{"params": [p], **given}])


def test_what_has_no_meaning_is_refused() -> None:
    p = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    p.grad = torch.ones_like(p)
    with pytest.raises(RuntimeError, match="capturable together with rounding: torch's own step has no such part"):
        optim.AdamW([p], rounding="stochastic", capturable=True).step()
    optimizer = optim.AdamW([p], rounding="stochastic")
    optimizer.param_groups[0]["rounding"] = "up"
    with pytest.raises(InputError, match="AdamW: rounding: expected 'stochastic'"):
        optimizer.step()
    table = nn.Embedding(4, 2, sparse=True).to(torch.bfloat16)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match=r"sparse gradients.*together with rounding"):
        optim.SGD(table.parameters(), rounding="stochastic").step()

    @rule
    def seeded(p, g, *, lr: Rate = 0.01, seed: Rate = 1.0):  # type: ignore[no-untyped-def]
        return p - lr * seed * g

    optim.from_rule(seeded)([p], seed=2.0)
    with pytest.raises(InputError, match="a rule without a hyperparameter of that name"):
        optim.from_rule(seeded)([p], rounding="stochastic")

    @rule
    def rounded(p, g, *, rounding: Rate = 0.01):  # type: ignore[no-untyped-def]
        return p - rounding * g

    with pytest.raises(RuleError, match="by a name that torch's optimizers do not use"):
        optim.from_rule(rounded)


# The rounding itself.


@EACH_DTYPE
def test_every_random_number_once_gives_the_number_itself(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all 2^16 random numbers the mean is the number: so rounding is unbiased exactly, and by nothing but its two neighbours."""
    random = torch.arange(2**16, dtype=torch.int32)
    monkeypatch.setattr(rounding, "numbers16", lambda like, key, step, draw: random)
    like = torch.empty(2**16, dtype=dtype)
    tiny = (1e-20, 1e-40, -(2.0**-130)) if dtype is torch.bfloat16 else ()
    for value in (1.001, -1.001, 0.7654321, 3e-3, -6.2e-5, 1.5e-6, 6e4, 2.0**-24 * 5.25, *tiny):
        x = torch.full((2**16,), value)
        found = rounding.rounded(x, like, Key(), 1)
        near = torch.tensor(sorted(set(found.double().tolist())), dtype=torch.float64)
        assert len(near) <= 2
        assert near.min() <= x[0].double() <= near.max()
        gap = float(near.max() - near.min())
        # Of float16 below 2^-14 the probability is one of 2^16.
        slack = gap * 2.0**-16 if dtype is torch.float16 else 0.0
        assert abs(float(found.double().mean() - x[0].double())) <= slack


@EACH_DTYPE
def test_special_values(dtype: torch.dtype) -> None:
    """What the dtype has stays, of both signs; inf and nan go through; the largest finite number does not overflow."""
    every = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype)
    for backend in ("numba", "eager"):
        p = nn.Parameter(every.clone())
        optimizer = optim.SGD([p], lr=1.0, rounding="stochastic", seed=1, backend=backend)
        p.grad = torch.zeros_like(p)
        optimizer.step()
        there = ~every.isnan()
        assert torch.equal(p[there], every[there])
        assert torch.equal(p[there].signbit(), every[there].signbit())
        assert p[~there].isnan().all()
    most = torch.finfo(dtype).max
    x = torch.tensor([most, -most, most * (1 + 2.0**-12), 3.3e38, -3.3e38, float("inf"), 1e-45, -0.0]).repeat(999)
    found = rounding.rounded(x, torch.empty_like(x, dtype=dtype), Key(3), 1).reshape(999, 8)
    assert (found[:, 0] == most).all()
    assert (found[:, 1] == -most).all()
    assert set(found[:, 2].tolist()) == {most, math.inf}, "as if there were a next one"
    assert (found[:, 5] == math.inf).all()
    assert found[:, 7].signbit().all()


@EACH_DTYPE
@pytest.mark.parametrize("value", [1.0, -1.0, 1e-3, 3e-5, -2e-7, 1e-39])
def test_many_steps_move_by_their_mean(value: float, dtype: torch.dtype) -> None:
    """A step far below the distance of two numbers: the probability is the share of the distance, and the mean is exact."""
    size, generator = 200_000, np.random.default_rng(0)
    start = torch.tensor(value, dtype=dtype)
    if start == 0:
        pytest.skip("below the smallest number")
    far = torch.nextafter(start, torch.tensor(math.copysign(math.inf, value), dtype=dtype)) - start
    for share in (0.004, 0.3, 0.97, generator.random()):
        p = nn.Parameter(torch.full((size,), value, dtype=dtype))
        optimizer = optim.SGD([p], lr=1.0, rounding="stochastic", seed=int(share * 1e6))
        optimizer.param_groups[0]["lr"] = float(far) * share
        p.grad = -torch.ones_like(p)
        optimizer.step()
        exact = float(np.float32(float(start)) + np.float32(np.float32(float(far) * share)))
        chance = (exact - float(start)) / float(far)
        moved = int((p != start).sum())
        assert abs(moved - chance * size) <= CHANCE * math.sqrt(size * chance * (1 - chance)) + size * 2.0**-16, share
        assert set(p.detach().tolist()) <= {float(start), float(start + far)}


def test_a_thousand_steps_add_up() -> None:
    """1 + 1,000 steps of 1e-4, which all are lost to the nearest, come to 1.1 with the error of a random walk."""
    found = {}
    for how in (None, "stochastic"):
        p = nn.Parameter(torch.ones(2_000, dtype=torch.bfloat16))
        optimizer = optim.SGD([p], lr=1e-4, rounding=how)
        for _ in range(1_000):
            p.grad = -torch.ones_like(p)
            optimizer.step()
        found[how] = p.detach().double()
    assert (found[None] == 1.0).all()
    gap, share = 2.0**-7, 1e-4 * 2**7
    spread = math.sqrt(1_000 * share * (1 - share)) * gap
    assert abs(float(found["stochastic"].mean()) - 1.1) <= CHANCE * spread / math.sqrt(2_000)
    assert abs(float(found["stochastic"].std()) - spread) <= CHANCE * spread / math.sqrt(2 * 2_000)


def _moved(name: str, **settings: Any) -> float:
    """How far 1,000 steps of 1e-4 come from 1, in bfloat16 unless nothing is said."""
    p = nn.Parameter(torch.ones(20_000, dtype=torch.bfloat16 if "rounding" in settings else torch.float32))
    optimizer: Any = class_of(name)([p], lr=1e-4, **settings)
    for _ in range(1_000):
        p.grad = -torch.ones_like(p)
        optimizer.step()
    optimizer.eval()
    return float(p.detach().double().mean()) - 1


def test_what_states_in_bfloat16_lose_is_as_the_page_says() -> None:
    """Three places behind the point, as in its table: to the nearest they stand still, by chance they do not."""
    kahan, chance = {"rounding": "kahan"}, {"rounding": "stochastic", "seed": 1}
    for name, wanted in {"AdamW": [0.1, 0.125, 0.102, 0.1], "ScheduleFreeSGD": [0.05, 0.0, 0.047, 0.05]}.items():
        own = {"weight_decay": 0.0} if name == "AdamW" else {}
        ways = ({}, kahan, {**kahan, "state_dtype": torch.float32}, chance)
        assert [round(_moved(name, **way, **own), 3) for way in ways] == wanted


@EACH_DTYPE
@pytest.mark.parametrize("share", [0.004, 0.3, 0.97])
def test_a_state_has_the_mean_of_what_was_computed(share: float, dtype: torch.dtype) -> None:
    """A momentum between two numbers, of the parameter's dtype and of a float32 parameter's `state_dtype`."""
    size, start = 200_000, 1.5
    gap = {torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}[dtype]
    for of, wanted in ((dtype, None), (torch.float32, dtype)):
        if wanted is torch.float16:
            continue
        p = nn.Parameter(torch.ones(size, dtype=of))
        optimizer = optim.SGD([p], lr=1e-3, momentum=1.0, rounding="stochastic", seed=3, state_dtype=wanted)
        for g in (start, share * gap):
            p.grad = torch.full_like(p, g)
            optimizer.step()
        held = optimizer.state[p]["momentum_buffer"]
        assert held.dtype is dtype
        # The gradient of the second step is one that the parameter's dtype has.
        chance = float(p.grad[0]) / gap
        up = int((held == start + gap).sum())
        assert abs(up - chance * size) <= CHANCE * math.sqrt(size * chance * (1 - chance)) + size * 2.0**-13
        assert set(held.tolist()) == {start, start + gap}


@pytest.mark.parametrize("backend", ["numba", "eager"])
def test_states_of_float32_parameters_are_rounded_by_chance_too(backend: str) -> None:
    """As a plain loop rounds them, each state by random numbers of its own; the parameter is stepped from them, in float32."""
    p, generator = nn.Parameter(torch.linspace(-2, 2, 301)), torch.Generator().manual_seed(0)
    by = {"rounding": "stochastic", "seed": SEED, "state_dtype": torch.bfloat16}
    optimizer = optim.AdamW(
        [{"params": [nn.Parameter(torch.ones(1))]}, {"params": [p]}], lr=1e-3, backend=backend, **by
    )
    for t in (1, 2, 3):
        g = torch.randn(301, generator=generator)
        held = {n: v.float() for n, v in optimizer.state.get(p, {}).items() if n != "step"}
        new, state = eager.step(
            optimizer.rule, p.detach().clone(), g, held, t, optimizer.rule.bind({"lr": 1e-3, **betas(optimizer)})
        )
        p.grad = g
        optimizer.step()
        assert apart(p, new) <= FORMS_FLOAT32
        for k, name in enumerate(("exp_avg", "exp_avg_sq")):
            draw = 0xFFFF - 1 - [s.name for s in optimizer.rule.slots].index(name)
            found = optimizer.state[p][name]
            wanted = by_chance(state[name], found, SEED, 1, t, draw)
            assert others(found, wanted) <= (0 if backend == "eager" else OTHER_ROUNDINGS * 301), k


def test_random_numbers_are_even_and_nothing_repeats() -> None:
    size = 2**19
    like = torch.empty(size, dtype=torch.bfloat16)
    base = rounding.numbers16(like, Key(5, 1), 3).numpy()
    counts = np.bincount(base // 256, minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-3
    assert stats.chisquare(np.bincount(base % 256, minlength=256)).pvalue > 1e-3
    again = [Key(6, 1), Key(5 + 2**32, 1), Key(5, 2)]
    rest = [rounding.numbers16(like, key, 3).numpy() for key in again]
    rest += [rounding.numbers16(like, Key(5, 1), 4).numpy()]
    slots = [rounding.draw_of(optim.AdamW.rule, name) for name in ("exp_avg", "exp_avg_sq")]
    rest += [rounding.numbers16(like, Key(5, 1), 3, draw).numpy() for draw in slots]
    for other in (*rest, *(np.roll(base, k) for k in (1, 2, 4, 8))):
        assert abs(np.corrcoef(base, other)[0, 1]) <= CHANCE / math.sqrt(size)


@EACH_DTYPE
def test_states_kept_finer_by_hand_are_not_rounded_to_the_parameters_dtype(dtype: torch.dtype) -> None:
    """States in float32 beside a low parameter, as a checkpoint of a finer model has them: both forms keep what float32 holds."""
    found = []
    for backend in ("numba", "eager"):
        p = nn.Parameter(torch.ones(300, dtype=dtype))
        optimizer = optim.Adam([p], lr=1e-3, backend=backend)
        state = {name: torch.zeros(300) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[p] = {"step": torch.tensor(0.0), **state}
        for t in range(3):
            p.grad = torch.linspace(-1, 1, 300).mul(t + 1).to(dtype)
            optimizer.step()
        found.append(optimizer.state[p]["exp_avg"].clone())
        assert found[-1].dtype is torch.float32
    assert not torch.equal(found[0], found[0].to(dtype).float())
    assert apart(*found) <= FORMS_FLOAT32

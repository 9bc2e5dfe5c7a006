"""What users do with an optimizer: groups, schedulers, hooks, torch.compile, scalers, rules of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from compare import all_apart
from tolerances import CLASS_FLOAT32_RUN, CLASS_FLOAT64, ROUNDED32, SUMMED32
from torch import Tensor, nn
from torch.optim import lr_scheduler

import steprule
from steprule import optim, rules
from steprule.errors import InputError, RuleError


def test_groups_schedulers_hooks_closures_and_accumulation() -> None:
    def train(kind: type[torch.optim.Optimizer]) -> tuple[list[Tensor], list[str]]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        model[0].bias.requires_grad_(False)
        optimizer = kind([{"params": model[0].parameters(), "lr": 0.05}], lr=0.01)
        optimizer.add_param_group({"params": model[2].parameters(), "weight_decay": 0.1})
        calls: list[str] = []
        optimizer.register_step_pre_hook(lambda *a: calls.append("before"))
        optimizer.register_step_post_hook(lambda *a: calls.append("after"))
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, [0.1, 0.05], total_steps=20, cycle_momentum=False)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
        for k in range(15):
            x = torch.randn(8, 4)

            def closure() -> Tensor:
                optimizer.zero_grad(set_to_none=k % 2 == 0)  # noqa: B023
                for part in x.split(4):  # noqa: B023
                    (model(part).square().mean() / 2).backward()
                return model(x).square().mean()  # noqa: B023

            loss = optimizer.step(closure)
            assert loss is not None
            scheduler.step()
            plateau.step(float(loss.detach()))
        return [p.detach() for p in model.parameters()], calls

    for name in ("SGD", "Adam", "RMSprop", "RAdam"):
        a, calls = train(getattr(optim, name))
        b, _ = train(getattr(torch.optim, name))
        assert all_apart(a, b) <= CLASS_FLOAT32_RUN
        assert calls == ["before", "after"] * 15


SCHEDULERS: dict[str, Any] = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda k: 0.9**k),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda k: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2, 0.5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 4]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.3, 3),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1, 1.0, 4),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.8),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 8, 2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 5),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, step_size_up=2),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=12),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ExponentialLR(o, 0.9), lr_scheduler.ConstantLR(o, 0.5, 3)]
    ),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 2), lr_scheduler.ExponentialLR(o, 0.9)], [2]
    ),
}


def test_every_scheduler_of_torch_is_in_the_table() -> None:
    public = {n for n in lr_scheduler.__all__ if n not in ("LRScheduler", "SWALR")}
    assert public <= {*SCHEDULERS}, public - {*SCHEDULERS}


@pytest.mark.parametrize("make", SCHEDULERS.values(), ids=list(SCHEDULERS))
@pytest.mark.parametrize("name", ["Adam", "RMSprop", "SGD"])
def test_schedulers(name: str, make: Any, float64_default: None) -> None:
    """Those that cycle the momentum (or beta1) too; none compiles anything anew."""
    ends = []
    for module in (optim, torch.optim):
        p = torch.ones(3, requires_grad=True)
        optimizer = getattr(module, name)([p], lr=0.1, **({"momentum": 0.9} if name != "Adam" else {}))
        scheduler = make(optimizer)
        for k in range(10):
            p.grad = p.detach() * (1 + k % 3)
            optimizer.step()
            scheduler.step(
                *([float(p.detach().sum())] if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else [])
            )
        ends.append(p.detach())
    assert all_apart([ends[0]], [ends[1]]) <= CLASS_FLOAT64


@pytest.mark.filterwarnings("ignore")  # torch.compile's own, of its version and machine
def test_inside_torch_compile() -> None:
    """The graph breaks at the step and nowhere deeper; the numbers are those of the plain loop."""
    ends = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        optimizer = optim.Adam(model.parameters(), lr=0.1)

        def train() -> Tensor:
            optimizer.zero_grad()  # noqa: B023
            loss = model(torch.ones(4, 3)).square().mean()  # noqa: B023
            loss.backward()
            optimizer.step()  # noqa: B023
            return loss

        step = torch.compile(train, backend="eager") if compiled else train
        for _ in range(5):
            step()
        ends.append(model.weight.detach())
    assert torch.allclose(ends[0], ends[1], rtol=ROUNDED32, atol=0)


def test_tied_parameters_move_once() -> None:
    for kind in (optim.Adam, torch.optim.Adam):
        torch.manual_seed(0)
        a = nn.Linear(3, 3, bias=False)
        b = nn.Linear(3, 3, bias=False)
        b.weight = a.weight
        optimizer = kind(nn.ModuleList([a, b]).parameters(), lr=0.1)
        assert len(optimizer.param_groups[0]["params"]) == 1
        b(a(torch.ones(2, 3))).sum().backward()
        before = a.weight.detach().clone()
        optimizer.step()
        assert (before - a.weight).abs().max().item() == pytest.approx(0.1, rel=SUMMED32)


def test_grad_scaler() -> None:
    def train(kind: type[torch.optim.Optimizer]) -> Tensor:
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        optimizer = kind(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
        for k in range(6):
            optimizer.zero_grad()
            loss = model(torch.ones(2, 3)).square().mean() * (float("inf") if k == 3 else 1.0)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        return model.weight.detach()

    assert torch.allclose(train(optim.Adam), train(torch.optim.Adam), rtol=SUMMED32, atol=0)
    assert not train(optim.Adam).isnan().any()


def test_nothing_compiles_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most one compilation per rule, variant and dtype: not for an lr, a scheduler, a step, another model."""
    from steprule.compiler import cache
    from steprule.optim import buckets as plan

    plan.kernel_for.cache_clear()
    built: list[str] = []
    load = cache.load
    monkeypatch.setattr(cache, "load", lambda kind, *rest: built.append(kind) or load(kind, *rest))
    for width in (3, 50, 400):
        model = nn.Sequential(nn.Linear(4, width), nn.Linear(width, 1))
        optimizer = optim.Adam(model.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
        for k in range(10):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).sum().backward()
            optimizer.param_groups[0]["betas"] = (0.9 - k / 100, 0.99)
            optimizer.step()
            scheduler.step()
    assert built == ["adam_numba"]


def test_from_rule_and_the_constructors_errors() -> None:
    Mine = optim.from_rule("rmsprop_eps_inside")
    p = torch.ones(2, requires_grad=True)
    optimizer = Mine([p], lr=0.1, weight_decay=0.1)
    p.grad = torch.ones(2)
    optimizer.step()
    wanted, _, *_ = (*rules.rmsprop_eps_inside(1.0, 1.1, 0.0, lr=0.1), None)
    assert p[0].item() == pytest.approx(wanted, rel=ROUNDED32)
    assert list(optimizer.state[p]) == ["step", "square_avg"]
    for bad, words in (({"lr": -1}, "lr"), ({"lrr": 1}, "Did you mean 'lr'"), ({"alpha": 1.0}, "alpha")):
        with pytest.raises(ValueError, match=words):
            Mine([p], **bad)
    for name in optim.NAMES:
        with pytest.raises((ValueError, TypeError)):
            getattr(optim, name)([p], lr=-1.0)
        with pytest.raises(ValueError, match="empty parameter list"):
            getattr(optim, name)([], lr=0.1)
    optimizer.backend = "cuda"  # type: ignore[assignment]
    optimizer._plans.clear()
    with pytest.raises(ValueError, match="one of auto, eager, numba"):
        optimizer.step()


# A rule whose numbers have the names that the classes use for something else.


@pytest.mark.parametrize(
    "name", ["self", "params", "betas", "zero_grad", "backend", "fused", "capturable", "differentiable"]
)
def test_a_hyperparameter_by_a_name_of_torchs_is_refused(name: str) -> None:
    space: dict[str, Any] = {}
    exec(f"def own(p, g, *, lr=0.1, {name}=2.0):\n    return p - lr * {name} * g", space)
    with pytest.raises(
        RuleError, match=f"rule own: expected a hyperparameter by a name .* got {name}. Call it otherwise"
    ):
        optim.from_rule(steprule.rule(space["own"]))


def test_a_slot_called_step_is_refused() -> None:
    @steprule.rule
    def own(p, g, step, *, lr=0.1):  # type: ignore[no-untyped-def]
        return p - lr * (step + g), step + g

    with pytest.raises(RuleError, match=r"state\['step'\] is the number of steps taken, got step"):
        optim.from_rule(own)


@steprule.rule
def borrowing(p, g, ema, *, lr=0.1, scaled=3.0, grad_scale=0.5, clip_norm=2.0, clip_value=7.0):  # type: ignore[no-untyped-def]
    """Numbers by the names of the parts, none of which means what the part means."""
    ema = 0.5 * ema + clip_value * g
    return p - lr * scaled * grad_scale * clip_norm * ema, ema


@steprule.rule
def named_as_decay(p, g, weight_decay, maximize, *, lr=0.1):  # type: ignore[no-untyped-def]
    """Slots by the names of the parts' hyperparameters."""
    weight_decay = weight_decay + g
    maximize = 2 * maximize + weight_decay
    return p - lr * maximize, weight_decay, maximize


@pytest.mark.parametrize("backend", ["numba", "eager"])
@pytest.mark.parametrize("rule", [borrowing, named_as_decay], ids=["hyperparameters", "slots"])
def test_a_rule_that_uses_the_names_of_parts(rule: rules.Rule, backend: str) -> None:
    """Its own numbers are meant; the part of that name is left out, and what would need it says so."""
    p = torch.ones(3, requires_grad=True)
    optimizer = optim.from_rule(rule)([p], backend=backend)
    wanted: Any = (1.0, *(0.0 for _ in rule.slots))
    for k in range(1, 4):
        p.grad = torch.full((3,), 0.01 * k)
        optimizer.step()
        wanted = rule(wanted[0], 0.01 * k, *wanted[1:])
        assert p.detach() == pytest.approx(wanted[0], rel=SUMMED32)
    if rule is borrowing:
        with (
            pytest.raises(InputError, match="ema_weights: expected an average of the weights"),
            optimizer.ema_weights(),
        ):
            pass
        with pytest.raises(
            InputError, match="fused_unscale: expected a rule without a scaled or grad_scale of its own"
        ):
            optim.from_rule(rule)([p], fused_unscale=True)


def test_clip_norm_measures_by_the_parts_that_the_rule_has() -> None:
    """A rule with a clip_value of its own meaning has no clip by value, so its gradients' norm is that of all of them."""

    @steprule.rule
    def own(p, g, *, lr=0.1, clip_value=1e-3):  # type: ignore[no-untyped-def]
        return p - lr * g + clip_value

    for backend in ("numba", "eager"):
        p = torch.zeros(4, requires_grad=True)
        p.grad = torch.full((4,), 5.0)
        optim.from_rule(own)([p], clip_norm=1.0, backend=backend).step()
        assert p.detach() == pytest.approx(-0.1 * 0.5 + 1e-3, rel=SUMMED32)


@pytest.mark.parametrize("name", ["lr", "weight_decay", "maximize", "eps"])
def test_a_missing_key_of_torchs_is_torchs_error(name: str) -> None:
    for module in (torch.optim, optim):
        p = torch.ones(3, requires_grad=True)
        optimizer = module.Adam([p])
        p.grad = torch.ones(3)
        optimizer.step()
        del optimizer.param_groups[0][name]
        with pytest.raises(KeyError, match=name):
            optimizer.step()

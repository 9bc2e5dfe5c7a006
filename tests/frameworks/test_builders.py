"""How timm and torchtitan build optimizers: groups by layer, by pattern, and checkpoints by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from same import OURS, RESUMED, TORCHS, Trained, assert_differ, assert_same, both, needed, weights_of
from tolerances import CLASS_BFLOAT16_RUN
from torch import nn

import steprule

timm, titan = needed("timm.optim", "torchtitan.components.optimizer")
(vit,) = needed("timm.models.vision_transformer")
(schedulers,) = needed("timm.scheduler")
(clipping,) = needed("timm.utils")
pytestmark = pytest.mark.long

RATES = {"lr": 1e-2, "weight_decay": 0.05}


def model() -> Any:
    torch.manual_seed(0)
    return vit.VisionTransformer(img_size=8, patch_size=4, embed_dim=16, depth=3, num_heads=2, num_classes=5)


def train(
    net: nn.Module, optimizer: Any, steps: int = 8, start: int = 0, clip: Callable[..., Any] | None = None
) -> Trained:
    losses = []
    for t in range(start, start + steps):
        torch.manual_seed(t)
        x = torch.randn(8, 3, 8, 8)
        loss = nn.functional.cross_entropy(net(x), (x.mean((1, 2, 3)) * 40).long() % 5)
        optimizer.zero_grad()
        loss.backward()
        if clip is not None:
            clip(net.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    return Trained(losses, weights_of(net))


# timm

CLASSES = {"adamw": "AdamW", "sgd": "SGD", "adam": "Adam", "nadam": "NAdam", "adagrad": "Adagrad", "rmsprop": "RMSprop"}
TIMMS = {"adamw", "sgd", "adam", "adagrad"}
"""The names under which timm has torch's own classes."""


@pytest.fixture
def registered() -> Any:
    """timm's registry as it is, and our classes in it behind the word `rule`."""
    for name, kind in CLASSES.items():
        info = timm._optim_factory.default_registry.get_optimizer_info(name)
        for word, module in (("rule", OURS), ("torch", TORCHS)):
            settings = {"has_eps": info.has_eps, "has_momentum": info.has_momentum, "has_betas": info.has_betas}
            if name == "sgd":
                settings["defaults"] = {"nesterov": True}
            timm._optim_factory.default_registry.register(
                timm.OptimInfo(name=f"{word}{name}", opt_class=getattr(module, kind), **settings)
            )
    yield
    for name in CLASSES:
        for word in ("rule", "torch"):
            del timm._optim_factory.default_registry._optimizers[word + name]


@pytest.mark.parametrize("settings", [{}, {"layer_decay": 0.7}, {"layer_decay": 0.7, "foreach": True}], ids=str)
@pytest.mark.parametrize("name", CLASSES)
def test_by_timms_factory(name: str, settings: dict[str, Any], registered: Any) -> None:
    if name == "rmsprop" and "foreach" not in settings:
        settings = {**settings, "momentum": 0.5}
    runs = []
    for word in ("rule", "torch"):
        net = model()
        made = timm.create_optimizer_v2(net, word + name, **RATES, **settings)
        assert len(made.param_groups) == (2 if "layer_decay" not in settings else 10)
        runs.append(train(net, made))
    assert_same(*runs)
    if name in TIMMS:
        net = model()
        assert_same(train(net, timm.create_optimizer_v2(net, name, **RATES, **settings)), runs[1])


def scheduled(module: Any, layer_decay: float = 0.7, mode: str | None = None) -> Trained:
    """timm's schedules multiply each group's rate by its `lr_scale`."""
    net = model()
    optimizer = module.AdamW(timm.param_groups_layer_decay(net, weight_decay=0.05, layer_decay=layer_decay), **RATES)
    schedule = schedulers.CosineLRScheduler(optimizer, t_initial=8, warmup_t=2, warmup_lr_init=1e-4)
    losses: list[float] = []
    for t in range(8):
        schedule.step(t)
        clip = None if mode is None else lambda params: clipping.dispatch_clip_grad(params, 0.05, mode)
        losses += train(net, optimizer, 1, t, clip).losses
    return Trained(losses, weights_of(net))


@pytest.mark.parametrize("mode", [None, "norm", "value", "agc"])
def test_with_timms_clipping_and_schedule(mode: str | None) -> None:
    assert_same(*both(lambda module: scheduled(module, mode=mode)))


def test_the_settings_act() -> None:
    plain = scheduled(OURS)
    for other in ({"layer_decay": 1.0}, {"mode": "norm"}, {"mode": "value"}, {"mode": "agc"}):
        assert_differ(scheduled(OURS, **other), plain)  # type: ignore[arg-type]


def test_lookahead_of_timm() -> None:
    def run(module: Any) -> Trained:
        net = model()
        return train(net, timm.Lookahead(module.AdamW(net.parameters(), **RATES), k=3))

    assert_same(*both(run))


@pytest.mark.parametrize("saves_and_goes_on", RESUMED.values(), ids=list(RESUMED))
def test_timms_groups_resumed(saves_and_goes_on: tuple[Any, Any]) -> None:
    def made(module: Any) -> tuple[Any, Any]:
        net = model()
        return net, module.AdamW(timm.param_groups_layer_decay(net, weight_decay=0.05, layer_decay=0.7), **RATES)

    whole = train(*made(TORCHS))
    first, second = map(made, saves_and_goes_on)
    train(*first, steps=4)
    for half, other in zip(first, second, strict=True):
        other.load_state_dict(half.state_dict())
    assert_same(train(*second, steps=4, start=4), Trained(whole.losses[4:], whole.weights))


# torchtitan


class Rules(titan.OptimizersContainer):  # type: ignore[misc, name-defined]
    """torchtitan's container takes classes by name, from this method."""

    @staticmethod
    def _resolve_optimizer_factory(name: str) -> Any:
        return getattr(OURS, name)


CONTAINERS = {id(OURS): Rules, id(TORCHS): titan.OptimizersContainer}


def container(module: Any, kind: Any = None, implementation: str = "for-loop", **settings: Any) -> tuple[Any, Any]:
    """Two groups by pattern, of one class or of two."""
    net = model()
    groups = [
        titan.ParamGroupConfig(pattern=r"\.bias$|norm", optimizer_name="Adam", optimizer_kwargs={"lr": 3e-3}),
        titan.ParamGroupConfig(pattern=r".*", optimizer_name="AdamW", optimizer_kwargs={**RATES, **settings}),
    ]
    config = titan.OptimizersContainer.Config(param_groups=groups, implementation=implementation)
    return net, (kind or CONTAINERS[id(module)])(config, model_parts=[net])


@pytest.mark.parametrize("implementation", ["for-loop", "foreach", "fused"])
def test_by_torchtitans_container(implementation: str) -> None:
    assert_same(*both(lambda module: train(*container(module, implementation=implementation))))


def test_torchtitans_states_in_bfloat16() -> None:
    """Its hook begins the states in bfloat16. torch's classes step such on a GPU only, so float32 is what these are held to."""
    net, made = container(OURS, implementation="fused_opt_states_bf16")
    losses = train(net, made).losses
    assert {s["exp_avg"].dtype for optimizer in made for s in optimizer.state.values()} == {torch.bfloat16}
    assert losses == pytest.approx(train(*container(TORCHS)).losses, rel=CLASS_BFLOAT16_RUN)


@pytest.mark.parametrize("implementation", ["for-loop", "foreach", "fused"])
def test_torchtitans_container_of_what_torch_lacks(implementation: str) -> None:
    """A class of the catalogue by its name, resumed exactly; the container gives every group torch's switches."""

    def made() -> tuple[Any, Any]:
        net = model()
        lion = titan.ParamGroupConfig(pattern=r".*", optimizer_name="Lion", optimizer_kwargs={"lr": 1e-3})
        config = titan.OptimizersContainer.Config(param_groups=[lion], implementation=implementation)
        return net, Rules(config, model_parts=[net])

    (net, first), (other, second) = made(), made()
    train(net, first, steps=4)
    second.load_state_dict(first.state_dict())
    other.load_state_dict(net.state_dict())
    whole = train(net, first, steps=4, start=4)
    assert train(other, second, steps=4, start=4).losses == whole.losses
    alone = model()
    assert train(alone, OURS.Lion(alone.parameters(), lr=1e-3)).losses[4:] == whole.losses


@pytest.mark.parametrize("saves_and_goes_on", RESUMED.values(), ids=list(RESUMED))
def test_torchtitans_flat_checkpoints(saves_and_goes_on: tuple[Any, Any]) -> None:
    whole = train(*container(TORCHS))
    (net, first), (other, second) = map(container, saves_and_goes_on)
    train(net, first, steps=4)
    second.load_state_dict(first.state_dict())
    other.load_state_dict(net.state_dict())
    assert_same(train(other, second, steps=4, start=4), Trained(whole.losses[4:], whole.weights))


def test_torchtitans_flat_checkpoints_with_what_torch_lacks() -> None:
    own = {"ema_decay": 0.9, "clip_norm": 0.1}
    net, first = container(OURS, **own)
    train(net, first, steps=4)
    other, second = container(OURS, **own)
    second.load_state_dict(first.state_dict())
    other.load_state_dict(net.state_dict())
    assert train(other, second, steps=4, start=4).losses == train(net, first, steps=4, start=4).losses


def test_a_clipping_that_begins_behind_torchs_flat_checkpoint() -> None:
    """The flat loader asks a checkpoint for each key of the live groups: what torch's class lacks is set behind it."""
    net, first = container(TORCHS)
    train(net, first, steps=4)
    other, second = container(OURS, clip_norm=0.1)
    with pytest.raises(KeyError, match="clip_norm"):
        second.load_state_dict(first.state_dict())
    other, second = container(OURS)
    second.load_state_dict(first.state_dict())
    other.load_state_dict(net.state_dict())
    for optimizer in second:
        optimizer.param_groups[0]["clip_norm"] = 0.01
    plain = train(net, first, steps=4, start=4)
    assert_differ(train(other, second, steps=4, start=4), plain)
    assert steprule.optim.AdamW in map(type, second)

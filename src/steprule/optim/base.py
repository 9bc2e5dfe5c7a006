"""The step that all optimizer classes share: closure, groups, states in torch's layout, and the way to the kernel."""

from __future__ import annotations

import inspect
import operator
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from steprule.compiler import eager
from steprule.errors import InputError, InputTypeError
from steprule.hyper import Slot
from steprule.optim import plan as planning
from steprule.optim.forms import BACKENDS, Backend, Form, form_for
from steprule.optim.watched import WatchedState, WatchedStates
from steprule.rules.parts import gradient_norm
from steprule.rules.rule import Rule

BEYOND = """What torch's constructors lack, each off by default and then free; each a key of the parameter groups too:

- `clip_value`: bring each element of the gradient into [-clip_value, clip_value]; 0 is off.
- `clip_norm`: shrink the gradients so that their norm, over all parameters of all groups that clip, is at most this;
  0 is off. As `torch.nn.utils.clip_grad_norm_`, but the gradients themselves stay as they are.
- `decoupled_weight_decay`: decay the parameter beside the step, not through the gradient, in every class.
- `ema_decay`: keep an exponential moving average of the weights, state `ema`; 0 is off. See `ema_weights`.
- `zero_grad`: zero the gradients in the same pass over memory, so that `optimizer.zero_grad()` need not be called.
- `backend`: "auto" (Numba's kernel on the CPU, Triton's on an NVIDIA GPU, the eager form elsewhere), "eager", "numba" or
  "triton"; of the optimizer, not of a group.

A `torch.amp.GradScaler` that steps the optimizer has it unscale the gradients in the same pass, and skip the step where
one is not finite; the gradients themselves stay scaled.

`foreach` and `fused` are accepted and change nothing: there is one form, and it is fused. `capturable` and
`differentiable` run torch's own step, which has no kernel of ours, nor clipping or averaging. `maximize` goes up."""


class _Shared:
    """The one-number-a-tensor values of a group, `step` and such slots: one array each, 0-dim views into it as states."""

    def __init__(self, names: Mapping[str, float], params: list[Tensor], states: Sequence[dict[str, Any]]) -> None:
        self.arrays: dict[str, Tensor] = {}
        self.numbers: dict[str, NDArray[Any]] = {}
        for name, start in names.items():
            held = [s.get(name) for s in states]
            first = next((h for h in held if isinstance(h, Tensor)), None)
            dtype = first.dtype if first is not None and first.is_floating_point() else _scalar_dtype()
            array = torch.tensor([float(start if h is None else h) for h in held], dtype=dtype)
            for state, view in zip(states, array.unbind(), strict=True):
                state[name] = view
            self.arrays[name], self.numbers[name] = array, array.numpy()


class RuleOptimizer(torch.optim.Optimizer):
    """A `torch.optim.Optimizer` whose step is a rule, run by a kernel that serves all parameters of a group at once."""

    rule: ClassVar[Rule]
    """The rule, equipped with what cuts across rules."""
    counts_steps: ClassVar[bool] = True
    """Whether each parameter's state has a `step`."""
    backend: Backend = "auto"

    _names: ClassVar[tuple[str, ...]]
    _switching: ClassVar[frozenset[str]]
    _extras: ClassVar[dict[str, Any]] = {"zero_grad": False}
    """What torch's constructor does not take, with its defaults."""
    _plans: dict[int, GroupPlan | _TorchsStep | None]
    _step_supports_amp_scaling = True  # torch.amp.GradScaler then leaves unscaling and skipping to the step

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__doc__ and "foreach" not in cls.__doc__:
            cls.__doc__ = f"{inspect.cleandoc(cls.__doc__)}\n\n{BEYOND}"
        cls._names = tuple(cls.rule.defaults)
        cls._switching = frozenset(h.name for h in cls.rule.hypers if h.switches)
        base = torchs_class(cls)
        if base is not None:
            signature = inspect.signature(base)
            known = {*signature.parameters, "beta1", "beta2"}
            cls._extras = {h.name: h.default for h in cls.rule.hypers if h.given is None and h.name not in known}
            cls._extras |= RuleOptimizer._extras
            added = {**cls._extras, "backend": "auto"}
            cls.__signature__ = signature.replace(  # type: ignore[attr-defined]
                parameters=[
                    *signature.parameters.values(),
                    *(inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=v) for n, v in added.items()),
                ]
            )

    def __init__(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.backend = kwargs.pop("backend", "auto")
        if self.backend not in BACKENDS:
            raise InputError("backend", expected="one of " + ", ".join(BACKENDS), got=repr(self.backend))
        extras = {n: kwargs.pop(n, v) for n, v in self._extras.items()}
        self._check_extras(extras)
        super().__init__(params, *args, **kwargs)
        self.defaults.update(extras)
        for group in self.param_groups:
            for name, value in extras.items():
                group.setdefault(name, value)

    def _check_extras(self, given: Mapping[str, Any]) -> None:
        for name in self._extras:
            if name == "zero_grad" and not isinstance(given.get(name, False), bool):
                raise InputTypeError(f"{type(self).__name__}: zero_grad", expected="a bool", got=repr(given[name]))
            if name != "zero_grad" and name in given:
                self.rule.hyper(name).validate(given[name], type(self).__name__)

    def _hypers(self, group: Mapping[str, Any], scale: float | None = None) -> dict[str, Any]:
        """The rule's hyperparameters from a parameter group; a tensor is read once a step, not once a parameter."""
        found: dict[str, Any] = {}
        for name in self._names:
            if name in group:
                value = group[name]
            elif name in ("beta1", "beta2"):
                value = group["betas"][name == "beta2"]
            else:  # what the group does not have is off
                value = self.rule.defaults[name]
            found[name] = value.item() if isinstance(value, Tensor) else value
        if scale is not None and "scaled" in found:
            found["scaled"], found["grad_scale"] = True, scale
        return found

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every parameter that has a gradient. `closure` re-evaluates the model and gives the loss."""
        if (
            _GLOBAL_PRE
            or _GLOBAL_POST
            or self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or torch._C._autograd._profiler_enabled()
        ):
            return _step_with_hooks(self, closure)
        # Once dynamo is there, its wrapper keeps torch.compile out; before, it would take a fifth of a small step.
        return self._step_unseen(closure) if "torch._dynamo" in _MODULES else self._take_step(closure)

    step.hooked = True  # type: ignore[attr-defined]  # torch would wrap it for hooks and profiler at 5 us a step

    def _take_step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        own = self.__dict__
        scale = own.get("grad_scale")  # set by torch.amp.GradScaler, as is found_inf, for the time of this call
        if scale is not None:
            scale = float(scale)
        if own.get("found_inf") is not None and float(own["found_inf"]):
            self._skip()
            return loss
        if "_outside" in own:
            raise RuntimeError(f"{type(self).__name__}.step inside ema_weights(): leave its block first, then step")
        plans = own.setdefault("_plans", {})
        ready = []
        for k, group in enumerate(self.param_groups):
            plan = plans.get(k)
            if plan is None or not plan.prepare(group, scale):
                plan = self._plan_anew(group, scale)
                plans[k] = None if plan.once else plan
            ready.append(plan)
        norm: Any = None
        if any([plan.clips for plan in ready]):
            norm = _norm_over([plan for plan in ready if plan.clips])
        for plan in ready:
            plan.launch(norm)
        return loss

    # torch.compile breaks its graph here, as at torch's own steps, and does not look inside.
    _step_unseen = _disable_dynamo(_take_step)

    def _plan_anew(self, group: dict[str, Any], scale: float | None) -> GroupPlan | _TorchsStep:
        """A plan for a group that has none, or whose plan does not hold any more; it is ready to be launched."""
        grads = [p.grad for p in group["params"]]
        special = group.get("differentiable") or group.get("capturable")
        if special or any(g is not None and g.layout is not torch.strided for g in grads):
            return _TorchsStep(self, group, scale)
        with torch.no_grad():
            plan = GroupPlan(self, group, grads, scale)
            if not plan.prepare(group, scale):
                raise AssertionError("a plan that was just made must hold")
        return plan

    def _skip(self) -> None:
        """A step that GradScaler's search for inf and nan forbids: nothing moves, but gradients are zeroed if asked."""
        with torch.no_grad():
            for p in (p for group in self.param_groups if group.get("zero_grad") for p in group["params"]):
                if p.grad is not None:
                    p.grad.zero_()

    @contextmanager
    def ema_weights(self) -> Iterator[None]:
        """A block in which each parameter holds the average of its weights, as for an evaluation or to save the model.

        Raises `InputError` where there is no average: `ema_decay` is 0, or no step was taken yet. Within the block the
        optimizer neither steps nor gives its `state_dict`. What was written to the parameters there ends in the average.
        """
        pairs = [(p, s["ema"]) for p, s in self.state.items() if isinstance(s.get("ema"), Tensor)]
        if not pairs:
            hint = "Give the constructor ema_decay=0.999, say, and take a step."
            raise InputError("ema_weights", expected="an average of the weights", got="none yet", hint=hint)
        if "_outside" in self.__dict__:
            raise RuntimeError("ema_weights() inside ema_weights(): the averages are in the parameters already")

        def swap() -> None:
            with torch.no_grad():
                for p, ema in pairs:
                    held = p.clone()
                    p.copy_(ema)
                    ema.copy_(held)

        self.__dict__["_outside"] = True
        swap()
        try:
            yield
        finally:
            swap()
            del self.__dict__["_outside"]

    def __getstate__(self) -> dict[str, Any]:
        return {n: v for n, v in super().__getstate__().items() if n != "_plans"} | {"backend": self.backend}

    def state_dict(self) -> dict[str, Any]:
        """As torch, in torch's layout; what torch's constructor lacks is there only where it is on."""
        if "_outside" in self.__dict__:
            raise RuntimeError("state_dict() inside ema_weights(): the weights are where the averages belong")
        found: dict[str, Any] = super().state_dict()
        found["state"] = {k: dict(v) if isinstance(v, WatchedState) else v for k, v in found["state"].items()}
        found["param_groups"] = [
            {n: v for n, v in group.items() if n not in self._extras or v != self._extras[n]}
            for group in found["param_groups"]
        ]
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch, but states keep the dtype in which they were saved, and are copies: two optimizers never share one.

        What the saved groups lack, because it was off or torch's class wrote them, stays as the constructor set it.
        """
        self.__dict__.pop("_plans", None)
        before = self.param_groups
        super().load_state_dict(state_dict)
        for group, old in zip(self.param_groups, before, strict=True):
            for name, value in old.items():
                group.setdefault(name, value)
        saved = [k for group in state_dict["param_groups"] for k in group["params"]]
        own = [p for group in self.param_groups for p in group["params"]]
        for k, p in zip(saved, own, strict=True):
            for name, value in state_dict["state"].get(k, {}).items():
                if isinstance(value, Tensor):
                    self.state[p][name] = value.detach().to("cpu" if value.ndim == 0 else p.device, copy=True)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch."""
        if isinstance(param_group, dict):
            self._check_extras(param_group)
        super().add_param_group(param_group)
        self.__dict__.pop("_plans", None)


def torchs_class(cls: type) -> Any:
    """The class of torch.optim that `cls` stands for; None for a rule that torch has not."""
    for base in cls.__mro__:
        if base.__module__.startswith("torch.optim.") and base is not torch.optim.Optimizer:
            return base
    return None


_MODULES = sys.modules
_GLOBAL_PRE = _global_optimizer_pre_hooks
_GLOBAL_POST = _global_optimizer_post_hooks


@torch.optim.Optimizer.profile_hook_step
def _step_with_hooks(optimizer: RuleOptimizer, closure: Callable[[], Any] | None = None) -> Any:
    return optimizer._step_unseen(closure)


def _norm_over(plans: Sequence[GroupPlan | _TorchsStep]) -> Any:
    """The norm of all gradients of these groups, as their clips will see them; on a GPU a 0-dim tensor, without a wait."""
    squares = [square for plan in plans for square in plan.squares()]
    first = squares[0] if squares else 0.0
    if isinstance(first, Tensor) and all(isinstance(s, Tensor) for s in squares):
        return torch.stack([s.to(first.device) for s in squares]).sum().sqrt()
    return float(sum(map(float, squares))) ** 0.5


class _TorchsStep:
    """A group stepped by torch's own class: sparse, differentiable and capturable are its business."""

    once = True
    clips = False

    def __init__(self, optimizer: RuleOptimizer, group: dict[str, Any], scale: float | None) -> None:
        self.optimizer, self.group, self.scale = optimizer, group, scale
        self.base = torchs_class(type(optimizer))
        what = f"{type(optimizer).__name__} does not support sparse gradients, differentiable or capturable"
        if self.base is None:
            raise RuntimeError(f"{what}: rules of one's own have no such form")
        if on := [n for n in optimizer._extras if n != "zero_grad" and group.get(n)]:
            raise RuntimeError(f"{what} together with {', '.join(on)}: torch's own step has no such part")

    def prepare(self, group: dict[str, Any], scale: float | None) -> bool:
        return False

    def squares(self) -> list[Any]:
        return []

    def launch(self, norm: Any) -> None:
        optimizer, grads = self.optimizer, [p.grad for p in self.group["params"] if p.grad is not None]
        if self.scale is not None:
            with torch.no_grad():
                for g in grads:
                    g.div_(self.scale)
        hidden: dict[str, Any] = {
            n: optimizer.__dict__.pop(n) for n in ("grad_scale", "found_inf") if n in optimizer.__dict__
        }
        groups, optimizer.param_groups = optimizer.param_groups, [self.group]
        try:
            self.base.step(optimizer)
        finally:
            optimizer.param_groups = groups
            optimizer.__dict__.update(hidden)
        if self.group.get("zero_grad"):
            with torch.no_grad():
                for g in grads:
                    g.zero_()


class GroupPlan:
    """The buckets of a group, the parameters that run eagerly, and the shared scalars."""

    def __init__(
        self, optimizer: RuleOptimizer, group: dict[str, Any], grads: list[Tensor | None], scale: float | None
    ) -> None:
        self.optimizer, self.rule = optimizer, optimizer.rule
        if not isinstance(optimizer.state, WatchedStates):
            optimizer.state = WatchedStates(optimizer.state)
        self.state: WatchedStates = optimizer.state
        self._read(group, scale)
        self.switches = self._switches_of(self.hypers)
        self.clips = bool(self.hypers.get("clip_norm"))
        self.zeroes = bool(group.get("zero_grad"))
        self.members: list[Tensor] = list(group["params"])
        self.resting = [p for p, g in zip(self.members, grads, strict=True) if g is None]
        self.params = [p for p, g in zip(self.members, grads, strict=True) if g is not None]
        self.changes = [0]
        self.states = [WatchedState(optimizer.state[p], self.changes) for p in self.params]
        for p, state in zip(self.params, self.states, strict=True):
            self.state.hold(p, state)
        used = eager.slots_of(self.rule, self.switches)
        scalars = {"step": 0.0} if optimizer.counts_steps else {}
        scalars |= {
            s.name: eager.start(s, None, self.hypers) for s in self.rule.slots if s.per_tensor and s.name in used
        }
        self.shared = _Shared(scalars, self.params, self.states)
        self.needed = {n: "t" if n == "step" else n for n in scalars if n != "step" or self.rule.takes_t}

        def begin(slot: Slot, p: Tensor) -> Any:
            return eager.start(slot, p, self.hypers)

        def form_of(p: Tensor) -> Form | None:
            return form_for(optimizer.backend, p.device.type)

        there = [g for g in grads if g is not None]
        self.buckets, self.others = planning.build(
            self.rule, self.switches, self.params, there, self.states, begin, form_of, self.zeroes
        )
        absent = {s.name for s in self.rule.slots if s.absent_at_first and s.name in used}
        self.once = any(bucket.program.graph.absent & absent for bucket in self.buckets)
        """Whether a slot was absent: the next step runs another variant."""
        self.grads: list[Any] = []
        self.changes[0], self.seen = 0, self.state.changes

    def _read(self, group: dict[str, Any], scale: float | None) -> None:
        """Take the group's settings, and see whether one may change without being replaced."""
        self.settings, self.scale = dict(group), scale
        self.fixed = not any(isinstance(v, Tensor) for v in group.values())
        self.hypers = self.optimizer._hypers(group, scale)

    def prepare(self, group: dict[str, Any], scale: float | None) -> bool:
        """Take this step's gradients and settings; False where this plan is not true any more. Nothing is written."""
        if self.optimizer.state is not self.state or self.changes[0] or self.state.changes != self.seen:
            return False
        if not self._same(group, scale):
            return False
        params = self.params if self.resting else group["params"]
        grads = self.grads = [p.grad for p in params]
        for bucket in self.buckets:
            places = bucket.places
            if not bucket.take(grads if isinstance(places, slice) else [grads[k] for k in places]):
                return False
        return not any(grads[k] is None for k in self.others)

    def squares(self) -> list[Any]:
        """The sums of the squares of the gradients, a bucket or an eager parameter each."""
        found = [bucket.square(self.hypers) for bucket in self.buckets]
        known = {h.name for h in gradient_norm.hypers}
        hypers = {n: v for n, v in self.hypers.items() if n in known}
        with torch.no_grad():
            for k in self.others:
                p, g = self.params[k].detach(), self.grads[k].detach()
                norms, _ = eager.step(gradient_norm, p, g.to(p.dtype), {}, 1, hypers)
                whole = norms.full_tensor() if planning.shard(norms) is not norms else norms  # one number, in p's shape
                whole = whole.real if whole.is_complex() else whole
                found.append(float(whole.max()) ** 2 if whole.numel() else 0.0)
        return found

    def launch(self, norm: Any) -> None:
        """Take the step that was prepared; `norm` is that of all gradients, where a group clips by it."""
        numbers, given = self.shared.numbers, {"grad_norm": norm}
        if "step" in numbers:
            numbers["step"] += 1
        for bucket in self.buckets:
            values = {to: numbers[n][bucket.places] for n, to in self.needed.items()}
            table, new = planning.tabulate(bucket, self.hypers, values)
            bucket.launch(table, given)
            for name, value in new.items():
                numbers[name][bucket.places] = value
            if self.zeroes:
                places = bucket.places
                bucket.zero(self.grads if isinstance(places, slice) else [self.grads[k] for k in places])
        if self.others:
            hypers = {**self.hypers, **({"grad_norm": float(norm)} if self.clips else {})}
            with torch.no_grad():
                for k in self.others:
                    self._step_eagerly(k, self.grads[k], hypers)
                    if self.zeroes:
                        self.grads[k].zero_()

    def _same(self, group: dict[str, Any], scale: float | None) -> bool:
        """Whether the group's members are the same; its settings may differ in value, not in what they switch."""
        members = group["params"]
        if len(members) != len(self.members) or not all(map(operator.is_, members, self.members)):
            return False
        if self.resting and any([p.grad is not None for p in self.resting]):
            return False
        # In C, and the same objects are equal there; a tensor among them may have changed nonetheless.
        if not self.fixed or scale != self.scale or group != self.settings:
            self._read(group, scale)
            special = group.get("differentiable") or group.get("capturable")
            thrown = self._switches_of(self.hypers) != self.switches or bool(group.get("zero_grad")) != self.zeroes
            return not special and not thrown
        return True

    def _switches_of(self, hypers: Mapping[str, Any]) -> planning.Switches:
        switching = self.optimizer._switching
        return tuple((n, v if isinstance(v, bool) else v != 0) for n, v in hypers.items() if n in switching)

    def _step_eagerly(self, k: int, g: Tensor, hypers: dict[str, Any]) -> None:
        p, state = self.params[k], self.states[k]
        numbers = self.shared.numbers
        held = {s.name: float(numbers[s.name][k]) if s.name in numbers else state.get(s.name) for s in self.rule.slots}
        t = float(numbers["step"][k]) if "step" in numbers else 1.0
        new_p, new = eager.step(self.rule, p.detach(), g.detach().to(p.dtype), held, t, hypers)
        p.copy_(new_p)
        for name, value in new.items():
            if name in numbers:
                numbers[name][k] = value
            elif value is None:
                continue
            elif isinstance(state.get(name), Tensor):
                state[name].copy_(value)
            else:
                state[name] = value.clone()


def _scalar_dtype() -> torch.dtype:
    """As torch: float32, unless the default dtype is float64."""
    return torch.float64 if torch.get_default_dtype() is torch.float64 else torch.float32

"""The step that all optimizer classes share: closure, groups, states in torch's layout, and the way to the kernel."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from steprule.compiler import eager
from steprule.errors import InputError
from steprule.hyper import Slot
from steprule.optim import plan as planning
from steprule.optim.watched import WatchedState, WatchedStates
from steprule.rules.rule import Rule

Backend = Literal["auto", "eager", "numba"]
BACKENDS = ("auto", "eager", "numba")


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
    """The rule, composed with what cuts across rules."""
    counts_steps: ClassVar[bool] = True
    """Whether each parameter's state has a `step`."""
    backend: Backend = "auto"

    _names: ClassVar[tuple[str, ...]]
    _switching: ClassVar[frozenset[str]]
    _plans: dict[int, GroupPlan | None]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._names = tuple(cls.rule.defaults)
        cls._switching = frozenset(h.name for h in cls.rule.hypers if h.switches)

    def _hypers(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """The rule's hyperparameters from a parameter group; a tensor is read once a step, not once a parameter."""
        found: dict[str, Any] = {}
        for name in self._names:
            if name in group:
                value = group[name]
            elif name in ("beta1", "beta2"):
                value = group["betas"][name == "beta2"]
            else:  # what torch's class of this rule does not have is off
                value = self.rule.defaults[name]
            found[name] = value.item() if isinstance(value, Tensor) else value
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
        return self._take_step(closure)

    step.hooked = True  # type: ignore[attr-defined]  # torch would wrap it for hooks and profiler at 5 us a step

    @_disable_dynamo  # torch.compile breaks its graph here, as at torch's own steps, and does not look inside
    def _take_step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        plans = self.__dict__.setdefault("_plans", {})
        for k, group in enumerate(self.param_groups):
            plan = plans.get(k)
            if plan is None or not plan.step(group):
                plans[k] = self._step_anew(group)
        return loss

    def _step_anew(self, group: dict[str, Any]) -> GroupPlan | None:
        """Step a group whose plan is void or missing; the plan for the next time, None where the next one needs its own."""
        grads = [p.grad for p in group["params"]]
        special = group.get("differentiable") or group.get("capturable")
        if special or any(g is not None and g.layout is not torch.strided for g in grads):
            self._step_as_torch(group)
            return None
        with torch.no_grad():
            plan = GroupPlan(self, group, grads)
            if not plan.step(group):
                raise AssertionError("a plan that was just made must hold")
        return None if plan.once else plan

    def _step_as_torch(self, group: dict[str, Any]) -> None:
        """Step one group by torch's own class: sparse, differentiable and capturable are its business."""
        base: Any
        for base in type(self).__mro__:
            if base.__module__.startswith("torch.optim.") and base is not torch.optim.Optimizer:
                groups, self.param_groups = self.param_groups, [group]
                try:
                    base.step(self)
                finally:
                    self.param_groups = groups
                return
        what = f"{type(self).__name__} does not support sparse gradients, differentiable or capturable"
        raise RuntimeError(f"{what}: rules of one's own have no such form")

    def __getstate__(self) -> dict[str, Any]:
        return {n: v for n, v in super().__getstate__().items() if n != "_plans"} | {"backend": self.backend}

    def state_dict(self) -> dict[str, Any]:
        """As torch, in torch's layout."""
        found: dict[str, Any] = super().state_dict()
        found["state"] = {k: dict(v) if isinstance(v, WatchedState) else v for k, v in found["state"].items()}
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch, but states keep the dtype in which they were saved, and are copies: two optimizers never share one."""
        self.__dict__.pop("_plans", None)
        super().load_state_dict(state_dict)
        saved = [k for group in state_dict["param_groups"] for k in group["params"]]
        own = [p for group in self.param_groups for p in group["params"]]
        for k, p in zip(saved, own, strict=True):
            for name, value in state_dict["state"].get(k, {}).items():
                if isinstance(value, Tensor):
                    self.state[p][name] = value.detach().to("cpu" if value.ndim == 0 else p.device, copy=True)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch."""
        super().add_param_group(param_group)
        self.__dict__.pop("_plans", None)


_GLOBAL_PRE = _global_optimizer_pre_hooks
_GLOBAL_POST = _global_optimizer_post_hooks


@torch.optim.Optimizer.profile_hook_step
def _step_with_hooks(optimizer: RuleOptimizer, closure: Callable[[], Any] | None = None) -> Any:
    return optimizer._take_step(closure)


class GroupPlan:
    """The buckets of a group, the parameters that run eagerly, and the shared scalars."""

    def __init__(self, optimizer: RuleOptimizer, group: dict[str, Any], grads: list[Tensor | None]) -> None:
        self.optimizer, self.rule = optimizer, optimizer.rule
        if not isinstance(optimizer.state, WatchedStates):
            optimizer.state = WatchedStates(optimizer.state)
        self.state: WatchedStates = optimizer.state
        self.settings = {k: v for k, v in group.items() if k != "params"}
        self.fixed = not any(isinstance(v, Tensor) for v in self.settings.values())
        self.hypers = optimizer._hypers(group)
        self.switches = self._switches_of(self.hypers)
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

        self.buckets: list[planning.Bucket] = []
        self.others = list(range(len(self.params)))
        if self.params and backend_of(optimizer) == "numba":
            there = [g for g in grads if g is not None]
            self.buckets, self.others = planning.build(self.rule, self.switches, self.params, there, self.states, begin)
        absent = {s.name for s in self.rule.slots if s.absent_at_first and s.name in used}
        self.once = any(bucket.program.graph.absent & absent for bucket in self.buckets)
        """Whether a slot was absent: the next step runs another variant."""
        self.changes[0], self.seen = 0, self.state.changes

    def step(self, group: dict[str, Any]) -> bool:
        """Take the step; False, before anything was written, where this plan is not true any more."""
        if self.optimizer.state is not self.state or self.changes[0] or self.state.changes != self.seen:
            return False
        if not self._same(group):
            return False
        params = self.params if self.resting else group["params"]
        grads = [p.grad for p in params]
        taken = []  # copies of gradients live here until the launches are over
        for bucket in self.buckets:
            copies = bucket.take(grads if isinstance(bucket.places, slice) else [grads[k] for k in bucket.places])
            if copies is None:
                return False
            taken.append(copies)
        if any(grads[k] is None for k in self.others):
            return False
        numbers = self.shared.numbers
        if "step" in numbers:
            numbers["step"] += 1
        for bucket in self.buckets:
            values = {to: numbers[n][bucket.places] for n, to in self.needed.items()}
            table, new = planning.tabulate(bucket, self.hypers, values)
            bucket.kernel.launch(bucket.addresses, bucket.chunks, table, bucket.which)
            for name, value in new.items():
                numbers[name][bucket.places] = value
            # A write that autograd does not see would give wrong gradients where a graph has saved the parameter.
            torch.autograd.graph.increment_version(bucket.params)
        if self.others:
            with torch.no_grad():
                for k in self.others:
                    self._step_eagerly(k, grads[k], self.hypers)  # type: ignore[arg-type]
        return True

    def _same(self, group: dict[str, Any]) -> bool:
        """Whether the group's members are the same; its settings may differ in value, not in what they switch."""
        members = group["params"]
        if len(members) != len(self.members) or not all(map(operator.is_, members, self.members)):
            return False
        if self.resting and any([p.grad is not None for p in self.resting]):
            return False
        if not self.fixed or any([group.get(k) != v for k, v in self.settings.items()]):
            self.settings = {k: v for k, v in group.items() if k != "params"}
            self.fixed = not any(isinstance(v, Tensor) for v in self.settings.values())
            self.hypers = self.optimizer._hypers(group)
            special = group.get("differentiable") or group.get("capturable")
            return not special and self._switches_of(self.hypers) == self.switches
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


def backend_of(optimizer: RuleOptimizer) -> str:
    """Which form serves: numba where it can be imported, else eager, which says so once."""
    if optimizer.backend not in BACKENDS:
        raise InputError("backend", expected="one of " + ", ".join(BACKENDS), got=repr(optimizer.backend))
    if optimizer.backend == "eager":
        return "eager"
    try:
        import steprule.compiler.cpu  # noqa: F401
    except ImportError as error:
        if optimizer.backend == "numba":
            raise InputError(
                "backend 'numba'", expected="numba installed", got=str(error), hint="pip install numba"
            ) from error
        _say_once(f"steprule runs its eager form, which is slow: numba cannot be imported ({error}). pip install numba")
        return "eager"
    return "numba"


@cache
def _say_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=5)


def _scalar_dtype() -> torch.dtype:
    """As torch: float32, unless the default dtype is float64."""
    return torch.float64 if torch.get_default_dtype() is torch.float64 else torch.float32

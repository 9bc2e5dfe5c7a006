"""The class that all optimizers share: torch's groups, states, hooks and checkpoints around a planned step."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from steprule.compiler.streams import is_capturing
from steprule.errors import InputError, InputTypeError
from steprule.optim import diagnostics, groups, looks, points, precision
from steprule.optim.backends import BACKENDS
from steprule.optim.constructors import BEYOND, FLAGS, OF_THE_OPTIMIZER, OFF, say_constructor
from steprule.optim.loading import keep_precision
from steprule.optim.nonfinite import SkippedError
from steprule.optim.one_by_one import torchs_class
from steprule.optim.settings import NONFINITE, Stepped
from steprule.optim.sharding import check_cut
from steprule.optim.states import begin_as_wanted, number
from steprule.rules.parts import average, has, unscale
from steprule.rules.points import MODE


class RuleOptimizer(Stepped):
    """A `torch.optim.Optimizer` whose step is a rule, run by a kernel that serves all parameters of a group at once."""

    _extras: ClassVar[dict[str, Any]] = OFF
    _plans: Sequence[groups.GroupPlan]
    _is_supplied: ClassVar[bool] = False
    """Whether the rule draws noise, looks twice or asks for the loss."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = _outermost(cls.step)  # type: ignore[method-assign]
        if "rule" not in cls.__dict__:  # a user's subclass, or one that is still being put together
            return
        cls._is_supplied = bool(cls.rule.looked) or cls.rule.asks_for_loss
        cls.__doc__ = f"{inspect.cleandoc(cls.__doc__ or '')}\n\n{BEYOND}"
        base = torchs_class(cls)
        if base is not None:
            signature = inspect.signature(base)
            said = (*cls.rule.tuples.values(), *cls.said_otherwise.values())
            known = {*signature.parameters, *chain.from_iterable(said)}
            cls._extras = {h.name: h.default for h in cls.rule.hypers if h.given is None and h.name not in known} | OFF
            added = {**cls._extras, **OF_THE_OPTIMIZER}
            say_constructor(cls, signature.parameters.values(), added, RuleOptimizer.__init__)

    def __init__(self, params: Any, *args: Any, **kwargs: Any) -> None:
        for name, known in (("backend", BACKENDS), ("nonfinite", NONFINITE)):
            chosen = kwargs.pop(name, OF_THE_OPTIMIZER[name])
            if not isinstance(chosen, str) or chosen not in known:
                raise InputError(name, expected="one of " + ", ".join(known), got=repr(chosen))
            setattr(self, name, chosen)
        self.clip_group = kwargs.pop("clip_group", None)
        if self.clip_group is not None:
            check_cut(type(self).__name__, self.clip_group)
        fused = kwargs.pop("fused_unscale", False)
        if not isinstance(fused, bool):
            raise InputTypeError(f"{type(self).__name__}: fused_unscale", expected="a bool", got=repr(fused))
        if fused and not has(self.rule, unscale):
            names = "a rule without a scaled or grad_scale of its own"
            raise InputError(f"{type(self).__name__}: fused_unscale", expected=names, got=self.rule.name)
        extras = {n: kwargs.pop(n, v) for n, v in self._extras.items()}
        self._check_extras(extras)
        self._seed, self._rounding = extras.get(precision.SEED), extras.get(precision.ROUNDING)
        super().__init__(params, *args, **kwargs)
        for p, state in self.state.items():  # torch makes Adagrad's count on the default device
            if isinstance(count := state.get("step"), Tensor) and count.device.type == "meta" != p.device.type:
                state["step"] = number(0.0)
        if fused:
            self._step_supports_amp_scaling = True  # torch's name: GradScaler looks for it
        # What is off is no key: a group has torch's keys alone, and checkpoints go both ways.
        self.defaults.update({n: v for n, v in extras.items() if v != self._extras[n]})
        for group in self.param_groups:
            for name in extras:
                if name in self.defaults:
                    group.setdefault(name, self.defaults[name])
            if self.state:
                begin_as_wanted(self.rule.slots, group, self.state, self.defaults)
        if any(extras.get(name) is not None for name in precision.OFF):
            precision.settle(type(self).__name__, self.param_groups, self._seed)
            precision.check_seed(type(self).__name__, self.param_groups, self._seed)

    def _check_extras(self, given: dict[str, Any]) -> None:
        if any(given.get(name) is not None for name in precision.OFF):
            precision.take(type(self).__name__, self.rule, given)
        for name in self._extras:
            if name in FLAGS and not isinstance(given.get(name, False), bool):
                raise InputTypeError(f"{type(self).__name__}: {name}", expected="a bool", got=repr(given[name]))
            if name not in OFF and name in given:
                self.rule.hyper(name).validate(given[name], type(self).__name__)

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """One step of every parameter that has a gradient. `closure` re-evaluates the model and gives the loss."""
        if (
            _GLOBAL_PRE
            or _GLOBAL_POST
            or self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or torch._C._autograd._profiler_enabled()
        ) and not ("_stepping" in self.__dict__ or type(self).step is not RuleOptimizer.step):
            return _step_with_hooks(self, *args, **kwargs)
        # Within a compiled function dynamo's wrapper keeps torch.compile out; elsewhere it would take a fifth of a small step.
        return self._step_unseen(*args, **kwargs) if _compiling() else self._take_step(*args, **kwargs)

    step.hooked = True  # type: ignore[attr-defined]  # torch would wrap it for hooks and profiler at 5 us per step
    step.__signature__ = inspect.signature(torch.optim.Optimizer.step)  # type: ignore[attr-defined]

    def _take_step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        self._check_training()
        if self._is_supplied:
            looks.check_closure(self, closure)
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
            self._check_training()  # a closure that evaluates may have forgotten to go back
        own = self.__dict__
        scale = own.get("grad_scale")  # set by torch.amp.GradScaler, as is found_inf, for the time of this call
        if isinstance(scale, Tensor) and is_capturing(scale.device):
            expected, hint = (
                "no GradScaler's numbers, which the host reads",
                "Leave fused_unscale out, or scale outside of the graph.",
            )
            raise InputError(
                f"{type(self).__name__}, recorded by a CUDA graph", expected=expected, got="grad_scale", hint=hint
            )
        if scale is not None:
            scale = float(scale)
        if own.get("found_inf") is not None and float(own["found_inf"]):
            self._skip()
            return loss
        if "_outside" in own:
            raise RuntimeError(f"{type(self).__name__}.step inside ema_weights(): leave its block first, then step")
        try:
            if self._is_supplied:
                with looks.told(self, loss), looks.supplied(self, closure):
                    groups.step(self, scale)
            else:
                groups.step(self, scale)
        except SkippedError:
            own["_skipped"] = self.skipped_steps + 1
            self._skip()
        return loss

    # torch.compile breaks its graph here, as at torch's own steps, and does not look inside.
    _step_unseen = _disable_dynamo(_take_step)

    @property
    def grad_norm(self) -> Tensor | None:
        """The norm of all gradients in the last step, before `clip_norm` shrank them: 0-dim, in float64, as `clip_grad_norm_` returns it.

        None before the first step, and after one in which nothing that clips by it had a gradient. It counts what comes before that
        clipping: the loss's scale is gone, and `clip_value` has cut elements. A step that GradScaler skips leaves it.
        """
        norm = self.__dict__.get("_grad_norm")
        if isinstance(norm, Tensor):  # of a step with `capturable`: the tensor itself, which a replay writes to
            return norm
        return None if norm is None else torch.tensor(norm, dtype=torch.float64)

    @property
    def skipped_steps(self) -> int:
        """How many steps `nonfinite="skip"` has left out since this optimizer was made. A checkpoint has it not."""
        return int(self.__dict__.get("_skipped", 0))

    def diagnostics(self, by: str | None = None) -> dict[Any, Any]:
        """What the last step knew, in float64; it is formed where groups say `diagnostics=True`. Before the first step there is nothing.

        Of the gradient g as it lies in `.grad`, without the scale of a loss, of the parameter p before the step, and of the
        update u = p after - p before, as stored:

        - `grad_norm`, `weight_norm`, `update_norm`: |g|, |p| and |u|, over all elements;
        - `update_ratio`, `cosine`: |u| / |p|, and g u / (|g| |u|), of which plain gradient descent has -1;
        - `clipped`: the share of steps since it was made or copied in which `clip_norm` shrank gradients, where it is on; not by tensor.

        By None, all parameters that are diagnosed are taken as one. "group" gives such a dict per group, by its place among
        `param_groups`; "tensor" one per parameter that had a gradient, by its name where that is no other's, else by itself. A ratio to
        nothing is inf or nan. A step that is skipped leaves what there was. Raises `InputError` where no group is diagnosed.

        >>> import steprule
        >>> p = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> optimizer = steprule.optim.SGD([p], lr=0.5, diagnostics=True)
        >>> p.grad = torch.tensor([0.0, 2.0])
        >>> optimizer.step()
        >>> optimizer.diagnostics()
        {'grad_norm': 2.0, 'weight_norm': 5.0, 'update_norm': 1.0, 'update_ratio': 0.2, 'cosine': -1.0}
        """
        return diagnostics.figures(self, by)

    def _skip(self) -> None:
        """A step that inf or nan among the gradients forbids: nothing moves, but gradients are zeroed if asked."""
        with torch.no_grad():
            for p in (p for group in self.param_groups if group.get("zero_grad") for p in group["params"]):
                if p.grad is not None:
                    p.grad.zero_()

    # As a step, torch.compile leaves them out: it would write to the optimizer behind our backs.

    @_disable_dynamo
    def eval(self) -> None:
        """Put the weights that the model is evaluated with into its parameters, where the rule states them (`Rule.evaluated`).

        As for an evaluation, or to save the model; `train()` goes back. The weights of training are kept in the states meanwhile, and
        `state_dict()` has them. Called twice, or for a rule that is read where it steps, it does nothing. A parameter that was never
        stepped stays as it is.
        """
        if self._may_switch("eval()") and not self._evaluates:
            with torch.inference_mode(False), torch.no_grad():
                points.to_evaluation(self)

    @_disable_dynamo
    def train(self) -> None:
        """Put the weights of training back into the parameters after `eval()`, bit by bit; else it does nothing.

        What was written to the parameters meanwhile is gone then.
        """
        if self._may_switch("train()") and self._evaluates:
            with torch.inference_mode(False), torch.no_grad():
                points.to_training(self)

    @contextmanager
    def evaluated(self) -> Iterator[None]:
        """A block in `eval()` mode; behind it the optimizer is in the mode in which it was before."""
        trains = not self._evaluates
        self.eval()
        try:
            yield
        finally:
            if trains:
                self.train()

    @property
    def _evaluates(self) -> bool:
        """Whether the parameters hold the point of evaluation."""
        return self._has_two_points and points.is_at_evaluation(self.param_groups)

    @property
    def _has_two_points(self) -> bool:
        """Whether a model is evaluated elsewhere than where it trains."""
        return self.rule.point is not None

    def _check_training(self) -> None:
        if self._evaluates:
            raise RuntimeError(f"{type(self).__name__}.step in eval mode: call optimizer.train() first, then step")

    def _may_switch(self, what: str) -> bool:
        """Whether there are two points to switch between. Raises where neither is in the parameters."""
        if self._has_two_points and "_outside" in self.__dict__:
            raise RuntimeError(f"{what} inside ema_weights(): leave its block first")
        return self._has_two_points

    @contextmanager
    def ema_weights(self) -> Iterator[None]:
        """A block in which each parameter holds the average of its weights, as for an evaluation or to save the model.

        Raises `InputError` where there is no average: `ema_decay` is 0, or no step was taken yet. Within the block the
        optimizer neither steps nor gives its `state_dict`. At its end each parameter has its weights again, whatever was
        written to it there; the averages stay as they were.
        """
        averaged = [group for group in self.param_groups if has(self.stepping(group).rule, average)]
        states = [(p, self.state.get(p)) for group in averaged for p in group["params"]]
        pairs = [(p, s["ema"]) for p, s in states if isinstance(s, Mapping) and isinstance(s.get("ema"), Tensor)]
        if not pairs:
            hint = "Give the constructor ema_decay=0.999, say, and take a step."
            raise InputError("ema_weights", expected="an average of the weights", got="none yet", hint=hint)
        if "_outside" in self.__dict__:
            raise RuntimeError("ema_weights() inside ema_weights(): the averages are in the parameters already")
        kept = [p.detach().clone() for p, _ in pairs]
        self.__dict__["_outside"] = True
        try:
            with torch.no_grad():
                for p, ema in pairs:
                    p.copy_(ema)
            yield
        finally:
            del self.__dict__["_outside"]
            with torch.no_grad():
                for (p, _), weights in zip(pairs, kept, strict=True):
                    if p.shape == weights.shape and p.dtype == weights.dtype:
                        p.copy_(weights)
                    else:
                        p.data = weights

    def __getstate__(self) -> dict[str, Any]:
        if "_outside" in self.__dict__:
            raise RuntimeError("a copy inside ema_weights(): the weights are where the averages belong")
        return {n: v for n, v in super().__getstate__().items() if n not in ("_plans", "_stepping", "_movers")} | {
            "backend": self.backend,
            "nonfinite": self.nonfinite,
            "_skipped": self.skipped_steps,
            "clip_group": self.clip_group,  # a process group does not travel: Python says so
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As torch; what loaded groups lack, because it was off or torch's class wrote them, stays as it was set here."""
        before = self.__dict__.get("param_groups", [])
        for made in ("_plans", "_movers"):
            self.__dict__.pop(made, None)
        super().__setstate__(state)
        for group, old in zip(self.param_groups, before, strict=False):
            for name in self.stepping(group)._extras:
                if name in old:
                    group.setdefault(name, old[name])
        for group in self.param_groups:
            if self.stepping(group).rule.point is not None:
                group.setdefault(MODE, True)
        for loaded in self.__dict__.pop("_loading", []):
            loaded(self)

    def state_dict(self) -> dict[str, Any]:
        """As torch, in torch's layout; what torch's constructor lacks is there only where it is on.

        For a rule whose model is read elsewhere than where it trains, it warns once in training: a model that is saved beside it is not
        the one that is evaluated. Either mode is resumed as it was saved.
        """
        own = self.__dict__
        if "_outside" in own:
            raise RuntimeError("state_dict() inside ema_weights(): the weights are where the averages belong")
        if self._has_two_points and self.state and not self._evaluates and "_told" not in own:
            own["_told"] = True
            name = type(self).__name__
            told = "the model holds the weights of training; to save those of evaluation, call optimizer.eval() first"
            warnings.warn(f"{name}.state_dict() in train mode: {told}", UserWarning, stacklevel=2)
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch, hooks included, but states never lose precision, and two optimizers never share one.

        A state keeps the dtype in which it was saved, unless its parameter's is more precise. Memory that torch has allocated is copied
        at the first write, and not at all where the checkpoint is gone by then.
        """
        seen: list[dict[str, Any]] = []

        def look(_: Any, given: dict[str, Any]) -> None:
            seen[:] = [given]

        def keep(optimizer: RuleOptimizer) -> None:
            if seen:
                keep_precision(optimizer, seen[0])

        # The last of the pre-hooks: it sees what the others made of the checkpoint.
        handle = self.register_load_state_dict_pre_hook(look)
        self.__dict__["_loading"] = [keep]
        try:
            super().load_state_dict(state_dict)
        finally:
            self.__dict__.pop("_loading", None)
            handle.remove()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch."""
        if isinstance(param_group, dict):
            self._check_extras(param_group)
            if precision.SEED in self._extras and (seed := param_group.get(precision.SEED)) is not None:
                rounding = self.defaults.get(precision.ROUNDING, self.__dict__.get("_rounding"))
                precision.check_seed(type(self).__name__, [{precision.ROUNDING: rounding, **param_group}], seed)
            if self.rule.point is not None:
                param_group[MODE] = not self._evaluates
        super().add_param_group(param_group)
        if self.param_groups[-1].get(precision.ROUNDING) is not None:
            precision.settle(type(self).__name__, self.param_groups, self.__dict__.get("_seed"))


def _outermost(step: Callable[..., Any]) -> Callable[..., Any]:
    """A subclass's own step, with hooks and the profiler's record around the outermost of several that call one another."""
    with_hooks: Any = torch.optim.Optimizer.profile_hook_step(step)

    @functools.wraps(step)
    def once(self: RuleOptimizer, *args: Any, **kwargs: Any) -> Any:
        if "_stepping" in self.__dict__:
            return step(self, *args, **kwargs)
        self.__dict__["_stepping"] = True
        try:
            return with_hooks(self, *args, **kwargs)
        finally:
            del self.__dict__["_stepping"]

    once.hooked = True  # type: ignore[attr-defined]
    return once


_compiling: Callable[[], Any] = getattr(torch._C._dynamo.eval_frame, "get_eval_frame_callback", lambda: True)
"""What would compile the frames that run now, or None; a torch that cannot tell is taken to compile."""
_GLOBAL_PRE = _global_optimizer_pre_hooks
_GLOBAL_POST = _global_optimizer_post_hooks


@torch.optim.Optimizer.profile_hook_step
def _step_with_hooks(optimizer: RuleOptimizer, *args: Any, **kwargs: Any) -> Any:
    return optimizer._step_unseen(*args, **kwargs)

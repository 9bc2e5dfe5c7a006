"""What the constructors of all classes take beyond torch's, and how a class says what its own takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from steprule.optim import precision
from steprule.optim.settings import DIAGNOSTICS

BEYOND = """What torch's constructors lack, each off by default and then free; each a key of the parameter groups too, where it is on:

- `clip_value`: bring each element of the gradient into [-clip_value, clip_value]; 0 is off.
- `clip_norm`: shrink the gradients so that their norm, over all parameters of all groups that clip, is at most this;
  0 is off. As `torch.nn.utils.clip_grad_norm_`, but the gradients themselves stay as they are.
- `decoupled_weight_decay`: decay the parameter beside the step, not through the gradient, in every class.
- `ema_decay`: keep an exponential moving average of the weights, state `ema`, in float32 or better; 0 is off. See `ema_weights`.
- `zero_grad`: zero the gradients in the same pass over memory, so that `optimizer.zero_grad()` need not be called.
- `diagnostics`: form in the same pass over memory what `optimizer.diagnostics()` gives: norms of gradient and update, their cosine.
- `rounding`: how numbers in bfloat16 and float16 are stored; float32 and float64 are as without. None, the default, rounds to the nearest.
  "stochastic" rounds parameters and states by chance to one of the two neighbours, so that the mean is exact. "kahan" rounds to the
  nearest and keeps what a parameter loses in the state `kahan_comp`, of its dtype, from where the next step goes on.
- `seed`: a whole number from 0 to 2^64 - 1, of which that chance is; by default that of `torch.manual_seed`. Saved in `state_dict()`.
  Processes that hold copies of one model, as under DDP, need the same.
- `state_dtype`: `torch.float32` or `torch.bfloat16`, in which states of one number per element are kept; None, the default, is each
  parameter's dtype, as in torch. A state that is there in another dtype, as from a checkpoint, is brought to it at the next step.

And four of the optimizer, not of a group:

- `backend`: "auto" (Numba's kernel on the CPU, Triton's on an NVIDIA GPU, the eager form elsewhere), "eager", "numba" or
  "triton".
- `fused_unscale`: a `torch.amp.GradScaler` that steps the optimizer leaves unscaling, and skipping where a gradient is not
  finite, to the step, which does it in the same pass; the gradients themselves stay scaled. `fused=True` says the same where
  torch's class takes it. Without, the scaler does both before the step, as for torch's default.
- `clip_group`: the processes over which the parameters are cut, where no DTensor's mesh says it (FSDP1, `ZeroRedundancyOptimizer`,
  DeepSpeed, stages of a pipeline): a process group, or True for all. The norm of `clip_norm`, and every other total, is added
  up over them by one `all_reduce`. None, the default, is for whole parameters, as with DDP, and for DTensors.
- `nonfinite`: what a step does where an element of a gradient is NaN or infinite. "pass", the default, steps as torch's class does. "skip"
  leaves the step of all groups out, and counts it in `skipped_steps`. "raise" raises `GradientError`, which names the parameter.

`foreach` and `fused` change no number: there is one form, and it is fused. With `capturable` a CUDA graph may record the kernels of an
NVIDIA GPU, which then read every hyperparameter that is a tensor there at each replay; where there are no such kernels, and with
`differentiable`, torch's own step runs, which has neither clipping nor averaging. `maximize` goes up."""

OF_THE_OPTIMIZER: dict[str, Any] = {"fused_unscale": False, "backend": "auto", "clip_group": None, "nonfinite": "pass"}
"""What every class takes for the whole optimizer, and not per group, with its defaults."""
FLAGS = ("zero_grad", DIAGNOSTICS)
"""Of what every class takes per group, what is on or off."""
OFF: dict[str, Any] = {**dict.fromkeys(FLAGS, False), **precision.OFF}
"""What every class takes beside the parts that compose with its rule, with its defaults."""


def say_constructor(
    cls: type[Any], first: Iterable[inspect.Parameter], options: Mapping[str, Any], constructor: Callable[..., None]
) -> None:
    """Say by the class and by its `__init__` what `constructor` takes: some readers ask the one, some the other.

    `first` stand first; `options` follow by keyword alone, each with its default.
    """

    def construct(self: Any, params: Any, *args: Any, **kwargs: Any) -> None:
        constructor(self, params, *args, **kwargs)

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    added = (inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=v) for n, v in options.items())
    construct.__name__, construct.__qualname__ = "__init__", f"{cls.__qualname__}.__init__"
    construct.__module__ = cls.__module__
    construct.__signature__ = inspect.Signature([own, *first, *added])  # type: ignore[attr-defined]
    cls.__init__ = construct

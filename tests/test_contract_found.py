"""What drawn sequences found, each as the few lines that a user would write; torch's class beside ours."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tolerances import ROUNDED32
from torch import Tensor

from steprule import optim


class OfMine(torch.nn.Parameter):
    """As FSDP, DeepSpeed and quantisers have their own."""


class Gradient(Tensor):
    """A subclass with an ordinary tensor's memory."""


def both(name: str, make: Any) -> list[Any]:
    """What `make(class)` gives for torch's class and for ours."""
    return [make(getattr(module, name)) for module in (torch.optim, optim)]


def test_a_parameter_without_elements_that_is_listed_twice() -> None:
    def steps(cls: Any) -> list[float]:
        p = torch.nn.Parameter(torch.zeros(2, 0))
        p.grad = torch.zeros(2, 0)
        with pytest.warns(UserWarning, match="duplicate"):
            optimizer = cls([p, p], lr=0.1)
        found = []
        for _ in range(3):
            optimizer.step()
            found.append(float(optimizer.state[p]["step"]))
        return found

    theirs, ours = both("Adam", steps)
    assert ours == theirs == [2.0, 4.0, 6.0]


def test_a_state_over_the_memory_of_a_parameter_of_ones_own_class() -> None:
    def stepped(cls: Any) -> list[Tensor]:
        draw = torch.Generator().manual_seed(0)  # torch's own draws something as it is first imported
        first, second = torch.nn.Parameter(torch.randn(4, 6, generator=draw)), OfMine(torch.randn(4, 6, generator=draw))
        optimizer = cls([first, second], lr=0.1, momentum=0.9)
        for k in range(3):
            first.grad, second.grad = torch.randn(4, 6, generator=draw), torch.randn(4, 6, generator=draw)
            optimizer.step()
            if k == 0:
                optimizer.state[first]["momentum_buffer"] = second.detach()
        return [first.detach(), second.detach().as_subclass(Tensor), optimizer.state[second]["momentum_buffer"]]

    theirs, ours = both("SGD", stepped)
    for mine, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, right, rtol=ROUNDED32, atol=0)


def test_states_that_share_memory_stay_together_whatever_the_order_of_their_parameters() -> None:
    def stepped(cls: Any) -> list[Tensor]:
        draw = torch.Generator().manual_seed(0)  # torch's own draws something as it is first imported
        params = [
            torch.nn.Parameter(torch.randn(3, 3, generator=draw).t()),
            torch.nn.Parameter(torch.randn(3, 3, generator=draw)),
        ]
        optimizer = cls(params, lr=0.1)
        for k in range(3):
            for p in params:
                p.grad = torch.randn(3, 3, generator=draw)
            optimizer.step()
            if k == 0:
                one, other = (optimizer.state[p]["square_avg"] for p in params)
                one.data = other.data
        return [p.detach() for p in params] + [optimizer.state[p]["square_avg"] for p in params]

    theirs, ours = both("RMSprop", stepped)
    for mine, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, right, rtol=ROUNDED32, atol=0)


def test_a_buffer_that_begins_as_a_finer_gradient_has_its_dtype() -> None:
    def stepped(cls: Any) -> Tensor:
        p = torch.nn.Parameter(torch.ones(3))
        p.grad = torch.ones(3)
        p.grad.data = torch.ones(3, dtype=torch.float64)
        optimizer = cls([p], lr=0.1, momentum=0.9)
        optimizer.step()
        return optimizer.state[p]["momentum_buffer"]  # type: ignore[no-any-return]

    theirs, ours = both("SGD", stepped)
    assert ours.dtype == theirs.dtype == torch.float64


def test_states_are_plain_where_a_gradient_is_of_ones_own_class() -> None:
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3).as_subclass(Gradient)
    optimizer = optim.Lion([p], lr=0.1)
    optimizer.step()
    assert type(optimizer.state[p]["exp_avg"]) is Tensor


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16])
def test_a_coarser_number_is_raised_as_it_is_loaded(dtype: torch.dtype) -> None:
    def loaded(cls: Any) -> Tensor:
        p = torch.nn.Parameter(torch.ones(3))
        p.grad = torch.ones(3)
        optimizer = cls([p])
        optimizer.step()
        optimizer.state[p]["mu_product"] = torch.ones((), dtype=dtype)
        new = cls([p])
        new.load_state_dict(optimizer.state_dict())
        return new.state[p]["mu_product"]  # type: ignore[no-any-return]

    theirs, ours = both("NAdam", loaded)
    assert ours.dtype == theirs.dtype == torch.float32

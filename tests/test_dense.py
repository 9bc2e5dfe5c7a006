"""A dense network printed from its sizes, against torch's autograd."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from tolerances import PRINTED_NETWORK
from torch import nn

from steprule.play import dense
from steprule.play.dense import Network
from steprule.problems.catalogue import half_mse


@pytest.mark.parametrize("sizes", [(5, 1), (5, 16, 1), (3, 7, 4, 1)])
def test_loss_and_gradient_are_those_of_torch(sizes: tuple[int, ...]) -> None:
    """For any batch, also one sample and samples out of order."""
    net, written = Network(sizes), dense.python(Network(sizes))
    torch.manual_seed(sum(sizes))
    layers = [m for pair in pairwise(sizes) for m in (nn.Linear(*pair), nn.Tanh())][:-1]
    model = nn.Sequential(*layers).double()
    assert [tuple(p.shape) for p in model.parameters()] == [t.shape for t in net.tensors]
    x, y = torch.randn(12, sizes[0], dtype=torch.float64), torch.randn(12, dtype=torch.float64)
    p = np.concatenate([w.detach().numpy().ravel() for w in model.parameters()])
    assert len(p) == net.parameters
    for rows in ([3], [11, 0, 7, 2], list(range(12))):
        model.zero_grad()
        loss = half_mse(model(x[rows]), y[rows])
        loss.backward()
        theirs = np.concatenate([w.grad.numpy().ravel() for w in model.parameters()])  # type: ignore[union-attr]
        a, d, total, g = (np.full(n, np.nan) for n in (net.units, net.units, 1, net.parameters))
        # What stands before and behind the samples meant is not looked at.
        at = (p, x.numpy().ravel(), y.numpy(), [99, *rows, 99], 1, len(rows), a, total)
        written["gradient"](*at, d, g)
        np.testing.assert_allclose(g, theirs, rtol=PRINTED_NETWORK, atol=PRINTED_NETWORK)
        assert total[0] == pytest.approx(loss.item(), rel=PRINTED_NETWORK)
        total[0] = np.nan
        written["loss"](*at)
        assert total[0] == pytest.approx(loss.item(), rel=PRINTED_NETWORK)

"""Published optimizers of matrices as plain loops over one matrix, each from its paper and its authors' description: the references."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

State = dict[str, Any]


def newton_schulz(x: Tensor, steps: int, a: float, b: float, c: float, eps: float) -> Tensor:
    """The orthogonal factor by the quintic iteration, on the side that is shorter."""
    wide = x.shape[0] <= x.shape[1]
    y = x if wide else x.mT
    y = y / max(float(y.norm()), eps)
    for _ in range(steps):
        gram = torch.matmul(y, y.mT)
        y = a * y + torch.matmul(b * gram + c * torch.matmul(gram, gram), y)
    return y if wide else y.mT


def _momentum(g: Tensor, state: State, momentum: float, nesterov: bool) -> Tensor:
    state["b"] = momentum * state.get("b", torch.zeros_like(g)) + (1 - momentum) * g
    return (1 - momentum) * g + momentum * state["b"] if nesterov else state["b"]


def muon(p: Tensor, g: Tensor, state: State, h: dict[str, Any]) -> Tensor:
    """Jordan et al., 2024; lengths by Jordan, by Liu et al. (2025) or by Pethick et al. (2025)."""
    u = _momentum(g, state, h["momentum"], h["nesterov"])
    o = newton_schulz(u, h["ns_steps"], *h["ns_coefficients"], h["eps"])
    rows, columns = p.shape
    scale = {
        "original": max(1.0, rows / columns) ** 0.5,
        "match_rms_adamw": 0.2 * max(rows, columns) ** 0.5,
        "spectral": (rows / columns) ** 0.5,
    }[h["adjust_lr_fn"]]
    return p - h["lr"] * h["weight_decay"] * p - h["lr"] * scale * o


def normuon(p: Tensor, g: Tensor, state: State, h: dict[str, Any]) -> Tensor:
    """Li et al., 2025: each row over the root of its running mean square, the whole as long as before."""
    u = _momentum(g, state, h["momentum"], h["nesterov"])
    o = newton_schulz(u, h["ns_steps"], *h["ns_coefficients"], h["ns_eps"])
    squares = (o * o).mean(1)
    state["v"] = h["beta2"] * state.get("v", torch.zeros_like(squares)) + (1 - h["beta2"]) * squares
    n = o / (state["v"].sqrt() + h["eps"])[:, None]
    n = n * (o.norm() / (n.norm() + h["eps"]))
    return p - h["lr"] * h["weight_decay"] * p - h["lr"] * max(1.0, p.shape[0] / p.shape[1]) ** 0.5 * n


def scion(p: Tensor, g: Tensor, state: State, h: dict[str, Any]) -> Tensor:
    """Pethick et al., 2025, table of norms: the longest step in the ball of a norm."""
    d = state["d"] = (1 - h["momentum"]) * state.get("d", torch.zeros_like(g)) + h["momentum"] * g
    rows, columns = p.shape
    if h["ball"] == "spectral":
        u = math.sqrt(rows / columns) * newton_schulz(d, h["ns_steps"], *h["ns_coefficients"], h["ns_eps"])
    elif h["ball"] == "sign":
        u = torch.sign(d) / columns
    elif h["ball"] == "row":
        u = torch.stack([row / (math.sqrt(columns) * row.norm() + h["eps"]) for row in d])
    elif h["ball"] == "column":
        u = torch.stack([c / (c.norm() / math.sqrt(rows) + h["eps"]) for c in d.mT]).mT
    else:
        u = d / ((d * d).mean().sqrt() + h["eps"])
    kept = p * (1 - h["lr"]) if h["constrained"] else p * (1 - h["lr"] * h["weight_decay"])
    return kept - h["lr"] * h["scale"] * u


def soap(p: Tensor, g: Tensor, state: State, h: dict[str, Any]) -> Tensor:
    """Vyas et al., 2024: Adam in the eigenbasis of Shampoo's two preconditioners; the first gradient makes the bases alone."""
    sides = {"left": g @ g.mT, "right": g.mT @ g}
    for side, new in sides.items():
        state[side] = h["beta2"] * state.get(side, torch.zeros_like(new)) + (1 - h["beta2"]) * new
    if "t" not in state:
        state |= {"t": 0, "m": torch.zeros_like(g), "v": torch.zeros_like(g)}
        for side in sides:
            state[f"q_{side}"] = torch.linalg.eigh(state[side]).eigenvectors.flip(1)
        return p
    state["t"] += 1
    t, ql, qr = state["t"], state["q_left"], state["q_right"]
    state["m"] = h["beta1"] * state["m"] + (1 - h["beta1"]) * g
    state["v"] = h["beta2"] * state["v"] + (1 - h["beta2"]) * (ql.mT @ g @ qr) ** 2
    u = ql @ ((ql.mT @ state["m"] @ qr) / (state["v"].sqrt() + h["eps"])) @ qr.mT
    p = p - h["lr"] * math.sqrt(1 - h["beta2"] ** t) / (1 - h["beta1"] ** t) * u
    p = p - h["lr"] * h["weight_decay"] * p
    if t % h["precondition_frequency"] == 0:
        for axis, side in enumerate(sides):
            q = state[f"q_{side}"]
            order = torch.argsort(torch.diag(q.mT @ state[side] @ q), descending=True, stable=True)
            state["v"] = state["v"].index_select(axis, order)
            state[f"q_{side}"] = torch.linalg.qr(state[side] @ q[:, order]).Q
    return p


def adafactor(p: Tensor, g: Tensor, state: State, h: dict[str, Any]) -> Tensor:
    """Shazeer and Stern, 2018, without momentum, as torch has it."""
    state["t"] = t = state.get("t", 0) + 1
    share = t ** h["beta2_decay"]
    length = max(h["eps2"], float(p.norm()) / math.sqrt(p.numel())) * min(h["lr"], t**-0.5)
    squares = g * g
    row, column = squares.mean(1), squares.mean(0)
    state["r"] = (1 - share) * state.get("r", torch.zeros_like(row)) + share * row
    state["c"] = (1 - share) * state.get("c", torch.zeros_like(column)) + share * column
    v = torch.outer(state["r"], state["c"]) / max(float(state["r"].mean()), h["eps1"])
    u = g / v.clamp(min=h["eps1"] ** 2).sqrt()
    u = u / max(1.0, float(u.norm()) / math.sqrt(u.numel()) / h["d"])
    return p - h["lr"] * h["weight_decay"] * p - length * u


def came(p: Tensor, g: Tensor, state: State, h: dict[str, Any]) -> Tensor:
    """Luo et al., 2023, algorithm 2: squares and instability each as the outer product of their means, over the mean of all."""

    def followed(name: str, new: Tensor, beta: float) -> Tensor:
        row = state[f"{name}_row"] = beta * state.get(f"{name}_row", 0.0) + (1 - beta) * new.mean(1)
        column = state[f"{name}_col"] = beta * state.get(f"{name}_col", 0.0) + (1 - beta) * new.mean(0)
        return torch.outer(row, column) / row.mean()

    u = g / followed("v", g * g + h["eps1"], h["beta2"]).sqrt()
    u = u / max(1.0, float((u * u).mean().sqrt()) / h["clip_threshold"])
    m = state["m"] = h["beta1"] * state.get("m", 0.0) + (1 - h["beta1"]) * u
    instability = followed("u", (u - m) ** 2 + h["eps2"], h["beta3"])
    return p - h["lr"] * h["weight_decay"] * p - h["lr"] * m / instability.sqrt()


def sm3(p: Tensor, g: Tensor, state: State, h: dict[str, Any]) -> Tensor:
    """Anil et al., 2019, SM3-II: the sets of the cover are the rows and the columns, of each the largest bound is kept."""
    kept = state.setdefault("mu", {(axis, k): 0.0 for axis in (0, 1) for k in range(p.shape[axis])})
    nu = torch.zeros_like(g)
    for i in range(p.shape[0]):
        for j in range(p.shape[1]):
            nu[i, j] = min(kept[0, i], kept[1, j]) + float(g[i, j]) ** 2
    kept |= {(0, i): float(row.max()) for i, row in enumerate(nu)}
    kept |= {(1, j): float(column.max()) for j, column in enumerate(nu.mT)}
    u = state["m"] = h["momentum"] * state.get("m", 0.0) + (1 - h["momentum"]) * g / (nu + h["eps"]).sqrt()
    return p - h["lr"] * u


def shampoo(p: Tensor, g: Tensor, state: State, h: dict[str, Any]) -> Tensor:
    """Gupta et al., 2018, algorithm 1, and 2 for a tensor of one axis; a side of one row or column is none, a large one is diagonal."""
    state["t"] = t = state.get("t", -1) + 1
    m = state["m"] = h["momentum"] * state.get("m", 0.0) + g
    sides = [axis for axis in (0, 1) if p.shape[axis] > 1] or [1]
    for axis in sides:
        n = p.shape[axis]
        rows = g if axis == 0 else g.mT
        grown = state.get(("sum", axis), h["eps"] * torch.eye(n, dtype=g.dtype)) + rows @ rows.mT
        state["sum", axis] = grown
        if n > h["max_precondition_dim"]:
            state["root", axis] = torch.diag(torch.diag(grown) ** (-0.5 / len(sides)))
        elif t % h["precondition_frequency"] == 0:
            values, vectors = torch.linalg.eigh(grown)
            state["root", axis] = vectors @ torch.diag(values ** (-0.5 / len(sides))) @ vectors.mT
        m = state["root", axis] @ m if axis == 0 else m @ state["root", axis]
    return p - h["lr"] * m

"""The loop of a whole training: each thread takes blocks of lanes through all steps.

No thread waits for another. A block's parameters, states and scalars stay in the core's own cache from the first step to the
last; no step is a call from Python. The loop calls the printed step of the model and that of the rule through pointers, so
that it is compiled once for all models and all rules of one dtype.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from steprule.compiler import cache
from steprule.compiler.threads import launch
from steprule.lanes.rule import step_type
from steprule.lanes.step import Source, block_type

TRAIN = """
@njit(types.void(BLOCK, BLOCK, STEP, STEP, N, STEP, N, P, F, F, F, I, X, Y, I3, I, I, F1, I, F, I, I32, I, N, N, N, N, N, N, N), **OPTIONS)
def train(
    full, last, step, point, elsewhere, look, looked, p_all, starts, hypers, slots, lr_rows, x, y, order, order_of, counts,
    factors, windows, curve, died, tensors, first, width, lane_rows, sum_rows, shared_rows, table_rows, power_rows, reductions,
):
    for block in prange(p_all.shape[1] // width):
        low = block * width
        p = np.empty((p_all.shape[0], width), dtype=np.COMPUTE)
        g = np.empty((p_all.shape[0], width), dtype=np.COMPUTE)
        states = np.empty((starts.shape[0], p_all.shape[0], width), dtype=np.COMPUTE)
        rates = np.empty((hypers.shape[0], width))
        slot, powers = np.empty((slots.shape[0], width)), np.empty((power_rows, width))
        for l in range(width):
            for r in range(p_all.shape[0]):
                p[r, l] = p_all[r, low + l]
                for k in range(starts.shape[0]):
                    states[k, r, l] = starts[k, low + l]
            for k in range(hypers.shape[0]):
                rates[k, l] = hypers[k, low + l]
            for k in range(slots.shape[0]):
                slot[k, l] = slots[k, low + l]
            for k in range(power_rows):
                powers[k, l] = 1.0
        table = np.empty((table_rows, width), dtype=np.COMPUTE)
        reduced = np.empty((reductions, len(first) - 1, width), dtype=np.COMPUTE)
        sums = np.empty((reductions, len(first) - 1, width))
        loss, loss_there = np.empty(width, dtype=np.COMPUTE), np.empty(width, dtype=np.COMPUTE)
        kept = np.empty((p_all.shape[0] if looked >= 0 else 0, width), dtype=np.COMPUTE)
        s, w = np.empty(lane_rows * width, dtype=np.COMPUTE), np.empty(sum_rows * width, dtype=np.COMPUTE)
        u = np.empty(shared_rows, dtype=np.COMPUTE)
        xb = np.empty((order.shape[2] * x.shape[1], DATA), dtype=x.dtype)
        yb = np.empty((order.shape[2] * y.shape[1], DATA), dtype=y.dtype)
        flat_p, flat_g, flat_x, flat_y = p.reshape(-1), g.reshape(-1), xb.reshape(-1), yb.reshape(-1)
        rows, alive = np.empty(DATA, dtype=np.int64), np.empty(width, dtype=np.uint8)
        for l in range(width):
            alive[l] = 1
        for t in range(len(counts)):
            for b in range(counts[t]):
                for l in range(DATA):
                    rows[l] = order[order_of[low + l], t, b]
                for f in range(x.shape[1]):
                    for l in range(DATA):
                        xb[b * x.shape[1] + f, l] = x[rows[l], f]
                for f in range(y.shape[1]):
                    for l in range(DATA):
                        yb[b * y.shape[1] + f, l] = y[rows[l], f]
            if counts[t] == order.shape[2]:
                full(flat_p, flat_g, flat_x, flat_y, loss, s, w, u)
            else:
                last(flat_p, flat_g, flat_x, flat_y, loss, s, w, u)
            for l in range(width):
                if alive[l] == 1 and not np.isfinite(loss[l]):
                    alive[l] = 0
                    died[low + l] = t + 1
                curve[windows[t], low + l] += loss[l]
            for k in range(len(lr_rows)):
                r = lr_rows[k]
                for l in range(width):
                    rates[r, l] = hypers[r, low + l] * factors[t]
            if looked >= 0:
                for r in range(p_all.shape[0]):
                    for l in range(width):
                        kept[r, l] = p[r, l]
                look(t + 1.0, rates, powers, slot, table, tensors, first, reduced, sums, alive, p, g, states)
                found = states[looked].reshape(-1)
                if counts[t] == order.shape[2]:
                    full(flat_p, found, flat_x, flat_y, loss_there, s, w, u)
                else:
                    last(flat_p, found, flat_x, flat_y, loss_there, s, w, u)
                for r in range(p_all.shape[0]):
                    for l in range(width):
                        p[r, l] = kept[r, l]
            step(t + 1.0, rates, powers, slot, table, tensors, first, reduced, sums, alive, p, g, states)
        if elsewhere == 1:
            point(float(len(counts)), rates, powers, slot, table, tensors, first, reduced, sums, alive, p, g, states)
        for r in range(p_all.shape[0]):
            for l in range(width):
                p_all[r, low + l] = p[r, l]
"""

LOSSES = """
@njit(types.void(BLOCK, P, X, Y, F1, N, N, N, N, N), **OPTIONS)
def losses(full, p_all, x, y, total, size, width, lane_rows, sum_rows, shared_rows):
    batches = x.shape[0] // size
    for block in prange(p_all.shape[1] // width):
        low = block * width
        p, loss = np.empty((p_all.shape[0], width), dtype=np.COMPUTE), np.empty(width, dtype=np.COMPUTE)
        for r in range(p_all.shape[0]):
            for l in range(width):
                p[r, l] = p_all[r, low + l]
        s, w = np.empty(lane_rows * width, dtype=np.COMPUTE), np.empty(sum_rows * width, dtype=np.COMPUTE)
        u, no_gradient = np.empty(shared_rows, dtype=np.COMPUTE), np.empty(0, dtype=np.COMPUTE)
        xb = np.empty((size * x.shape[1], DATA), dtype=x.dtype)
        yb = np.empty((size * y.shape[1], DATA), dtype=y.dtype)
        for t in range(batches):
            for b in range(size):
                for f in range(x.shape[1]):
                    xb[b * x.shape[1] + f] = x[t * size + b, f]
                for f in range(y.shape[1]):
                    yb[b * y.shape[1] + f] = y[t * size + b, f]
            full(p.reshape(-1), no_gradient, xb.reshape(-1), yb.reshape(-1), loss, s, w, u)
            for l in range(width):
                total[low + l] += loss[l] / batches
"""


def training(source: Source, *, parallel: bool) -> Any:
    """`train`, which trains p [rows, lanes] in place.

    It takes, in this order:

    - full, last: the model's `block` for a whole batch and for a shorter last one;
    - step; point, elsewhere: the rule's `step`, and its `point` and 1 where the model is read elsewhere than at p, else `step` and 0;
    - look, looked: the rule's `look1` and the slot of what it finds, else `step` and -1;
    - p_all [rows, lanes], starts [slots, lanes], hypers and slots [names, lanes], lr_rows: which rows of hypers are learning rates;
    - x and y [samples, numbers], order [orders, steps, batch], order_of [lanes]: which order each lane has;
    - counts, factors, windows [steps]: a step's samples, the factor of its learning rate, its window of the curve;
    - curve [windows, lanes], died [lanes], which it writes; tensors and first: where the parameters' rows lie;
    - width: the lanes of a block; then the rows of scratch: the model's per lane, for sums and for all lanes, the rule's table, powers
      of t and reductions.
    """
    return _loop(TRAIN, source.compute, source.x_kind, source.y_kind, source.own_data, parallel).train


def evaluation(source: Source, *, parallel: bool) -> Any:
    """`losses`, which adds each lane's mean loss over whole batches of x and y, of `size` samples each, to total [lanes].

    It takes the model's `block`, p, x, y, total, size, the lanes of a block, and the model's rows of scratch: for each lane, for sums
    and for all lanes.
    """
    return _loop(LOSSES, source.compute, source.x_kind, source.y_kind, source.own_data, parallel).losses


@lru_cache(maxsize=64)
def _loop(body: str, compute: str, x_kind: str, y_kind: str, own_data: bool, parallel: bool) -> Any:
    if parallel:
        launch()
    function = body.split("def ")[1].split("(")[0]
    text = _HEAD + body
    for word, said in {
        "COMPUTE": compute,
        "X_KIND": x_kind,
        "Y_KIND": y_kind,
        "PARALLEL": str(parallel),
        "DATA": "width" if own_data else "1",
        "BLOCK_TYPE": block_type(compute, x_kind, y_kind),
        "STEP_TYPE": step_type(compute),
    }.items():
        text = text.replace(word, said)
    return cache.load(f"lanes_{function}", text, cache.INTRINSICS, *cache.NUMBA)


_HEAD = '''"""A loop over lanes: written by steprule for COMPUTE, X_KIND and Y_KIND."""

import numpy as np
from numba import njit, prange, types
from numba.core.sigutils import normalize_signature


def pointer(text):
    arguments, result = normalize_signature(text)
    return types.FunctionType(result(*arguments))


def array(kind, dimensions):
    return types.Array(kind, dimensions, "C")


BLOCK, STEP = pointer("BLOCK_TYPE"), pointer("STEP_TYPE")
P, X, Y = array(types.COMPUTE, 2), array(types.X_KIND, 2), array(types.Y_KIND, 2)
F, F1 = array(types.float64, 2), array(types.float64, 1)
I, I3, I32, N = array(types.int64, 1), array(types.int64, 3), array(types.int32, 1), types.int64
OPTIONS = dict(parallel=PARALLEL, nogil=True, error_model="numpy", cache=True)

'''

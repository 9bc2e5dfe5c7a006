"""Print the loop of a whole training over lanes: each thread takes blocks of lanes through all steps, and never waits.

A block's parameters, states and scalars stay in the core's own cache from the first step to the last; no step is a call
from Python. The loop calls the printed step of the model and the lanes form of the rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from steprule.compiler import cache
from steprule.compiler.lanes import lanes_module
from steprule.compiler.split import Program
from steprule.sweeps.kernel import Source, compiled


def driver(full: Source, last: Source | None, first_step: Program, later: Program, compute: str, parallel: bool) -> Any:
    """`train(p, starts, hypers, slots, lr_rows, x, y, order, counts, factors, windows, curve, died, tensors, first, blocks)`.

    It trains p [rows, lanes] in place. `full` steps batches of the plan's size, `last` a shorter one; `first_step` is the
    rule where slots are still absent.
    """
    models = [compiled(source).__name__ for source in (full, *([last] if last else []))]
    rules = [lanes_module(program, compute) for program in dict.fromkeys((first_step, later))]
    source = _source(full, last, models, first_step, later, [m.__name__ for m in rules], compute, parallel)
    return cache.load(f"{later.graph.rule.name}_training", source, cache.INTRINSICS, *cache.NUMBA).train


def evaluator(full: Source, compute: str, parallel: bool) -> Any:
    """`losses(p, x, y, order, total, blocks)`: adds the loss of each batch of `order`, over their number, to total [lanes]."""
    c, width = compute, full.width
    signature = f"void({c}[:, ::1], {full.x_kind}[:, ::1], {full.y_kind}[:, ::1], int64[:, ::1], float64[::1], int64)"
    lines = [
        '"""The losses of lanes on many batches: printed by steprule."""',
        "",
        "import numpy as np",
        "from numba import njit, prange",
        "",
        f"from {compiled(full).__name__} import block",
        "",
        "",
        f'@njit("{signature}", parallel={parallel}, nogil=True, error_model="numpy", cache=True)',
        "def losses(p_all, x, y, order, total, blocks):",
        "    for block_number in prange(blocks):",
        f"        low, high = block_number * {width}, block_number * {width} + {width}",
        "        p = p_all[:, low:high].copy()",
        f"        g, loss = np.empty_like(p), np.empty({width}, dtype=np.{c})",
        f"        s, u = np.empty(({full.lane_rows}, {width}), dtype=np.{c}), np.empty({full.shared_rows}, dtype=np.{c})",
        *_batch_buffers(),
        "        for t in range(order.shape[0]):",
        "            for b in range(order.shape[1]):",
        *_GATHER,
        "            block(p, g, xb, yb, loss, s, u)",
        f"            for l in range({width}):",
        "                total[low + l] += loss[l] / order.shape[0]",
        "",
    ]
    return cache.load("model_losses", "\n".join(lines), cache.INTRINSICS, *cache.NUMBA).losses


_GATHER = [
    "                for f in range(x.shape[1]):",
    "                    xb[b * x.shape[1] + f] = x[order[t, b], f]",
    "                for f in range(y.shape[1]):",
    "                    yb[b * y.shape[1] + f] = y[order[t, b], f]",
]


def _batch_buffers() -> list[str]:
    return [f"        {n}b = np.empty(order.shape[1] * {n}.shape[1], dtype={n}.dtype)" for n in "xy"]


def _source(
    full: Source, last: Source | None, models: Sequence[str], first_step: Program, later: Program,
    rules: Sequence[str], compute: str, parallel: bool,
) -> str:  # fmt: skip
    c, width = compute, full.width
    columns = later.columns
    state = [n for n in columns if n not in ("p", "g")]
    lane_rows = max(full.lane_rows, last.lane_rows if last else 0)
    shared_rows = max(full.shared_rows, last.shared_rows if last else 0)
    kinds = f"{full.x_kind}[:, ::1], {full.y_kind}[:, ::1]"
    signature = (
        f"void({c}[:, ::1], float64[:, ::1], float64[:, ::1], float64[:, ::1], int64[::1], {kinds}, int64[:, ::1], "
        "int64[::1], float64[::1], int64[::1], float64[:, ::1], int64[::1], int32[::1], int64[::1], int64)"
    )
    call = "block_full(p, g, xb, yb, loss, s, u)"
    stepping = (
        ["if counts[t] == order.shape[1]:", f"    {call}", "else:", f"    {call.replace('full', 'last')}"]
        if last
        else [call]
    )
    lines = [
        '"""A whole training over lanes: printed by steprule."""',
        "",
        "import numpy as np",
        "from numba import njit, prange",
        "",
        f"from {models[0]} import block as block_full",
        *([f"from {models[1]} import block as block_last"] if last else []),
        f"from {rules[-1]} import scalars as scalars_1",
        *(f"from {rules[-1]} import pass{k} as later_{k}" for k in range(len(later.passes))),
        *([f"from {rules[0]} import scalars as scalars_0"] if len(rules) == 2 else []),
        *(f"from {rules[0]} import pass{k} as first_{k}" for k in range(len(first_step.passes)) if len(rules) == 2),
        "",
        "",
        f'@njit("{signature}", parallel={parallel}, nogil=True, error_model="numpy", cache=True)',
        "def train(p_all, starts, hypers, slots, lr_rows, x, y, order, counts, factors, windows, curve, died, tensors, first, blocks):",
        "    for block in prange(blocks):",
        f"        low, high = block * {width}, block * {width} + {width}",
        "        p = p_all[:, low:high].copy()",
        "        g = np.empty_like(p)",
        *(f"        a_{n} = np.empty_like(p)" for n in state),
        *(line for k, n in enumerate(state) for line in _filled(n, k, width)),
        "        hyper, slot = hypers[:, low:high].copy(), slots[:, low:high].copy()",
        "        rates = hyper.copy()",
        f"        powers_1 = np.ones(({max(1, _powers(later))}, {width}))",
        f"        table_1 = np.empty(({max(1, len(later.roots))}, {width}), dtype=np.{c})",
        f"        reduced = np.empty(({max(1, len(later.reductions))}, len(first) - 1, {width}), dtype=np.{c})",
        f"        sums = np.empty(({max(1, len(later.reductions))}, len(first) - 1, {width}))",
        f"        loss = np.empty({width}, dtype=np.{c})",
        f"        s, u = np.empty(({lane_rows}, {width}), dtype=np.{c}), np.empty({shared_rows}, dtype=np.{c})",
        f"        alive = np.ones({width}, dtype=np.uint8)",
        *_batch_buffers(),
        "        for t in range(len(counts)):",
        "            for b in range(counts[t]):",
        *_GATHER,
        *(f"            {line}" for line in stepping),
        f"            for l in range({width}):",
        "                if alive[l] == 1 and not np.isfinite(loss[l]):",
        "                    alive[l] = 0",
        "                    died[low + l] = t + 1",
        "                curve[windows[t], low + l] += loss[l]",
        "            for r in range(len(lr_rows)):",
        f"                for l in range({width}):",
        "                    rates[lr_rows[r], l] = hyper[lr_rows[r], l] * factors[t]",
    ]
    later_lines = _rule_lines(later, "later", "scalars_1", "powers_1", "table_1")
    if len(rules) == 2:
        prepare = "scalars_1(rates, 1.0, powers_1, slot.copy(), table_1)"
        table_0 = f"table_0 = np.empty(({max(1, len(first_step.roots))}, {width}), dtype=np.{c})"
        powers_0 = f"powers_0 = np.ones(({max(1, _powers(first_step))}, {width}))"
        first_lines = _rule_lines(first_step, "first", "scalars_0", "powers_0", "table_0")
        lines += [
            "            if t == 0:",
            *(f"                {x}" for x in (prepare, table_0, powers_0, *first_lines)),
        ]
        lines += ["            else:", *(f"                {x}" for x in later_lines)]
    else:
        lines += [f"            {x}" for x in later_lines]
    lines += ["        p_all[:, low:high] = p", ""]
    return "\n".join(lines)


def _filled(name: str, k: int, width: int) -> list[str]:
    return [
        f"        for r in range(a_{name}.shape[0]):",
        f"            for l in range({width}):",
        f"                a_{name}[r, l] = starts[{k}, low + l]",
    ]


def _powers(program: Program) -> int:
    from steprule.compiler.lanes import powers_of_t

    return len(powers_of_t(program))


def _rule_lines(program: Program, prefix: str, scalars: str, powers: str, table: str) -> list[str]:
    """A step of the rule on a block: scalars, then the passes."""
    arrays = ", ".join({"p": "p", "g": "g"}.get(n, f"a_{n}") for n in program.columns)
    lines = [f"{scalars}(rates, t + 1.0, {powers}, slot, {table})"]
    done = 0
    for k, part in enumerate(program.passes):
        if not part.reductions:
            lines.append(f"{prefix}_{k}(tensors, {table}, reduced, alive, {arrays})")
            continue
        lines.append(f"{prefix}_{k}(first, {table}, reduced, sums, {arrays})")
        for row, node in enumerate(part.reductions):
            value: Any = f"sums[{row}, i, l]"
            value = f"np.sqrt({value})" if node.op == "norm" else value
            value = f"{value} / (first[i + 1] - first[i])" if node.op == "mean" else value
            lines += [
                "for i in range(len(first) - 1):",
                f"    for l in range({table}.shape[1]):",
                f"        reduced[{done}, i, l] = {value}",
            ]
            done += 1
    return lines

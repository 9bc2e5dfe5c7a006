"""Compiles Triton's kernels ahead of time for a GPU that is not there, and counts in their machine code: `python ahead.py ASKED`.

ASKED is a JSON list of [rule, dtypes, capability, parts]: `dtypes` is that of all columns, or that of each by name with the rest under "".
`parts`: what is on, "plain", "all", "stochastic", "kahan", "measuring" or "diagnosed". A JSON list of what each kernel has comes back, one per pass.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from steprule import optim
from steprule.compiler import triton_gpu as gpu
from steprule.compiler.variant import variant
from steprule.rules.compensated import compensated

LETTERS = {"float32": "fp32", "float64": "fp64", "bfloat16": "bf16", "float16": "fp16"}
PARTS = ("clip_norm", "clip_value", "ema_decay", "weight_decay", "momentum", "scaled")
AMD = {942: "gfx942"}
"""AMD's architectures by number: the MI300's."""
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


def programs(name: str, parts: str, dtype: str) -> list[tuple[Any, bool]]:
    """The programs of a rule with these parts, each with whether its parameter is rounded by chance."""
    rule = optim.from_rule(name).rule
    on = tuple((h.name, parts not in ("plain", "diagnosed") and h.name in PARTS) for h in rule.hypers if h.switches)
    if parts == "kahan":
        return [(variant(compensated(rule, dtype), on).program(), False)]
    if parts == "measuring":
        return [(program, False) for program in variant(rule, on).measurements()]
    return [(variant(rule, on).program(zero_grad=parts == "all"), parts == "stochastic")]


def kernels(name: str, dtypes: str | dict[str, str], parts: str) -> list[Any]:
    """The kernels of a rule with these parts."""
    said = {"": dtypes} if isinstance(dtypes, str) else dtypes
    found = []
    for program, stochastic in programs(name, parts, said.get("p", said[""])):
        own = {column: said.get(column, said[""]) for column in program.columns}
        found.append(gpu.TritonKernel.of(program, own, stochastic=stochastic, diagnoses=parts == "diagnosed"))
    return found


def machine_code(source: ASTSource, capability: int) -> Any:
    """What Triton compiles of a source, as a step asks for it."""
    if capability in AMD:
        return triton.compile(source, target=GPUTarget("hip", AMD[capability], 64), options=gpu.UNFUSED)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=gpu.OPTIONS)


def counted(built: Any) -> dict[str, Any]:
    """What the code of one kernel has: instructions of PTX by name, registers per thread, and how often it goes to local memory,
    which is where a compiler spills."""
    if "amdgcn" in built.asm:
        words = re.findall(r"(?:global|buffer|flat|scratch)_(?:load|store)_\w+", built.asm["amdgcn"])
        spills = sum(map(int, re.findall(r"_spill_count:\s*(\d+)", built.asm["amdgcn"])))
        return {"spills": spills, "words": {word: words.count(word) for word in sorted(set(words))}}
    words = re.findall(r"(?:ld|st)\.(?:global|local)[\w.:]*|cvt\.rn\.b?f16|fma\.rn", built.asm["ptx"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(built.asm["cubin"])
        usage = _told_by("cuobjdump", "--dump-resource-usage", path)
        code = _told_by("nvdisasm", "-c", path)
    (registers,) = re.findall(r"REG:(\d+)", usage)
    assert "LDG" in code, "machine code that reads no memory"
    spills = len(re.findall(r"\b(?:LDL|STL)\b", code))
    return {
        "registers": int(registers),
        "spills": spills,
        "ptx": {word: words.count(word) for word in sorted(set(words))},
    }


def _told_by(tool: str, *asked: object) -> str:
    done = subprocess.run([TOOLS / tool, *map(str, asked)], capture_output=True, text=True, check=True)
    return done.stdout


def of_kernel(kernel: Any, capability: int) -> list[dict[str, Any]]:
    """Of each pass: what its machine code has, and which columns it reads and writes, by their dtypes."""
    c = LETTERS[kernel.compute]
    signature = {
        "addresses": "*i64", "count": "i32", "tensors": "*i32", "offsets": "*i64", "lengths": "*i64", "table": f"*{c}",
        "distinct": "i32", "which": "*i32", "reduced": f"*{c}", "partial": f"*{c}", "chunks": "i32", "CHUNK": "constexpr",
    }  # fmt: skip
    found = []
    for k, (function, part) in enumerate(zip(kernel.passes, kernel.program.passes, strict=True)):
        own = {**signature, "partial": "*fp64"} if part.reductions or kernel.diagnoses else signature
        built = machine_code(ASTSource(fn=function, signature=own, constexprs={"CHUNK": gpu.CHUNK}), capability)
        last = k == len(kernel.passes) - 1 and not part.reductions
        dtypes = dict(zip(kernel.program.columns, kernel.dtypes, strict=True))
        reads, writes = part.loads, list(kernel.program.stores) if last else []
        told = {
            "reads": [dtypes[n] for n in reads],
            "writes": [dtypes[n] for n in writes],
            "reduces": bool(part.reductions),
        }
        found.append({**counted(built), **told})
    for op in {node.op for node in kernel.program.reductions}:
        own = {"partial": "*fp64", "first": "*i64", "elements": "*i64", "reduced": f"*{c}"}
        machine_code(ASTSource(fn=getattr(kernel.module, f"combine_{op}"), signature=own, constexprs={}), capability)
    return found


def main() -> None:
    """Compile what is asked for."""
    answer = []
    for name, dtypes, capability, parts in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        answer.append([of_kernel(kernel, capability) for kernel in kernels(name, dtypes, parts)])
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()

"""What Ray costs: the same blocks of lanes on Ray and on the local engine, in turn, on the cores of this machine.

Both are started and have built their kernels before the clock runs; their start is timed apart.

    python benchmarks/ray_vs_local.py [--rounds N] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from concurrent.futures import wait
from pathlib import Path

from steprule.provenance import hardware, versions
from steprule.races.protocol import blocks_of, chains_of, next_phase
from steprule.races.runner import engine_of
from steprule.races.spec import spec_of


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    spec = spec_of(
        ["sgd", "adam", "rmsprop", "lion"], "airfoil-mlp", trials=512, seeds=2, fresh=1, schedules=("constant", "linear"),
        epochs=None, batch_size=None, compile=True, device="cpu",
    )  # fmt: skip
    blocks = [b for c in chains_of(spec) for b in blocks_of(c, "tune-0", next_phase(spec, c, [])[2])]
    lanes = sum(len(b.lanes) for b in blocks)
    cores = len(os.sched_getaffinity(0))
    seconds: dict[str, list[float]] = {"local": [], "ray": []}
    began = time.perf_counter()
    with engine_of(spec, "local", cores, None, lanes) as (local, _):
        wait([local(b) for b in blocks])
        starts = {"local": time.perf_counter() - began}
        began = time.perf_counter()
        with engine_of(spec, "ray", None, None, lanes) as (ray, _):
            wait([ray(b) for b in blocks])
            starts["ray"] = time.perf_counter() - began
            for _ in range(options.rounds):
                for name, submit in (("local", local), ("ray", ray)):
                    began = time.perf_counter()
                    wait([submit(b) for b in blocks])
                    seconds[name].append(time.perf_counter() - began)
    ratio = statistics.median(r / own for r, own in zip(seconds["ray"], seconds["local"], strict=True))
    print(
        f"{len(blocks)} blocks of {len(blocks[0].lanes):,} lanes, {cores} cores; medians of {options.rounds} rounds in turn"
    )
    for name, found in seconds.items():
        print(f"{name:6s} {statistics.median(found):6.2f} s  {lanes / statistics.median(found):8,.0f} lanes/s"
              f"  (start, kernels and first round: {starts[name]:.1f} s)")  # fmt: skip
    print(f"ray takes {ratio:.3f} of local's time")
    if options.out:
        record = {"blocks": len(blocks), "lanes": lanes, "seconds": seconds, "start": starts, "ratio": ratio,
                  "hardware": hardware(), "versions": versions(), "date": time.strftime("%Y-%m-%d")}  # fmt: skip
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

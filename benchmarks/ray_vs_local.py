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
from steprule.races.runner import engine_of
from steprule.races.spec import spec_of
from steprule.races.store import Store


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rules, schedules = ["sgd", "adam", "rmsprop", "lion"], ("constant", "linear")
    spec = spec_of(rules, "airfoil-mlp", 512, 2, fresh=1, schedules=schedules, compile=True)
    store, blocks = Store(None, spec), []
    for chain in spec.chains:
        planned = spec.protocol.following(chain, spec.entrant(chain.label), [])
        assert planned is not None
        blocks += planned.blocks(chain, spec.block(chain.problem, chain.label))
    lanes = sum(len(b.lanes) for b in blocks)
    cores = len(os.sched_getaffinity(0))
    seconds: dict[str, list[float]] = {"local": [], "ray": []}
    began = time.perf_counter()
    with engine_of(spec, store, "local", cores, None, lanes) as (local, _):
        wait([local(b) for b in blocks])
        starts = {"local": time.perf_counter() - began}
        began = time.perf_counter()
        with engine_of(spec, store, "ray", None, None, lanes) as (ray, _):
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

"""DTensors over two processes: the kernel on each shard, the eager form where something is reduced over the whole."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

SCRIPT = """
import os, sys, warnings
warnings.simplefilter("ignore")
import torch, torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from steprule import optim

torch.set_num_threads(1)
dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (2,))
cases = [("Adam", {}, True), ("Adam", {"ema_decay": 0.9, "weight_decay": 0.1}, True), ("SGD", {"momentum": 0.9}, True),
    ("RMSprop", {"zero_grad": True}, True), ("Adam", {"clip_norm": 0.5}, False), ("lamb", {}, False)]
for name, settings, in_kernel in cases:
    kind = getattr(optim, name, None) or optim.from_rule(name)
    ends = []
    for placed in (Shard(0), Replicate(), None):
        torch.manual_seed(0)
        whole = [torch.randn(5, 3), torch.randn(4), torch.randn(1)]
        cut = (lambda x: distribute_tensor(x, mesh, [placed])) if placed else (lambda x: x)
        params = [torch.nn.Parameter(cut(w)) for w in whole]
        optimizer = kind(params, lr=0.1, **settings)
        for t in range(3):
            for p, w in zip(params, whole):
                p.grad = cut(torch.randn(w.shape))
            optimizer.step()
        plan = optimizer._plans[0]
        assert placed is None or plan is None or bool(plan.buckets) == in_kernel, (name, settings)
        states = [v for p in params for v in optimizer.state[p].values() if getattr(v, "ndim", 0)]
        ends.append([x.full_tensor() if placed else x for x in [*params, *states]])
    for end in ends[:2]:
        gap = max((a - b).abs().max().item() for a, b in zip(end, ends[2], strict=True))
        assert gap <= (0 if in_kernel else 1e-6), (name, settings, gap)
dist.destroy_process_group()
print("fine")
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="gloo over loopback: tried on Linux")
def test_two_processes() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT], env={**env, "RANK": str(rank)}, stdout=-1, stderr=-1, text=True
        )
        for rank in range(2)
    ]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err[-3000:]
        assert out.strip() == "fine"

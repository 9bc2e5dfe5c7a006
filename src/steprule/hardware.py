"""The machine in words: a figure without it says little."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch


def hardware() -> str:
    """The machine in words: processor, cores, threads that torch uses, system."""
    return f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads, {platform.system()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

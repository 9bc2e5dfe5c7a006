"""Where a result comes from: the date, the commit, the machine, the versions; and what the machine has left."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from steprule.errors import InputError

GROUP = Path("/sys/fs/cgroup")
"""Where Linux says what a container may take: version 2 of its interface, then version 1."""
LIMITS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


@dataclass(frozen=True)
class Made:
    """When, by what and where a result was made."""

    date: str
    """In UTC, to the second, as ISO 8601 writes it; empty where that is not known."""
    commit: str
    """Of steprule's own source; empty where it was installed without its history."""
    around: str
    """The commit of the folder in which it was made, where that is another repository; else empty."""
    versions: Mapping[str, str]
    hardware: str

    def in_words(self) -> str:
        """In a sentence: "Made 2026-11-27 with steprule 0.1.0 (commit 0123456), torch 2.13.0, numpy 2.4.0, python 3.13.1"."""
        own, *others = (f"{name} {number}" for name, number in self.versions.items())
        source = f" (commit {self.commit})" if self.commit else ""
        around = f", in a folder at commit {self.around}" if self.around else ""
        date = f" {self.date[:10]}" if self.date else ""
        return f"Made{date} with {', '.join([own + source, *others])}{around}."


def made_now() -> Made:
    """That of a result which is made now, in this process's folder."""
    source = Path(__file__).parent
    own, around = commit_of(source, source / "__init__.py"), commit_of(Path.cwd())
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return Made(date, own, "" if around == own else around, versions(), hardware())


def commit_of(folder: Path, file: Path | None = None) -> str:
    """The commit of the repository around a folder, with "+" where its files were changed since; empty where there is none, and
    where the repository does not hold `file`."""
    if file is not None and _git(folder, "ls-files", "--error-unmatch", str(file)) is None:
        return ""  # an environment within somebody's repository
    found = _git(folder, "rev-parse", "HEAD")
    if not found:
        return ""
    return found + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *words: str) -> str | None:
    """What git answers; None where it has no answer, or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def hardware() -> str:
    """The machine in words: processor, cores, threads that torch uses, system."""
    return f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads, {platform.system()}"


def versions() -> dict[str, str]:
    """What a result depends on: the versions of steprule, torch, numpy and Python."""
    found = {"steprule": version("steprule"), "torch": torch.__version__, "numpy": np.__version__}
    return {**found, "python": platform.python_version()}


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_left() -> int | None:
    """The bytes that can still be taken on this machine and in its container; None where the system does not say."""
    found = [_available(), *(_left_in_group(*names) for names in LIMITS)]
    known = [n for n in found if n is not None]
    return max(0, min(known)) if known else None


def memory_held() -> int:
    """The bytes that this process holds by now; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        pass
    try:
        import resource  # not on Windows
    except ImportError:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if platform.system() == "Darwin" else most * 1024


def check_device(name: str) -> torch.device:
    """The device of that name. Raises `InputError` where torch cannot use it here."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"device {name!r}", expected="a device that torch can use here", got=reason) from error
    return device


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        pass
    try:  # not Linux: all that there is, of which a half is taken to be free
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return None


def _left_in_group(most: str, now: str) -> int | None:
    try:
        return int((GROUP / most).read_text()) - int((GROUP / now).read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

"""The engine on a Ray cluster, whose tasks are blocks; the only file that imports ray.

Ray runs a task again whose worker or node has died; what it cannot bring back, the next run of the same command does.
"""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from steprule import extras
from steprule.errors import InputError
from steprule.races.chain import Block
from steprule.races.work import Package, train_block, unpacked

if TYPE_CHECKING:
    from concurrent.futures import Future

RETRIES = 5
"""How often a block is trained again that a dying worker took with it."""


@contextmanager
def cluster(package: bytes, address: str | None) -> Iterator[tuple[Callable[[Block], Future[Any]], int]]:
    """What takes blocks on the cluster at `address`, or on one that is started here, and how many to hand out at once.

    Raises `MissingPackageError` where ray is not installed, `InputError` where no cluster answers.
    """
    with extras.needed():
        import ray
    ours = not ray.is_initialized()
    if ours:
        try:
            _knock(address)
            handler = signal.getsignal(signal.SIGTERM)
            ray.init(
                address=address,
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
            with suppress(ValueError, TypeError):  # not the main thread, where ray sets none
                signal.signal(signal.SIGTERM, handler)  # ray's own would leave by sys.exit
        except (OSError, ValueError, RuntimeError) as error:
            got = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"--address {address}", expected="a Ray cluster that answers", got=got) from error
    try:
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(_train)
        shared = ray.put(package)
        cores = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
        yield lambda block: task.remote(shared, block).future(), 4 * cores
    finally:
        if ours:
            ray.shutdown()


def _knock(address: str | None) -> None:
    """Raise at once where nobody listens: ray itself would wait for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _train(package: bytes, block: Block) -> tuple[dict[str, Any], float]:
    return train_block(_known(package), block)


@lru_cache(maxsize=2)
def _known(package: bytes) -> Package:
    return unpacked(package)

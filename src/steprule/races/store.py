"""The folder of a race: `race.json`, a file per finished block, one table; nothing is half-written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from numpy.typing import NDArray

from steprule import extras
from steprule.atomic import write_aside, write_text
from steprule.errors import DataError, InputError, OutputError
from steprule.provenance import Made, made_now
from steprule.races.chain import Block, Chain, Phase
from steprule.races.difference import ELSEWHERE, refuse_another, warn_of_unknown
from steprule.races.partial import Partial
from steprule.races.spec import Spec

with extras.needed():
    import pyarrow as pa
    import pyarrow.parquet as pq

Array = NDArray[Any]
SPEC, BLOCKS, TABLE, LOCK, MADE = "race.json", "blocks", "results.parquet", ".lock", "made.json"
SCHEMA = pa.schema(
    [
        ("role", pa.string()),
        ("study", pa.int64()),
        ("trial", pa.int64()),
        ("seed", pa.int64()),
        ("hypers", pa.string()),  # JSON
        ("train", pa.float64()),
        ("validation", pa.float64()),
        ("test", pa.float64()),
        ("initial", pa.float64()),
        ("died_at", pa.int64()),
        ("curve", pa.list_(pa.float64())),
    ]
)
LANES = ("role", "study", "trial", "seed", "hypers")
"""What is known of a training before it is made."""
WATCHED = pa.schema([("seconds", pa.float64()), ("samples", pa.list_(pa.int64())), ("losses", pa.list_(pa.float64()))])
"""Of trainings that were measured along their way: the seconds of the steps, and the curve of the loss on all training samples."""
_BLOCK = b"steprule.block"


class Store:
    """The folder, or with None the memory of this process."""

    def __init__(self, folder: Path | None, spec: Spec) -> None:
        self.folder, self.spec, self.metrics = folder, spec.stated, spec.metric_columns
        self.shared = pa.schema([*SCHEMA, *(WATCHED if spec.protocol.watches else [])])
        self.digest = hashlib.sha256(json.dumps(self.spec, sort_keys=True).encode()).hexdigest()[:16]
        self.memory: dict[str, tuple[dict[str, Array], float]] = {}

    @classmethod
    @contextmanager
    def opened(cls, folder: str | Path | None, spec: Spec, part: str = "") -> Iterator[Store]:
        """The store of a race, which nobody else may use meanwhile. Raises as `locked`."""
        store = cls(Path(folder) if folder is not None else None, spec)
        with store.locked(part):
            yield store

    @contextmanager
    def locked(self, part: str = "") -> Iterator[None]:
        """Hold the folder, or a shard's part of it, against other processes.

        Raises `InputError` where another race is running in it, where it holds a race of another spec, or anything else.
        """
        if self.folder is None:
            yield
            return
        lock = self.folder / f"{LOCK}{part}"
        self._refuse_another_folder()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            held = filelock.FileLock(lock, timeout=0)
            held.acquire()
        except filelock.Timeout:
            hint = "Wait for it, or give another folder with --out."
            raise InputError(str(self.folder), expected="no other race running in it", got="one", hint=hint) from None
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise OutputError(
                str(self.folder), expected="a folder that can be written", got=reason, hint=ELSEWHERE
            ) from error
        try:
            self._begin()
            yield
        finally:
            held.release()

    def _refuse_another_folder(self) -> None:
        """Before anything is written there."""
        assert self.folder is not None
        if not self.folder.is_dir() or (self.folder / SPEC).exists():
            return
        if strange := sorted(p.name for p in self.folder.iterdir() if not p.name.startswith(".")):
            got = f"a folder with {strange[0]!r}"
            raise InputError(str(self.folder), expected="a new folder, or one of a race", got=got, hint=ELSEWHERE)

    def _begin(self) -> None:
        assert self.folder is not None
        path = self.folder / SPEC
        if not path.exists():
            warn_of_unknown(self.spec)
            write_text(path, json.dumps(self.spec, indent=1) + "\n")
        else:
            refuse_another(self.folder, read_spec(self.folder), self.spec)
        (self.folder / BLOCKS).mkdir(exist_ok=True)

    def path(self, block: Block) -> Path:
        """Where a block's results are."""
        assert self.folder is not None
        return self.folder / BLOCKS / f"{block.name}.parquet"

    def save(self, block: Block, results: Mapping[str, Array], seconds: float) -> None:
        """Keep a finished block. Raises `OutputError` where the disk cannot take it; what is there stays."""
        if self.folder is None:
            self.memory[block.name] = dict(results), seconds
            return
        about = {"block": block.name, "race": self.digest, "seconds": seconds}
        table = self._columns(block, results).replace_schema_metadata({_BLOCK: json.dumps(about)})
        with write_aside(self.path(block)) as aside:
            pq.write_table(table, aside, write_page_checksum=True)
        Partial(partial_of(self.folder, block), self.digest).clear()

    def load(self, block: Block) -> tuple[dict[str, Array], float] | None:
        """A finished block's results and seconds; None where it is not there. Raises `DataError` for a damaged file."""
        if self.folder is None:
            return self.memory.get(block.name)
        path = self.path(block)
        if not path.exists():
            return None
        expected = "the results of a block of this race"
        hint = "Delete this file and run the same command: it alone is trained again."
        try:
            table = pq.read_table(path, partitioning=None, page_checksum_verification=True)
            about = json.loads(table.schema.metadata[_BLOCK])
            if not table.schema.equals(self._schema(block)) or len(table) != len(block.lanes):
                raise ValueError("other columns or rows")
            if about["race"] == self.digest and table["hypers"].to_pylist() != _hypers(block):
                raise ValueError("other hyperparameters")
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            got = "a file that is damaged or not of a race" if path.stat().st_size else "an empty file"
            raise DataError(str(path), expected=expected, got=got, hint=hint) from error
        if (about["block"], about["race"]) != (block.name, self.digest):
            raise DataError(
                str(path), expected=expected, got=f"block {about['block']} of race {about['race']}", hint=hint
            )
        found = {n: _column(table[n]) for n in self.shared.names if n not in LANES}
        measured = [table[n].to_numpy() for n in self.metrics[block.chain.problem]]
        found["metrics"] = np.stack(measured, axis=1) if measured else np.empty((len(table), 0))
        return found, float(about["seconds"])

    def write_table(self, phases: Mapping[Chain, Sequence[Phase]]) -> Path | None:
        """All lanes of all chains as one table. The same race gives the same bytes, however often it was interrupted."""
        if self.folder is None:
            return None
        path = self.folder / TABLE
        every = dict.fromkeys(name for names in self.metrics.values() for name in names)
        schema = pa.schema(
            [
                *((n, pa.string()) for n in ("problem", "schedule", "rule", "phase")),
                *self.shared,
                ("diverged", pa.bool_()),
                *((n, pa.float64()) for n in every),
            ],
            metadata={"steprule.race": json.dumps(self.spec)},
        )
        with write_aside(path) as aside, pq.ParquetWriter(aside, schema) as writer:
            for chain, done in phases.items():
                for phase in done:
                    block = Block(chain, phase.name, 0, phase.lanes, "")
                    table = self._columns(block, phase.results)
                    texts = (chain.problem, chain.schedule, chain.label, phase.name)
                    first = [pa.array([t] * len(table), pa.string()) for t in texts]
                    none = pa.nulls(len(table), pa.float64())  # of a metric that another problem has
                    last = [table[n] if n in table.column_names else none for n in every]
                    shared = [table[n] for n in self.shared.names]
                    writer.write_table(pa.table([*first, *shared, pa.array(phase.diverged), *last], schema=schema))
        return path

    def keep_made(self, trained: int) -> Made:
        """When and by what the results were made: now where any were trained, else as the folder states it."""
        if self.folder is None or trained:
            made = made_now()
            if self.folder is not None:
                write_made(self.folder, made)
            return made
        return read_made(self.folder) or replace(made_now(), date="", commit="", around="")

    def _schema(self, block: Block) -> pa.Schema:
        return pa.schema([*self.shared, *((n, pa.float64()) for n in self.metrics[block.chain.problem])])

    def _columns(self, block: Block, results: Mapping[str, Array]) -> pa.Table:
        columns: dict[str, Any] = {n: getattr(block.lanes, n) for n in LANES if n != "hypers"}
        columns |= {n: list(v) if v.ndim == 2 else v for n, v in results.items() if n != "metrics"}
        columns |= zip(self.metrics[block.chain.problem], results["metrics"].T, strict=True)
        return pa.table({**columns, "hypers": _hypers(block)}, schema=self._schema(block))


def partial_of(folder: Path, block: Block) -> Path:
    """Where the training of a block is kept that is under way."""
    return folder / BLOCKS / f".{block.name}.partial"


def read_spec(folder: Path) -> dict[str, Any]:
    """The spec of the race in a folder. Raises `DataError` where there is none that can be read."""
    path = folder / SPEC
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("no spec")
    except (OSError, ValueError) as error:
        got = "none" if not path.exists() else "a file that is damaged"
        raise DataError(str(path), expected="the spec of a race", got=got, hint=ELSEWHERE) from error
    return found


def read_made(folder: Path) -> Made | None:
    """When and by what the results in a folder were made; None where it does not state it."""
    try:
        found = json.loads((folder / MADE).read_text(encoding="utf-8"))
        return Made(**{name: found[name] for name in Made.__dataclass_fields__})
    except (OSError, ValueError, KeyError, TypeError):
        return None  # it decides nothing


def write_made(folder: Path, made: Made) -> None:
    """State it in the folder."""
    write_text(folder / MADE, json.dumps(vars(made), indent=1) + "\n")


def _column(column: pa.ChunkedArray) -> Array:
    """A column as an array; one of lists of one length is [lanes, length]."""
    return np.array(column.to_pylist()) if pa.types.is_list(column.type) else column.to_numpy()


def _hypers(block: Block) -> list[str]:
    names = list(block.lanes.hypers)
    rows = zip(*(v.tolist() for v in block.lanes.hypers.values()), strict=True)
    return [json.dumps(dict(zip(names, row, strict=True))) for row in rows] if names else ["{}"] * len(block.lanes)

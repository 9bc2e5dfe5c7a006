"""Write a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from steprule.errors import OutputError


@contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """A path to write to in place of `path`; renamed to it at the end, removed if writing fails or is interrupted.

    Raises `OutputError`, in one line, where the file cannot be written; what was at `path` before then stays.
    """
    aside: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(None, "Is a folder")
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        aside = Path(name)
        yield aside
        with open(aside, "rb+") as written:
            os.fsync(written.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(aside, 0o666 & ~mask)  # mkstemp's file is for its owner alone
        os.replace(aside, path)
    except OutputError:
        raise
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise OutputError(f"{path}", expected="a file that can be written", got=reason, hint=_hint(error)) from error
    finally:
        if aside is not None:
            aside.unlink(missing_ok=True)


def _hint(error: OSError) -> str:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space and run the same command again; what was there before is whole."
    return "Give another place with --out."

"""Writes a file whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from steprule.errors import OutputError


@contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it is renamed to `path` at the end, and removed if writing fails or is interrupted.

    A link stays a link. A pipe or a device such as /dev/stdout stays what it is, and is written to at the end.

    Raises `OutputError` where the file cannot be written; the earlier content of `path` then stays.
    """
    aside: Path | None = None
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "Is a folder")
        stream = path.exists() and not path.is_file()
        target = path if stream else Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.gettempdir() if stream else target.parent
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=folder)
        os.close(handle)
        aside = Path(name)
        yield aside
        with open(aside, "rb+") as written:
            os.fsync(written.fileno())
        if stream:
            with open(aside, "rb") as whole, open(target, "wb") as out:
                shutil.copyfileobj(whole, out)
            return
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(aside, 0o666 & ~mask)  # mkstemp gives a file that only its owner may read
        os.replace(aside, target)
    except OutputError:
        raise
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise OutputError(f"{path}", expected="a file that can be written", got=reason, hint=_hint(error)) from error
    finally:
        if aside is not None:
            aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, as `write_aside` does."""
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def _hint(error: OSError) -> str:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space and run the same command again; what was there before is whole."
    return "Give another place with --out."


def as_file_name(text: str) -> str:
    """Words as every file system takes them.

    >>> as_file_name("airfoil, 0.1 µm")
    'airfoil__0.1__m'
    """
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in text)

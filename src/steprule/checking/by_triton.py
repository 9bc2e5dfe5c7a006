"""Walks the Triton form in a process whose Triton interprets: `-m steprule.checking.by_triton CASES WALKS`."""

from __future__ import annotations

import pickle
import sys
import warnings
from pathlib import Path

from steprule.checking.walks import walk_of_class
from steprule.identity import by_value


def main(asked: str, answer: str) -> None:
    """Read the cases, walk them, and write the walks, or one line about the error."""
    cases = by_value.loads(Path(asked).read_bytes())
    warnings.simplefilter("ignore")  # the interpreter computes with numpy, which warns where a GPU gives inf or nan
    try:
        told: object = [walk_of_class(case, "triton") for case in cases]
    except Exception as error:  # noqa: BLE001  # the parent judges it
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"
    Path(answer).write_bytes(pickle.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])

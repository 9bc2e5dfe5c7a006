"""Which extra brings which package, and the one line that is said where a package is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from steprule.errors import MissingPackageError

CORE = ("annotated_types", "filelock", "numba", "numpy", "rich", "sympy", "torch", "typer")
"""What `pip install steprule` brings."""
EXTRAS = {
    "race": ("pyarrow", "scipy", "loky", "cloudpickle"),
    "plot": ("matplotlib",),
    "ray": ("ray",),
    "gpu": ("triton",),
}
"""By extra what it is named for; pyproject.toml says what else each brings."""
BESIDE = ("pandas",)
"""What no extra brings: who asks for its tables has it."""


@contextmanager
def needed() -> Iterator[None]:
    """Around an import: a package of ours that is not installed becomes one line. Raises `MissingPackageError`.

    >>> with needed():
    ...     import steprule.rules
    """
    try:
        yield
    except ModuleNotFoundError as error:
        found = missing(error)
        if found is None:
            raise
        raise found from error


def missing(error: ModuleNotFoundError) -> MissingPackageError | None:
    """The error as one of ours, where a package is missing that we know; None for any other.

    >>> print(missing(ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow.csv")))
    package pyarrow: expected it installed, got ModuleNotFoundError. pip install "steprule[race]"
    """
    package = (error.name or "").partition(".")[0]
    command = how_to_get(package)
    if not command:
        return None
    return MissingPackageError(f"package {package}", expected="it installed", got=type(error).__name__, hint=command)


def how_to_get(package: str) -> str:
    """The command that installs a package of ours, and with one of the core what else of the core is missing; "" for any other.

    >>> how_to_get("triton"), how_to_get("torch"), how_to_get("pandas")
    ('pip install "steprule[gpu]"', 'pip install torch', 'pip install pandas')
    """
    for extra, packages in EXTRAS.items():
        if package in packages:
            return f'pip install "steprule[{extra}]"'
    if package in BESIDE:
        return f"pip install {package}"
    if package not in CORE:
        return ""
    wanted = [name for name in CORE if name == package or _is_missing(name)]
    return " ".join(["pip install", *wanted]).replace("_", "-")


def _is_missing(package: str) -> bool:
    try:
        return find_spec(package) is None
    except (ImportError, ValueError):  # somebody keeps it from being imported
        return True

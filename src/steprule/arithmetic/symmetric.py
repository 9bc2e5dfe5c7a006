"""Functions of symmetric matrices by their eigenvalues, the same lines for numpy and torch; nothing raises."""

from __future__ import annotations

import math
from typing import Any

from steprule.arithmetic.floats import Real


def _finite(library: Any, x: Any) -> Any:
    """Whether all of each matrix is finite, [..., 1, 1]."""
    return library.isfinite(x).all(-1).all(-1)[..., None, None]


def _of_symmetric(function: Any) -> Any:
    """A function of a symmetric matrix by its eigenvalues, ascending, and its eigenvectors; NaN where it is not finite."""

    def called(library: Any, x: Any, *others: Any) -> Any:
        finite = _finite(library, x)
        eye = library.eye(x.shape[-1], dtype=x.dtype, **({"device": x.device} if hasattr(x, "is_cuda") else {}))
        values, vectors = library.linalg.eigh(library.where(finite, x, eye))
        return library.where(finite, function(library, values, vectors, *others), x * math.nan)

    return called


descending = _of_symmetric(lambda library, values, vectors: library.flip(vectors, (-1,)))


def _root_of(library: Any, values: Any, vectors: Any, k: Any, ridge: Any = None) -> Any:
    values = values[..., None, :]
    if ridge is not None:
        values = values * (values > 0) + ridge  # rounding takes some that are zero below it
    return (vectors * values ** (Real(-1.0) / k)) @ library.swapaxes(vectors, -1, -2)


root = _of_symmetric(_root_of)

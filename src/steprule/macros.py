"""Functions of matrices that published rules share, written in the language of rules itself.

A rule calls them as it calls `sqrt`: `from steprule.macros import polar`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from steprule.maths import columns, eigenvectors, maximum, norm, qr, rows, sort_by, sum

Triple = tuple[Any, Any, Any]

KELLER: Sequence[Triple] = ((3.4445, -4.7750, 2.0315),) * 5
"""Of Newton-Schulz in Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/): singular values end in 0.7 to 1.2."""

POLAR_EXPRESS: Sequence[Triple] = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
)
"""Of Polar Express (Amsel et al., 2025, https://arxiv.org/abs/2505.16932): five steps, each the best polynomial for what is left."""


def macro(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the language that formulas print by its name; what it is stands in a line of its own."""

    @wraps(function)
    def called(x: Any, *others: Any, **keywords: Any) -> Any:
        found = function(x, *others, **keywords)
        note = getattr(type(x), "steprule_called", None)
        if note is not None:
            note(x, function.__name__, (*others, *keywords.values()), found)
        return found

    return called


@macro
def quintic(x: Any, a: Any, b: Any, c: Any) -> Any:
    """a x + (b G + c G G) x with G = x x.T: each singular value s becomes a s + b s^3 + c s^5."""
    gram = x @ x.T
    return a * x + (b * gram + c * gram @ gram) @ x


@macro
def polar(x: Any, coefficients: Sequence[Triple] = KELLER, eps: Any = 1e-7) -> Any:
    """The orthogonal factor of x by Newton-Schulz, x V diag(s) U.T -> V U.T: singular values go towards 1, vectors stay.

    x is divided by its norm, at least `eps`, then goes through a `quintic` for each of the coefficients (a, b, c).
    """
    tall = rows(x) > columns(x)
    x = x.T if tall else x
    x = x / maximum(norm(x), eps)
    for a, b, c in coefficients:
        x = quintic(x, a, b, c)
    return x.T if tall else x


def turned(moment: Any, basis: Any) -> tuple[Any, Any]:
    """A basis of eigenvectors of `moment`, turned to those of now by one power iteration; and the keys that sort it.

    The keys are the diagonal of basis.T moment basis, one per column: the eigenvalues, as far as the basis fits.
    """
    product = moment @ basis
    keys = sum(basis * product, axis=-2)
    return qr(moment @ sort_by(basis, keys, axis=-1)), keys


def whitening(moment: Any) -> Any:
    """The basis that SOAP begins with: the eigenvectors of a symmetric moment."""
    return eigenvectors(moment)

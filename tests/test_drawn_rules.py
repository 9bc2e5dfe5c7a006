"""Whatever rule is drawn, every form gives what the author's function gives: the generator of rules against all forms.

    python tests/test_drawn_rules.py --count 100000 --seed 3

The reference is the function on torch tensors in float64. How far another form may be off is measured: the graph is run again with
each operation's result moved by an ulp, several times, and `DRAWN_RULE` times that spread is allowed. Kernels run twice over:
their printed source as plain Python, which takes a millisecond, for every rule; compiled for some.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter

import pytest
from drawn_forms import drawn_cases, failing, kind_of_difference, told
from drawn_walks import SAMPLE

# numpy's, in Triton's interpreter: inf and nan are drawn.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def test_drawn_rules_are_the_same_in_every_form() -> None:
    found = failing(drawn_cases(range(SAMPLE)))
    assert not found, "\n".join(told(seed, forms) for seed, forms in list(found.items())[:3])


def test_drawn_rules_are_the_same_compiled() -> None:
    found = failing(drawn_cases(range(10**6, 10**6 + 1)), compiled_each=1)
    assert not found, "\n".join(told(seed, forms) for seed, forms in list(found.items())[:3])


@pytest.mark.long
def test_many_drawn_rules() -> None:
    """`STEPRULE_RULES` and `STEPRULE_SEED` ask for more, and for others."""
    first = int(os.environ.get("STEPRULE_SEED", "2")) * 10**6
    last = first + int(os.environ.get("STEPRULE_RULES", "1000"))
    found = failing(drawn_cases(range(first, last)), compiled_each=50)
    assert not found, "\n".join(told(seed, forms) for seed, forms in list(found.items())[:3])


def main() -> int:
    os.environ.setdefault("TRITON_INTERPRET", "1")  # as conftest.py does
    parser = argparse.ArgumentParser(description="Drawn rules in every form beside the author's function.")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compiled-each", type=int, default=0, help="compile every n-th rule")
    parser.add_argument("--show", type=int, default=5)
    arguments = parser.parse_args()
    first = arguments.seed * 10**6
    counts: Counter[str] = Counter()
    shown = failed = 0
    for low in range(first, first + arguments.count, 500):
        seeds = range(low, min(low + 500, first + arguments.count))
        found = failing(drawn_cases(seeds), compiled_each=arguments.compiled_each)
        failed += len(found)
        for seed, forms in found.items():
            counts.update({f"{form}: {kind_of_difference(said)}": 1 for form, said in forms.items()})
            if shown < arguments.show:
                shown += 1
                sys.stdout.write(told(seed, forms) + "\n")
        sys.stdout.flush()
    for kind, times in counts.most_common(20):
        sys.stdout.write(f"{times:6} {kind}\n")
    sys.stdout.write(f"{arguments.count} rules of seed {arguments.seed}: {failed} fail\n")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

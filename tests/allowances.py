"""Where the right answer is not torch's, each with its reason: read by the matrix of events and by the drawn sequences."""

from __future__ import annotations

_MIXED = "dtypes of one parameter differ: torch refuses some mixtures and takes others, we compute all in the wider one"
_READ_AS = "another dtype over the old memory is a mixture, where its shape fits"
_NO_MEMORY = "a tensor of zeros without memory cannot be written by torch; as a state it may become an ordinary one"

MAY_GO_ON: dict[str, str] = {
    **{f"{form}{dtype}": _MIXED for form in ("", "data_") for dtype in ("float64", "float16", "bfloat16", "int64")},
    **{f"data_read_as_{dtype}": _READ_AS for dtype in ("float64", "float16", "bfloat16", "int64")},
    "zero_tensor": _NO_MEMORY,
    "data_zero_tensor": _NO_MEMORY,
    "made_in_inference": "a tensor made in inference mode cannot be written by torch outside; we may write it, or put another there",
    "step_in_inference": "states that torch makes in inference mode cannot be written outside; ours may be ordinary ones",
    "deleted": "where a state's key is missing torch raises KeyError; we may begin that state anew, as when an option is switched on",
    "a_python_count": "torch wants a tensor; a number says the same",
    "a_number": "the same, where the state of one number is not called step",
    "no_value": "None is a missing state",
}
"""Events after which torch raises in a step and ours may go on; what it then computes is compared with nothing."""

TORCH_DIES = frozenset({"storage_gone", "storage_too_short"})
"""Events after which torch reads or writes what is not there, and dies or goes on by luck: right is a RuntimeError."""

WITHIN_ONE_PARAMETER = frozenset({"with_the_parameter", "with_the_gradient", "with_a_sibling"})
"""Events after which tensors of one parameter share memory: the order of the writes within one step decides."""

MEMORY_SHARED = frozenset(
    {"with_the_other", "the_other", "overlapping_the_other", "interleaved_with_the_other", "with_the_other_parameter"}
    | {"expanded", "data_expanded"}
)
"""Events after which tensors of several parameters share memory: one's rounding is another's, and what one left another may write."""

MAY_REFUSE: dict[str, str] = {
    "on_meta": "a tensor without data: torch steps on and leaves the parameter as it was, without a word",
}
"""Events after which torch goes on, by no number that means anything, and ours may raise a RuntimeError."""

MAY_SAY: dict[str, str] = {
    "COW.cpp": "torch cannot write a copy on write that was resized; a state that we have loaded is one until its first step, torch's "
    "is the checkpoint's own tensor",
    "a gradient and its parameter": "torch has no Lion, and its operations would stretch a gradient of one row to all of them",
    "is it of another model?": "the same of a state",
    "elements cannot be converted to Scalar": "torch has no Lion, whose count of steps is not read by the author's function",
}
"""Words of ours in an error where torch goes on, or its operations do."""

MAY_PASS: dict[str, tuple[frozenset[str], str]] = {
    "'momentum_buffer'": (
        frozenset({"setting_changed"}),
        "an option that is switched on begins its state, where torch raises KeyError for RMSprop's momentum",
    ),
    "view_as_real doesn't work on unresolved conjugated tensors": (
        frozenset({"conjugate_bit", "data_conjugate_bit"}),
        "torch has no Lion; the operations of its formula stop at a lazy conjugate, ours resolve it",
    ),
}
"""Words of an error of torch's that ours goes on past, after one of these events or doings."""

BEGINNINGS = frozenset({0.0, 1.0, 0.3})
"""What states begin with in these tests; NAdam's product with 1, Adagrad's sum with what its option says."""

SECOND_FAULT = {"deleted": "KeyError", "a_number": "AttributeError", "no_value": "AttributeError"}
"""Where two tensors are at fault, which one a step meets first is its own affair: the error that ours may then give."""

ALIKE = [
    {"AttributeError", "TypeError", "ValueError", "KeyError"},
    {"RuntimeError", "NotImplementedError", "IndexError"},
]
"""Errors that say the same: a value of the wrong kind in a state; a tensor that an operation does not take."""

TORCH_WRONG: dict[str, str] = {
    "a Python count of ASGD's": "torch adds 1 to a number of Python's, which is lost, so its count stands still; it should count",
    "zero gradients in float16": "eps of 1e-8 is zero in float16, so torch divides zero by zero; the parameter should stay where it is",
}
"""What torch answers with a number that is wrong; the right one stands in the test that names it."""

"""`by_kind` takes a rule per kind of parameter, and makes an optimizer where it is called with a model."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from steprule import rules
from steprule.errors import InputError, InputTypeError, unknown_name
from steprule.optim.classes import NAMES, class_of, from_rule
from steprule.optim.kinds import Found, kinds_of
from steprule.optim.mixed import Mixed, arguments
from steprule.optim.one_by_one import torchs_class
from steprule.optim.optimizer import RuleOptimizer
from steprule.per_kind import KINDS, SHORT, NoMatrices, PerKind
from steprule.rules.load import PER_KIND
from steprule.rules.rule import Rule


class ByKind(PerKind):
    """A rule per kind of parameter, which makes an optimizer when it is called with a model."""

    def kinds_of(self, model: nn.Module, said: Mapping[str, str] | None = None) -> list[Found]:
        """The kinds of a model's parameters, each of which has a rule. Raises `InputError` for one that has none.

        The weight of a convolution is a matrix where the rule of matrices sees it as one (`as_matrix`) and its class takes it, as that of
        Muon does not, which is torch's; else it is `other`.
        """
        matrix = self.rules.get("matrix")
        as_matrix = matrix is not None and matrix.as_matrix and torchs_class(_class_of(matrix)) is None
        found = kinds_of(model, said, convolutions="matrix" if as_matrix else "other")
        for one in found:
            if one.kind not in self.by_kind:
                got = f"{one.name}, which is of kind {one.kind!r}"
                raise InputError("by_kind", expected="a rule for every parameter", got=got, hint="Give other=.")
        return found

    def __call__(
        self,
        params: nn.Module | Iterable[Any],
        *,
        kinds: Mapping[str, str] | None = None,
        show: bool = True,
        backend: str = "auto",
        fused_unscale: bool = False,
        clip_group: Any = None,
        nonfinite: str = "pass",
        **settings: Any,
    ) -> Mixed:
        """The optimizer of a model.

        Args:
            params: the model, whose modules tell the kinds; or groups that name theirs, `{"params": [...], "kind": "matrix"}`.
            kinds: by pattern of names the kinds that are other than what would be found; see `steprule.optim.kinds.kinds_of`.
            show: print on stderr which rule steps what, every parameter once.
            backend: as of every class of `steprule.optim`.
            fused_unscale: the same.
            clip_group: the same.
            nonfinite: the same.
            settings: `lr=0.01` for all rules that have it, `matrix_lr=0.02` or `matrix=dict(lr=0.02)` for one kind.

        Raises `StepruleError` for a parameter without a rule, and for settings that none of the rules has.
        """
        classes = {kind: _class_of(rule) for kind, rule in self.rules.items()}
        of_kind = {kind: classes[self.team_of(kind)] for kind in self.by_kind}
        apart = self.apart(settings, lambda kind, name: _takes(of_kind[kind], name))
        groups = _groups(self.kinds_of(params, kinds)) if isinstance(params, nn.Module) else _given(params, kinds)
        made = Mixed(
            groups,
            classes,
            {kind: arguments(cls, apart[kind]) for kind, cls in of_kind.items()},
            backend=backend,
            fused_unscale=fused_unscale,
            clip_group=clip_group,
            nonfinite=nonfinite,
        )
        if show:
            sys.stderr.write(table(made) + "\n")
        return made


def by_kind(**given: Rule | str | type[RuleOptimizer]) -> ByKind:
    """A rule for each kind of parameter: `matrix`, `embedding`, `head`, `vector`, and `other` for all kinds that have none.

    Each is a rule in any way to say one, or a class of `steprule.optim`. What is made can be called with a model, and trains, sweeps
    and races as a rule does.

    >>> import steprule
    >>> mixture = steprule.by_kind(matrix="lion", other="adamw")
    >>> model = nn.Sequential(nn.Embedding(5, 8), nn.Flatten(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 5))
    >>> optimizer = mixture(model, matrix_lr=0.02, vector=dict(weight_decay=0.0), show=False)
    >>> [(group["kind"], group["lr"], len(group["params"])) for group in optimizer.param_groups]
    [('matrix', 0.02, 1), ('embedding', 0.001, 1), ('head', 0.001, 1), ('vector', 0.001, 2)]

    Raises `StepruleError` for an unknown kind, and for anything but a rule.
    """
    for kind in given:
        if kind not in KINDS:
            raise unknown_name("kind", kind, KINDS)
    if not given:
        raise InputError("by_kind", expected="a rule for a kind: " + ", ".join(KINDS), got="none")
    found = {kind: _rule_of(given[kind]) for kind in KINDS if kind in given}
    for kind, rule in found.items():
        if (
            rule.looked or rule.asks_for_loss
        ):  # where it looks hangs on all parameters, and each rule steps some of them
            hint = "A rule that looks twice steps the whole model: steprule.optim.from_rule makes its class."
            raise InputError(f"by_kind: {kind}", expected="a rule that looks once", got=rule.name, hint=hint)
    return ByKind(found)


def spelled(text: str) -> ByKind:
    """From `by_kind:muon+adamw`, the rules of hidden matrices and of all else, or `by_kind:matrix=muon+head=sgd+other=adamw`.

    Raises `InputError` for what is spelled otherwise.
    """
    parts = [part.partition("=") for part in text.removeprefix(PER_KIND).split("+")]
    if len(parts) == len(SHORT) and not any(sign for _, sign, _ in parts):
        return by_kind(**dict(zip(SHORT, (name for name, _, _ in parts), strict=True)))
    kinds = [kind for kind, _, _ in parts]
    if not all(sign and rule for _, sign, rule in parts) or len(set(kinds)) < len(kinds):
        hint = "As in by_kind:matrix=lion+other=adamw."
        raise InputError(text, expected="two rules, or each kind once with its rule", got=repr(text), hint=hint)
    return by_kind(**{kind: rule for kind, _, rule in parts})


def table(optimizer: Mixed) -> str:
    """Which rule steps what: every parameter once, with its shape and its kind; a last line sums it up."""
    rows = [("parameter", "shape", "kind", "rule")]
    count: dict[str, int] = {}
    for k, group in enumerate(optimizer.param_groups):
        rule = optimizer.stepping(group).rule.name
        names = group.get("param_names") or [f"group {k}, {i}" for i in range(len(group["params"]))]
        for name, p in zip(names, group["params"], strict=True):
            rows.append((name, " x ".join(map(str, p.shape)) or "one number", group["kind"], rule))
            count[rule] = count.get(rule, 0) + p.numel()
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    shares = ", ".join(f"{numbers:,} numbers by {rule}" for rule, numbers in count.items())
    lines.append(f"{len(rows) - 1} parameters: {shares}.")
    if not any(group["kind"] == "matrix" for group in optimizer.param_groups):
        lines.append(NoMatrices.text.format("") + ".")
    return "\n".join(lines)


def warn_without_matrices(what: object, model: nn.Module, name: str) -> None:
    """Warn where a rule for hidden matrices is to train the model of a problem that has none."""
    if not isinstance(what, ByKind) or "matrix" not in what.rules:
        return
    if not any(one.kind == "matrix" for one in what.kinds_of(model)):
        warnings.warn(NoMatrices.text.format(f" of {name}"), NoMatrices, stacklevel=3)


def _rule_of(given: object) -> Rule:
    if isinstance(given, type) and issubclass(given, RuleOptimizer) and "rule" in given.__dict__:
        raw = getattr(given, "made_from", None)
        return raw if isinstance(raw, Rule) else rules.get(given.rule.name)
    return rules.resolve(given)  # type: ignore[arg-type]


def _class_of(rule: Rule) -> type[RuleOptimizer]:
    """The class of `steprule.optim` for a rule of the catalogue, torch's drop-in where torch has it."""
    if rules.CATALOGUE.get(rule.name) is not rule:
        return from_rule(rule)
    return class_of(dict(zip(rules.CATALOGUE, NAMES, strict=True))[rule.name])


def _takes(cls: type[RuleOptimizer], name: str) -> bool:
    return name in inspect.signature(cls).parameters or name in cls.rule.betas


def _groups(found: Sequence[Found]) -> list[dict[str, Any]]:
    """A group per kind that the model has."""
    by = {kind: [(one.name, one.parameter) for one in found if one.kind == kind] for kind in KINDS}
    return [{"params": params, "kind": kind} for kind, params in by.items() if params]


def _given(params: Any, kinds: Mapping[str, str] | None) -> list[dict[str, Any]]:
    """Groups that name their kinds. Raises for parameters alone, which do not tell what they are."""
    if kinds is not None:
        raise InputTypeError(
            "by_kind: kinds", expected="a model beside it", got="groups", hint="A group names its own."
        )
    groups = [params] if isinstance(params, Tensor | Mapping) else list(params)
    if not groups or not all(isinstance(group, Mapping) for group in groups):
        got = "parameters alone, which do not tell their kinds" if groups else "nothing"
        hint = "Pass the model itself, or groups as {'params': [...], 'kind': 'matrix'}."
        raise InputTypeError("by_kind", expected="a model, or groups with a kind", got=got, hint=hint)
    return [dict(group) for group in groups]

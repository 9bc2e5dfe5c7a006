"""The bench: what it measures is there and consistent; it refuses what updated nothing. No time is asserted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tolerances import CLASS_FLOAT32_FEW_STEPS
from torch import Tensor

from steprule import benching
from steprule.benching import steps
from steprule.cli import main
from steprule.errors import InputError, UnknownNameError

SMALL = benching.Workload("3 x 40", ((40,), (5, 8), (40,)), 3)


@pytest.mark.parametrize("fresh", [False, True])
def test_whole_steps(fresh: bool) -> None:
    work = benching.Workload("small", SMALL.shapes, 3, fresh)
    found = benching.bench(["adam", "RMSprop", "sgd"], [work])
    assert [r.optimizer for r in found] == ["Adam", "RMSprop", "SGD"]
    assert [sorted(r.ratios) for r in found] == [
        ["for-loop", "foreach", "fused"], ["for-loop", "foreach"], ["for-loop", "foreach", "fused"]
    ]  # fmt: skip
    # float32: p, g and two moments read, p and the moments written back.
    assert [r.bytes_moved for r in found] == [4 * 120 * 7, 4 * 120 * 5, 4 * 120 * 5]
    for r in found:
        assert r.elements == 120
        assert r.parity < CLASS_FLOAT32_FEW_STEPS
        assert r.share_of_bandwidth is None
        for form, (low, high) in r.intervals.items():
            assert low <= r.ratios[form] <= high
        assert set(r.host_microseconds) == set(r.microseconds) == {"steprule", *r.ratios} == set(r.first_step_seconds)


def test_the_chain() -> None:
    found = benching.chain(SMALL)
    assert found.parity < CLASS_FLOAT32_FEW_STEPS
    assert found.optimizer == steps.CHAIN
    assert sorted(found.ratios) == ["in a row", "in a row, grads to None"]


def test_a_step_that_updates_nothing_is_refused() -> None:
    class Still(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            return None

    def make(params: list[Tensor]) -> Any:
        return Still(params, lr=0.1).step

    with pytest.raises(InputError, match="bench, still: expected parameters that changed"):
        steps._measured("SGD", SMALL, {"steprule": lambda p: torch.optim.SGD(p).step, "still": make}, 3, 2, "cpu")


@pytest.mark.long
def test_first_step_and_memory_in_fresh_processes() -> None:
    (ours, *theirs) = benching.once(["RMSprop"], workloads=[SMALL])
    assert [r.form for r in (ours, *theirs)] == ["steprule", "for-loop", "foreach"]
    assert ours.cold_seconds > ours.warm_seconds > 0, "the second process found the first one's kernel"
    assert ours.import_seconds > 0


def test_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    from steprule.benching import loops

    def tiny() -> Any:
        return torch.nn.Linear(4, 2), lambda model: model(torch.ones(3, 4)).square().mean()

    monkeypatch.setattr(loops, "MODELS", {"tiny": tiny})
    (found,) = loops.iterations(["adam"], rounds=2)
    assert found.parameters == 10
    assert set(found.milliseconds) == {"steprule", "default", "fused"} == set(found.share)
    assert all(0 < s < 1 for s in found.share.values())


@pytest.mark.long
@pytest.mark.parametrize("make", benching.MODELS.values(), ids=list(benching.MODELS))
def test_the_models_train(make: Any) -> None:
    torch.manual_seed(0)
    model, loss_of = make()
    optimizer = torch.optim.Adam(model.parameters())
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(benching, "QUICK", [SMALL])
    assert main(["bench", "adam", "--quick", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "the other form's time divided by ours" in out
    assert "3 x 40" in out
    found = json.loads((tmp_path / "bench.json").read_text())
    assert found["machine"]["torch"] == torch.__version__
    assert (tmp_path / "bench.svg").stat().st_size > 1000
    assert (tmp_path / "bench.png").stat().st_size > 1000
    assert main(["bench", "adam", "--quick", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"][0]["optimizer"] == "Adam"


def test_a_rule_of_ones_own(
    in_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What torch lacks is timed against its own function on tensors, and ends at the same parameters."""
    Path("mine.py").write_text(
        "from steprule import rule\nfrom steprule.hyper import Rate\n\n@rule\n"
        'def mine(p, g, momentum_buffer, *, lr: Rate = 0.1):\n    """Heavy."""\n'
        "    momentum_buffer = 0.9 * momentum_buffer + g\n    return p - lr * momentum_buffer, momentum_buffer\n"
    )
    monkeypatch.setattr(benching, "QUICK", [SMALL])
    assert main(["bench", "mine.py:mine", "Lion", "adam", "--quick", "--out", "shown"]) == 0
    out = capsys.readouterr().out
    assert "function: torch has no such class" in out
    rows = json.loads(Path("shown/bench.json").read_text())["steps"]
    assert [(r["optimizer"], list(r["ratios"])) for r in rows] == [
        ("mine", ["function"]), ("lion", ["function"]), ("Adam", ["for-loop", "foreach", "fused"])
    ]  # fmt: skip
    assert all(r["parity"] < CLASS_FLOAT32_FEW_STEPS for r in rows)
    assert rows[0]["bytes_moved"] == 4 * 120 * 5


def test_bad_names() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'adam'"):
        benching.report(["adm"], quick=True)
    with pytest.raises(InputError, match="--device"):
        benching.report(["adam"], quick=True, device="tpu")

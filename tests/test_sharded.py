"""Parameters over two and four processes: DTensors in kernels, one number that goes round for a norm, and what is refused."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from contract import parameter
from torch import nn

from steprule import optim
from steprule.errors import InputError

HERE = Path(__file__).parent
GLOO = pytest.mark.skipif(sys.platform != "linux", reason="gloo over loopback: tried on Linux")
CASES = {
    2: ["dtensors", "fsdp2 fsdp2_groups", "fsdp2_prodigy fsdp2_lamb fsdp2_by_kind", "ddp zero kahan", "fsdp1 fsdp1_prodigy", "in_backward nonfinite diagnostics"],
    4: ["dtensors fsdp2", "hsdp tensor_parallel pipeline", "zero zero_with_nothing_for_some fsdp1"],
}  # fmt: skip


@pytest.mark.long
@GLOO
@pytest.mark.parametrize(("count", "names"), [(count, names) for count in CASES for names in CASES[count]])
def test_processes(count: int, names: str) -> None:
    """tests/processes.py says what each of these must be."""
    assert_they_run("processes.py", count, names)


def launched(file: str, count: int, names: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The cases of a file under torchrun, with so many processes."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), **more}
    return subprocess.run(
        [*launch, str(HERE / file), *names.split()], env=env, capture_output=True, text=True, timeout=300
    )


def assert_they_run(file: str, count: int, names: str, **more: str) -> None:
    done = launched(file, count, names, **more)
    assert done.returncode == 0, done.stderr[-5000:]
    assert done.stdout.split() == names.split()


WRAPPED = [
    "ddp_modes ddp_accumulating ddp_compressed",
    "fsdp2_modes fsdp2_mixed",
    "fsdp1_modes zero_modes",
    "tensor_parallel_alone backward",
]


@pytest.mark.long
@GLOO
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("names", WRAPPED)
def test_parameters_are_those_of_one_process(count: int, names: str) -> None:
    """tests/processes_wrapped.py: in each wrapper of torch.distributed, in its modes."""
    assert_they_run("processes_wrapped.py", count, names)


@pytest.mark.long
@GLOO
@pytest.mark.parametrize(("saved_by", "loaded_by"), [(2, (4, 1)), (4, (2, 1)), (1, (2,))])
def test_checkpoints_of_some_processes_are_loaded_by_others(
    saved_by: int, loaded_by: tuple[int, ...], tmp_path: Path
) -> None:
    """torch.distributed.checkpoint, flattened and nested, from our class and from torch's to either."""
    folder = {"STEPRULE_TEST_FOLDER": str(tmp_path)}
    assert_they_run("processes_checkpoints.py", saved_by, "save", **folder)
    for count in loaded_by:
        assert_they_run("processes_checkpoints.py", count, "load load_whole" if count == 1 else "load", **folder)


@pytest.mark.long
@GLOO
def test_a_killed_process_and_the_run_resumed(tmp_path: Path) -> None:
    """At a step, then while the others save: torchrun ends them all, and the third run ends as one process does."""
    for died in (0, 1):
        done = launched(
            "processes_checkpoints.py", 2, "killed", STEPRULE_TEST_FOLDER=str(tmp_path), STEPRULE_TEST_DIED=str(died)
        )
        assert done.returncode != 0
        assert "(exitcode: -9)" in done.stderr, done.stderr[-3000:]
        assert (tmp_path / "latest").read_text(encoding="utf-8") == str(2 + 2 * died)
    assert_they_run("processes_checkpoints.py", 2, "killed", STEPRULE_TEST_FOLDER=str(tmp_path), STEPRULE_TEST_DIED="2")


def test_a_group_of_processes_is_one() -> None:
    with pytest.raises(InputError, match=r"Adam: clip_group: expected torch.distributed to be up, got one process"):
        optim.Adam([parameter(3)], clip_norm=1.0, clip_group=True)


def test_an_optimizer_without_a_group_says_so_to_its_copy() -> None:
    made = optim.Adam([parameter(3)], clip_norm=1.0)
    assert copy.deepcopy(made).clip_group is made.clip_group is None
    assert "clip_group" not in made.param_groups[0]


@pytest.mark.parametrize("name", ["AdamW", "Lion"])
def test_a_norm_within_backward_is_refused(name: str) -> None:
    """One optimizer per parameter, in a hook: the norm of one gradient would pass for that of all."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        own = getattr(optim, name)([p], lr=0.1, clip_norm=1.0)
        p.register_post_accumulate_grad_hook(lambda _, own=own: own.step())
    loss = model(torch.ones(2, 3)).sum()
    with pytest.raises(
        InputError, match=rf"^{name}: clip_norm: expected all gradients, got a step within backward\(\)\."
    ):
        loss.backward()
    assert all([torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True)])


def test_a_closure_that_goes_backward_is_no_step_within() -> None:
    p = parameter(3)
    optimizer = optim.AdamW([p], lr=0.1, clip_norm=1.0)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    before = p.detach().clone()
    optimizer.step(closure)
    assert not torch.equal(p, before)

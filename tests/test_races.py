"""The race: its protocol, what it keeps, its engines; the report and its words."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sized import sized
from thinning import thinned
from tolerances import LANE_AGAINST_SOLO, ROUNDED32
from torch import nn

import steprule
from steprule import races
from steprule.cli import main
from steprule.errors import InputError, StepruleError
from steprule.hyper import Search
from steprule.problems import airfoil, digits, letters
from steprule.problems.credits import credits_of
from steprule.problems.problem import Problem
from steprule.races import chain, runner as running, store
from steprule.races.spec import spec_of
from steprule.races.verdict import sentence
from steprule.reports import race_page
from steprule.sizes import RULES

TINY: dict[str, Any] = {"trials": 8, "seeds": 3, "fresh": 4, "epochs": 1, "workers": 1}
COMMAND = [sys.executable, "-m", "steprule"]
TYPED = ["race", "sgd", "adam", "--on", "airfoil-linear", *sized(8, 3, 4), "--epochs", "1"]


@pytest.fixture(scope="module")
def tiny() -> races.Race:
    return races.race(["sgd", "adam", "lion"], ["airfoil-linear", "digits-softmax"], **TINY)


@pytest.mark.long
def test_everyone_has_the_same_effort(tiny: races.Race) -> None:
    for problem in ("airfoil-linear", "digits-softmax"):
        for schedule in ("constant", "linear"):
            widths = set()
            for rule in ("sgd", "adam", "lion"):
                done = tiny.chain(problem, schedule, rule)
                for phase in done[:-1]:
                    lanes = phase.lanes
                    assert len(lanes) == 8 * 3
                    assert np.array_equal(lanes.seed, np.repeat([0, 1, 2], 8))
                    lr = phase.space["lr"]
                    widths.add(round(np.log10(lr.high / lr.low), 9))
                    assert (lanes.hypers["lr"] >= lr.low).all()
                    assert (lanes.hypers["lr"] <= lr.high).all()
                assert done[-1].name == "confirm"
                fresh = done[-1].lanes.seed[done[-1].lanes.role == "winner"]
                assert np.array_equal(fresh, np.tile([3, 4, 5, 6], 3))
            assert widths == {6.0}


def test_studies_are_independent_draws(tiny: races.Race) -> None:
    """Sobol points of their own: no two studies of anyone share one, and the order of the rules decides nothing."""
    drawn = [tiny.chain("airfoil-linear", "linear", r)[0].lanes.hypers["lr"] for r in ("sgd", "adam", "lion")]
    assert len(np.unique(np.concatenate(drawn))) == 3 * 8 * 3
    other = races.race(["lion", "adam"], "airfoil-linear", schedules=["linear"], **TINY)
    mine, theirs = (r.chain("airfoil-linear", "linear", "adam") for r in (tiny, other))
    for a, b in zip(mine, theirs, strict=True):
        assert np.array_equal(a.lanes.hypers["lr"], b.lanes.hypers["lr"])
        assert a.results["test"] == pytest.approx(b.results["test"], rel=LANE_AGAINST_SOLO)


def test_winners_are_chosen_by_validation_and_judged_on_fresh_seeds(tiny: races.Race) -> None:
    for (problem, schedule), rule in [(("airfoil-linear", "linear"), "adam"), (("digits-softmax", "constant"), "sgd")]:
        *_, tuned, last = tiny.chain(problem, schedule, rule)
        own = last.lanes.role == "winner"
        at = {(s, t): lane for lane, (s, t) in enumerate(zip(tuned.lanes.study, tuned.lanes.trial, strict=True))}
        chosen = [at[s, t] for s, t in zip(last.lanes.study[own], last.lanes.trial[own], strict=True)]
        assert (last.lanes.hypers["lr"][own] == tuned.lanes.hypers["lr"][chosen]).all()
        assert set(last.lanes.seed[own].tolist()).isdisjoint(tuned.lanes.seed.tolist())
        assert np.bincount(last.lanes.seed[own])[list(tiny.tuning.fresh_seeds)].tolist() == [3] * tiny.tuning.fresh
        # The best of all trials runs most often, and whose score is the worst never.
        assert np.bincount(chosen).argmax() in [
            batch * 8 + tuned.scores[batch * 8 : batch * 8 + 8].argmin() for batch in range(3)
        ]
        assert int(tuned.scores.argmax()) not in chosen
        standing = next(s for s in tiny.cell(problem, schedule).standings if s.label == rule)
        y = np.log(last.results["test"][last.lanes.role == "winner"])
        assert standing.loss == pytest.approx(np.exp(y.mean()), rel=ROUNDED32)


def test_a_lane_is_a_training_of_that_rule(tiny: races.Race) -> None:
    last = tiny.chain("airfoil-linear", "linear", "adam")[-1]
    compared = 0
    for k in (0, 5, 13, 20, 28):
        own = {n: float(v[k]) for n, v in last.lanes.hypers.items()}
        run = steprule.train("adam", "airfoil-linear", int(last.lanes.seed[k]), 1, 10, schedule="linear", **own)
        if run.final_loss < 10:
            compared += 1
            assert last.results["train"][k] == pytest.approx(run.final_loss, rel=LANE_AGAINST_SOLO)
    assert compared > 2, "the others diverged, where rounding decides"


def test_the_range_moves_until_the_best_is_interior() -> None:
    """Adadelta with a hundredth of its step needs learning rates beyond ten."""

    @steprule.rule
    def small_steps(p, g, *, lr: Any = 0.1):  # type: ignore[no-untyped-def]
        return p - 1e-4 * lr * g

    result = races.race(
        [races.Competitor(small_steps, {"lr": Search(1e-3, 1e-2)})], "airfoil-linear", schedules=["constant"], **TINY
    )
    *tuned, _ = result.chain("airfoil-linear", "constant", "small_steps")
    assert len(tuned) > 1
    assert tuned[0].space["lr"] == Search(1e-5, 10.0)
    assert tuned[1].space["lr"].high == pytest.approx(1000.0, rel=ROUNDED32)
    assert result.cells[0].standings[0].lr > 10
    assert result.cells[0].standings[0].moved == len(tuned) - 1


@pytest.mark.long
def test_classes_with_a_declared_space() -> None:
    mine = races.Competitor(
        torch.optim.Adam, {"lr": Search(1e-5, 10), "eps": Search(1e-9, 1e-7)}, {"amsgrad": True}, "torch's"
    )
    result = races.race(
        ["sgd", mine, torch.optim.Adagrad], "airfoil-linear", schedules=["linear"], **{**TINY, "trials": 4, "seeds": 2}
    )
    found = result.chain("airfoil-linear", "linear", "torch's")
    assert set(found[0].space) == {"lr", "eps"}
    assert found[0].space["eps"] == Search(1e-9, 1e-7)
    own = found[0].lanes
    run = steprule.train(torch.optim.Adam, "airfoil-linear", 0, 1, 10, schedule="linear", amsgrad=True,
                         lr=float(own.hypers["lr"][1]), eps=float(own.hypers["eps"][1]))  # fmt: skip
    assert found[0].results["train"][1] == pytest.approx(run.final_loss, rel=ROUNDED32)
    assert {s.label for s in result.cells[0].standings} == {"sgd", "torch's", "torch.optim.Adagrad"}


def test_other_peoples_optimizers_on_ones_own_model() -> None:
    """Schedule-free AdamW and one of pytorch_optimizer's against catalogue rules."""
    schedulefree = pytest.importorskip("schedulefree")
    others = pytest.importorskip("pytorch_optimizer")
    x = torch.linspace(-1, 1, 90)[:, None]
    y = torch.sin(3 * x)
    wave = Problem(
        "wave", "a wave", x[::3], y[::3], lambda: nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)),
        nn.functional.mse_loss, validation=(x[1::3], y[1::3]), test=(x[2::3], y[2::3]),
    )  # fmt: skip
    space = {"lr": Search(1e-4, 1.0)}
    rivals = [
        races.Competitor(schedulefree.AdamWScheduleFree, space, {"foreach": False}, "schedule-free AdamW"),
        races.Competitor(others.AdaBelief, space, label="AdaBelief"),
    ]
    result = races.race(["adam", "sgd", *rivals], wave, schedules=["constant"], **{**TINY, "trials": 4, "seeds": 2})
    losses = {s.label: s.loss for s in result.cells[0].standings}
    assert set(losses) == {"adam", "sgd", "schedule-free AdamW", "AdaBelief"}
    assert all(np.isfinite(v) for v in losses.values())
    (cell,) = result.cells
    words = races.in_words(result)[0]
    above = {pair.second for pair in cell.pairs if pair.first == cell.standings[0].label and pair.verdict() == "real"}
    assert "has the lowest test loss" in words
    assert ("Cannot be told apart" in words) is (len(above) < 3)
    assert {label for label in losses if f"{label} +" in words} == above


def test_words(tiny: races.Race) -> None:
    words = races.in_words(tiny)
    assert len(words) == 4 + 2 + 1
    for cell, text in zip(tiny.cells, words, strict=False):
        assert text.startswith(f"{cell.problem}, batch ")
        assert f"{cell.schedule} learning rate, best of 8 trials" in text
        assert f"{cell.standings[0].label} has the lowest test loss" in text
        for pair in cell.pairs:
            if pair.first == cell.standings[0].label and pair.verdict() == "real":
                assert f"{pair.second} {pair.percent[0]:+.1f} %" in text
    assert "Kendall's tau" in words[4]
    assert "no advice for large models" in words[-1]
    alone = races.race(["sgd", "adam"], "airfoil-linear", schedules=["linear"], **{**TINY, "seeds": 1})
    assert "nothing is called real" in races.in_words(alone)[0]
    assert all(p.verdict() == "open" for p in alone.cells[0].pairs)
    json.dumps(alone.to_dict(), allow_nan=False)


def test_the_page(tiny: races.Race, tmp_path: Path) -> None:
    figures = race_page.write(tiny, tmp_path / "report.html", command=["steprule", "race"])
    assert sorted(f.name for f in figures) == [
        "best-of-k.svg",
        "curves.svg",
        "profiles.svg",
        "sensitivity.svg",
        "standings.svg",
    ]
    text = (tmp_path / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!#)', text.replace("xlink:href", "href"))
    assert text.count("<svg") == 5
    for heading in (
        "The verdict",
        "Who stands where",
        "Tables",
        "Two by two",
        "How the loss falls",
        "How this was made",
    ):
        assert f"<h2>{heading}</h2>" in text
    assert "steprule race" in text
    assert race_page.page(tiny, ["steprule", "race"]) == text
    assert "<img" in tiny._repr_html_()


def test_a_race_that_names_no_rules(capsys: pytest.CaptureFixture[str]) -> None:
    """The same rules for everyone who asks, however many the catalogue has; the command's help names them."""
    spec = spec_of(None, "airfoil-linear", trials=0, seeds=1)
    assert [r.label for r in spec.entrants] == list(RULES)
    assert set(RULES) < set(steprule.rules.names())
    main(["race", "--help"])
    assert f"Without any: {', '.join(RULES)}." in " ".join(capsys.readouterr().out.split())


def test_the_first_screen_says_who_wins_and_how_sure(tiny: races.Race) -> None:
    """One sentence, then a table: one order of rows in every column, and each entry what the verdict of its pair is."""
    said, text = races.headline(tiny), race_page.page(tiny)
    first = sentence(tiny)
    assert re.search(r'<h1 class="said">[^<]*</h1><div class="wide( broad)?"><table class="pairs matrix">', text)
    assert text.index(escape(first)) < text.index('class="pairs matrix"') < text.index("<h2>Who stands where")
    assert first.count(". ") == 0
    assert said.startswith(first)
    assert "the chance of any wrong difference is 5 %" in said
    won = [cell.standings[0].label for cell in tiny.cells if len(cell.level_with_best) == 1]
    assert ("Nobody wins" in said) == (not won)
    for label in won:
        assert f"{label} wins {won.count(label)} of 4 comparisons" in said
    table = text[text.index('class="pairs matrix"') :]
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', table[: table.index("</table>")])
    assert [re.sub("<.*?>", "", label) for label, _ in rows] == tiny.order
    for name, entries in rows:
        label, (tuned, untuned) = re.sub("<.*?>", "", name), entries.split('<td class="gap"></td>')
        for cell, (kind, shown) in zip(
            tiny.cells, re.findall(r'<td class="(.*?)".*?>(.*?)</td>', untuned), strict=True
        ):
            own = next(u.pair for u in cell.untuned if u.label == label)
            assert kind.split()[0] == own.verdict()
            assert shown.startswith(f"{own.percent[0]:+.0f} %")
        for cell, (kind, shown) in zip(tiny.cells, re.findall(r'<td class="(.*?)".*?>(.*?)</td>', tuned), strict=True):
            best = cell.standings[0].label
            if label == best:
                assert (kind, shown) == ("lowest", "lowest")
                continue
            pair = cell.pair(best, label)
            assert kind.split()[0] == pair.verdict()
            percent = (pair if pair.second == label else pair.turned).percent[0]
            assert shown.startswith(f"{percent:+.0f} %")
            named = re.search(rf"{re.escape(label)} in (\d)", said)
            if kind == "real above":
                assert named
    one = races.race(["sgd", "adam"], "airfoil-linear", schedules=["linear"], **TINY)
    assert races.headline(one).startswith(f"{one.cells[0].standings[0].label} has the lowest test loss")
    assert re.search(r"The one pair (really differs|does not really differ) by more than", races.in_words(one)[0])
    unsure = races.race(["sgd", "adam"], "airfoil-linear", **{**TINY, "seeds": 1})
    assert "nothing is called real" in races.headline(unsure)


def test_every_data_set_is_credited(tiny: races.Race) -> None:
    text = race_page.page(tiny)
    for module in (airfoil, digits):
        named = any(p.name.startswith(module.__name__.rpartition(".")[2]) for p in tiny.spec.problems)
        assert (escape(module.CREDIT) in text) == named
    assert credits_of(["digits-cnn", "mine", "digits-mlp", "letters"]) == f"{digits.CREDIT}; {letters.CREDIT}"
    assert credits_of(["mine"]) == ""


def test_names_are_text() -> None:
    evil = "<script>alert('x')</script>$\\frac{1}{"
    result = races.race([races.Competitor("sgd", label=evil), "adam"], "airfoil-linear", schedules=["linear"], **TINY)
    text = race_page.page(result)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert evil not in result._repr_html_()


# What is kept.


def _race(folder: Path, **changes: Any) -> races.Race:
    return races.race(["sgd", "adam"], "airfoil-linear", out=folder, **{**TINY, **changes})


def test_it_goes_on_and_gives_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _race(tmp_path / "whole")
    saved = store.Store.save

    class Interrupted(Exception):  # noqa: N818
        pass

    for fail_at in (1, 3, 6):
        calls = [0]

        def failing(self: Any, *args: Any, calls: list[int] = calls, fail_at: int = fail_at) -> None:
            calls[0] += 1
            if calls[0] == fail_at:
                raise Interrupted
            saved(self, *args)

        monkeypatch.setattr(store.Store, "save", failing)
        with pytest.raises(Interrupted):
            _race(tmp_path / "parts")
        monkeypatch.setattr(store.Store, "save", saved)
    again = _race(tmp_path / "parts")
    assert again.kept > 0
    assert again.trained < whole.trained
    assert (tmp_path / "parts/results.parquet").read_bytes() == (tmp_path / "whole/results.parquet").read_bytes()
    third = _race(tmp_path / "parts")
    assert (third.trained, third.kept) == (0, whole.lanes)


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_killed_at_random_moments(tmp_path: Path) -> None:
    """kill -9 again and again: the command goes on, repeats no finished block, and ends with the same bytes."""
    rng = np.random.default_rng(0)
    subprocess.run([*COMMAND, *TYPED, "--out", str(tmp_path / "whole")], check=True, capture_output=True)
    killed, blocks = 0, {}
    for _ in range(3):
        child = subprocess.Popen(
            [*COMMAND, *TYPED, "--out", str(tmp_path / "parts")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline, wait = time.monotonic() + 60, int(rng.integers(1, 4))
        before = len(list((tmp_path / "parts").glob("blocks/[!.]*.parquet")))
        while time.monotonic() < deadline and child.poll() is None:
            if len(list((tmp_path / "parts").glob("blocks/[!.]*.parquet"))) >= before + wait:
                child.send_signal(signal.SIGKILL)
                killed += 1
                break
            time.sleep(0.01)
        child.wait()
        for path in (tmp_path / "parts/blocks").glob("[!.]*.parquet"):
            stamp = path.stat().st_mtime_ns
            assert blocks.setdefault(path.name, stamp) == stamp, "a finished block was written again"
    assert killed >= 2
    subprocess.run([*COMMAND, *TYPED, "--out", str(tmp_path / "parts")], check=True, capture_output=True)
    assert (tmp_path / "parts/results.parquet").read_bytes() == (tmp_path / "whole/results.parquet").read_bytes()


@pytest.mark.long
def test_workers_give_the_same_bits(tmp_path: Path) -> None:
    _race(tmp_path / "one")
    _race(tmp_path / "two", workers=2)
    assert (tmp_path / "one/results.parquet").read_bytes() == (tmp_path / "two/results.parquet").read_bytes()


@pytest.mark.long
def test_shards_give_the_same_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed, parts = [*TYPED, "--matters", "0.03"], []
    assert main([*typed, "--out", str(tmp_path / "whole")]) == 0
    for i in (1, 2, 3):
        parts.append(str(tmp_path / f"part{i}"))
        assert main([*typed, "--shard", f"{i}/3", "--out", parts[-1]]) == 0
    capsys.readouterr()
    assert main(["race", "merge", parts[0], parts[2], "--out", str(tmp_path / "merged")]) == 2
    assert "Run the shard that has it" in capsys.readouterr().err
    assert main(["race", "merge", *parts, "--out", str(tmp_path / "merged")]) == 0
    said = capsys.readouterr().out
    assert "has the lowest test loss" in said
    assert "really differ by more than 3 %" in said
    assert (tmp_path / "merged/results.parquet").read_bytes() == (tmp_path / "whole/results.parquet").read_bytes()
    assert (tmp_path / "merged/report.html").exists()


def test_another_race_is_refused(tmp_path: Path) -> None:
    _race(tmp_path)
    for changes, words in (
        ({"trials": 16}, "differs in trials: expected 16, got 8"),
        ({"fresh": 5}, "differs in fresh: expected 5, got 4"),
        ({"epochs": 2}, "differs in problems.airfoil-linear.epochs: expected 2, got 1"),
        ({"schedules": ["linear"]}, "differs in schedules: expected linear, got constant, linear"),
    ):
        with pytest.raises(InputError, match=re.escape(words)):
            _race(tmp_path, **changes)
    with pytest.raises(InputError, match=re.escape("differs in competitors.lion")):
        races.race(["sgd", "adam", "lion"], "airfoil-linear", out=tmp_path, **TINY)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.tex").write_text("all of it")
    with pytest.raises(InputError, match=re.escape("a folder with 'thesis.tex'")):
        _race(tmp_path / "other")
    assert (tmp_path / "other/thesis.tex").read_text() == "all of it"


def test_two_races_in_one_folder(tmp_path: Path) -> None:
    from filelock import FileLock

    with FileLock(tmp_path / store.LOCK), pytest.raises(InputError, match="no other race running in it"):
        _race(tmp_path)
    _race(tmp_path)


@pytest.mark.parametrize("damage", thinned(["cut", "flipped", "another block's", "words", "empty"], 5))
def test_a_damaged_block(tmp_path: Path, damage: str) -> None:
    _race(tmp_path)
    whole = (tmp_path / "results.parquet").read_bytes()
    path, other = sorted((tmp_path / "blocks").iterdir())[:2]
    content = path.read_bytes()
    middle = len(content) // 3
    path.write_bytes(
        {
            "empty": b"",
            "cut": content[:middle],
            "flipped": content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :],
            "another block's": other.read_bytes(),
            "words": b"hello",
        }[damage]
    )
    with pytest.raises(StepruleError) as caught:
        _race(tmp_path)
    assert path.name in str(caught.value)
    assert "Delete this file and run the same command" in str(caught.value)
    assert "\n" not in str(caught.value)
    path.unlink()
    again = _race(tmp_path)
    assert 0 < again.trained < again.lanes
    assert (tmp_path / "results.parquet").read_bytes() == whole


@pytest.mark.long
@pytest.mark.skipif(
    sys.platform != "linux" or (hasattr(os, "geteuid") and os.geteuid() != 0), reason="mounts a small file system"
)
def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(disk)], check=False, capture_output=True
    ).returncode:
        pytest.skip("may not mount")
    try:
        done = subprocess.run(
            [*COMMAND, *TYPED, "--out", str(disk / "race")], check=False, capture_output=True, text=True
        )
        assert done.returncode == 2
        assert "Free some space and run the same command again" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert not [p for p in disk.rglob("*") if p.name.startswith(".") and p.suffix == ".parquet"]
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        done = subprocess.run(
            [*COMMAND, *TYPED, "--out", str(disk / "race"), "--json"], check=True, capture_output=True, text=True
        )
        assert json.loads(done.stdout)["kept"] > 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_interrupted_race(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [*COMMAND, *TYPED, "--out", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not list(tmp_path.glob("blocks/[!.]*.parquet")) and child.poll() is None:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    if child.returncode == 0:
        pytest.skip("was faster than the signal")
    assert child.returncode == 130
    assert len(err.strip().splitlines()) == 1
    assert list(tmp_path.glob("blocks/[!.]*.parquet"))


def test_a_worker_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker killed in the middle: one line, the blocks that were finished are kept, and the race goes on."""
    monkeypatch.setattr(running, "work", _Dying(running.work))
    with pytest.raises(StepruleError, match="a worker died"):
        _race(tmp_path, workers=2)
    monkeypatch.undo()
    _race(tmp_path)


class _Dying:
    def __init__(self, real: Any) -> None:
        self.packed, self.begin, self.build, self.train_here = real.packed, real.begin, real.build, _die


def _die(block: chain.Block) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


# The command line.


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(TYPED) == 0
    out = capsys.readouterr().out
    assert "airfoil-linear, linear learning rate" in out
    assert "Results: runs" in out
    (folder,) = Path("runs").iterdir()
    assert {p.name for p in folder.iterdir()} >= {
        "race.json",
        "command.json",
        "results.parquet",
        "report.html",
        "standings.svg",
    }
    table = pq.read_table(folder / "results.parquet")
    assert set(table["rule"].to_pylist()) == {"sgd", "adam"}
    assert {"trial", "winner", "default", "rate"} == set(table["role"].to_pylist())
    assert main([*TYPED, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["trained"] == 0
    assert len(found["cells"]) == 2
    assert main([*TYPED, "--set", "adam.lr=0.01", "--set", "beta1=0.8"]) == 0
    assert len(list(Path("runs").iterdir())) == 2


def test_a_problem_and_a_rule_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("""
import torch
import steprule
from steprule.hyper import Rate, Search
from steprule.races import Competitor

@steprule.rule
def halved(p, g, *, lr: Rate = 0.1):
    return p - lr / 2 * g

x = torch.linspace(-1, 1, 60)[:, None]
wave = steprule.Problem("wave: mine", "a wave", x, torch.sin(3 * x), lambda: torch.nn.Linear(1, 1), torch.nn.functional.mse_loss)
theirs = Competitor(torch.optim.Adagrad, {"lr": Search(1e-4, 1)}, label="theirs")
""")
    typed = ["race", "mine.py:halved", "mine.py:theirs", "--on", "mine.py:wave", *sized(4, 2, 3)]
    assert main(typed) == 0
    out = capsys.readouterr().out
    assert "halved" in out
    assert "theirs" in out
    assert ":" not in next(Path("runs").iterdir()).name


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--trials", "-1"], "trials: expected 0 or more"),
        (["--fresh", "0"], "fresh: expected 1 or more"),
        (["--epochs", "0"], "epochs: expected 1 or more"),
        (["--on", "airfoil-linar"], "Did you mean 'airfoil-linear'?"),
        (["--schedule", "cosin"], "Did you mean 'cosine'?"),
        (["--shard", "4/3"], "I/N with 1 <= I <= N"),
        (["--engine", "rey"], "Did you mean 'ray'?"),
        (["--matters=-1"], "a share, 0 or more"),
        (["--matters", "nan"], "a share, 0 or more"),
        (["--workers", "0"], "workers: expected 1 or more"),
        (["--device", "cudo"], "device"),
        (["--set", "lr=nan"], "a number in [0, inf)"),
    ],
)
def test_what_is_refused(more: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["race", "sgd", "adam", "--on", "airfoil-linear", "--trials", "2", "--out", str(tmp_path / "r"), *more])
        == 2
    )
    err = capsys.readouterr().err
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_what_python_refuses() -> None:
    for arguments, words in (
        ({"rules": []}, "at least one"),
        ({"rules": ["adam", "adam"]}, "'adam' twice"),
        ({"problems": []}, "problems or their names"),
        ({"problems": ["airfoil-linear", "airfoil-linear"]}, "'airfoil-linear' twice"),
        ({"trials": True}, "whole number"),
        ({"rules": [races.Competitor("adam", {"lr": (1, 2)})]}, r"Search\(low, high\)"),  # type: ignore[dict-item]
        ({"rules": [races.Competitor("adam", {"leraning": Search(1, 2)})]}, "leraning"),
        ({"rules": [races.Competitor(torch.optim.Adam, {"mu": Search(1, 2)})]}, "one of its arguments"),
        ({"shard": (3, 3)}, "0 <= i < n"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            races.race(**{"rules": ["adam"], "problems": "airfoil-linear", **arguments})  # type: ignore[arg-type]

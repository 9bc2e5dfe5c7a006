"""Hugging Face's Trainer: every way to give it an optimizer, clipping, accumulation, bfloat16, resuming, LoRA."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from same import OURS, RESUMED, TORCHS, Trained, assert_differ, assert_same, both, needed, weights_of
from tolerances import ROUNDED32
from torch import nn

import steprule
from steprule.errors import InputTypeError

transformers, peft = needed("transformers", "peft")
pytestmark = pytest.mark.long

RATE = {"lr": 1e-2, "weight_decay": 0.1}


def model(**settings: float) -> Any:
    torch.manual_seed(0)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 32, "vocab_size": 64, "n_positions": 16}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape, **settings))


def lines() -> list[dict[str, Any]]:
    """Counting modulo 64, by a step of its own in each line: it can be learned."""
    found = [torch.arange(16) * (1 + k % 5) % 64 for k in range(48)]
    return [{"input_ids": line, "labels": line} for line in found]


class Creating(transformers.Trainer):  # type: ignore[misc, name-defined]
    """As people do who want groups of their own."""

    module: Any

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        if self.optimizer is None:
            decay = [p for p in self.model.parameters() if p.ndim > 1]
            other = [p for p in self.model.parameters() if p.ndim <= 1]
            groups = [{"params": decay}, {"params": other, "weight_decay": 0.0, "lr": 3e-2}]
            self.optimizer = self.module.AdamW(groups, **RATE)
        return self.optimizer


WAYS = ("optimizers", "class and kwargs", "create_optimizer")


def trainer(module: Any, folder: Path, way: Any = "optimizers", given: nn.Module | None = None, **settings: Any) -> Any:
    """A Trainer whose optimizer is `module.AdamW`, given by one of the ways; or by a function of the model's parameters."""
    net = model() if given is None else given
    batch = {"per_device_train_batch_size": 4, "per_device_eval_batch_size": 4, "max_steps": 10, "learning_rate": 1e-2}
    quiet = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "logging_steps": 1, "save_strategy": "no"}
    arguments = transformers.TrainingArguments(str(folder), **{**batch, **quiet, **settings})
    kind, how = transformers.Trainer, dict[str, Any]()
    if callable(way):
        how["optimizers"] = way(net), None
    elif way == "optimizers":
        how["optimizers"] = module.AdamW(net.parameters(), **RATE), None
    elif way == "class and kwargs":
        how["optimizer_cls_and_kwargs"] = module.AdamW, dict(RATE)
    else:
        kind = type("Creating", (Creating,), {"module": module})
    return kind(net, arguments, train_dataset=lines(), eval_dataset=lines()[:8], **how)


def train(made: Any, resume: str | None = None) -> Trained:
    losses: list[float] = []
    hook = made.model.register_forward_hook(
        lambda m, _, out: losses.append(float(out.loss.detach())) if m.training else None
    )
    made.train(resume_from_checkpoint=resume)
    hook.remove()
    return Trained(losses, weights_of(made.model))


@pytest.mark.parametrize(
    ("way", "clips", "accumulates", "low"), [*product(WAYS, (0.0, 0.3), (1, 2), (False, True))], ids=str
)
def test_as_torch(way: str, clips: float, accumulates: int, low: bool, tmp_path: Path) -> None:
    settings = {"max_grad_norm": clips, "gradient_accumulation_steps": accumulates, "bf16": low}
    ours, theirs = both(lambda m: train(trainer(m, tmp_path, way, **settings)))
    assert len(ours.losses) == 10 * accumulates
    assert_same(ours, theirs, low=low)


def test_the_settings_act(tmp_path: Path) -> None:
    plain, clipped = (train(trainer(OURS, tmp_path, max_grad_norm=n)) for n in (0.0, 0.3))
    assert_differ(plain, clipped)
    assert_differ(plain, train(trainer(OURS, tmp_path, "create_optimizer", max_grad_norm=0.0)))


@pytest.mark.parametrize("low", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize("accumulates", [1, 2])
def test_clipping_in_the_step(accumulates: int, low: bool, tmp_path: Path) -> None:
    """`clip_norm=` is what the Trainer's own clipping is; `zero_grad=True` does no harm to accumulation."""
    settings = {"gradient_accumulation_steps": accumulates, "bf16": low}
    theirs = train(trainer(TORCHS, tmp_path, max_grad_norm=0.3, **settings))
    own = lambda net: OURS.AdamW(net.parameters(), clip_norm=0.3, zero_grad=True, ema_decay=0.9, **RATE)  # noqa: E731
    assert_same(train(trainer(OURS, tmp_path, own, max_grad_norm=0.0, **settings)), theirs, low=low)


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "RMSprop", "Adadelta", "Adam", "Adamax", "NAdam", "RAdam", "Muon"])
def test_every_class(name: str, tmp_path: Path) -> None:
    def run(module: Any) -> Trained:
        matrices = lambda net: [p for p in net.parameters() if p.ndim == 2 or name != "Muon"]  # noqa: E731
        return train(trainer(module, tmp_path, lambda net: getattr(module, name)(matrices(net), lr=1e-2), max_steps=6))

    ours, theirs = both(run)
    assert_same(ours, theirs, low=name == "Muon")  # which iterates in bfloat16


@pytest.mark.parametrize(
    "schedule", ["cosine", "linear", "constant_with_warmup", "inverse_sqrt", "cosine_with_restarts"]
)
def test_schedules(schedule: str, tmp_path: Path) -> None:
    settings = {"lr_scheduler_type": schedule, "warmup_steps": 3}
    assert_same(*both(lambda m: train(trainer(m, tmp_path, **settings))))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("saves_and_goes_on", RESUMED.values(), ids=list(RESUMED))
def test_resumed(saves_and_goes_on: tuple[Any, Any], way: str, tmp_path: Path) -> None:
    """From a checkpoint in the middle the losses are those of torch's training that nobody interrupted."""
    settings = {"save_steps": 5, "save_strategy": "steps", "gradient_accumulation_steps": 2, "max_grad_norm": 0.3}
    whole = train(trainer(TORCHS, tmp_path / "whole", way, **settings))
    first, second = saves_and_goes_on
    train(trainer(first, tmp_path / "run", way, **settings))
    resumed = train(trainer(second, tmp_path / "run", way, **settings), str(tmp_path / "run" / "checkpoint-5"))
    assert_same(resumed, Trained(whole.losses[10:], whole.weights))


def test_resumed_with_what_torch_lacks(tmp_path: Path) -> None:
    own = lambda net: OURS.AdamW(net.parameters(), clip_norm=0.3, ema_decay=0.9, **RATE)  # noqa: E731
    settings = {"save_steps": 5, "save_strategy": "steps", "max_grad_norm": 0.0}
    made = trainer(OURS, tmp_path / "run", own, **settings)
    whole = train(made)
    again = trainer(OURS, tmp_path / "run", own, **settings)
    resumed = train(again, str(tmp_path / "run" / "checkpoint-5"))
    assert resumed.losses == whole.losses[5:]
    for p, q in zip(made.model.parameters(), again.model.parameters(), strict=True):
        a, b = (t.optimizer.optimizer.state for t in (made, again))
        assert torch.equal(a[p]["ema"], b[q]["ema"])


@pytest.mark.parametrize("saves_and_goes_on", RESUMED.values(), ids=list(RESUMED))
def test_lora(saves_and_goes_on: tuple[Any, Any], tmp_path: Path) -> None:
    """PEFT's adapters: few of the parameters train, and a checkpoint goes both ways."""

    def adapted() -> Any:
        config = peft.LoraConfig(r=4, target_modules=["c_attn"], task_type="CAUSAL_LM", fan_in_fan_out=True)
        return peft.get_peft_model(model(), config)

    def run(module: Any, folder: str, resume: str | None = None) -> Trained:
        settings = {"save_steps": 5, "save_strategy": "steps", "bf16": False}
        return train(trainer(module, tmp_path / folder, "class and kwargs", adapted(), **settings), resume)

    whole = run(TORCHS, "whole")
    first, second = saves_and_goes_on
    assert_same(run(first, "run"), whole)
    resumed = run(second, "run", str(tmp_path / "run" / "checkpoint-5"))
    assert_same(resumed, Trained(whole.losses[5:], whole.weights))


@pytest.mark.parametrize(
    "way",
    [{"gradient_checkpointing": True}, {"max_grad_norm": 0.3, "bf16": True, "dataloader_num_workers": 1}],
    ids=str,
)
def test_what_else_people_set(way: dict[str, Any], tmp_path: Path) -> None:
    assert_same(*both(lambda m: train(trainer(m, tmp_path, **way))), low="bf16" in way)


def test_a_vocabulary_that_grows_before_training(tmp_path: Path) -> None:
    def run(module: Any) -> Trained:
        net = model()
        net.resize_token_embeddings(80)
        return train(trainer(module, tmp_path, given=net))

    assert_same(*both(run))


# What torch has no class for


def test_a_rule_per_kind(tmp_path: Path) -> None:
    """Muon for hidden matrices, AdamW for the rest, resumed exactly."""
    way = steprule.by_kind(matrix="muon", other="adamw")
    settings = {"save_steps": 5, "save_strategy": "steps"}
    whole = train(trainer(OURS, tmp_path / "run", way, **settings))
    resumed = train(trainer(OURS, tmp_path / "run", way, **settings), str(tmp_path / "run" / "checkpoint-5"))
    assert resumed.losses == whole.losses[5:]


def test_a_rule_with_two_points(tmp_path: Path) -> None:
    """The Trainer itself calls the optimizer's `eval()` and `train()`: it measures and saves the model of evaluation, and goes on."""
    way = lambda net: steprule.optim.from_rule("schedule_free_adamw")(net.parameters(), lr=1e-2)  # noqa: E731
    settings = {
        "save_steps": 5,
        "save_strategy": "steps",
        "eval_strategy": "steps",
        "eval_steps": 5,
        "lr_scheduler_type": "constant",
    }
    still = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}  # measuring draws from the dropout's generator
    plain = train(trainer(OURS, tmp_path / "plain", way, model(**still), lr_scheduler_type="constant"))
    made = trainer(OURS, tmp_path / "run", way, model(**still), **settings)
    whole = train(made)
    assert whole.losses == plain.losses
    again = trainer(OURS, tmp_path / "run", way, model(**still), **settings)
    resumed = train(again, str(tmp_path / "run" / "checkpoint-5"))
    assert resumed.losses == whole.losses[5:]
    told = [row["eval_loss"] for row in made.state.log_history if "eval_loss" in row]
    assert told == [row["eval_loss"] for row in again.state.log_history if "eval_loss" in row]
    saved = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "run" / "checkpoint-10")
    assert trainer(OURS, tmp_path / "saved", given=saved).evaluate()["eval_loss"] == pytest.approx(
        told[-1], rel=ROUNDED32
    )
    made.optimizer.train()  # the last that the Trainer did was to measure
    assert told[-1] != pytest.approx(
        trainer(OURS, tmp_path / "trained", given=made.model).evaluate()["eval_loss"], rel=ROUNDED32
    )


def test_a_rule_that_looks_twice_is_refused(tmp_path: Path) -> None:
    """The Trainer gives `step` no closure."""
    made = trainer(OURS, tmp_path, lambda net: steprule.optim.from_rule("sam_adamw")(net.parameters(), lr=1e-2))
    with pytest.raises(InputTypeError, match="a closure"):
        made.train()

"""`optimizer.state` is torch's: the same objects all the time, of plain types, and whoever holds one may read and write it."""

from __future__ import annotations

import copy
import io
import os
import pickle
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from compare import apart, states_apart
from contract import NAMES, SETTINGS, feed, in_child, make, optim, parameter, train
from tolerances import CLASS_FLOAT32_FEW_STEPS
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map


def pair(name: str, count: int = 2, **settings: Any) -> Iterator[tuple[Any, list[nn.Parameter]]]:
    """The optimizer under test and torch's, each over parameters of its own."""
    for module in (optim, torch.optim):
        params = [parameter(2, 3), parameter(5, value=-2.0), parameter()][:count]
        yield make(name, params, module, **settings), params


def agree(both: list[tuple[Any, list[nn.Parameter]]]) -> None:
    (a, mine), (b, theirs) = both
    for p, q in zip(mine, theirs, strict=True):
        assert apart(p, q) <= CLASS_FLOAT32_FEW_STEPS
        assert states_apart(a.state.get(p, {}), b.state.get(q, {})) <= CLASS_FLOAT32_FEW_STEPS


# Identity


@pytest.mark.parametrize("name", NAMES)
def test_the_state_its_dicts_and_its_tensors_stay_the_same_objects(name: str) -> None:
    p, q = parameter(2, 3), parameter(4)
    optimizer = make(name, [p])
    state = optimizer.state
    train(optimizer)
    assert optimizer.state is state
    assert list(state) == [p]
    held, tensors = state[p], dict(state[p])
    events: list[Callable[[], Any]] = [
        lambda: None,
        lambda: optimizer.param_groups[0].update(lr=0.01),
        lambda: optimizer.param_groups[0].update(weight_decay=0.1),
        lambda: optimizer.add_param_group({"params": [q]}),
        lambda: optimizer.zero_grad(),
        lambda: optimizer.state_dict(),
        lambda: setattr(p, "data", p.data.clone()),
    ]
    for event in events:
        event()
        train(optimizer, 2)
        assert optimizer.state is state
        assert state[p] is held
        assert all(held[k] is v for k, v in tensors.items())
    assert set(map(id, state)) == {id(p), id(q)}


@pytest.mark.parametrize("name", NAMES)
def test_a_dict_that_was_there_before_the_first_step_is_kept(name: str) -> None:
    p = parameter(3)
    optimizer = make(name, [p])
    held = optimizer.state[p]
    train(optimizer, 2)
    assert optimizer.state[p] is held
    assert held


@pytest.mark.parametrize("name", NAMES)
def test_only_what_was_stepped_has_a_state(name: str) -> None:
    """Adagrad alone makes its states in the constructor."""
    p, frozen = parameter(3), parameter(2)
    optimizer = make(name, [p, frozen])
    p.grad = torch.ones(3)
    optimizer.step()
    assert [k is p for k in optimizer.state] == ([True, False] if name == "Adagrad" else [True])
    assert list(optimizer.state_dict()["state"]) == ([0, 1] if name == "Adagrad" else [0])


@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.1}, {"maximize": True}])
def test_plain_sgd_keeps_nothing(settings: dict[str, Any]) -> None:
    optimizer = make("SGD", [parameter(3), parameter(2, 2)], momentum=0.0, **settings)
    train(optimizer, 3)
    assert len(optimizer.state) == 0
    assert optimizer.state_dict()["state"] == {}


# A holder sees what happens, and may write


def first_held(optimizer: Any) -> dict[str, Any]:
    return optimizer.state[optimizer.param_groups[0]["params"][0]]  # type: ignore[no-any-return]


def replaced(held: dict[str, Any]) -> None:
    for k, v in held.items():
        held[k] = torch.full_like(v, 0.5 if k != "step" else 7.0)


def in_place(held: dict[str, Any]) -> None:
    for v in held.values():
        v.add_(1.0)


def pointed_elsewhere(held: dict[str, Any]) -> None:
    for k, v in held.items():
        v.data = v.data.clone() if k == "step" else v.data * 0.5


def updated(held: dict[str, Any]) -> None:
    held.update({k: v * 0.5 for k, v in held.items() if k != "step"})


def united(held: dict[str, Any]) -> None:
    held |= {k: v * 0.5 for k, v in held.items() if k != "step"}


def noted(held: dict[str, Any]) -> None:
    held["a note of mine"] = torch.full((2,), 7.0)


WRITES = [replaced, in_place, pointed_elsewhere, updated, united, noted]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("name", NAMES)
def test_writing_into_a_held_state_reaches_the_optimizer(name: str, write: Callable[[dict[str, Any]], None]) -> None:
    def go() -> None:
        both = list(pair(name))
        for optimizer, _ in both:
            train(optimizer, 2)
            held = first_held(optimizer)
            optimizer.add_param_group({"params": [parameter(3)]})
            train(optimizer, 1, start=2)
            write(held)
            train(optimizer, 2, start=3)
            assert first_held(optimizer) is held
        agree(both)

    in_child(go)


def emptied(optimizer: Any) -> None:
    optimizer.state.clear()


def popped(optimizer: Any) -> None:
    optimizer.state.pop(optimizer.param_groups[0]["params"][0])


def new_dict(optimizer: Any) -> None:
    optimizer.state[optimizer.param_groups[0]["params"][1]] = {}


def dict_emptied(optimizer: Any) -> None:
    first_held(optimizer).clear()


def new_state(optimizer: Any) -> None:
    optimizer.state = defaultdict(dict)


def copied_state(optimizer: Any) -> None:
    optimizer.state = defaultdict(dict, {p: dict(s) for p, s in optimizer.state.items()})


def copied_dicts(optimizer: Any) -> None:
    for p in list(optimizer.state):
        optimizer.state[p] = {k: v.clone() for k, v in optimizer.state[p].items()}


FORGETS = [emptied, popped, new_dict, dict_emptied, new_state]


@pytest.mark.parametrize(
    ("name", "edit"),
    # torch's Adagrad makes its states in the constructor and cannot go on without them.
    [(n, e) for n in NAMES for e in [*FORGETS, copied_state, copied_dicts] if n != "Adagrad" or e not in FORGETS],
)
def test_states_taken_out_or_exchanged(name: str, edit: Callable[[Any], None]) -> None:
    def go() -> None:
        both = list(pair(name))
        for optimizer, _ in both:
            train(optimizer, 3)
            edit(optimizer)
            state = optimizer.state
            train(optimizer, 2, start=3)
            assert optimizer.state is state
        agree(both)

    in_child(go)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "SGD"])
def test_step_is_counted_where_it_is_held(name: str) -> None:
    """The tensor shows the count at once, a value written there counts on, and a tensor put there is the one that counts."""
    p = parameter(3)
    optimizer = make(name, [p])
    train(optimizer, 2)
    step = optimizer.state[p]["step"]
    assert step.item() == 2
    assert step.shape == ()
    train(optimizer)
    assert step.item() == 3
    step.fill_(10.0)
    train(optimizer)
    assert step.item() == 11
    mine = optimizer.state[p]["step"] = torch.tensor(20.0)
    train(optimizer, 2)
    assert mine.item() == 22
    assert optimizer.state[p]["step"] is mine
    assert step.item() == 11


# Plain types


@pytest.fixture(params=NAMES)
def trained(request: pytest.FixtureRequest) -> Any:
    optimizer = make(request.param, [parameter(2, 3), parameter(4)])
    train(optimizer, 2)
    return optimizer


def test_states_are_trees(trained: Any) -> None:
    for s in trained.state.values():
        assert len(tree_leaves(s)) == len(s)
        wide = tree_map(lambda t: t.double(), s)
        assert {k: v.dtype for k, v in wide.items()} == dict.fromkeys(s, torch.float64)
    assert len(tree_leaves(trained.state)) == sum(map(len, trained.state.values()))
    assert len(tree_leaves(trained.state_dict()["state"])) == len(tree_leaves(trained.state))


COPIES: dict[str, Callable[[Any], Any]] = {
    "type(s)(s)": lambda s: type(s)(None, s) if isinstance(s, defaultdict) else type(s)(s),
    "s.copy()": lambda s: s.copy(),
    "s | {}": lambda s: s | {},
    "{} | s": lambda s: {} | s,
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "pickle": lambda s: pickle.loads(pickle.dumps(s)),
    "dict(s)": dict,
}


@pytest.mark.parametrize("how", COPIES.values(), ids=list(COPIES))
def test_states_are_copied_as_dicts_are(trained: Any, how: Callable[[Any], Any]) -> None:
    for held in (trained.state, *trained.state.values()):
        twin = how(held)
        assert isinstance(twin, dict)
        assert len(twin) == len(held)
        assert twin is not held
        twin.clear()
        twin["new"] = torch.ones(1)
        assert "new" not in held
        assert len(held)
    before = [p.detach().clone() for p in trained.state]
    train(trained)
    assert all(not torch.equal(p, q) for p, q in zip(trained.state, before, strict=True))


def test_an_empty_state_of_the_same_type(trained: Any) -> None:
    for s in trained.state.values():
        assert type(s)() == {} == type(s)({})
        assert type(s)(a=1) == {"a": 1}
        assert isinstance(s, dict)
        assert repr(dict(s)) == repr({**s})
    assert isinstance(trained.state, defaultdict)
    assert trained.state.default_factory is dict
    assert type(trained.state)(dict) == {}
    assert trained.state[torch.zeros(1)] == {}


def walked_by_type(data: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """As trainers move a state to a device: each container is made anew by its own type."""
    if isinstance(data, Tensor):
        return change(data)
    if isinstance(data, defaultdict):
        return type(data)(data.default_factory, OrderedDict((k, walked_by_type(v, change)) for k, v in data.items()))
    if isinstance(data, Mapping):
        return type(data)(OrderedDict((k, walked_by_type(v, change)) for k, v in data.items()))  # type: ignore[call-arg]
    return data


def walked_by_comprehension(data: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(data, Mapping):
        return type(data)({k: walked_by_comprehension(v, change) for k, v in data.items()})  # type: ignore[call-arg]
    return change(data) if isinstance(data, Tensor) else data


WALKS: dict[str, Callable[[Any, Callable[[Tensor], Tensor]], Any]] = {
    "type of pairs": walked_by_type,
    "type of a dict": walked_by_comprehension,
    "tree_map": lambda data, change: tree_map(change, data),
}


@pytest.mark.parametrize("walk", WALKS.values(), ids=list(WALKS))
@pytest.mark.parametrize("name", NAMES)
def test_training_goes_on_after_the_states_were_moved(name: str, walk: Callable[..., Any]) -> None:
    def go() -> None:
        both = list(pair(name))
        for optimizer, params in both:
            train(optimizer, 2)
            for p in params:
                optimizer.state[p] = walk(optimizer.state[p], lambda t: t.detach().clone() * 1.0)
            train(optimizer, 2, start=2)
        agree(both)

    in_child(go)


def test_a_shallow_copy_of_the_optimizer_shares_its_states() -> None:
    for name in NAMES:
        both = list(pair(name))
        for optimizer, _ in both:
            train(optimizer)
            other = copy.copy(optimizer)
            assert other.state is optimizer.state
            train(other, 1, start=1)
            train(optimizer, 1, start=2)
        agree(both)


# Wrappers


class Wrapper(torch.optim.Optimizer):
    """The usual wrapper: it shares state and groups with its base, and passes them on when it was loaded."""

    def __init__(self, base: Any) -> None:
        super().__init__(base.param_groups, dict(base.defaults))
        self.base = base
        self.state, self.param_groups = base.state, base.param_groups

    def step(self, closure: Any = None) -> Any:
        return self.base.step(closure)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.base.state, self.base.param_groups = self.state, self.param_groups


@pytest.mark.parametrize("name", NAMES)
def test_a_wrapper_that_shares_the_state_saves_loads_and_goes_on(name: str) -> None:
    both = []
    for module in (optim, torch.optim):
        params = [parameter(2, 3), parameter(4)]
        wrapper = Wrapper(make(name, params, module))
        train(wrapper, 3)
        assert len(wrapper.state) == len(params)
        file = io.BytesIO()
        torch.save(wrapper.state_dict(), file)
        file.seek(0)
        again = Wrapper(make(name, params, module))
        again.load_state_dict(torch.load(file, weights_only=True))
        train(again, 3, start=3)
        assert again.base.state is again.state
        both.append((again, params))
    agree(both)


def sam(module: Any, params: list[nn.Parameter], name: str) -> Any:
    from pytorch_optimizer import SAM

    return SAM(params, getattr(module, name), **SETTINGS[name])


def sam_step(wrapper: Any, params: list[nn.Parameter], t: int) -> None:
    feed(params, t)
    wrapper.first_step(zero_grad=True)
    feed(params, t)
    wrapper.second_step(zero_grad=True)


def lookahead(module: Any, params: list[nn.Parameter], name: str) -> Any:
    from pytorch_optimizer import Lookahead

    return Lookahead(make(name, params, module), k=2)


def lookahead_step(wrapper: Any, params: list[nn.Parameter], t: int) -> None:
    feed(params, t)
    wrapper.step()


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop"])
@pytest.mark.parametrize(("wrap", "step"), [(sam, sam_step), (lookahead, lookahead_step)], ids=["SAM", "Lookahead"])
def test_wrappers_of_others_save_load_and_go_on(name: str, wrap: Callable[..., Any], step: Callable[..., None]) -> None:
    ends = []
    for module in (optim, torch.optim):
        params = [parameter(2, 3), parameter(4)]
        wrapper = wrap(module, params, name)
        for t in range(3):
            step(wrapper, params, t)
        saved = copy.deepcopy(wrapper.state_dict())
        again = wrap(module, params, name)
        again.load_state_dict(saved)
        for t in range(3, 6):
            step(again, params, t)
        ends.append(params)
        if wrap is sam:
            assert all(again.state[p] for p in params)
            assert all(set(s) - {"old_p"} for s in saved["state"].values())
    for p, q in zip(*ends, strict=True):
        assert apart(p, q) <= CLASS_FLOAT32_FEW_STEPS


@pytest.mark.parametrize("name", NAMES)
def test_two_optimizers_over_one_state(name: str) -> None:
    both = []
    for module in (optim, torch.optim):
        params = [parameter(2, 3), parameter(4)]
        one, two = make(name, params, module), make(name, params, module)
        two.state = one.state
        for t in range(6):
            train((one, two)[t % 2], 1, start=t)
        assert one.state is two.state
        both.append((one, params))
    agree(both)


def with_shared_states(name: str, p: nn.Parameter, module: Any) -> Any:
    """States made by hand before the first step, in memory that processes share, as asynchronous training has them."""
    optimizer = make(name, [p], module)
    if name == "Adagrad":
        optimizer.share_memory()  # torch's own method; it leaves the count out
        optimizer.state[p]["step"].share_memory_()
        return optimizer
    pattern = make(name, [nn.Parameter(p.detach().clone())], torch.optim)
    train(pattern)
    for k, v in first_held(pattern).items():
        start = torch.ones_like(v) if k == "mu_product" else torch.zeros_like(v)
        optimizer.state[p][k] = start.share_memory_()
    return optimizer


@pytest.mark.parametrize("name", NAMES)
def test_processes_that_share_the_states_count_together(name: str) -> None:
    def both_workers(module: Any) -> tuple[Tensor, dict[str, Tensor]]:
        p = nn.Parameter(torch.zeros(4).share_memory_())
        optimizer = with_shared_states(name, p, module)
        for _ in range(2):
            worker = os.fork()
            if not worker:
                for _ in range(5):
                    p.grad = torch.ones(4)
                    optimizer.step()
                os._exit(0)
            assert os.waitpid(worker, 0)[1] == 0
        return p.detach().clone(), {k: v.clone() for k, v in optimizer.state[p].items()}

    (p, mine), (q, theirs) = (in_child(both_workers, module) for module in (optim, torch.optim))
    assert apart(p, q) <= CLASS_FLOAT32_FEW_STEPS
    assert states_apart(mine, theirs) <= CLASS_FLOAT32_FEW_STEPS
    assert [v.item() for k, v in mine.items() if k == "step"] == ([] if name == "SGD" else [10])

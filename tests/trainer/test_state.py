from __future__ import annotations

import pytest
import torch

from athanor.trainer.errors import AthanorError
from athanor.trainer.optimizing.optimizers import build_optimizer
from athanor.trainer.state import Position, is_damaged, load_state, save_state


def fresh():
    torch.manual_seed(0)
    weights = {"a": torch.nn.Parameter(torch.randn(3, 2)), "b": torch.nn.Parameter(torch.randn(4))}
    return weights, build_optimizer("adamw", [{"params": [weights["a"]], "lr": 0.1}, {"params": [weights["b"]], "lr": 0.01}], 0.1, {})


def step(weights, optimizer, times=1):
    for _ in range(times):
        loss = (weights["a"].sum() - 1) ** 2 + weights["b"].pow(2).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def test_what_was_saved_goes_on_to_the_bit(tmp_path):
    weights, optimizer = fresh()
    step(weights, optimizer, 3)
    save_state(tmp_path, Position(3, (0.1, 1 / 3)), weights, optimizer)
    step(weights, optimizer, 2)
    others, other_optimizer = fresh()
    assert load_state(tmp_path, others, other_optimizer) == Position(3, (0.1, 1 / 3))
    step(others, other_optimizer, 2)
    assert all(torch.equal(weights[key], others[key]) for key in weights)


def test_there_is_always_a_whole_slot_left(tmp_path):
    weights, optimizer = fresh()
    for done in (1, 2, 3):
        step(weights, optimizer)
        save_state(tmp_path, Position(done), weights, optimizer)
    slots = sorted(tmp_path.iterdir())
    newest = max(slots, key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes()[:-9])
    position = load_state(tmp_path, *fresh())
    assert position == Position(2)


@pytest.mark.parametrize("every", [1, 3, 7, 10, 19])
def test_states_saved_often_leave_one_from_before_an_explosion(tmp_path, every):
    weights, optimizer = fresh()
    for done in range(every, 130, every):
        save_state(tmp_path, Position(done), weights, optimizer)
        assert len(list(tmp_path.iterdir())) <= 4
        assert load_state(tmp_path, *fresh()) == Position(done)
        good = load_state(tmp_path, *fresh(), at_most=done - 20)
        assert good is None if done < 20 + every else done - 60 <= good.step <= done - 20


def test_states_saved_seldom_take_two_slots(tmp_path):
    weights, optimizer = fresh()
    for done in (20, 40, 60, 85):
        save_state(tmp_path, Position(done), weights, optimizer)
    assert len(list(tmp_path.iterdir())) == 2
    assert load_state(tmp_path, *fresh(), at_most=65) == Position(60)


def test_nothing_saved_is_no_state_and_another_run_s_is_refused(tmp_path):
    assert load_state(tmp_path / "none", *fresh()) is None
    weights, optimizer = fresh()
    step(weights, optimizer)
    save_state(tmp_path, Position(1), {"a": weights["a"]}, optimizer)
    with pytest.raises(AthanorError, match="lacks b; delete the folder"):
        load_state(tmp_path, *fresh())


def test_a_state_of_other_settings_is_refused_with_a_sentence(tmp_path):
    weights, optimizer = fresh()
    step(weights, optimizer)
    save_state(tmp_path, Position(1), weights, optimizer)
    wider, its_optimizer = fresh()
    key = next(iter(wider))
    wider[key] = torch.nn.Parameter(torch.zeros(*wider[key].shape, 2))
    with pytest.raises(AthanorError, match=f"is of other settings: {key} has .* Put the settings back"):
        load_state(tmp_path, wider, its_optimizer)
    same, _ = fresh()
    with pytest.raises(AthanorError, match="is of another optimizer"):
        load_state(tmp_path, same, torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0))


def test_damaged_states_are_known_from_none(tmp_path):
    weights, optimizer = fresh()
    assert not is_damaged(tmp_path)
    step(weights, optimizer)
    save_state(tmp_path, Position(1), weights, optimizer)
    assert not is_damaged(tmp_path)
    for slot in tmp_path.iterdir():
        slot.write_bytes(slot.read_bytes()[:50])
    assert is_damaged(tmp_path) and load_state(tmp_path, *fresh()) is None


class Odd:
    """Every kind of value that optimizers keep."""

    def __init__(self, state=None):
        self.state = state

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


def test_every_kind_of_value_survives(tmp_path):
    shared = torch.arange(5, dtype=torch.uint8)
    state = {
        "state": {0: {"table": shared, "none": None, "half": torch.ones(2, dtype=torch.bfloat16)}, 1: {"inner": {"table": shared, "step": 3}}},
        "groups": [{"betas": (0.9, 1 / 3), "d": 1.23456789e-7, "limit": float("inf"), "on": True, "name": "x", "params": [0, 1]}],
        "scalar": torch.tensor(2.5),
        "view": torch.ones(3, 3).T,
    }
    save_state(tmp_path, Position(1), {}, Odd(state))
    loaded = Odd()
    load_state(tmp_path, {}, loaded)
    assert loaded.state["groups"] == state["groups"] and isinstance(loaded.state["groups"][0]["betas"], tuple)
    assert loaded.state["state"][0]["none"] is None and loaded.state["state"][1]["inner"]["step"] == 3
    assert torch.equal(loaded.state["state"][0]["table"], shared)
    assert loaded.state["state"][0]["table"] is loaded.state["state"][1]["inner"]["table"]
    assert loaded.state["state"][0]["half"].dtype == torch.bfloat16 and loaded.state["scalar"].shape == ()


def test_what_has_no_place_in_the_file_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(TypeError, match="holds set"):
        save_state(tmp_path, Position(1), {}, Odd({"x": {1, 2}}))
    assert not list(tmp_path.iterdir())

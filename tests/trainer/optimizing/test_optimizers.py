"""Each optimizer: it lowers a loss, resumes to the bit from a safetensors file, and takes its own options only."""

from __future__ import annotations

import importlib.util
import warnings

import pytest
import torch

from athanor.trainer.config import TrainJob
from athanor.trainer.errors import AthanorError
from athanor.trainer.optimizing.optimizers import OPTIMIZERS, build_optimizer, device_problem, found_scale, missing_package, own_options
from athanor.trainer.optimizing.updates import Updates
from athanor.trainer.settings import OptimizerSettings, TrainSettings
from athanor.trainer.settings.optimizer import option_field_names
from athanor.trainer.state import Position, load_state, save_state
from athanor.trainer.trainees.trainee import Group, Trainee
from athanor.trainer.types import BaseModel, Dataset, Placement, Sample

RATES = {"prodigy": 1.0, "sgd": 1e-2, "lion": 3e-3, "lion8bit": 3e-3}
SAMPLES = tuple(Sample(f"{i}.png", 8, 8, "f", placement=Placement((8, 8), (8, 8), (0, 0))) for i in range(40))


def job_of(name: str, **optimizer) -> TrainJob:
    schedule = "constant" if name == "schedulefree_adamw" else "cosine"
    train = TrainSettings(epochs=1, optimizer=name, schedule=schedule, rate=RATES.get(name, 1e-2), precision="fp32")
    base = BaseModel("b", "sd15", "/b", "f", 512, 64)
    return TrainJob("run", base, Dataset(SAMPLES), train=train, optimizer=OptimizerSettings(**optimizer))


class Game:
    """Two groups of weights that are pulled towards a target; one matrix is large enough for 8-bit state, one begins at zero as in LoRA."""

    def __init__(self, job: TrainJob):
        draw = torch.Generator().manual_seed(0)
        self.job = job
        self.down = torch.nn.Parameter(torch.randn(8, 700, generator=draw) * 0.1)
        self.up = torch.nn.Parameter(torch.zeros(5, 8))
        self.target = torch.randn(5, 700, generator=draw)
        groups = (Group("denoiser", job.train.rate, {"up": self.up}, 1), Group("text_encoder", job.train.rate, {"down": self.down}, 1))
        self.trainee = Trainee(groups, dict, caption=lambda caption, draw: caption, prompt=lambda prompt: prompt, take=lambda path: None)
        self.updates = Updates(job, self.trainee, torch.device("cpu"))
        self.step = 0

    def loss(self) -> torch.Tensor:
        return (self.up @ self.down - self.target).pow(2).mean()

    def play(self, steps: int) -> float:
        for _ in range(steps):
            self.updates.set_rates(self.step)
            self.updates.backward(self.loss())
            self.updates.step()
            self.step += 1
        return self.loss().item()


def begun(job: TrainJob) -> Game:
    game = Game(job)
    game.updates.begin()
    return game


def on_cpu(name: str) -> bool:
    return device_problem(name, "cpu") is None


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS.names() if on_cpu(name)])
def test_it_lowers_the_loss_and_resumes_to_the_bit(tmp_path, name):
    whole = begun(job_of(name, ema_decay=0.0))
    before = whole.loss().item()
    whole.play(20)
    save_state(tmp_path, Position(20), whole.trainee.parameters(), whole.updates)
    with whole.updates.averaged():
        pass
    after = whole.play(20)
    assert after < before

    resumed = Game(whole.job)
    assert load_state(tmp_path, resumed.trainee.parameters(), resumed.updates) == Position(20)
    resumed.updates.begin()
    resumed.step = 20
    assert resumed.play(20) == after
    assert torch.equal(whole.up, resumed.up) and torch.equal(whole.down, resumed.down)
    assert resumed.updates.rates() == whole.updates.rates()


@pytest.mark.parametrize("name", ["adamw8bit", "lion8bit"])
def test_8_bit_state_is_8_bits_on_the_cpu_too(name):
    game = begun(job_of(name))
    game.play(1)
    assert game.updates.optimizer.state[game.down]["state1"].dtype == torch.uint8
    assert game.updates.optimizer.state[game.up]["state1"].dtype == torch.float32


def test_8_bit_adamw_goes_nearly_the_way_of_the_full_one():
    full, small = begun(job_of("adamw")), begun(job_of("adamw8bit"))
    start = full.down.detach().clone()
    full.play(20)
    small.play(20)
    moved, apart = (full.down - start).norm(), (full.down - small.down).norm()
    assert apart < 0.1 * moved


def test_prodigy_finds_one_rate_for_all_parts_and_tells_it():
    game = begun(job_of("prodigy"))
    game.play(20)
    d = found_scale(game.updates.optimizer)
    assert d > 1e-5
    assert game.updates.optimizer.param_groups[1]["d"] == d
    rates = game.updates.rates()
    assert rates["denoiser"] == rates["text_encoder"] == game.updates.optimizer.param_groups[0]["lr"] * d


def test_prodigy_refuses_two_rates():
    parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    with pytest.raises(AthanorError, match=r"finds one rate for everything.*they have 0\.5, 1"):
        build_optimizer("prodigy", [{"params": [parameters[0]], "lr": 1.0}, {"params": [parameters[1]], "lr": 0.5}], 0.0, {})


def test_schedule_free_gives_the_mean_of_the_way_and_goes_on_where_it_was():
    game = begun(job_of("schedulefree_adamw"))
    game.play(10)
    there, loss = game.up.detach().clone(), game.loss().item()
    with game.updates.averaged():
        z = game.updates.optimizer.state[game.up]["z"]
        # x is the weighted mean of all z so far; y = (1 - beta1) z + beta1 x (Defazio et al. 2024, equation 8).
        assert torch.allclose(there, 0.1 * z + 0.9 * game.up, atol=1e-6)
        assert not torch.equal(there, game.up)
    assert torch.equal(there, game.up) and game.loss().item() == loss
    assert game.updates.optimizer.param_groups[0]["train_mode"]


def test_an_exception_while_averaged_puts_the_weights_back():
    game = begun(job_of("adamw", ema_decay=0.9))
    game.play(3)
    there = game.up.detach().clone()
    with pytest.raises(ZeroDivisionError), game.updates.averaged():
        raise ZeroDivisionError
    assert torch.equal(game.up, there)


def test_every_option_has_a_setting_and_every_setting_an_optimizer():
    known = {option for name in OPTIMIZERS.names() for option in own_options(name)}
    assert known == set(option_field_names())


def test_options_reach_the_optimizer_and_unknown_ones_are_named():
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": 0.1}]
    optimizer = build_optimizer("adamw", groups, 0.3, {"beta2": 0.5, "epsilon": 1e-4})
    group = optimizer.param_groups[0]
    assert group["betas"] == (0.9, 0.5) and group["eps"] == 1e-4 and group["weight_decay"] == 0.3 and group["lr"] == 0.1
    with pytest.raises(AthanorError, match="sgd has no option beta2; it has: momentum, nesterov"):
        build_optimizer("sgd", groups, 0.0, {"beta2": 0.9})


def test_a_missing_package_is_told_with_its_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert missing_package("adamw") is None
    assert "needs the package lion-pytorch, which is not installed. Run `pip install lion-pytorch`" in missing_package("lion")
    with pytest.raises(AthanorError, match="pip install bitsandbytes"):
        build_optimizer("adamw8bit", [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": 0.1}], 0.0, {})


def test_what_a_device_cannot_do_is_told():
    assert "there is none here; choose adamw8bit" in device_problem("paged_adamw8bit", "cpu")
    assert device_problem("paged_adamw8bit", "cuda") is None
    assert "kind of GPU (mps)" in device_problem("lion8bit", "mps")
    assert device_problem("adamw", "mps") is None


def test_the_paged_optimizer_is_bitsandbytes_own():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = build_optimizer("paged_adamw8bit", [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": 0.1}], 0.0, {"beta1": 0.8})
    assert optimizer.is_paged and optimizer.param_groups[0]["betas"] == (0.8, 0.999)


def test_nothing_is_printed(capsys):
    build_optimizer("prodigy", [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": 1.0}], 0.1, {})
    assert capsys.readouterr() == ("", "")

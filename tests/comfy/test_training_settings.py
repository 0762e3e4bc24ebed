"""Optimizer Settings and Schedule Settings in a real ComfyUI, as prompts of its API."""

from __future__ import annotations

import pytest
from comfyui_server import ComfyUI
from graphs import node, run_of, training
from tiny import make_pictures

from athanor.trainer.settings import PerformanceSettings

pytestmark = pytest.mark.comfy


def test_the_chosen_options_reach_the_run(comfyui: ComfyUI):
    make_pictures(comfyui.input_folder / "engine")
    prompt = training(comfyui, "engine", "engine", epochs=1, optimizer="lion", schedule="cosine_restarts", settings=["schedule", 0])
    prompt["optimizer"] = {
        "class_type": "AthanorOptimizerSettings",
        "inputs": {
            "optimizer": "lion",
            "optimizer.beta1": 0.8,
            "optimizer.beta2": 0.9,
            "accumulation": 2,
            "ema": "on",
            "ema.ema_decay": 0.9,
            "ema.ema_on_cpu": False,
            "second_text_encoder": "as the first",
        },
    }
    prompt["schedule"] = {
        "class_type": "AthanorScheduleSettings",
        "inputs": {
            "schedule": "cosine_restarts",
            "schedule.num_cycles": 2,
            "schedule.min_ratio": 0.1,
            "warmup_steps": 1,
            "drawn_steps": 50,
            "settings": ["optimizer", 0],
        },
    }
    prompt["performance"] = node(comfyui, "AthanorPerformanceSettings", gradient_checkpointing="partial", settings=["schedule", 0])
    prompt["train"]["inputs"]["settings"] = ["performance", 0]
    prompt["curve"] = {"class_type": "SaveImage", "inputs": {"images": ["schedule", 1], "filename_prefix": "curve"}}
    comfyui.run(prompt, timeout_sec=240)
    job = run_of(comfyui, "engine").train_job()
    assert (job.optimizer.kind, job.optimizer.beta1, job.optimizer.accumulation, job.optimizer.ema_decay) == ("lion", 0.8, 2, 0.9)
    assert job.optimizer.momentum is None and job.optimizer.text_encoder_2_rate == -1
    assert job.performance == PerformanceSettings(gradient_checkpointing="partial")
    assert (job.schedule.kind, job.schedule.num_cycles, job.schedule.warmup_steps, job.schedule.min_ratio) == ("cosine_restarts", 2, 1, 0.1)
    assert run_of(comfyui, "engine").finished()
    assert list(comfyui.output_folder.glob("curve*.png"))


def test_an_option_is_shown_only_where_it_does_something(comfyui: ComfyUI):
    def under(class_type: str, widget: str) -> dict[str, set[str]]:
        options = comfyui.get(f"/object_info/{class_type}")[class_type]["input"]["required"][widget][1]["options"]
        return {option["key"]: {name for part in option["inputs"].values() for name in part} for option in options}

    schedules = under("AthanorScheduleSettings", "schedule")
    assert "min_ratio" not in schedules["constant"] and schedules["polynomial"] == {"power", "min_ratio"}
    optimizers = under("AthanorOptimizerSettings", "optimizer")
    assert "d_coef" in optimizers["prodigy"] and optimizers["sgd"] == {"momentum", "nesterov"}
    assert under("AthanorOptimizerSettings", "ema") == {"off": set(), "on": {"ema_decay", "ema_on_cpu"}}
    offload = {"auto": {"block_offload"}, "off": set(), "partial": set(), "full": {"block_offload"}}
    assert under("AthanorPerformanceSettings", "gradient_checkpointing") == offload
    assert under("AthanorObjectiveSettings", "extra_noise")["off"] == set()

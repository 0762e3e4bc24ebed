"""Optimizer Settings and Schedule Settings in a real ComfyUI, as prompts of its API."""

from __future__ import annotations

import pytest
from comfyui_server import ComfyUI
from graphs import run_of, training
from tiny import make_pictures

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
            "text_encoder_2_rate": -1.0,
            "accumulation": 2,
            "ema_decay": 0.9,
            "ema_on_cpu": False,
        },
    }
    prompt["schedule"] = {
        "class_type": "AthanorScheduleSettings",
        "inputs": {
            "schedule": "cosine_restarts",
            "schedule.num_cycles": 2,
            "warmup_steps": 1,
            "min_ratio": 0.1,
            "drawn_steps": 50,
            "settings": ["optimizer", 0],
        },
    }
    prompt["curve"] = {"class_type": "SaveImage", "inputs": {"images": ["schedule", 1], "filename_prefix": "curve"}}
    comfyui.run(prompt, timeout_sec=240)
    job = run_of(comfyui, "engine").train_job()
    assert (job.optimizer.kind, job.optimizer.beta1, job.optimizer.accumulation, job.optimizer.ema_decay) == ("lion", 0.8, 2, 0.9)
    assert job.optimizer.momentum is None
    assert (job.schedule.kind, job.schedule.num_cycles, job.schedule.warmup_steps, job.schedule.min_ratio) == ("cosine_restarts", 2, 1, 0.1)
    assert run_of(comfyui, "engine").finished()
    assert list(comfyui.output_folder.glob("curve*.png"))

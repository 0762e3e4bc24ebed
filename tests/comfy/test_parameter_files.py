"""Import, Export, Run and Sample Settings in a real ComfyUI, as prompts of its API."""

from __future__ import annotations

import json

import pytest
from comfyui_server import ComfyUI
from graphs import node, run_of, training
from tiny import make_pictures

from athanor.trainer.formats.parameters.read import parse_toml

pytestmark = pytest.mark.comfy


def test_a_file_counts_more_than_the_widgets_and_a_run_is_exported(comfyui: ComfyUI):
    make_pictures(comfyui.input_folder / "imported")
    gui = {"LoRA_type": "Standard", "network_dim": 3, "network_alpha": 2, "epoch": 1, "optimizer": "Lion", "lr_scheduler": "constant", "seed": 9}
    (comfyui.input_folder / "kohya 设置.json").write_text(json.dumps(gui), encoding="utf-8")
    (comfyui.input_folder / "prompts.txt").write_text("subject 1 --s 1 --d 5\n# no", encoding="utf-8")
    prompt = training(comfyui, "imported", "imported", epochs=7, optimizer="adamw", seed=1, sample_prompts="of the widget", settings=["import", 0])
    prompt["samples"] = node(comfyui, "AthanorSampleSettings", at_start=True, prompt_file="prompts.txt")
    prompt["length"] = node(comfyui, "AthanorRunSettings", save_every_steps=2, settings=["samples", 0])
    prompt["import"] = node(comfyui, "AthanorImportSettings", file="kohya 设置.json", over_widgets=True, settings=["length", 0])
    prompt["export"] = node(comfyui, "AthanorExportSettings", run=["train", 0])
    comfyui.run(prompt, timeout_sec=280)
    run = run_of(comfyui, "imported")
    job = run.train_job()
    assert (job.adapter.rank, job.adapter.alpha, job.train.epochs, job.train.optimizer, job.train.seed) == (3, 2.0, 1, "lion", 9)
    assert job.train.rate == 1e-2, "the file says nothing of it, so the widget counts"
    assert job.samples.lines == ("subject 1 --s 1 --d 5",) and job.samples.at_start and job.run.save_every_steps == 2
    assert run.finished() and [picture.epoch for picture in run.samples()] == [0, 1]
    exported = parse_toml((run.folder / "sd-scripts.toml").read_text(encoding="utf-8"), "sd-scripts.toml")
    assert exported["network"]["network_dim"] == 3 and exported["optimizer"]["optimizer_type"] == "Lion"

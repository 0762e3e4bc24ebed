"""The settings nodes in a real ComfyUI: what is shown under a drop-down arrives in the job of the training."""

from __future__ import annotations

import pytest
from comfyui_server import ComfyUI, ServerError
from graphs import node, run_of, training
from tiny import make_pictures

from athanor.trainer.settings import CaptionSettings, DataSettings, ObjectiveSettings

pytestmark = [pytest.mark.comfy, pytest.mark.slow]
LIMIT_SEC = 300


def test_settings_under_drop_downs_reach_the_training(comfyui: ComfyUI):
    make_pictures(comfyui.input_folder / "settings pictures", num=4)
    prompt = training(comfyui, "settings pictures", "settings", epochs=1, text_encoder_rate=0.0)
    chosen = {"weighting": "min_snr", "weighting.min_snr_gamma": 1.0, "noise": "offset", "loss": "huber", "timestep_sampling": "mode"}
    prompt["objective"] = node(comfyui, "AthanorObjectiveSettings", **chosen)
    prompt["captions"] = node(comfyui, "AthanorCaptionSettings", tags="changed each time", dropout=0.5, settings=["objective", 0])
    prompt["images"] = node(comfyui, "AthanorDataSettings", mirror=True, settings=["captions", 0])
    prompt["train"]["inputs"]["settings"] = ["images", 0]
    comfyui.run(prompt, LIMIT_SEC)
    job = run_of(comfyui, "settings").train_job()
    assert job.objective == ObjectiveSettings(weighting="min_snr", min_snr_gamma=1.0, noise_offset=0.05, loss="huber", timestep_sampling="mode")
    assert job.captions == CaptionSettings(shuffle=True, keep_tokens=1, dropout=0.5)
    assert job.data == DataSettings(mirror=True)
    assert run_of(comfyui, "settings").finished()


def test_what_does_nothing_is_told_on_the_training_node(comfyui: ComfyUI):
    make_pictures(comfyui.input_folder / "settings pictures", num=4)
    prompt = training(comfyui, "settings pictures", "refused", epochs=1)
    prompt["objective"] = node(comfyui, "AthanorObjectiveSettings", timestep_sampling="shifted")
    prompt["train"]["inputs"]["settings"] = ["objective", 0]
    with pytest.raises(ServerError, match="timestep_sampling shifted is made for rectified flows"):
        comfyui.run(prompt, LIMIT_SEC)

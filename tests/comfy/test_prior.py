"""A LoRA with class images that the worker draws from the base, in a real ComfyUI, to the end; and a mistake that is told before anything runs."""

from __future__ import annotations

import pytest
from comfyui_server import ComfyUI, ServerError
from graphs import node, run_of, training
from PIL import Image
from tiny import make_pictures

pytestmark = pytest.mark.comfy
LIMIT_SEC = 240


def test_class_images_are_drawn_and_trained_with(comfyui: ComfyUI):
    make_pictures(comfyui.input_folder / "prior", num=4)
    prompt = training(comfyui, "prior", "prior", epochs=1, text_encoder_rate=0.0, settings=["prior", 0])
    prompt["prior"] = node(
        comfyui,
        "AthanorPriorSettings",
        draw_class_images="on",
        class_target="base",
        hold_to_base="on",
        **{"draw_class_images.class_images": 2, "draw_class_images.class_prompts": "a thing", "draw_class_images.class_steps": 2},
        **{"hold_to_base.class_word": "thing"},
    )
    comfyui.run(prompt, LIMIT_SEC)
    run = run_of(comfyui, "prior")
    assert run.finished()
    job = run.train_job()
    assert (job.prior.class_images, job.prior.class_target, job.prior.hold_weight, job.prior.class_word) == (2, "base", 1.0, "thing")
    drawn = sorted((comfyui.output_folder / "athanor" / "class-images").rglob("*.png"))
    assert [path.name for path in drawn] == ["0000000000.png", "0000000001.png"]
    assert all(path.with_suffix(".txt").read_text(encoding="utf-8") == "a thing" for path in drawn)
    with Image.open(drawn[0]) as image:
        assert len(image.convert("L").getcolors(1 << 16) or []) > 1, "it shows something"
    events = run.events()
    assert next(event for event in events if event["event"] == "start")["class_images"] == 2

    prompt["prior"]["inputs"] |= {"draw_class_images.class_prompts": "the subject"}
    prompt["train"]["inputs"] |= {"name": "prior wrong"}
    with pytest.raises(ServerError, match="class prompt 'the subject' has the trigger 'subject'"):
        comfyui.run(prompt, LIMIT_SEC)
    assert not (comfyui.output_folder / "athanor" / "prior wrong").exists()

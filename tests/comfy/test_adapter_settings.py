"""The adapter's widgets and nodes in a real ComfyUI, as prompts of its API."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from comfyui_server import ComfyUI, ServerError
from graphs import node, run_of, training
from safetensors.torch import load_file
from tiny import make_pictures

from athanor.trainer.adapters.check import adapter_problems
from athanor.trainer.formats.header import read_header
from athanor.trainer.settings import AdapterSettings

pytestmark = pytest.mark.comfy
FOLDER, LIMIT_SEC = "adapters", 240


@pytest.fixture(scope="module")
def server(comfyui: ComfyUI) -> ComfyUI:
    make_pictures(comfyui.input_folder / FOLDER)
    return comfyui


def test_a_kind_has_its_own_widgets_and_the_settings_reach_the_run(server: ComfyUI):
    prompt = training(server, FOLDER, "kronecker", adapter="lokr", epochs=1, settings=["adapter", 0], **{"adapter.factor": 2})
    chosen = {"adapter": "lokr", "adapter.rank_dropout": 0.1, "blocks": "up_blocks, mid_block, text_encoder", "rules": "mid_block: rate=0.5"}
    prompt["adapter"] = node(server, "AthanorAdapterSettings", **chosen)
    server.run(prompt, LIMIT_SEC)
    run = run_of(server, "kronecker")
    settings = run.train_job().adapter
    assert (settings.kind, settings.rank, settings.factor, settings.rank_dropout) == ("lokr", 2, 2, 0.1)
    parts = {part["name"]: part for part in next(event for event in run.events() if event["event"] == "start")["parts"]}
    assert parts["denoiser × 0.5"]["rate"] == pytest.approx(0.5 * parts["denoiser"]["rate"])
    tensors = load_file(run.epochs()[-1].path)
    assert any("mid_block" in key for key in tensors) and not any("down_blocks" in key for key in tensors)
    assert json.loads(read_header(run.epochs()[-1].path).metadata["ss_network_args"])["algo"] == "lokr"


def test_training_goes_on_from_a_listed_epoch_and_upon_another(server: ComfyUI):
    first = training(server, FOLDER, "first", epochs=1, **{"adapter.rank": 3})
    server.run(first, LIMIT_SEC)
    epoch = run_of(server, "first").epochs()[-1].path
    second = training(server, FOLDER, "second", epochs=1, settings=["adapter", 0])
    second["adapter"] = node(server, "AthanorAdapterSettings", start_file=epoch.name, merge_files=f"{epoch.name}: 0.5")
    server.run(second, LIMIT_SEC)
    settings = run_of(server, "second").train_job().adapter
    assert settings.start_file == str(epoch) and settings.merge_files == f"{epoch}: 0.5" and len(settings.files_sha256.split()) == 2
    made = load_file(run_of(server, "second").epochs()[-1].path)
    assert {tensor.shape[0] for key, tensor in made.items() if key.endswith("lora_down.weight")} == {3}, "the rank is the file's"


def shown_under(server: ComfyUI, class_type: str, widget: str) -> dict[str, dict[str, Any]]:
    """By option of a drop-down: the inputs below it, with what is known of each."""
    inputs = server.get(f"/object_info/{class_type}")[class_type]["input"]["required"]
    return {
        option["key"]: {name: spec[1] for part in ("required", "optional") for name, spec in option["inputs"].get(part, {}).items()}
        for option in inputs[widget][1]["options"]
    }


@pytest.mark.parametrize("kind", ["lora", "locon", "loha", "lokr", "dora", "ia3"])
def test_each_kind_shows_what_it_takes_and_nothing_that_would_be_refused(server: ComfyUI, kind: str):
    shown = {**shown_under(server, "AthanorTrainLora", "adapter")[kind], **shown_under(server, "AthanorAdapterSettings", "adapter")[kind]}
    everywhere = server.get("/object_info/AthanorAdapterSettings")["AthanorAdapterSettings"]["input"]["required"]
    # Whatever else each needs in order to count.
    beside = {"conv_alpha": {"conv_rank": 4}, "names": {}}
    for item in dataclasses.fields(AdapterSettings):
        if item.name in ("kind", "files_sha256", "start_file", "merge_files", "pattern", "blocks", "rules"):
            continue
        choices = item.metadata["choices"]
        changed = choices[1] if choices else (not item.default if isinstance(item.default, bool) else item.default + 1)
        settings = dataclasses.replace(AdapterSettings(kind=kind), **{**beside.get(item.name, {}), item.name: changed})
        refused = any(f"Adapter: {item.name} is" in problem for problem in adapter_problems(settings))
        assert refused != (item.name in shown or item.name in everywhere), item.name


@pytest.mark.parametrize(
    ("adapter", "settings", "message"),
    [
        ("ia3", {"adapter": "lora", "adapter.dropout": 0.1}, "dropout is 0.1, which has no effect for IA³"),
        ("lora", {"pattern": "["}, "not a regular expression"),
        ("lora", {"rules": "up_blocks"}, "Rules: 'up_blocks' is not understood"),
        ("lora", {"merge_files": "nowhere.safetensors"}, "There is no LoRA 'nowhere.safetensors'"),
    ],
)
def test_settings_that_cannot_be_are_told_before_anything_runs(server: ComfyUI, adapter: str, settings: dict, message: str):
    prompt = training(server, FOLDER, "refused", settings=["adapter", 0])
    prompt["train"] = node(
        server, "AthanorTrainLora", adapter=adapter, base_model=["base", 0], dataset=["bucket", 0], name="refused", settings=["adapter", 0]
    )
    prompt["adapter"] = node(server, "AthanorAdapterSettings", **settings)
    with pytest.raises(ServerError) as told:
        server.run(prompt, LIMIT_SEC)
    assert message in str(told.value)
    assert not (server.output_folder / "athanor" / "refused").exists()

"""Comparisons and runs of other trainers, in a real ComfyUI with the tiny base."""

from __future__ import annotations

import shutil
import urllib.parse
from collections.abc import Callable
from typing import Any

import pytest
from comfyui_server import ComfyUI, ServerError
from graphs import comparing, node, run_of, training
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import make_pictures

pytestmark = pytest.mark.comfy
FOLDER, LORA, OTHER, WORD = "6_subject", "compared", "compared wider", "my-word"
LIMIT_SEC = 600


@pytest.fixture(scope="module")
def server(start_comfyui: Callable[..., ComfyUI]) -> ComfyUI:
    started = start_comfyui()
    make_pictures(started.input_folder / FOLDER)
    prompt = training(started, FOLDER, LORA, epochs=2)
    prompt |= {"wider": {**prompt["train"], "inputs": {**prompt["train"]["inputs"], "name": OTHER, "rank": 3}}}
    prompt["word"] = node(
        started, "AthanorTrainEmbedding", base_model=["base", 0], dataset=["bucket", 0], name=WORD, num_vectors=2, epochs=2, precision="fp32"
    )
    started.run(prompt, LIMIT_SEC)
    return started


def sheet_of(server: ComfyUI, entry: dict[str, Any]) -> dict[str, Any]:
    (name,) = entry["outputs"]["xy"]["athanor_sheet"]
    return server.get(f"/athanor/viewer/sheet?{urllib.parse.urlencode({'sheet': name})}")


def test_three_axes_make_pages_and_every_picture_is_told(server: ComfyUI):
    axes = {"x_axis": "seed", "x_values": "1-3", "y_axis": "epoch", "y_values": "all", "z_axis": "guidance", "z_values": "2, 5"}
    entry = server.run(comparing(server, LORA, **axes), LIMIT_SEC)
    sheet = sheet_of(server, entry)
    assert sheet["columns"] == ["seed 1", "seed 2", "seed 3"] and len(sheet["rows"]) == 3 and len(sheet["pages"]) == 2
    assert len(sheet["pictures"]) == 3 * 3 * 2 and not any(sheet["failed"]) and all(sheet["drawn"])
    grids = server.files(entry, "xy")
    assert len(grids) == 2
    with Image.open(grids[0]) as one, Image.open(grids[1]) as two:
        assert one.size == two.size and one.convert("RGB").tobytes() != two.convert("RGB").tobytes()


def test_two_runs_stand_side_by_side(server: ComfyUI):
    entry = server.run(comparing(server, LORA, x_axis="run", x_values=f"{LORA}\n{OTHER}", y_axis="epoch", y_values="1, 2", baseline=False), LIMIT_SEC)
    sheet = sheet_of(server, entry)
    assert sheet["columns"] == [LORA, OTHER] and {picture["run"] for picture in sheet["pictures"]} == {LORA, OTHER}


def test_epochs_of_an_embedding_are_compared_by_a_prompt_with_its_name(server: ComfyUI):
    look = {"prompts": f"a red {WORD}", "x_axis": "seed", "x_values": "1"}
    entry = server.run(comparing(server, WORD, **look), LIMIT_SEC)
    sheet = sheet_of(server, entry)
    assert len(sheet["rows"]) == 3 and sheet["rows"][0] == "no embedding" and len(sheet["pictures"]) == 3


def test_what_a_person_chose_goes_out(server: ComfyUI):
    said = server.run(comparing(server, LORA, chosen="1"), LIMIT_SEC)["outputs"]["chosen"]["text"]
    assert said == ["1"]


def test_all_that_is_wrong_is_told_at_once_and_before_anything_is_drawn(server: ComfyUI):
    axes = {"x_axis": "strength", "x_values": "a", "y_axis": "epoch", "y_values": "7", "z_axis": "sampler", "z_values": "euler"}
    with pytest.raises(ServerError) as raised:
        server.run(comparing(server, LORA, **axes), LIMIT_SEC)
    said = str(raised.value)
    assert "X axis: Strengths: 'a' is neither" in said and "Y axis: Epochs: 7 was not saved; saved are 1, 2" in said and "Z axis:" in said
    with pytest.raises(ServerError, match="A sampler can be chosen only where model, clip and vae are connected"):
        server.run(comparing(server, LORA, sampler="euler"), LIMIT_SEC)
    with pytest.raises(ServerError, match=r"there is no run '\.\./secret'"):
        server.run(comparing(server, LORA, x_axis="run", x_values="../secret"), LIMIT_SEC)
    without = comparing(server, LORA)
    del without["xy"]["inputs"]["base_model"]
    with pytest.raises(ServerError, match="Connect model and clip and vae as well"):
        server.run(without, LIMIT_SEC)


def test_epochs_of_another_trainer_come_back_as_a_run(server: ComfyUI):
    folder = server.models_folder / "loras" / "kohya out"
    folder.mkdir(parents=True)
    for epoch, name in zip(run_of(server, LORA).epochs(), ("fox-000001", "fox"), strict=True):
        shutil.copy(epoch.path, folder / f"{name}.safetensors")
    prompt = comparing(server, "(files of another trainer)", x_values="1")
    prompt["run"]["inputs"]["files"] = "kohya out"
    prompt["save"] = node(server, "AthanorSaveEpoch", run=["run", 0], epochs="last", filename="fox final")
    entry = server.run(prompt, LIMIT_SEC)
    assert len(sheet_of(server, entry)["rows"]) == 3
    assert (server.models_folder / "loras" / "fox final.safetensors").is_file()
    for text, said in (
        ("../../etc", "leaves its folder"),
        ("/etc", "No safetensors file fits"),
        ("re:(", "is no regular expression"),
        ("", "nothing is written"),
    ):
        prompt["run"]["inputs"]["files"] = text
        with pytest.raises(ServerError, match=said):
            server.run(prompt, LIMIT_SEC)


@pytest.mark.parametrize(
    ("text", "names", "said"),
    [
        ("kohya", ("kohya/fox-000010.safetensors", "kohya/fox-000009.safetensors"), ["epoch 9: fox-000009", "epoch 10: fox-000010"]),
        ("toolkit\\fox*", ("toolkit/fox_000000500.safetensors", "toolkit/fox.safetensors"), ["step 500: fox_000000500", "step 501: fox"]),
        ("diffusers", ("diffusers/checkpoint-500/pytorch_lora_weights.safetensors", "diffusers/pytorch_lora_weights.safetensors"),
         ["step 500: pytorch_lora_weights", "step 501: pytorch_lora_weights"]),
        ("pipe", ("pipe/epoch10/adapter_model.safetensors", "pipe/epoch2/adapter_model.safetensors"), ["epoch 2: adapter_model", "epoch 10: adapter_model"]),
        ("one/save", ("one/save/2026-01-02_03-04-05-save-90-0-90.safetensors", "one/save/2026-01-02_04-04-05-save-100-1-0.safetensors"),
         ["step 90: 2026-01-02_03-04-05-save-90-0-90", "step 100: 2026-01-02_04-04-05-save-100-1-0"]),
        ("one/backup", ("one/backup/2026-01-02_03-04-05-backup-120-3-20/lora/lora.safetensors", "one/backup/2026-01-02_03-04-05-backup-80-2-0/lora/lora.safetensors"),
         ["epoch 2: lora", "epoch 3: lora"]),
        ("core/x_*", ("core/x_20_steps_00001_.safetensors", "core/x_100_steps_00002_.safetensors"), ["step 20: x_20_steps_00001_", "step 100: x_100_steps_00002_"]),
        (r"re: flux/.*_bf16-step\d+", ("flux/a_rank16_bf16-step00000500.safetensors", "flux/a_rank16_bf16-step00001000.safetensors"),
         ["step 500: a_rank16_bf16-step00000500", "step 1000: a_rank16_bf16-step00001000"]),
        ("odd/fox [v2].safetensors", ("odd/fox [v2].safetensors", "odd/fox v.safetensors"), ["epoch 1: fox [v2]"]),
    ],
)  # fmt: skip
def test_every_trainers_files_come_back_in_their_order(server: ComfyUI, text: str, names: tuple[str, str], said: list[str]):
    for epoch, name in zip(run_of(server, OTHER).epochs(), names, strict=True):
        path = server.models_folder / "loras" / "habits" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # As if another program had written it: no word of the epoch in the metadata.
        save_file(load_file(epoch.path), path)
    wanted = f"re: habits/{text.removeprefix('re: ')}" if text.startswith("re:") else f"habits/{text}"
    prompt = {
        "run": node(server, "AthanorLoadRun", run="(files of another trainer)", files=wanted),
        "said": node(server, "PreviewAny", source=["run", 1]),
        "each": node(server, "StringConcatenate", string_a=["run", 2], string_b="", delimiter=""),
        "numbers": node(server, "PreviewAny", source=["each", 0]),
    }
    outputs = server.run(prompt, LIMIT_SEC)["outputs"]
    assert outputs["numbers"]["text"] == [line.split()[1].rstrip(":") for line in said], "what is behind it is done once for each"
    (told,) = outputs["said"]["text"]
    assert told.splitlines() == [f"{line}.safetensors" for line in said]

"""A queue of runs in a real ComfyUI: a list of settings, several training nodes, and what happens when one of them fails."""

from __future__ import annotations

import urllib.parse
from typing import Any

import pytest
from comfyui_server import ComfyUI, ServerError
from graphs import Prompt, node, run_of, training
from tiny import make_pictures

pytestmark = [pytest.mark.comfy, pytest.mark.slow]
FOLDER = "queued 图片"
LIMIT_SEC = 600


@pytest.fixture(scope="module")
def server(comfyui: ComfyUI) -> ComfyUI:
    make_pictures(comfyui.input_folder / FOLDER)
    return comfyui


def varied(server: ComfyUI, name: str, setting: str, values: str, **settings: Any) -> Prompt:
    prompt = training(server, FOLDER, name, epochs=1, **settings)
    prompt["vary"] = node(server, "AthanorVarySettings", setting=setting, values=values)
    prompt["train"]["inputs"]["settings"] = ["vary", 0]
    return prompt


def sheet_of(server: ComfyUI, entry: dict[str, Any]) -> dict[str, Any]:
    (name,) = entry["outputs"]["xy"]["athanor_sheet"]
    return server.get(f"/athanor/viewer/sheet?{urllib.parse.urlencode({'sheet': name})}")


def test_three_ranks_are_three_runs_that_are_compared(server):
    prompt = varied(server, "ranks", "adapter.rank", "2, 3, 4")
    prompt["both"] = node(server, "AthanorCollectRuns", run=["train", 0])
    look = {"x_axis": "run", "x_values": ["both", 1], "y_axis": "epoch", "y_values": "last", "prompts": "subject", "steps": 1}
    prompt["xy"] = node(server, "AthanorXYPlotCompare", run=["both", 0], base_model=["base", 0], width=32, height=32, **look)
    entry = server.run(prompt, LIMIT_SEC)
    runs = [run_of(server, f"ranks-rank{rank}") for rank in (2, 3, 4)]
    assert [run.train_job().adapter.rank for run in runs] == [2, 3, 4] and all(run.finished() for run in runs)
    assert entry["outputs"]["both"]["text"] == ["ranks-rank2\nranks-rank3\nranks-rank4"]
    assert sheet_of(server, entry)["columns"] == ["ranks-rank2", "ranks-rank3", "ranks-rank4"]
    assert not (server.output_folder / "athanor" / "ranks").exists()


def test_one_of_a_list_that_fails_does_not_lose_the_others(server):
    # Prodigy wants rates of 1, so that the first of the three is refused.
    prompt = varied(server, "optimizers", "train.optimizer", "prodigy, adamw, lion")
    with pytest.raises(ServerError) as told:
        server.run(prompt, LIMIT_SEC)
    assert "One training failed: optimizers-optimizerprodigy" in str(told.value) and "finds the learning rate by itself" in str(told.value)
    assert run_of(server, "optimizers-optimizeradamw").finished() and run_of(server, "optimizers-optimizerlion").finished()
    assert not (server.output_folder / "athanor" / "optimizers-optimizerprodigy").exists()


def test_one_of_several_nodes_that_fails_does_not_lose_the_others(server):
    prompt = training(server, FOLDER, "first wrong", epochs=1, optimizer="prodigy")
    # Behind a node of its own, so that nothing but patience lets it come to its turn.
    prompt["data 2"] = node(server, "AthanorLoadDataset", folder=FOLDER, trigger="subject", validation_percent=30.0)
    prompt["bucket 2"] = node(server, "AthanorBucket", dataset=["data 2", 0], base_model=["base", 0])
    for name in ("second right", "third right"):
        inputs = {**prompt["train"]["inputs"], "dataset": ["bucket 2", 0], "name": name, "optimizer": "adamw"}
        prompt[name] = {"class_type": "AthanorTrainLora", "inputs": inputs}
    prompt["fourth wrong"] = {"class_type": "AthanorTrainLora", "inputs": {**prompt["train"]["inputs"], "name": "fourth wrong"}}
    with pytest.raises(ServerError) as told:
        server.run(prompt, LIMIT_SEC)
    assert "2 trainings failed: " in str(told.value) and "- first wrong: " in str(told.value) and "- fourth wrong: " in str(told.value)
    assert run_of(server, "second right").finished() and run_of(server, "third right").finished()
    # Queued again with the mistake mended, the finished ones are taken as they are.
    for wrong in ("train", "fourth wrong"):
        prompt[wrong]["inputs"]["optimizer"] = "adamw"
    before = (run_of(server, "second right").folder / "events.jsonl").read_bytes()
    server.run(prompt, LIMIT_SEC)
    assert run_of(server, "first wrong").finished() and (run_of(server, "second right").folder / "events.jsonl").read_bytes() == before


def test_two_lists_give_every_combination_also_for_an_embedding(server):
    prompt = training(server, FOLDER, "unused", epochs=1)
    prompt["vary"] = node(server, "AthanorVarySettings", setting="train.text_encoder_rate", values="0.01, 0.02")
    prompt["vary 2"] = node(server, "AthanorVarySettings", setting="train.seed", values="1\n2", settings=["vary", 0])
    prompt["train"] = node(
        server,
        "AthanorTrainEmbedding",
        base_model=["base", 0],
        dataset=["bucket", 0],
        name="word",
        epochs=1,
        precision="fp32",
        settings=["vary 2", 0],
    )
    server.run(prompt, LIMIT_SEC)
    found = {}
    for rate in ("0.01", "0.02"):
        for seed in ("1", "2"):
            run = run_of(server, f"word-textencoderrate{rate}-seed{seed}")
            job = run.train_job()
            found[job.train.text_encoder_rate, job.train.seed] = run.finished()
            assert job.embedding.token == job.name == run.name
    assert found == dict.fromkeys([(0.01, 1), (0.01, 2), (0.02, 1), (0.02, 2)], True)


@pytest.mark.parametrize(
    ("setting", "values", "sentence"),
    [
        ("adapter.rank", "8, 5000, many", "adapter.rank cannot be 'many'; write a whole number"),
        ("adapter.rank", "8, 5000", "rank is 5000; it must be from 1 to 1024"),
        ("train.optimizer", "adamw, adammm", "optimizer is 'adammm'; choose one of"),
        ("captions.shuffle", "true, perhaps", "cannot be 'perhaps'; write true or false"),
        ("train.rate", " , ", "there are 0 values"),
    ],
)
def test_values_that_make_no_sense_are_refused_before_anything_trains(server, setting, values, sentence):
    prompt = varied(server, "refused", setting, values)
    with pytest.raises(ServerError) as told:
        server.run(prompt, LIMIT_SEC)
    assert sentence in str(told.value)
    assert not list((server.output_folder / "athanor").glob("refused*"))


def test_files_cannot_be_named_by_a_list(server):
    info = server.get("/object_info/AthanorVarySettings")["AthanorVarySettings"]["input"]["required"]["setting"]
    options = info[1]["options"] if len(info) > 1 and "options" in info[1] else info[0]
    assert options[0] == "adapter.rank" and "samples.prompts" in options
    assert not {"adapter.start_file", "adapter.merge_files", "adapter.files_sha256"} & set(options)

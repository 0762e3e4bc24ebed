"""Scores, plots of several runs and plans of comparisons, in a real ComfyUI with the tiny base."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from comfyui_server import ComfyUI, ServerError
from graphs import Prompt, node, run_of, training
from PIL import Image
from tiny import make_pictures

pytestmark = pytest.mark.comfy
FOLDER, OTHERS, LORA, WIDER = "scored", "never trained", "scored lora", "wider"
LIMIT_SEC = 600


@pytest.fixture(scope="module")
def server(start_comfyui: Callable[..., ComfyUI]) -> ComfyUI:
    started = start_comfyui()
    for folder, num in ((FOLDER, 16), (OTHERS, 4)):
        make_pictures(started.input_folder / folder, num)
        for i, file in enumerate(sorted((started.input_folder / folder).glob("*.txt"))):
            file.write_text(f"subject {i}, yellow, white background", encoding="utf-8")
    prompt = training(started, FOLDER, LORA, epochs=2)
    prompt |= {"wider": {**prompt["train"], "inputs": {**prompt["train"]["inputs"], "name": WIDER, "adapter.rank": 3}}}
    started.run(prompt, LIMIT_SEC)
    return started


def scoring(server: ComfyUI, run: str = LORA, **settings: Any) -> Prompt:
    return {
        "run": node(server, "AthanorLoadRun", run=run),
        "scores": node(server, "AthanorScoreEpochs", run=["run", 0], **{"steps": 2, "likeness": "shapes and colours", **settings}),
        "table": node(server, "PreviewAny", source=["scores", 2]),
    }


def scores_of(server: ComfyUI, run: str = LORA) -> dict[str, Any]:
    return json.loads((run_of(server, run).folder / "scores" / "scores.json").read_text(encoding="utf-8"))


def test_epochs_are_scored_and_the_best_is_saved(server: ComfyUI):
    prompt = scoring(server, tagger="Athanor miniature (built in)")
    prompt["save"] = node(server, "AthanorSaveEpoch", run=["scores", 0], epochs="best by validation loss", filename="scored final")
    entry = server.run(prompt, LIMIT_SEC)
    (plot,) = server.files(entry, "scores")
    with Image.open(plot) as picture:
        assert picture.width > 900 and plot.name == "scores.png"
    found = {each["name"]: each for each in scores_of(server)["measures"]}
    assert found.keys() == {"validation loss", "likeness", "tag recall", "diversity", "copying", "weight norm"}
    run = run_of(server, LORA)
    losses = {score["epoch"]: score["mean"] for score in found["validation loss"]["scores"]}
    assert losses == pytest.approx(run.validation_losses(), rel=1e-3)
    saved = server.models_folder / "loras" / "scored final.safetensors"
    best = next(epoch for epoch in run.epochs() if epoch.number == found["validation loss"]["best"])
    assert saved.stat().st_size == pytest.approx(best.path.stat().st_size, rel=0.1)
    (said,) = entry["outputs"]["table"]["text"]
    assert "| base alone |" in said and "validation loss:" in said and "Only " in said


def test_nothing_is_drawn_twice_and_further_epochs_only_add_theirs(server: ComfyUI):
    server.run(scoring(server, epochs="1", seed=7), LIMIT_SEC)
    folder = run_of(server, LORA).folder / "scores" / scores_of(server)["pictures"].rsplit("/", 1)[1]
    drawn = {path: path.stat().st_mtime_ns for path in folder.rglob("*_7.png")}
    assert drawn
    server.run(scoring(server, epochs="all", seed=7), LIMIT_SEC)
    assert all(path.stat().st_mtime_ns == at for path, at in drawn.items())
    assert len(list(folder.rglob("*_7.png"))) == len(drawn) * 3 // 2


def test_other_images_than_the_run_held_out(server: ComfyUI):
    prompt = scoring(server, dataset=["bucket", 0])
    prompt |= {
        "base": node(server, "AthanorLoadBaseModel", model="tiny base"),
        "data": node(server, "AthanorLoadDataset", folder=OTHERS, validation_percent=0.0),
        "bucket": node(server, "AthanorBucket", dataset=["data", 0], base_model=["base", 0]),
    }
    server.run(prompt, LIMIT_SEC)
    assert len(scores_of(server)["held_out"]) == 4
    prompt["data"]["inputs"]["folder"] = FOLDER
    (said,) = server.run(prompt, LIMIT_SEC)["outputs"]["table"]["text"]
    assert "images of the dataset were trained on and left out" in said
    prompt["scores"]["inputs"]["dataset"] = ["data", 0]
    with pytest.raises(ServerError, match="has no bucket yet; put a Bucket node"):
        server.run(prompt, LIMIT_SEC)


def test_what_cannot_be_scored_says_why(server: ComfyUI):
    with pytest.raises(ServerError, match="7 was not saved; saved are 1, 2"):
        server.run(scoring(server, epochs="7"), LIMIT_SEC)
    prompt = scoring(server, run="(files of another trainer)")
    (server.models_folder / "loras" / "theirs").mkdir(parents=True, exist_ok=True)
    source = run_of(server, LORA).epochs()[0].path
    (server.models_folder / "loras" / "theirs" / "fox-000001.safetensors").write_bytes(source.read_bytes())
    prompt["run"]["inputs"]["files"] = "theirs"
    with pytest.raises(ServerError, match="was trained by another program, so that its base is not known; connect base_model"):
        server.run(prompt, LIMIT_SEC)
    prompt["save"] = node(server, "AthanorSaveEpoch", run=["run", 0], epochs="best by likeness")
    del prompt["scores"], prompt["table"]
    with pytest.raises(ServerError, match="has no scores yet"):
        server.run(prompt, LIMIT_SEC)


def two_runs(server: ComfyUI) -> Prompt:
    return {"run": node(server, "AthanorLoadRun", run=LORA), "other": node(server, "AthanorLoadRun", run=WIDER)}


def test_two_runs_are_plotted_together_in_dark_and_in_light(server: ComfyUI):
    corners = {}
    for theme in ("dark", "light"):
        entry = server.run({**two_runs(server), "plot": node(server, "AthanorPlotLoss", run=["run", 0], run_2=["other", 0], theme=theme)}, LIMIT_SEC)
        (file,) = server.files(entry, "plot")
        assert file.name == "loss-compared.png"
        with Image.open(file) as picture:
            corners[theme] = picture.convert("L").getpixel((1, 1))
    assert corners["dark"] < 60 < 200 < corners["light"]


def test_a_second_run_stands_beside_the_first_and_a_plan_draws_nothing(server: ComfyUI):
    look = {
        "prompts": "subject",
        "steps": 2,
        "width": 32,
        "height": 32,
        "x_axis": "run",
        "x_values": "",
        "y_axis": "epoch",
        "y_values": "1, 2",
        "seed": 77,
    }
    prompt = two_runs(server) | {
        "base": node(server, "AthanorLoadBaseModel", model="tiny base"),
        "xy": node(server, "AthanorXYPlotCompare", run=["run", 0], run_2=["other", 0], base_model=["base", 0], **look, plan_only=True),
    }
    entry = server.run(prompt, LIMIT_SEC)
    (name,), (forecast,) = entry["outputs"]["xy"]["athanor_sheet"], entry["outputs"]["xy"]["athanor_forecast"]
    run, look_id, sheet_id = name.split("/")
    where = run_of(server, run).folder / "compare" / look_id
    sheet = json.loads((where / "sheets" / f"{sheet_id}.json").read_text(encoding="utf-8"))
    assert sheet["columns"] == [LORA, WIDER] and len(sheet["pictures"]) == 5
    files = [where / picture["file"] for picture in sheet["pictures"]]
    assert not any(file.is_file() for file in files)
    (grid,) = server.files(entry, "xy")
    with Image.open(grid) as picture:
        assert f"5 pictures of 32 x 32 px in 1 grid of {picture.width} x {picture.height} px" in forecast and (
            "about" in forecast or "roughly" in forecast
        )
    prompt["xy"]["inputs"]["plan_only"] = False
    entry = server.run(prompt, LIMIT_SEC)
    assert all(file.is_file() for file in files)
    prompt["xy"]["inputs"]["flux_guidance"] = 3.5
    with pytest.raises(ServerError, match=r"only FLUX\.1 dev is told one"):
        server.run(prompt, LIMIT_SEC)

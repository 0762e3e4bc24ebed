"""The routes of the viewer in a real ComfyUI; and that they show and do no more than they should."""

from __future__ import annotations

import http.client
import io
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from comfyui_server import ComfyUI
from graphs import Prompt, comparing, node, run_of, training
from PIL import Image
from tiny import make_pictures

from athanor.trainer.runs.run import Run

pytestmark = [pytest.mark.comfy, pytest.mark.slow]
FOLDER, NAME, WIDER = "viewed 图片", "看 run", "看 run wider"
LIMIT_SEC = 600
PREFIX = "/athanor/viewer"


@pytest.fixture(scope="module")
def server(comfyui: ComfyUI) -> ComfyUI:
    make_pictures(comfyui.input_folder / FOLDER)
    prompt = training(comfyui, FOLDER, NAME, epochs=3, seed=21)
    comfyui.run(prompt | {"wider": {**prompt["train"], "inputs": {**prompt["train"]["inputs"], "name": WIDER, "adapter.rank": 3}}}, LIMIT_SEC)
    return comfyui


@pytest.fixture(scope="module")
def name(server: ComfyUI) -> str:
    """Of a finished comparison: no LoRA and three epochs down, three strengths across."""
    return drawn(server, comparing(server, NAME))


@pytest.fixture(scope="module")
def folder(server: ComfyUI, name: str) -> Path:
    """Where its pictures lie."""
    return run_of(server, NAME).folder / "compare" / name.split("/")[1]


def drawn(server: ComfyUI, prompt: Prompt) -> str:
    (name,) = server.run(prompt, LIMIT_SEC)["outputs"]["xy"]["athanor_sheet"]
    return name


def ask(
    server: ComfyUI, address: str, method: str = "GET", body: bytes | None = None, kind: str = "application/json", **query: Any
) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    connection.request(method, f"{PREFIX}/{address}?{urlencode(query)}", body, {"Content-Type": kind} if body is not None else {})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    assert answer.headers.get("X-Content-Type-Options") == "nosniff" or answer.status in (404, 405)
    return answer.status, answer.headers.get("Content-Type", ""), content


def read(server: ComfyUI, address: str, **query: Any) -> Any:
    status, _, content = ask(server, address, **query)
    assert status == 200, content
    return json.loads(content)


def post(server: ComfyUI, address: str, **data: Any) -> tuple[int, Any]:
    status, _, content = ask(server, address, "POST", json.dumps(data).encode())
    return status, json.loads(content)


def test_a_comparison_is_told_whole(server, name):
    told = read(server, "sheet", sheet=name)
    assert told["rows"][0] == "no LoRA" and len(told["rows"]) == 4 and told["columns"] == ["strength 0.6", "strength 0.8", "strength 1"]
    assert told["run"] == NAME and told["pages"] == ["subject"] and told["size"] == [32, 32] and not told["running"]
    assert len(told["pictures"]) == 1 + 3 * 3 and all(told["drawn"]) and not any(told["failed"])
    facts = told["pictures"][told["cells"][0][3][1]]
    assert (facts["epoch"], facts["strength_model"], facts["prompt"], facts["run"]) == (3, 0.8, "subject", NAME)
    assert not any("path" in key or "file" in key for key in (*told, *facts)), "no path leaves the server"
    state = read(server, "state", sheet=name)
    assert state == {key: told[key] for key in state} and "pictures" not in state


def test_pictures_come_small_as_webp_and_whole_to_the_pixel(server, name, folder):
    told = read(server, "sheet", sheet=name)
    number = told["cells"][0][2][1]
    status, kind, whole = ask(server, "picture", sheet=name, number=number, side=0)
    assert (status, kind) == (200, "image/png") and whole in [file.read_bytes() for file in (folder / "cells").glob("e000002_s0.8_*.png")]
    status, kind, small = ask(server, "picture", sheet=name, number=number, side=256)
    assert (status, kind) == (200, "image/webp")
    with Image.open(io.BytesIO(small)) as picture:
        assert picture.format == "WEBP" and picture.size == (32, 32)
    for wrong, side in ((len(told["pictures"]), 256), (0, 4096), (-1, 0), ("../0", 0), ("1e3", 0)):
        assert ask(server, "picture", sheet=name, number=wrong, side=side)[0] == 404


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        ".",
        "..",
        "../..",
        "{run}",
        "{run}/{look}",
        "{run}/{look}/{sheet}/",
        "/{run}/{look}/{sheet}",
        "../{run}/{look}/{sheet}",
        "{run}/../{look}/{sheet}",
        "../athanor/{run}/{look}/{sheet}",
        "{run}/..%2f..%2f/{sheet}",
        "{run}/{look}/..",
        "{run}/{look}/0123456789ab",
        "{run}/0123456789ab/{sheet}",
        "no such run/{look}/{sheet}",
        ".loaded/{run}/{look}/{sheet}",
        ".loaded/../{look}/{sheet}",
        ".cache/{look}/{sheet}",
        "C:\\x/{look}/{sheet}",
        "{run}\x00/{look}/{sheet}",
        "x" * 400,
    ],
)
def test_a_name_is_a_run_and_two_numbers(server, name, wrong):
    run, look, sheet = name.split("/")
    text = wrong.replace("{run}", run).replace("{look}", look).replace("{sheet}", sheet)
    for address, query in (("sheet", {}), ("state", {}), ("picture", {"number": 0, "side": 0}), ("pair", {"axis": "y"}), ("ranking", {"axis": "y"})):
        assert ask(server, address, sheet=text, **query)[0] == 404, address
    assert post(server, "choose", sheet=text, number=0)[0] == 404
    assert post(server, "vote", sheet=text, axis="y", winner="first", first=0, second=1)[0] == 404
    assert ask(server, "sheet", sheet="x" * 501)[0] == 400


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("part", ["run", "compare", "look", "sheets", "sheet"])
def test_links_out_of_the_output_folder_are_not_followed(server, name, folder, tmp_path, part):
    _, look, sheet = name.split("/")
    linked = run_of(server, f"linked {part}").folder
    shutil.copytree(folder, linked / "compare" / look)
    (linked / "job.json").write_bytes((folder.parents[1] / "job.json").read_bytes())
    assert ask(server, "sheet", sheet=f"{linked.name}/{look}/{sheet}")[0] == 200
    where = {"run": linked, "compare": linked / "compare", "look": linked / "compare" / look, "sheets": linked / "compare" / look / "sheets"}
    where["sheet"] = where["sheets"] / f"{sheet}.json"
    where[part].rename(tmp_path / "outside")
    where[part].symlink_to(tmp_path / "outside")
    for address, query in (("sheet", {}), ("state", {}), ("picture", {"number": 0, "side": 0})):
        assert ask(server, address, sheet=f"{linked.name}/{look}/{sheet}", **query)[0] == 404
    assert post(server, "vote", sheet=f"{linked.name}/{look}/{sheet}", axis="y", winner="tie", first=0, second=1)[0] == 404
    assert post(server, "choose", sheet=f"{linked.name}/{look}/{sheet}", number=1)[0] == 404


def test_a_comparison_that_names_other_files_shows_none(server, name, folder):
    _, look, sheet = name.split("/")
    secret = server.output_folder / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    forged = run_of(server, "forged comparison").folder
    shutil.copytree(folder, forged / "compare" / look)
    (forged / "job.json").write_bytes((folder.parents[1] / "job.json").read_bytes())
    cells = forged / "compare" / look / "cells"
    (cells / "text.png").write_text("<script>alert(1)</script>", encoding="utf-8")
    (cells / "page.html").write_text("<script>alert(1)</script>", encoding="utf-8")
    (cells / "inner").mkdir()
    shutil.copy(secret, cells / "inner" / "x.png")
    files = ["../../../../secret.png", str(secret), "cells/../../../../../secret.png", "cells/text.png", "cells/page.html", "cells/inner/x.png"]
    if sys.platform != "win32":
        (cells / "link.png").symlink_to(secret)
        files.append("cells/link.png")
    path = forged / "compare" / look / "sheets" / f"{sheet}.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    for picture, file in zip(data["pictures"], files, strict=False):
        picture["file"] = file
    data["pictures"][-1]["run"] = "../../../etc"
    path.write_text(json.dumps(data), encoding="utf-8")
    forged_name = f"{forged.name}/{look}/{sheet}"
    for number in range(len(files)):
        for side in (0, 256):
            assert ask(server, "picture", sheet=forged_name, number=number, side=side)[0] == 404, files[number]
    assert ask(server, "picture", sheet=forged_name, number=len(files), side=0)[0] == 200
    assert post(server, "choose", sheet=forged_name, number=len(data["pictures"]) - 1)[0] == 404
    path.write_text("[" * 100_000, encoding="utf-8")
    assert ask(server, "sheet", sheet=forged_name)[0] == 404
    path.write_text(json.dumps({**data, "cells": 7}), encoding="utf-8")
    assert ask(server, "state", sheet=forged_name)[0] == 404


def test_only_posts_of_json_have_an_effect(server, name, folder):
    before = sorted(path.name for path in folder.iterdir())
    for address in ("choose", "vote"):
        assert ask(server, address, sheet=name, number=1)[0] in (404, 405)
        body = json.dumps({"sheet": name, "number": 1, "axis": "y", "winner": "first", "first": 0, "second": 1}).encode()
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            assert ask(server, address, "POST", body, kind)[0] == 415
        assert ask(server, address, "POST", b"[1]")[0] == 400 and ask(server, address, "POST", b"{")[0] == 400
    for wrong in ({}, {"number": "1"}, {"number": -1}, {"number": True}, {"number": 1.5}):
        assert post(server, "choose", sheet=name, **wrong)[0] == 400
    assert post(server, "choose", sheet=name, number=99)[0] == 404
    vote = {"sheet": name, "axis": "y", "winner": "first", "first": 0, "second": 1}
    for wrong, status in (({"axis": "w"}, 400), ({"winner": "both"}, 400), ({"second": 0}, 400), ({"first": "0"}, 400), ({"first": 99}, 404)):
        assert post(server, "vote", **{**vote, **wrong})[0] == status
    assert ask(server, "ranking", sheet=name, axis="page")[0] == 400
    assert sorted(path.name for path in folder.iterdir()) == before and not (folder.parents[1] / "choice.json").exists()


def test_a_chosen_epoch_is_marked_and_saved_by_that_word(server, name):
    told = read(server, "sheet", sheet=name)
    assert told["chosen"] == {}
    status, answer = post(server, "choose", sheet=name, number=told["cells"][0][0][0])
    assert status == 409 and "drawn without any epoch" in answer["error"]
    assert post(server, "choose", sheet=name, number=told["cells"][0][2][0]) == (200, {"run": NAME, "own": True, "epoch": 2})
    assert read(server, "state", sheet=name)["chosen"] == {NAME: 2}
    saved = {
        "run": node(server, "AthanorLoadRun", run=NAME),
        "save": node(server, "AthanorSaveEpoch", run=["run", 0], epochs="chosen", filename="the chosen one"),
    }
    server.run(saved, LIMIT_SEC)
    epoch, file = run_of(server, NAME).epochs()[1], server.models_folder / "loras" / "the chosen one.safetensors"
    from safetensors.torch import load_file

    assert epoch.number == 2 and {key: value.tolist() for key, value in load_file(file).items()} == {
        key: value.tolist() for key, value in load_file(epoch.path).items()
    }


def test_epochs_of_other_runs_are_marked_in_theirs(server):
    name = drawn(server, comparing(server, NAME, x_axis="run", x_values=f"{NAME}\n{WIDER}", y_axis="epoch", y_values="1, 3", baseline=False))
    told = read(server, "sheet", sheet=name)
    assert post(server, "choose", sheet=name, number=told["cells"][0][1][1]) == (200, {"run": WIDER, "own": False, "epoch": 3})
    assert read(server, "state", sheet=name)["chosen"][WIDER] == 3 and (run_of(server, WIDER).folder / "choice.json").is_file()


def test_votes_make_a_ranking_and_can_be_taken_back(server, name):
    told = read(server, "sheet", sheet=name)
    row_of = {number: row for row in range(4) for number in told["cells"][0][row]}
    standing = read(server, "ranking", sheet=name, axis="y")
    assert standing["votes"] == 0 and not standing["decided"]
    asked = set()
    for _ in range(18):
        pair = read(server, "pair", sheet=name, axis="y")["pair"]
        first, second = row_of[pair["first"]], row_of[pair["second"]]
        assert first != second and pair["place"][1] == first
        asked.add(frozenset((first, second)))
        status, standing = post(
            server, "vote", sheet=name, axis="y", winner="first" if first > second else "second", first=pair["first"], second=pair["second"]
        )
        assert status == 200
    assert len(asked) == 6 and standing["votes"] == 18
    assert [place["value"] for place in standing["places"]] == [3, 2, 1, 0] and standing["places"][0]["label"] == told["rows"][3]
    assert all(place["low"] < place["share"] < place["high"] for place in standing["places"])
    assert read(server, "ranking", sheet=name, axis="y") == standing
    assert read(server, "ranking", sheet=name, axis="x")["votes"] == 0
    for left in range(17, -1, -1):
        assert post(server, "vote", sheet=name, axis="y", winner="back")[1]["votes"] == left
    assert read(server, "pair", sheet=name, axis="z") == {"pair": None}


def test_votes_and_pictures_stay_when_the_axes_are_exchanged(server, name):
    told = read(server, "sheet", sheet=name)
    post(server, "vote", sheet=name, axis="y", winner="first", first=told["cells"][0][2][0], second=told["cells"][0][1][0])
    turned = drawn(server, comparing(server, NAME, x_axis="epoch", x_values="all", y_axis="strength", y_values="0.6, 0.8, 1.0"))
    assert turned != name and turned.rsplit("/", 1)[0] == name.rsplit("/", 1)[0]
    assert read(server, "sheet", sheet=name)["rows"] == told["rows"], "the earlier arrangement is still known"
    other = read(server, "sheet", sheet=turned)
    assert other["columns"] == told["rows"] and sorted(other["drawn"]) == sorted(told["drawn"]), "nothing was drawn twice"
    assert read(server, "ranking", sheet=turned, axis="x")["votes"] == 1
    post(server, "vote", sheet=name, axis="y", winner="back")


def test_cells_are_told_while_they_are_drawn(server, name):
    look = {"x_axis": "seed", "x_values": "1-40", "y_axis": "none", "y_values": "", "steps": 20, "baseline": False, "epoch": "last"}
    prompt_id = server.queue(comparing(server, NAME, **look))
    sheets, seen, end = folder_of(server), [], time.monotonic() + LIMIT_SEC
    while server.history(prompt_id) is None:
        assert time.monotonic() < end, server.log_tail()
        for sheet in sheets():
            state = read(server, "state", sheet=sheet)
            if len(state["drawn"]) == 40:
                seen.append((state["running"], sum(written is not None for written in state["drawn"])))
        time.sleep(0.05)
    (sheet,) = server.history(prompt_id)["outputs"]["xy"]["athanor_sheet"]
    state = read(server, "state", sheet=sheet)
    assert not state["running"] and all(state["drawn"])
    assert (True, 0) in seen and any(running and 0 < num < 40 for running, num in seen), seen


def folder_of(server: ComfyUI):
    run: Run = run_of(server, NAME)
    return lambda: [f"{NAME}/{path.parents[1].name}/{path.stem}" for path in run.folder.glob("compare/*/sheets/*.json")]


def test_a_run_of_another_trainer_can_be_looked_at_and_chosen_from(server):
    source = server.models_folder / "loras" / "kohya 看"
    source.mkdir(parents=True)
    for epoch, file in zip(run_of(server, NAME).epochs(), ("fox-000001", "fox-000002", "fox"), strict=True):
        shutil.copy(epoch.path, source / f"{file}.safetensors")
    prompt = comparing(server, "(files of another trainer)", x_values="1")
    prompt["run"]["inputs"]["files"] = "kohya 看"
    name = drawn(server, prompt)
    assert name.startswith(".loaded/")
    told = read(server, "sheet", sheet=name)
    assert all(told["drawn"]) and ask(server, "picture", sheet=name, number=1, side=0)[0] == 200
    status, answer = post(server, "choose", sheet=name, number=told["cells"][0][2][0])
    assert status == 200 and answer["own"] and answer["epoch"] == 2
    assert list(read(server, "state", sheet=name)["chosen"].values()) == [2]

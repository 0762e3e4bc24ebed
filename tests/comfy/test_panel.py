"""The routes of the live panel in a real ComfyUI; and that they show and do no more than they should."""

from __future__ import annotations

import http.client
import io
import json
import sys
import time
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from comfyui_server import ComfyUI, failure
from graphs import run_of, training
from PIL import Image
from tiny import make_pictures

from athanor.trainer.runs.run import Run

pytestmark = [pytest.mark.comfy, pytest.mark.slow]
FOLDER = "panel 图片"
NAME = "我的 run"
LIMIT_SEC = 600
PREFIX = "/athanor/panel"


@pytest.fixture(scope="module")
def server(comfyui: ComfyUI) -> ComfyUI:
    make_pictures(comfyui.input_folder / FOLDER)
    return comfyui


@pytest.fixture(scope="module")
def run(server: ComfyUI) -> Run:
    server.run(training(server, FOLDER, NAME, epochs=3, sample_prompts="subject", seed=8), LIMIT_SEC)
    return run_of(server, NAME)


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


def events(server: ComfyUI, name: str, cursor: str = "") -> dict[str, Any]:
    status, _, content = ask(server, "events", run=name, cursor=cursor)
    assert status == 200, content
    return json.loads(content)


def control(server: ComfyUI, **data: Any) -> int:
    return ask(server, "control", "POST", json.dumps(data).encode())[0]


def test_a_finished_run_is_told_whole_and_then_not_again(server, run):
    told = events(server, NAME)
    assert told["now"]["state"] == "finished" and not told["running"] and not told["control"]["here"]
    assert told["curve"]["low"] == run.losses() and told["now"]["ram_mib"] > 50
    assert {step: loss for step, loss in told["marks"]["validation"]} == run.validation_by_step()
    assert [tuple(saved) for saved in told["marks"]["saved"]] == [(epoch.step, epoch.number) for epoch in run.epochs()]
    assert [sample["epoch"] for sample in told["marks"]["samples"]] == [1, 2, 3]
    again = events(server, NAME, told["cursor"])
    assert "marks" not in again and len(again["curve"]["low"]) <= 1


def test_sample_pictures_come_as_webp_by_number_only(server, run):
    status, kind, content = ask(server, "sample", run=NAME, number=0, side=256)
    assert (status, kind) == (200, "image/webp")
    with Image.open(io.BytesIO(content)) as picture, Image.open(run.samples()[0].path) as original:
        assert picture.format == "WEBP" and picture.size == original.size
    for number, side in ((3, 256), (0, 4096), (-1, 256), ("../0", 256), ("0/../../job.json", 256)):
        assert ask(server, "sample", run=NAME, number=number, side=side)[0] == 404


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../athanor",
        ".cache",
        "../../input",
        "/etc",
        "我的 run/samples",
        "我的 run\\samples",
        "C:\\Windows",
        "no such run",
        "我的 run/",
        "a\x00b",
        "x" * 400,
    ],
)
def test_a_name_is_one_folder_of_the_output_folder(server, run, name):
    assert ask(server, "events", run=name)[0] == 404
    assert ask(server, "sample", run=name, number=0, side=256)[0] == 404
    assert control(server, run=name, command="stop") == 404


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_out_of_the_output_folder_are_not_followed(server, run, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("job.json", "events.jsonl"):
        (outside / name).write_bytes((run.folder / name).read_bytes())
    link = run.folder.parent / "linked run"
    link.symlink_to(outside)
    try:
        assert ask(server, "events", run="linked run")[0] == 404
    finally:
        link.unlink()


def test_events_that_name_other_files_show_none(server, run, tmp_path):
    Image.new("RGB", (8, 8)).save(server.output_folder / "secret.png")
    bad = run.folder.parent / "forged"
    (bad / "samples").mkdir(parents=True)
    (bad / "job.json").write_bytes((run.folder / "job.json").read_bytes())
    files = ["../../secret.png", str(server.output_folder / "secret.png"), "samples/../../../secret.png", "job.json", "samples/none.png"]
    lines = [{"event": "sample", "epoch": 1, "step": 1, "file": file, "prompt": "", "seed": 0} for file in files]
    (bad / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert len(events(server, "forged")["marks"]["samples"]) == len(files)
    assert all(ask(server, "sample", run="forged", number=i, side=256)[0] == 404 for i in range(len(files)))


def test_only_posts_of_json_reach_a_worker(server, run):
    assert ask(server, "control", run=NAME, command="stop")[0] in (404, 405)
    body = json.dumps({"run": NAME, "command": "stop"}).encode()
    assert ask(server, "control", "POST", body, "text/plain")[0] == 415
    assert ask(server, "control", "POST", body, "application/x-www-form-urlencoded")[0] == 415
    assert ask(server, "control", "POST", b"[1]")[0] == 400
    assert ask(server, "control", "POST", b"{")[0] == 400
    assert control(server, run=NAME) == 400
    assert control(server, run=NAME, command="stop") == 409, "nothing is being trained"
    assert control(server, run=NAME, command="rm -rf") == 409


def test_the_run_of_a_node_is_found_by_what_the_page_knows(server, run):
    def found(**query: str) -> str | None:
        return json.loads(ask(server, "run", **query)[2])["run"]

    assert found(node="7", name=NAME, known="") == NAME
    assert found(node="7", name="other", known=NAME) == NAME
    assert found(node="7", name="other", known="") is None
    assert found(node="7", name="", known="../..") is None
    server.run(training(server, FOLDER, NAME, epochs=1, seed=9), LIMIT_SEC)
    assert found(node="7", name=NAME, known="") == f"{NAME}-2", "the newest of that name"
    assert found(node="7", name=NAME, known=NAME) == NAME


def test_wishes_reach_the_worker_and_a_stopped_run_ends_like_an_undisturbed_one(server, tmp_path):
    prompt = training(server, FOLDER, "wished", epochs=60, save_every_epochs=30, sample_prompts="subject", seed=4)
    prompt_id, wished = server.queue(prompt), run_of(server, "wished")

    def wait_until(happened) -> None:
        end = time.monotonic() + LIMIT_SEC
        while not happened():
            assert server.history(prompt_id) is None and time.monotonic() < end, server.log_tail()
            time.sleep(0.02)

    wait_until(lambda: len(wished.losses()) > 3)
    told = events(server, "wished")
    assert told["running"] and told["control"] == {"here": True, "stop": None, "samples": True}
    assert control(server, run="wished", command="format the disk") == 409
    assert control(server, run="wished", command="sample\nstop") == 409
    assert control(server, run="wished", command="sample") == 200 and control(server, run="wished", command="save") == 200
    wait_until(lambda: {"sample", "saved"} <= {event["event"] for event in wished.events() if event.get("epoch", 0) is None})
    assert control(server, run="wished", command="stop-epoch") == 200
    assert events(server, "wished")["control"]["stop"] == "stop-epoch"
    assert control(server, run="wished", command="go-on") == 200
    assert events(server, "wished")["control"]["stop"] is None
    assert control(server, run="wished", command="stop") == 200
    assert failure(server.wait(prompt_id, LIMIT_SEC)) == "interrupted at AthanorTrainLora (node train)"
    told = events(server, "wished")
    assert told["now"]["state"] == "stopped" and not told["running"]
    server.run(prompt, LIMIT_SEC)
    assert wished.finished()
    plain = {**prompt, "train": {**prompt["train"], "inputs": {**prompt["train"]["inputs"], "name": "undisturbed"}}}
    server.run(plain, LIMIT_SEC)
    assert wished.losses() == run_of(server, "undisturbed").losses()

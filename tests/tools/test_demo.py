"""The demo's reading of a run directory and its care with the --out folder."""

from __future__ import annotations

import json

import demo
import pytest

EVENTS = [
    {"event": "start", "step": 0, "total_steps": 4, "steps_per_epoch": 2, "total_epochs": 2, "parts": ["unet"], "pid": 1},
    {"event": "phase", "name": "latents", "done": 3, "total": 16},
    {"event": "validation", "epoch": 0, "step": 0, "loss": 0.2},
    {"event": "step", "step": 1, "epoch": 1, "loss": 0.125, "rates": {}, "seconds": 0.5},
    {"event": "saved", "epoch": 1, "step": 2, "file": "epochs/heart-000001.safetensors", "sha256": "aa"},
    {"event": "validation", "epoch": 1, "step": 2, "loss": 0.1},
    {"event": "saved", "epoch": None, "step": 3, "file": "state/a", "sha256": "cc"},
    {"event": "saved", "epoch": 2, "step": 4, "file": "epochs/heart-000002.safetensors", "sha256": "bb"},
    {"event": "done", "step": 4, "stopped": False, "peak_mib": 812.5},
]


def write_run(folder, kind="lora", events=EVENTS):
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"kind": kind}), encoding="utf-8")
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    return folder


def test_the_training_is_told_from_the_comparison(tmp_path):
    wanted = write_run(tmp_path / "heart")
    write_run(tmp_path / "heart" / "compare" / "grid", kind="compare")
    assert demo._training_run(tmp_path) == wanted
    with pytest.raises(demo.DemoError, match=r"no LoRA run"):
        demo._training_run(tmp_path / "heart" / "compare")


def test_numbers_of_a_run(tmp_path):
    result = demo._read_run(write_run(tmp_path / "heart"))
    assert result.peak_mib == 812.5
    assert result.validation == {0: 0.2, 1: 0.1}
    assert result.saved == {1: ("epochs/heart-000001.safetensors", "aa"), 2: ("epochs/heart-000002.safetensors", "bb")}


def test_progress_tells_each_step_once_and_waits_for_whole_lines(tmp_path, capsys):
    run = write_run(tmp_path / "heart", events=EVENTS[:4])
    progress = demo.Progress(tmp_path)
    progress.show()
    assert "training [#####---------------] step 1/4, epoch 1/2, loss 0.1250" in capsys.readouterr().out
    line = json.dumps(EVENTS[4])
    with (run / "events.jsonl").open("a", encoding="utf-8") as file:
        file.write(line[:20])
        file.flush()
        progress.show()
        assert capsys.readouterr().out == ""
        file.write(line[20:] + "\n")
    progress.show()
    assert "epoch 1 saved: heart-000001.safetensors" in capsys.readouterr().out


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(demo.DemoError, match=r"has other files in it"):
        demo._clear(tmp_path)
    assert (tmp_path / "letter.txt").read_text(encoding="utf-8") == "mine"


def test_the_results_of_an_earlier_demo_are_cleared(tmp_path):
    base = demo._clear(tmp_path / "new")
    base.mkdir()
    (base / "old").touch()
    (tmp_path / "new" / "demo.json").touch()
    demo._clear(tmp_path / "new")
    assert not base.exists() and not (tmp_path / "new" / "demo.json").exists()

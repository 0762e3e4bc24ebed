from __future__ import annotations

import json

from athanor.trainer.runs.events import EventLog
from athanor.trainer.runs.run import Run


def test_a_line_that_was_cut_off_does_not_swallow_the_next(tmp_path):
    EventLog(tmp_path).write("step", {"step": 1, "loss": 1.0})
    with (tmp_path / "events.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"event": "step", "st')
    EventLog(tmp_path).write("start", {"step": 1})
    assert [event["event"] for event in Run(tmp_path).events()] == ["step", "start"]


def test_events_of_what_is_on_the_disk_are_on_the_disk(tmp_path, monkeypatch):
    settled = []
    monkeypatch.setattr("os.fsync", lambda number: settled.append((tmp_path / "events.jsonl").read_text(encoding="utf-8").count("\n")))
    log = EventLog(tmp_path)
    for kind in ("step", "step", "saved", "step", "state", "done"):
        log.write(kind, {"step": 1})
    assert settled == [3, 5, 6]


def test_what_a_power_cut_left_in_the_middle_of_a_letter_is_passed_over(tmp_path):
    run, whole = Run(tmp_path), json.dumps({"event": "step", "step": 1, "loss": 0.5}).encode()
    cut = json.dumps({"event": "sample", "prompt": "小狐狸"}, ensure_ascii=False).encode()[:-4]
    (tmp_path / "events.jsonl").write_bytes(whole + b"\n" + cut + b"\n" + bytes(64) + b"\n\xff\xfe\n" + whole.replace(b"1", b"2") + b"\n")
    assert [event["step"] for event in run.events()] == [1, 2]
    EventLog(tmp_path).write("step", {"step": 3})
    assert [event["step"] for event in run.events()] == [1, 2, 3]


def test_separators_of_lines_in_a_prompt_break_no_event(tmp_path):
    prompt = "a\u2028b\x85c\u2029d\x0be"
    EventLog(tmp_path).write("sample", {"prompt": prompt})
    assert [event["prompt"] for event in Run(tmp_path).events()] == [prompt]


def test_a_resume_takes_back_what_came_after_its_state(tmp_path):
    log = EventLog(tmp_path)
    log.write("start", {"step": 0, "total_steps": 4})
    log.write("warning", {"message": "kept"})
    for step in (1, 2, 3):
        log.write("step", {"step": step, "loss": float(step)})
    (tmp_path / "epochs").mkdir()
    (tmp_path / "epochs" / "a").write_bytes(b"")
    log.write("saved", {"epoch": 1, "step": 2, "file": "epochs/a", "sha256": "s"})
    log.write("saved", {"epoch": None, "step": 3, "file": "epochs/b", "sha256": "s"})
    log.write("error", {"message": "killed"})
    with (tmp_path / "events.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"event": "step", "st\n')
    log.write("start", {"step": 2, "total_steps": 4})
    log.write("step", {"step": 3, "loss": 30.0})
    run = Run(tmp_path)
    assert run.losses() == [1.0, 2.0, 30.0]
    assert [epoch.number for epoch in run.epochs()] == [1]
    assert [event["event"] for event in run.events()] == ["start", "warning", "step", "step", "saved", "start", "step"]
    assert all(json.loads(line) for line in (tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines() if line.endswith("}"))


def test_a_run_that_begins_anew_has_the_pictures_of_its_start_once(tmp_path):
    log = EventLog(tmp_path)
    for _ in range(2):
        log.write("start", {"step": 0, "total_steps": 4})
        log.write("validation", {"epoch": 0, "step": 0, "loss": 0.5})
        log.write("sample", {"epoch": 0, "step": 0, "file": "samples/a.png", "prompt": "p", "seed": 1})
    assert [picture.path.name for picture in Run(tmp_path).samples()] == ["a.png"]
    assert Run(tmp_path).validation_losses() == {0: 0.5}

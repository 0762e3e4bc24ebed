from __future__ import annotations

import json
from pathlib import Path

import pytest

from athanor.trainer.errors import AthanorError
from athanor.trainer.runs.choice import choose_epoch, chosen_epoch
from athanor.trainer.runs.promote import pick_epochs
from athanor.trainer.runs.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Epochs 2 and 4 of a run, as its events tell."""
    folder = tmp_path / "我的 run"
    (folder / "epochs").mkdir(parents=True)
    lines = [{"event": "start", "step": 0, "time": 0}]
    for number in (2, 4):
        (folder / f"epochs/{number}.safetensors").write_bytes(b"x")
        lines.append(
            {"event": "saved", "epoch": number, "step": number, "file": f"epochs/{number}.safetensors", "sha256": f"sha {number}", "time": 0}
        )
    (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return Run(folder)


def test_a_choice_is_marked_in_the_run_and_save_epoch_takes_it(run: Run):
    assert chosen_epoch(run) is None
    with pytest.raises(AthanorError, match="No epoch of 我的 run is marked as chosen"):
        pick_epochs(run, "chosen")
    assert choose_epoch(run, 2) == run.epochs()[0] == chosen_epoch(run)
    assert choose_epoch(run, 4).number == 4
    assert [epoch.number for epoch in pick_epochs(run, " Chosen")] == [4]
    assert json.loads((run.folder / "choice.json").read_text(encoding="utf-8"))["sha256"] == "sha 4"


def test_only_what_was_saved_can_be_chosen(run: Run):
    choose_epoch(run, 4)
    with pytest.raises(AthanorError, match="Epoch 3 of 我的 run is not there any more; saved are 2, 4"):
        choose_epoch(run, 3)
    assert chosen_epoch(run) == run.epochs()[1], "the earlier choice stands"


def test_a_choice_ends_with_its_file(run: Run):
    choose_epoch(run, 4)
    (run.folder / "epochs/4.safetensors").unlink()
    assert chosen_epoch(run) is None
    (run.folder / "epochs/4.safetensors").write_bytes(b"x")
    events = run.folder / "events.jsonl"
    events.write_text(events.read_text(encoding="utf-8").replace("sha 4", "sha of another training"), encoding="utf-8")
    assert chosen_epoch(run) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"epoch": "4"}', '{"epoch": 4, "sha256": "sha 4", "time": 1, "more": 2}'])
def test_what_stands_there_by_mistake_is_no_choice(run: Run, text: str):
    (run.folder / "choice.json").write_text(text, encoding="utf-8")
    assert chosen_epoch(run) is None

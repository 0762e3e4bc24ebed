"""Auto Tag and Edit Tags in a real ComfyUI: several taggers, what is not here, filters and lexicons."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from comfyui_server import ComfyUI, ServerError, failure
from graphs import Prompt, node
from hub_mirror import serving
from PIL import Image

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from probe_tagger import write_labels, write_probe

pytestmark = [pytest.mark.comfy, pytest.mark.slow]
FOLDER = "标签 pictures"
LIMIT_SEC = 600
COLOURS = {"red/1.png": (255, 0, 0), "red/2.png": (230, 60, 0), "blue/3.png": (0, 0, 255), "grey.png": (128, 128, 128)}


def _make_tagger(folder: Path, rows: list[tuple[str, int]], channels: list[str]) -> None:
    folder.mkdir(parents=True)
    write_labels(folder / "selected_tags.csv", rows)
    pixels = [(4, 4, channel) for channel in channels]
    write_probe(folder / "model.onnx", pixels, side_px=8, batch="N", layout="NHWC", dtype="float32", scale=1.0, num_outputs=len(pixels))


@pytest.fixture(scope="module")
def server(comfyui: ComfyUI) -> ComfyUI:
    for name, colour in COLOURS.items():
        file = comfyui.input_folder / FOLDER / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), colour).save(file)
    taggers = comfyui.models_folder / "wd_taggers"
    rows = [("general", 9), ("explicit", 9), ("red_thing", 0), ("blue_thing", 0), ("rose_(flowers)", 4), ("garden", 3), ("painter", 1)]
    _make_tagger(taggers / "wd-vit-tagger-v3", rows, ["red", "green", "red", "blue", "red", "red", "blue"])
    _make_tagger(taggers / "wd-eva02-large-tagger-v3", [("greyish", 0), ("blue_thing", 0), ("lake", 3)], ["green", "blue", "blue"])
    _make_tagger(taggers / "second", [("greenish", 0), ("red_thing", 0)], ["green", "green"])
    (comfyui.models_folder / "tag_lexicons").mkdir(parents=True, exist_ok=True)
    (comfyui.models_folder / "tag_lexicons" / "danbooru.csv").write_text('scarlet,0,900,"red_thing"\nrose_(flowers),4,5,\n', encoding="utf-8")
    return comfyui


def _graph(server: ComfyUI, tagging: dict, editing: dict) -> Prompt:
    prompt = {
        "data": node(server, "AthanorLoadDataset", folder=FOLDER, trigger="", validation_percent=0.0, recursive=True),
        "tags": node(server, "AthanorAutoTag", dataset=["data", 0], **{"tagger": "wd-vit-tagger-v3", "mode": "overwrite", **tagging}),
        "edit": node(server, "AthanorEditTags", dataset=["tags", 0], **{"rules": "deduplicate", **editing}),
        "save": node(server, "AthanorSaveCaptions", dataset=["edit", 0], backup=False, write=True),
    }
    for name, link in {"tags": ["tags", 1], "edit": ["edit", 2]}.items():
        prompt[f"text of {name}"] = node(server, "PreviewAny", source=link)
    return prompt


def _run(server: ComfyUI, tagging: dict, editing: dict) -> tuple[dict[str, str], str, str]:
    """The captions that were saved, and what both nodes report."""
    outputs = server.run(_graph(server, tagging, editing), LIMIT_SEC)["outputs"]
    folder = server.input_folder / FOLDER
    captions = {name: (folder / name).with_suffix(".txt").read_text(encoding="utf-8") for name in COLOURS}
    return captions, outputs["text of tags"]["text"][0], outputs["text of edit"]["text"][0]


def _complaint(server: ComfyUI, tagging: dict, editing: dict) -> str:
    prompt = _graph(server, tagging, editing)
    del prompt["text of tags"]  # ComfyUI runs what it can: every output must depend on the mistake
    try:
        return failure(server.wait(server.queue(prompt), LIMIT_SEC)) or ""
    except ServerError as error:
        return str(error)


def test_nothing_changes_for_those_who_touch_no_new_widget(server: ComfyUI):
    captions, said, _ = _run(server, {"character_threshold": 0.9}, {})
    assert captions == {
        "red/1.png": "rose (flowers), red thing",
        "red/2.png": "rose (flowers), red thing",
        "blue/3.png": "blue thing",
        "grey.png": "red thing, blue thing",
    }
    assert said.splitlines()[0] == "4 of 4 images were tagged by wd-vit-tagger-v3"


def test_further_kinds_of_tags(server: ComfyUI):
    tagging = {"copyright_threshold": 0.9, "artist_threshold": 0.9, "rating": "last", "expand_characters": True, "order": "as the tagger lists them"}
    captions, _, _ = _run(server, tagging, {})
    assert captions["red/1.png"] == "rose, flowers, garden, red thing, general"
    assert captions["blue/3.png"] == "painter, blue thing, general"


def test_what_bucket_made_of_one_picture_keeps_its_cuts_and_mirrors(server: ComfyUI):
    """Behind Bucket a picture may be several samples; each gets the tags and stays what it is. Excluded tags may have the commas of a Chinese keyboard."""
    prompt = {
        "data": node(server, "AthanorLoadDataset", folder=FOLDER, trigger="", validation_percent=0.0, recursive=True),
        "bucket": node(server, "AthanorBucket", dataset=["data", 0], resolution=64, mirror=True),
        "tags": node(
            server, "AthanorAutoTag", dataset=["bucket", 0], tagger="wd-vit-tagger-v3", mode="overwrite", exclude="red thing，grey*， garden"
        ),
        "save": node(server, "AthanorSaveCaptions", dataset=["tags", 0], write=True, folder="mirrored 标签", pictures="as trained"),
        "said": node(server, "PreviewAny", source=["tags", 1]),
    }
    said = server.run(prompt, LIMIT_SEC)["outputs"]["said"]["text"][0]
    folder = server.input_folder / "mirrored 标签"
    written = {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in folder.rglob("*.txt")}
    names = [name.removesuffix(".png") for name in COLOURS]
    assert written.keys() == {f"{name}{end}.txt" for name in names for end in ("", "-mirrored")}
    assert written["red/1.txt"] == written["red/1-mirrored.txt"] == "rose (flowers)"
    assert said.splitlines()[0] == "8 of 8 images were tagged by wd-vit-tagger-v3"


def test_the_tagger_s_own_thresholds_are_told(server: ComfyUI):
    captions, said, _ = _run(server, {"thresholds": "the tagger's own", "general_threshold": 0.99}, {})
    assert "wd-vit-tagger-v3: thresholds general 0.2614, character 0.85" in said.splitlines()
    assert captions["grey.png"] == "red thing, blue thing"


def test_each_of_two_taggers_has_its_own_thresholds(server: ComfyUI):
    """0.2614 for the one, 0.5296 for the other; what its makers say nothing of is as it is set."""
    taggers = ["wd-vit-tagger-v3", "wd-eva02-large-tagger-v3"]
    for first, second in (taggers, taggers[::-1]):
        tagging = {"tagger": first, "second_tagger": second, "thresholds": "the tagger's own", "copyright_threshold": 0.7}
        captions, said, _ = _run(server, tagging, {})
        assert set(captions["grey.png"].split(", ")) == {"red thing", "blue thing"}, "0.5 of green is not enough for eva02"
        assert set(captions["blue/3.png"].split(", ")) == {"lake", "blue thing"}
        for name, value in zip(taggers, ("0.2614", "0.5296"), strict=True):
            assert f"{name}: thresholds general {value}, character 0.85, copyright 0.7" in said.splitlines()
        captions, _, _ = _run(server, {**tagging, "merging": "intersection"}, {})
        assert captions["grey.png"] == "" and captions["blue/3.png"] == "blue thing", "eva02 gives 0.5 to the blue of grey"


def test_two_taggers_are_merged(server: ComfyUI):
    captions, said, _ = _run(server, {"second_tagger": "second", "merging": "union", "character_threshold": 1.0, "max_tags": 2}, {})
    assert captions["red/2.png"] == "red thing" and captions["grey.png"] == "red thing, blue thing"
    assert said.startswith("4 of 4 images were tagged by wd-vit-tagger-v3 and second")
    captions, _, _ = _run(server, {"second_tagger": "second", "merging": "intersection", "general_threshold": 0.2}, {})
    assert captions["red/2.png"] == "red thing" and captions["red/1.png"] == ""


def test_rules_touch_only_what_the_filter_finds(server: ComfyUI):
    captions, _, said = _run(server, {"character_threshold": 1.0}, {"filter": "path:red/ NOT name:2", "rules": "trigger: mine"})
    assert captions == {"red/1.png": "mine, red thing", "red/2.png": "red thing", "blue/3.png": "blue thing", "grey.png": "red thing, blue thing"}
    assert said.splitlines()[0] == "filter path:red/ NOT name:2: 1 of 4 images"


def test_scores_travel_with_the_pictures(server: ComfyUI):
    editing = {"filter": "score:red*<0.95 OR score:blue*>0.9", "rules": "prepend: mine\nsort: score"}
    captions, _, said = _run(server, {"character_threshold": 0.9}, editing)
    assert captions == {
        "red/1.png": "rose (flowers), red thing",
        "red/2.png": "rose (flowers), red thing, mine",
        "blue/3.png": "blue thing, mine",
        "grey.png": "red thing, blue thing, mine",
    }
    assert said.splitlines()[0].endswith(": 3 of 4 images")


def test_tokens_are_counted_as_clip_does(server: ComfyUI):
    captions, _, _ = _run(server, {"character_threshold": 1.0}, {"filter": "tokens:>4", "rules": "max tokens: 2"})
    assert captions == {"red/1.png": "red thing", "red/2.png": "red thing", "blue/3.png": "blue thing", "grey.png": "red thing"}


def test_a_lexicon_resolves_aliases_and_checks_the_trigger(server: ComfyUI):
    captions, _, said = _run(server, {"character_threshold": 0.9}, {"lexicon": "danbooru.csv", "rules": "trigger: scarlet\nprune: character\nalias"})
    assert captions["blue/3.png"] == "scarlet, blue thing" and captions["red/1.png"] == "scarlet"
    assert "The trigger 'scarlet' is a tag of danbooru (900 pictures)" in said
    assert "rose (flowers) ×2 (a name, in 50%)" in said


def test_taggers_that_are_not_here_are_listed_and_told(server: ComfyUI):
    spec = server.get("/object_info/AthanorAutoTag")["AthanorAutoTag"]["input"]["required"]["tagger"]
    choices = spec[0] if isinstance(spec[0], list) else spec[1]["options"]
    assert choices.index("wd-vit-tagger-v3") < choices.index("wd-swinv2-tagger-v3 (not downloaded)")
    assert "wd-vit-tagger-v3 (not downloaded)" not in choices
    for name in ("joytag (not downloaded)", "joytag"):
        said = _complaint(server, {"tagger": name}, {})
        assert "fancyfeast/joytag" in said and "top_tags.txt" in said and "`download`" in said
    assert "There is no tagger '../x'" in _complaint(server, {"tagger": "../x"}, {})
    assert "There is no tagger '../x'" in _complaint(server, {"second_tagger": "../x"}, {})


@pytest.mark.parametrize(
    ("editing", "said"),
    [
        ({"filter": "tag:a AND"}, "something is missing before the end"),
        ({"rules": "alias"}, "needs a lexicon"),
        ({"lexicon": "../danbooru.csv"}, "There is no lexicon"),
        ({"rules": "frobnicate"}, "Line 1"),
    ],
)
def test_mistakes_are_told_before_anything_runs(server: ComfyUI, editing: dict, said: str):
    complaint = _complaint(server, {}, editing)
    assert "AthanorEditTags (node edit)" in complaint and said in complaint


def test_a_known_tagger_is_downloaded_when_asked(start_comfyui: Callable[..., ComfyUI], tmp_path: Path, monkeypatch):
    _make_tagger(tmp_path / "hub", [("general", 9), ("red_thing", 0)], ["green", "red"])
    with serving() as mirror:
        mirror.files |= {f"SmilingWolf/wd-swinv2-tagger-v3/{file.name}": file.read_bytes() for file in (tmp_path / "hub").iterdir()}
        for name, value in {"HF_ENDPOINT": mirror.url, "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0"}.items():
            monkeypatch.setenv(name, value)
        server = start_comfyui()
        for name, colour in COLOURS.items():
            file = server.input_folder / FOLDER / name
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), colour).save(file)
        tagging = {"tagger": "wd-swinv2-tagger-v3 (not downloaded)"}
        assert "SmilingWolf/wd-swinv2-tagger-v3" in _complaint(server, tagging, {}) and mirror.asked == []
        captions, said, _ = _run(server, {**tagging, "download": True}, {})
        assert captions["red/1.png"] == "red thing" and captions["blue/3.png"] == "" and "4 of 4" in said
        folder = server.models_folder / "wd_taggers" / "wd-swinv2-tagger-v3"
        assert sorted(file.name for file in folder.iterdir()) == ["model.onnx", "selected_tags.csv"]
        num_asked = len(mirror.asked)
        _run(server, {**tagging, "general_threshold": 0.5}, {})
        assert len(mirror.asked) == num_asked, "once it is here nothing is asked for, under the old name either"
    server.stop()

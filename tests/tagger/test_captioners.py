import json
import sys
from pathlib import Path

import pytest
from hub_mirror import serving

from athanor.tagger import captioners
from athanor.tagger.captioners import (
    KNOWN_CAPTIONERS,
    captioner_choices,
    captioner_kind,
    find_captioners,
    is_promptgen,
    known_captioner,
    missing_captioner,
    pick_captioner,
)
from athanor.tagger.errors import TaggerError
from athanor.tagger.snapshot import download_captioner

BLIP = {"model_type": "blip", "architectures": ["BlipForConditionalGeneration"]}
FLORENCE = {"model_type": "florence2", "text_config": {"model_type": "bart"}, "vision_config": {"embed_dim": [1]}}
ORIGINAL = {"model_type": "florence2", "text_config": {"model_type": "florence2_language"}, "vision_config": {"dim_embed": [1]}}


@pytest.fixture(autouse=True)
def empty_hub_cache(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def _make(folder: Path, config: object, *, without: tuple[str, ...] = ()) -> Path:
    folder.mkdir(parents=True)
    files = {"config.json": json.dumps(config), "preprocessor_config.json": "{}", "tokenizer.json": "{}", "model.safetensors": "x"}
    for name, text in files.items():
        if name not in without:
            (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_kinds_are_told_by_the_config(tmp_path: Path) -> None:
    for name, config in (("blip", BLIP), ("florence2", FLORENCE), ("florence2-original", ORIGINAL)):
        assert captioner_kind(_make(tmp_path / name, config)) == name


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "qwen2_vl"}, "of the kind 'qwen2_vl'; captions are written by BLIP and Florence-2 only"),
        ({"model_type": "blip", "architectures": ["BlipForQuestionAnswering"]}, r"does not write captions \(BlipForQuestionAnswering\)"),
        ([], "config.json is not whole JSON"),
    ],
)
def test_other_models_are_refused_in_one_sentence(tmp_path: Path, config: object, message: str) -> None:
    with pytest.raises(TaggerError, match=message) as error:
        captioner_kind(_make(tmp_path / "x", config))
    assert str(tmp_path / "x") in str(error.value) and "\n" not in str(error.value)


def test_an_incomplete_folder_says_what_it_lacks(tmp_path: Path) -> None:
    folder = _make(tmp_path / "Florence-2-base", FLORENCE, without=("model.safetensors", "tokenizer.json"))
    with pytest.raises(TaggerError, match=r"lacks tokenizer\.json, model\.safetensors\. Download it from florence-community/Florence-2-base"):
        captioner_kind(folder)
    (folder / "pytorch_model.bin").touch()
    (folder / "vocab.txt").touch()
    assert captioner_kind(folder) == "florence2"


def test_captioners_are_found_among_other_models(tmp_path: Path) -> None:
    own, shared = tmp_path / "captioners", tmp_path / "LLM"
    places = {"mine": _make(own / "mine", BLIP), "组/模型": _make(own / "组" / "模型", FLORENCE), "broken": own / "broken"}
    (own / "broken").mkdir()
    (own / "broken" / "config.json").write_text("{", encoding="utf-8")
    _make(shared / "mine", FLORENCE)
    places["Florence-2-large"] = _make(shared / "Florence-2-large", ORIGINAL)
    _make(shared / "Qwen2-VL", {"model_type": "qwen2_vl"})
    _make(own / ".hidden", BLIP)
    found = find_captioners([own, shared, tmp_path / "absent"])
    assert found == places and list(found) == sorted(found, key=str.casefold)


def test_choices_are_local_ones_then_known_ones_marked_unless_the_hub_has_them(tmp_path: Path, empty_hub_cache: Path) -> None:
    _make(tmp_path / "captioners" / "florence-2-BASE", FLORENCE)
    snapshot = empty_hub_cache / "models--Salesforce--blip-image-captioning-base" / "snapshots" / ("a" * 40)
    _make(snapshot, BLIP)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("a" * 40, encoding="utf-8")
    roots = [tmp_path / "captioners"]
    choices = captioner_choices(roots)
    assert choices[:2] == ("florence-2-BASE", "Florence-2-large (not downloaded)") and len(choices) == len(KNOWN_CAPTIONERS)
    assert "blip-image-captioning-base" in choices and "blip-image-captioning-large (not downloaded)" in choices
    assert pick_captioner("blip-image-captioning-base", roots) == snapshot
    assert pick_captioner("Florence-2-base (not downloaded)", roots) == roots[0] / "florence-2-BASE", "as a shared workflow names it"
    assert missing_captioner("Florence-2-base", roots) is None and missing_captioner("nobody", roots) is None
    (snapshot / "model.safetensors").unlink()
    assert "blip-image-captioning-base (not downloaded)" in captioner_choices(roots)


def test_what_is_not_here_is_told_with_its_source_and_place(tmp_path: Path) -> None:
    with pytest.raises(TaggerError, match=r"not on this machine.*Salesforce/blip-image-captioning-large on Hugging Face: put config\.json") as error:
        pick_captioner("blip-image-captioning-large (not downloaded)", [tmp_path])
    assert str(tmp_path / "blip-image-captioning-large") in str(error.value)
    for name in ("../x", str(tmp_path), "nobody/nothing"):
        with pytest.raises(TaggerError, match=r"There is no captioner .*choose one of: Florence-2-base"):
            pick_captioner(name, [tmp_path])


def test_promptgen_is_told_by_its_name(tmp_path: Path) -> None:
    assert is_promptgen(tmp_path / "Florence-2-base-PromptGen-v2.0") and is_promptgen(tmp_path / "prompt_gen")
    assert is_promptgen(tmp_path / "models--MiaoshouAI--Florence-2-base-PromptGen-v2.0" / "snapshots" / "0a1b")
    assert not is_promptgen(tmp_path / "Florence-2-base")
    assert known_captioner("MiaoshouAI/florence-2-base-promptgen-v2.0 (not downloaded)").repository.startswith("MiaoshouAI/")


def test_a_broken_huggingface_hub_ends_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert captioners.in_hub_cache(KNOWN_CAPTIONERS[0]) is None
    assert len(captioner_choices([tmp_path])) == len(KNOWN_CAPTIONERS)


@pytest.fixture
def repository(monkeypatch):
    known = known_captioner("Florence-2-base")
    files = {
        "config.json": b"{}",
        "tokenizer.json": b"[]",
        "model.safetensors": bytes(200_000),
        "pytorch_model.bin": bytes(300_000),
        "README.md": b"#",
    }
    with serving() as mirror:
        mirror.files |= {f"{known.repository}/{name}": content for name, content in files.items()}
        siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
        mirror.files[f"api/models/{known.repository}?blobs=true"] = json.dumps({"id": known.repository, "siblings": siblings}).encode()
        for name, value in {"HF_ENDPOINT": mirror.url, "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1", "HF_HUB_OFFLINE": "0"}.items():
            monkeypatch.setenv(name, value)
        yield known, mirror, files


def test_a_known_one_is_downloaded_whole_and_nothing_else(tmp_path: Path, repository) -> None:
    known, _, files = repository
    seen: list[tuple[int, int]] = []
    mine = tmp_path / "captioners 模型" / known.name / "config.json"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"{}")
    before = mine.stat().st_mtime_ns
    folder = download_captioner(known, tmp_path / "captioners 模型", on_progress=lambda done, of: seen.append((done, of)))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        name: files[name] for name in ("config.json", "tokenizer.json", "model.safetensors")
    }
    assert mine.stat().st_mtime_ns == before, "what is there stays"
    assert folder == tmp_path / "captioners 模型" / "Florence-2-base" and [path.name for path in folder.parent.iterdir()] == ["Florence-2-base"]
    assert all(of in (0, 200_004) and done <= 200_004 for done, of in seen)


def test_without_safetensors_the_other_weights_come(tmp_path: Path, repository) -> None:
    known, mirror, _ = repository
    key = f"api/models/{known.repository}?blobs=true"
    info = json.loads(mirror.files[key])
    info["siblings"] = [one for one in info["siblings"] if one["rfilename"] != "model.safetensors"]
    mirror.files[key] = json.dumps(info).encode()
    folder = download_captioner(known, tmp_path)
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "pytorch_model.bin", "tokenizer.json"]


def test_a_failed_download_says_which_files_to_put_where(tmp_path: Path, repository) -> None:
    known, mirror, _ = repository
    del mirror.files[f"{known.repository}/model.safetensors"]
    with pytest.raises(TaggerError, match=r"florence-community/Florence-2-base could not be downloaded .*HF_ENDPOINT.*put config\.json") as error:
        download_captioner(known, tmp_path)
    assert str(tmp_path / known.name) in str(error.value)
    assert not (tmp_path / known.name).exists(), "what is not whole is not there"
    mirror.files[f"{known.repository}/model.safetensors"] = bytes(200_000)
    num_asked = len(mirror.asked)
    download_captioner(known, tmp_path)
    assert f"{known.repository}/model.safetensors" in mirror.asked[num_asked:]


def test_a_download_can_be_cancelled(tmp_path: Path, repository) -> None:
    known, _, _ = repository

    def cancel(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_captioner(known, tmp_path, on_progress=cancel)
    assert not (tmp_path / known.name).exists() and find_captioners([tmp_path]) == {}

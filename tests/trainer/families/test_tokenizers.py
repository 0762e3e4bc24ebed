"""Where tokenizers are searched, and what is said where there are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import pytest
from hub_mirror import serving
from tiny import write_letter_tokenizer

from athanor.trainer.errors import AthanorError
from athanor.trainer.families._tokenizers import CLIP_TOKENIZER, find_tokenizer, load_tokenizer, missing_tokenizer
from athanor.trainer.types import BaseModel

REPOSITORY = CLIP_TOKENIZER.repository


@pytest.fixture
def lonely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BaseModel:
    """A model without any tokenizer, and an empty cache of the hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return BaseModel("x", "sd15", str(tmp_path / "models" / "x.safetensors"), "f", 512, 64, (str(tmp_path / "comfy"),))


def cached(folder: Path) -> Path:
    """The hub's cache with the tokenizer in it."""
    revision = "0" * 40
    repository = folder / ("models--" + REPOSITORY.replace("/", "--"))
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision, encoding="utf-8")
    write_letter_tokenizer(repository / "snapshots" / revision)
    return repository / "snapshots" / revision


def test_beside_the_model_goes_before_comfyui_before_the_hubs_cache(lonely, tmp_path):
    assert find_tokenizer(lonely, CLIP_TOKENIZER) is None
    places = [cached(tmp_path / "hub"), tmp_path / "comfy" / "sd1_tokenizer", tmp_path / "models" / "tokenizer"]
    for place in places:
        write_letter_tokenizer(place)
        assert find_tokenizer(lonely, CLIP_TOKENIZER) == place
    assert not missing_tokenizer(lonely, CLIP_TOKENIZER)
    assert load_tokenizer(lonely, CLIP_TOKENIZER)("ab", add_special_tokens=False)["input_ids"]


def test_every_place_is_named(lonely, tmp_path):
    (told,) = missing_tokenizer(lonely, CLIP_TOKENIZER)
    for word in (str(tmp_path / "models" / "tokenizer"), str(tmp_path / "comfy" / "sd1_tokenizer"), "vocab.json and merges.txt", REPOSITORY):
        assert word in told
    with pytest.raises(AthanorError, match="No CLIP tokenizer"):
        load_tokenizer(lonely, CLIP_TOKENIZER)


def test_nothing_is_fetched_unless_it_is_allowed(lonely, tmp_path, monkeypatch):
    write_letter_tokenizer(tmp_path / "source")
    with serving() as mirror:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", mirror.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        with pytest.raises(AthanorError):
            load_tokenizer(lonely, CLIP_TOKENIZER)
        assert not mirror.asked
        allowed = replace(lonely, may_download=True)
        assert not missing_tokenizer(allowed, CLIP_TOKENIZER)
        with pytest.raises(AthanorError, match=f"could not be fetched from {REPOSITORY}"):
            load_tokenizer(allowed, CLIP_TOKENIZER)

"""Embeddings: new rows, placed where the name stands; everything else bit-identical."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from athanor.trainer.control import Control
from athanor.trainer.embedding_trainee import embedding_prompt, embedding_trainee
from athanor.trainer.families import family
from athanor.trainer.loop import train
from athanor.trainer.run import open_run
from athanor.trainer.settings import EmbeddingSettings

SD15 = family("sd15")


@pytest.fixture
def embedding_job(job):
    settings = EmbeddingSettings(token="my-thing", num_vectors=3, initial_words="ab")
    return dataclasses.replace(
        job, kind="embedding", embedding=settings, train=dataclasses.replace(job.train, rate=0.0, text_encoder_rate=0.05, save_precision="fp32")
    )


def test_the_name_becomes_its_tokens_and_the_rows_start_from_the_initial_words(base, embedding_job):
    text = SD15.load_text(base, torch.float32)
    table = text.encoders[0].get_input_embeddings().weight.clone()
    trainee = embedding_trainee(embedding_job, SD15, text)
    tokenizer = text.tokenizers[0]
    ids = tokenizer(trainee.caption("a my-thing, x", 0), add_special_tokens=False)["input_ids"]
    assert [i for i in ids if i >= len(table)] == [len(table), len(table) + 1, len(table) + 2]
    letters = tokenizer("ab", add_special_tokens=False)["input_ids"]
    vectors = trainee.parameters()["embedding.emb_params"]
    assert torch.equal(vectors, table[[letters[0], letters[1], letters[0]]])


def test_the_prompt_with_the_name_equals_the_initial_words_before_training(base, embedding_job):
    plain = SD15.load_text(base, torch.float32)
    text = SD15.load_text(base, torch.float32)
    job = dataclasses.replace(embedding_job, embedding=dataclasses.replace(embedding_job.embedding, num_vectors=2))
    trainee = embedding_trainee(job, SD15, text)
    with torch.no_grad():
        expected = SD15.encode_text(plain, ["c ab , d"], 1)["states"]
        named = SD15.encode_text(text, [trainee.prompt("c my-thing , d")], 1)["states"]
    assert torch.allclose(named, expected, atol=1e-6)


def test_a_run_trains_the_rows_and_nothing_else_and_resumes_to_the_bit(tmp_path, embedding_job):
    run = open_run(tmp_path / "whole", embedding_job)
    train(run, Control())
    saved = load_file(run.epochs()[-1].path)
    assert list(saved) == ["emb_params"] and saved["emb_params"].shape == (3, 16)
    first = load_file(run.epochs()[0].path)["emb_params"]
    assert not torch.equal(first, saved["emb_params"])
    start = next(event for event in run.events() if event["event"] == "start")
    assert start["parts"] == [{"name": "embedding", "modules": 1, "parameters": 48, "rate": 0.05}]

    class StopAfterTwo(Control):
        @property
        def stop_requested(self):
            return len(again.losses()) >= 2

    again = open_run(tmp_path / "stopped", embedding_job)
    train(again, StopAfterTwo())
    train(again, Control())
    assert [epoch.sha256 for epoch in again.epochs()] == [epoch.sha256 for epoch in run.epochs()]


@pytest.mark.parametrize(
    ("templates", "caption", "prompt"),
    [
        ("captions", "red, my-thing", "red, <0> <1>"),
        ("captions", "red", "<0> <1>, red"),
        ("captions", "", "<0> <1>"),
        ("captions", "embedding:my-thing, red", "<0> <1>, red"),
        ("captions", "my-thing-2, red", "<0> <1>, my-thing-2, red"),
        ("subject", "red", "a photo of a <0> <1>"),
        ("style", "red", "a painting in the style of <0> <1>"),
    ],
)
def test_prompts_of_captions_and_templates(templates, caption, prompt):
    settings = EmbeddingSettings(token="my-thing", num_vectors=2, templates=templates)
    assert embedding_prompt(settings, ("<0>", "<1>"), caption, 0) == prompt


def test_templates_vary_with_the_draw():
    settings = EmbeddingSettings(token="my-thing", templates="subject")
    assert len({embedding_prompt(settings, ("<0>",), "", draw) for draw in range(8)}) == 8

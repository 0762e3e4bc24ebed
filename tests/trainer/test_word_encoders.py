"""Embeddings that not every text encoder learns, and files whose encoders have another number of vectors each."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_families import MAKERS
from tiny_flow import FLOW_MAKERS

from athanor.trainer.bases import describe_base
from athanor.trainer.checks.validate import check_train_job
from athanor.trainer.control import Control
from athanor.trainer.errors import AthanorError
from athanor.trainer.families import family
from athanor.trainer.families.base import TEXT_PARTS
from athanor.trainer.loop import train
from athanor.trainer.runs.run import open_run
from athanor.trainer.settings import EmbeddingSettings
from athanor.trainer.trainees.embedding import embedding_trainee, new_words
from athanor.trainer.trainees.words import Word, learning_parts

KEYS = {"sdxl": ("clip_l", "clip_g"), "sd35": ("clip_l", "clip_g", "t5xxl"), "flux": ("clip_l", "t5xxl")}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    made = {}

    def base_of(name):
        if name not in made:
            maker = {**MAKERS, **FLOW_MAKERS}[(name, "folder")]
            made[name] = describe_base(maker(tmp_path_factory.mktemp(name)).path)
        return made[name]

    return base_of


@pytest.mark.parametrize(
    ("name", "encoders", "learning"),
    [
        ("sdxl", "all", ("clip_l", "clip_g")),
        ("sdxl", "clip_g", ("clip_g",)),
        ("sd35", "clip", ("clip_l", "clip_g")),
        ("sd35", "t5", ("t5xxl",)),
        ("flux", "all", ("clip_l", "t5xxl")),
        ("flux", "clip_l", ("clip_l",)),
    ],
)
def test_the_others_read_the_initial_words_and_every_encoder_is_in_the_file(bases, name, encoders, learning):
    base, of = bases(name), family(name)
    text, plain = of.load_text(base, torch.float32), of.load_text(base, torch.float32)
    new = new_words([Word("my-thing", 4, "ab")], of, base, text, 1, encoders)
    assert tuple(new.trained["my-thing"]) == learning and tuple(new.group(0.1).parameters) == learning
    vectors = new.vectors("my-thing")
    assert tuple(vectors) == KEYS[name]
    lengths = {key: len(rows) for key, rows in vectors.items()}
    # The small T5 has a token for the beginning of a word.
    assert lengths == {key: 4 if key in learning else 3 if key == "t5xxl" else 2 for key in KEYS[name]}
    # Before the training a prompt with the name is, to those that do not learn, one with the words.
    with torch.no_grad():
        named, written = (of.encode_text(each, [prompt], 1) for each, prompt in ((text, new.prompt("c my-thing d")), (plain, "c ab d")))
    if name == "sd35":
        outputs = {"clip_l": "clip_l", "clip_g": "clip_g", "t5xxl": "t5"}
        same = {key for key, output in outputs.items() if torch.allclose(named[output], written[output], atol=1e-6)}
        assert same == set(KEYS[name]) - set(learning)
    of.encode_text(text, [new.prompt("c my-thing d")], 1)
    loss = sum(value.float().square().sum() for value in of.encode_text(text, [new.prompt("c my-thing d")], 1).values())
    loss.backward()
    assert all(new.trained["my-thing"][key].grad.any() for key in learning)
    assert all(new.rows["my-thing"][key].grad is None for key in lengths.keys() - set(learning))


def test_without_initial_words_they_read_nothing_there(bases):
    base, of = bases("flux"), family("flux")
    text, plain = of.load_text(base, torch.float32), of.load_text(base, torch.float32)
    new = new_words([Word("my-thing", 3)], of, base, text, 1, "clip")
    assert len(new.vectors("my-thing")["t5xxl"]) == 0
    with torch.no_grad():
        named, bare = (of.encode_text(each, [prompt], 1)["states"] for each, prompt in ((text, new.prompt("c my-thing")), (plain, "c")))
    assert torch.allclose(named, bare, atol=1e-6)


def test_a_file_of_one_encoder_is_gone_on_from_where_that_one_learns(bases, tmp_path):
    base, of = bases("flux"), family("flux")
    text = of.load_text(base, torch.float32)
    width = text.encoders[0].get_input_embeddings().weight.shape[1]
    save_file({"emb_params": torch.randn(5, width)}, tmp_path / "old.safetensors")
    word = Word("my-thing", 2, "ab", str(tmp_path / "old.safetensors"))
    with pytest.raises(AthanorError, match=r"old\.safetensors has no vectors t5xxl"):
        new_words([word], of, base, text, 1)
    new = new_words([word], of, base, of.load_text(base, torch.float32), 1, "clip")
    assert {key: len(rows) for key, rows in new.vectors("my-thing").items()} == {"clip_l": 5, "t5xxl": 3}


def test_files_of_other_lengths_take_turns_in_one_place(bases, tmp_path):
    """As XY Plot Compare draws several: fewer vectors are fewer tokens."""
    base, of = bases("sdxl"), family("sdxl")
    text = of.load_text(base, torch.float32)
    new = new_words([Word("my-thing", 3)], of, base, text, 1)
    widths = {key: rows.shape[1] for key, rows in new.rows["my-thing"].items()}
    for name, counts in (("long", (3, 3)), ("short", (1, 2))):
        save_file({key: torch.randn(count, widths[key]) for key, count in zip(widths, counts, strict=True)}, tmp_path / f"{name}.safetensors")
    states = {}
    for name in ("long", "short", "long"):
        new.put("my-thing", tmp_path / f"{name}.safetensors")
        assert {key: rows.tolist() for key, rows in new.vectors("my-thing").items()} == {
            key: rows.tolist() for key, rows in load_file(tmp_path / f"{name}.safetensors").items()
        }
        ids = [tokenizer(new.prompt("a my-thing b"), add_special_tokens=False)["input_ids"] for tokenizer in text.tokenizers]
        assert [len(each) for each in ids] == ([5, 5] if name == "long" else [3, 4])
        with torch.no_grad():
            made = of.encode_text(text, [new.prompt("a my-thing b")], 1)["states"]
        assert name not in states or torch.equal(states[name], made)
        states[name] = made
    assert not torch.equal(states["long"], states["short"])


@pytest.mark.parametrize(("name", "encoders"), [("sdxl", "t5"), ("flux", "clip_g")])
def test_an_encoder_that_the_base_lacks_is_told(bases, job, name, encoders):
    base = bases(name)
    assert learning_parts("all", family(name), base)[0] == TEXT_PARTS[0]
    settings = EmbeddingSettings(token="my-thing", encoders=encoders)
    wrong = dataclasses.replace(job, kind="embedding", base=base, embedding=settings, train=dataclasses.replace(job.train, rate=0.0))
    with pytest.raises(AthanorError, match=rf"Embedding: encoders is {encoders}, but .* comes without it.*choose all"):
        check_train_job(wrong)


@pytest.mark.slow
def test_a_run_of_one_encoder_saves_every_key(tmp_path, bases, job):
    settings = EmbeddingSettings(token="my-thing", num_vectors=3, initial_words="ab", encoders="clip_g")
    rates = dataclasses.replace(job.train, rate=0.0, text_encoder_rate=0.05, save_precision="fp32", epochs=1)
    few = dataclasses.replace(job.dataset, samples=job.dataset.with_role("train")[:2])
    chosen = dataclasses.replace(job, kind="embedding", base=bases("sdxl"), dataset=few, embedding=settings, train=rates)
    check_train_job(chosen)
    run = open_run(tmp_path / "whole", chosen)
    train(run, Control())
    trainee = embedding_trainee(chosen, family("sdxl"), family("sdxl").load_text(chosen.base, torch.float32))
    first, last = trainee.export(), load_file(run.epochs()[-1].path)
    assert {key: len(rows) for key, rows in last.items()} == {"clip_l": 2, "clip_g": 3}
    assert torch.equal(first["clip_l"], last["clip_l"]) and not torch.equal(first["clip_g"], last["clip_g"])
    trainee.take(run.epochs()[-1].path)
    assert torch.equal(trainee.export()["clip_g"], last["clip_g"])

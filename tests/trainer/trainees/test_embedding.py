"""Embeddings: new rows, placed where the name stands; everything else bit-identical."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import load_file, save_file

from athanor.trainer.checks.validate import check_train_job
from athanor.trainer.checks.words import name_warnings
from athanor.trainer.control import Control
from athanor.trainer.data.captions import captioner_of
from athanor.trainer.data.feed import Feed
from athanor.trainer.errors import AthanorError
from athanor.trainer.families import family
from athanor.trainer.formats.header import read_header
from athanor.trainer.loop import train
from athanor.trainer.measuring import measured_epochs
from athanor.trainer.merging.blocks import BlockWeights
from athanor.trainer.merging.files import merge_epochs
from athanor.trainer.merging.resize import Limit
from athanor.trainer.runs.keeping import keep_last
from athanor.trainer.runs.promote import promote_words
from athanor.trainer.runs.run import open_run
from athanor.trainer.settings import EmbeddingSettings
from athanor.trainer.trainees.embedding import embedding_trainee, new_words
from athanor.trainer.trainees.words import with_files, words_of

pytestmark = pytest.mark.slow

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


def rows_of(run, epoch=-1):
    found = run.epochs()[epoch]
    return {"my-thing": load_file(found.path), **{name: load_file(path) for name, path in found.words}}


@pytest.fixture
def two_words(embedding_job, dataset):
    """Half of the pictures name one embedding, the rest the other."""
    names = ["my-thing", "my-cat"]
    samples = tuple(dataclasses.replace(sample, caption=f"{names[i % 2]}, plain") for i, sample in enumerate(dataset.samples))
    settings = dataclasses.replace(embedding_job.embedding, other_embeddings="my-cat: vectors=2; words=cat")
    return dataclasses.replace(embedding_job, dataset=dataclasses.replace(dataset, samples=samples), embedding=settings)


def test_several_embeddings_learn_at_once_and_every_other_row_stays_to_the_bit(tmp_path, base, two_words):
    text = SD15.load_text(base, torch.float32)
    before = text.encoders[0].get_input_embeddings().weight.clone()
    new = new_words(words_of("embedding", two_words.embedding), SD15, base, text, two_words.train.seed)
    start = {name: new.vectors(name)["emb_params"] for name in new.names}
    assert {name: tuple(rows.shape) for name, rows in start.items()} == {"my-thing": (3, 16), "my-cat": (2, 16)}
    # One step on a prompt that names only the second, with a weight decay that would move every row that is not kept out.
    optimizer = torch.optim.AdamW(new.group(0.1).parameters.values(), lr=0.1, weight_decay=0.5)
    SD15.encode_text(text, [new.prompt("a my-cat on grass")], 1)["states"].square().sum().backward()
    assert not new.trained["my-thing"]["emb_params"].grad.any() and new.trained["my-cat"]["emb_params"].grad.any()
    optimizer.step()
    assert torch.equal(text.encoders[0].get_input_embeddings().weight, before)
    assert not any(parameter.requires_grad for name, parameter in text.encoders[0].named_parameters() if ".vectors." not in name)

    run = open_run(tmp_path / "whole", two_words)
    train(run, Control())
    assert len(run.epochs()) == 3 and all([name for name, _ in epoch.words] == ["my-cat"] for epoch in run.epochs())
    first, last = rows_of(run, 0), rows_of(run)
    for name, rows in start.items():
        assert last[name]["emb_params"].shape == rows.shape
        assert not torch.equal(first[name]["emb_params"], rows) and not torch.equal(last[name]["emb_params"], first[name]["emb_params"])
    metadata = read_header(run.epochs()[-1].words[0][1]).metadata
    assert (metadata["ss_token_string"], metadata["ss_num_vectors"], metadata["modelspec.trigger_phrase"]) == ("my-cat", "2", "my-cat")

    class StopAfterTwo(Control):
        @property
        def stop_requested(self):
            return len(again.losses()) >= 2

    again = open_run(tmp_path / "stopped", two_words)
    train(again, StopAfterTwo())
    train(again, Control())
    assert [epoch.sha256 for epoch in again.epochs()] == [epoch.sha256 for epoch in run.epochs()]
    assert [path.read_bytes() for _, path in again.epochs()[-1].words] == [path.read_bytes() for _, path in run.epochs()[-1].words]


def test_kept_norms_stay_among_those_of_real_words(tmp_path, base, embedding_job):
    table = SD15.load_text(base, torch.float32).encoders[0].get_input_embeddings().weight
    low, high = torch.quantile(table.norm(dim=1), torch.tensor([0.05, 0.95]))
    norms = {}
    for keep in (False, True):
        fast = dataclasses.replace(embedding_job.train, text_encoder_rate=2.0)
        job = dataclasses.replace(embedding_job, train=fast, embedding=dataclasses.replace(embedding_job.embedding, keep_norm=keep))
        run = open_run(tmp_path / str(keep), job)
        train(run, Control())
        norms[keep] = load_file(run.epochs()[-1].path)["emb_params"].norm(dim=1)
    assert (norms[False] > 2 * high).all() and ((norms[True] > low - 1e-3) & (norms[True] < high + 1e-3)).all()


def test_training_goes_on_from_another_programs_file(tmp_path, base, embedding_job):
    vectors = torch.randn(5, 16)
    torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": "old"}, tmp_path / "old.pt")
    settings = with_files(EmbeddingSettings(token="my-thing", start_embedding="old.pt"), lambda name: str(tmp_path / name))
    assert settings.embedding_sha256
    job = dataclasses.replace(embedding_job, embedding=settings, train=dataclasses.replace(embedding_job.train, text_encoder_rate=1e-9))
    check_train_job(job)
    run = open_run(tmp_path / "runs", job)
    train(run, Control())
    assert torch.allclose(load_file(run.epochs()[-1].path)["emb_params"], vectors, atol=1e-6)
    assert read_header(run.epochs()[-1].path).metadata["ss_num_vectors"] == "5"


def test_a_regularization_image_is_not_told_the_name(tmp_path, job, embedding_job):
    prompts = {}
    for role in ("train", "regularization"):
        samples = tuple(dataclasses.replace(sample, role=role, caption="plain") for sample in job.dataset.with_role("train"))
        changed = dataclasses.replace(embedding_job, dataset=dataclasses.replace(job.dataset, samples=samples))
        ready = Feed(changed, SD15, captioner_of(changed), None, "", lambda caption, draw: f"my-thing, {caption}", as_written=str.upper)
        prompts[role] = ready._prompt(samples[0], "plain", 0, 0)
        ready.close()
    assert prompts == {"train": "my-thing, plain", "regularization": "PLAIN"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"token": "two words"}, "The embedding's name is 'two words'; use letters"),
        ({"token": "a"}, "The embedding's name 'a' is a word that the text encoder knows; choose one that it does not, for example my-a."),
        ({"other_embeddings": "MY-THING: vectors=1"}, "Two embeddings are called MY-THING"),
        ({"other_embeddings": "my-cat"}, "No caption names the embedding my-thing"),
        ({"other_embeddings": "my-cat: size=3"}, "'size=3' in the line 'my-cat: size=3' is not understood"),
        ({"other_embeddings": "my-cat: vectors=90"}, "my-cat has 90 vectors; it must have from 1 to 75"),
        ({"start_embedding": "/nowhere/x.pt", "initial_words": ""}, "should go on from, /nowhere/x.pt, is not there"),
        ({"start_embedding": "/nowhere/x.pt"}, "initial words do nothing where training goes on"),
        ({"embedding_rate": 0.5}, "embedding_rate is for embeddings that are trained with a LoRA"),
        ({"sentences": "a [name]"}, "sentences does nothing with the templates captions"),
    ],
)
def test_what_is_wrong_with_a_name_is_told_before_anything_loads(embedding_job, changes, problem):
    job = dataclasses.replace(embedding_job, embedding=dataclasses.replace(embedding_job.embedding, **changes))
    with pytest.raises(AthanorError) as told:
        check_train_job(job)
    assert problem in str(told.value)


def test_captions_that_do_not_say_which_embedding_they_show_are_told(two_words):
    check_train_job(two_words)
    samples = two_words.dataset.samples
    chosen = next(sample for sample in samples if sample.role == "train")
    bare = tuple(dataclasses.replace(sample, caption="plain") if sample is chosen else sample for sample in samples)
    job = dataclasses.replace(two_words, dataset=dataclasses.replace(two_words.dataset, samples=bare))
    with pytest.raises(AthanorError, match=r"1 of \d captions name none of my-thing, my-cat \(the first is of .*\)"):
        check_train_job(job)


def test_that_the_name_is_put_in_front_is_said_before_the_first_step(tmp_path, embedding_job):
    run = open_run(tmp_path, embedding_job)
    train(run, Control())
    events = [event["event"] for event in run.events()]
    told = next(event["message"] for event in run.events() if event["event"] == "warning")
    assert told == "No caption has the embedding's name my-thing; it is put in front of them."
    assert events.index("warning") < events.index("step")
    settings = dataclasses.replace(embedding_job.embedding, templates="subject")
    assert name_warnings(dataclasses.replace(embedding_job, embedding=settings)) == []


def test_a_name_that_another_embedding_has_is_told_but_not_an_earlier_result(tmp_path, embedding_job):
    folder = tmp_path / "embeddings"
    folder.mkdir()
    check_train_job(embedding_job, [folder, tmp_path / "gone"])
    own = {"ss_training_comment": "trained with Athanor", "ss_token_string": "my-thing"}
    save_file({"emb_params": torch.ones(1, 16)}, folder / "my-thing.safetensors", metadata=own)
    check_train_job(embedding_job, [folder])
    (folder / "My-Thing.pt").write_bytes(b"x")
    with pytest.raises(AthanorError, match=r"There is an embedding My-Thing\.pt in .*embeddings already"):
        check_train_job(embedding_job, [folder])


def test_a_lora_and_an_embedding_learn_together_and_resume_to_the_bit(tmp_path, job, base):
    samples = tuple(dataclasses.replace(sample, caption="my-cat, plain") for sample in job.dataset.samples)
    settings = EmbeddingSettings(other_embeddings="my-cat: vectors=2; words=cat", embedding_rate=0.05, embedding_percent=50.0)
    exact = dataclasses.replace(job.train, save_precision="fp32", text_encoder_rate=0.0, schedule="constant")
    pivotal = dataclasses.replace(job, dataset=dataclasses.replace(job.dataset, samples=samples), embedding=settings, train=exact)
    check_train_job(pivotal)
    run = open_run(tmp_path / "whole", pivotal)
    train(run, Control())
    start = next(event for event in run.events() if event["event"] == "start")
    assert [(part["name"], part["rate"]) for part in start["parts"]] == [("denoiser", 0.01), ("embedding", 0.05)]
    epochs = run.epochs()
    assert run.words() == ("my-cat",) and run.token() == "" and all(".lora_down" in "".join(load_file(epoch.path)) for epoch in epochs)
    vectors = [load_file(epoch.words[0][1])["emb_params"] for epoch in epochs]
    assert not torch.equal(vectors[0], vectors[1])
    rates = run.rates()
    assert rates["embedding"][0] == 0.05 and rates["embedding"][-1] == 0 and rates["denoiser"][-1] == 0.01
    assert torch.equal(vectors[1], vectors[2]) and epochs[1].sha256 != epochs[2].sha256
    assert read_header(epochs[-1].path).metadata["athanor_embeddings"] == "my-cat"

    class StopAfterFour(Control):
        @property
        def stop_requested(self):
            return len(again.losses()) >= 4

    again = open_run(tmp_path / "stopped", pivotal)
    train(again, StopAfterFour())
    train(again, Control())
    assert [epoch.sha256 for epoch in again.epochs()] == [epoch.sha256 for epoch in epochs]
    assert [epoch.words[0][1].read_bytes() for epoch in again.epochs()] == [epoch.words[0][1].read_bytes() for epoch in epochs]
    keep_last(run, 1)
    assert len(run.epochs()) == 1 and len(list((run.folder / "embeddings").iterdir())) == 1


def test_a_pivotal_run_is_promoted_and_measured_with_both_files(tmp_path, job):
    samples = tuple(dataclasses.replace(sample, caption="my-cat, plain") for sample in job.dataset.samples)
    settings = EmbeddingSettings(other_embeddings="my-cat: vectors=2", embedding_rate=0.5)
    exact = dataclasses.replace(job.train, save_precision="fp32", epochs=1)
    pivotal = dataclasses.replace(job, dataset=dataclasses.replace(job.dataset, samples=samples), embedding=settings, train=exact)
    run = open_run(tmp_path, pivotal)
    train(run, Control())
    (path,) = promote_words(run, run.epochs(), tmp_path / "embeddings")
    assert path.name == "my-cat.safetensors" and torch.equal(load_file(path)["emb_params"], load_file(run.epochs()[0].words[0][1])["emb_params"])
    (bare, (epoch, loss)) = list(measured_epochs(run, run.epochs(), Control()))
    assert loss == pytest.approx(epoch.validation_loss, rel=1e-5) and bare[1] != pytest.approx(loss, rel=1e-5)
    with pytest.raises(AthanorError, match="goes with the embedding my-cat"):
        merge_epochs(tmp_path, "merged", "lora", [(epoch, 1.0)], BlockWeights(), Limit(), "fp32")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"num_vectors": 2}, "num_vectors is for Train Embedding; set it back."),
        ({"other_embeddings": "", "keep_norm": True}, "keep_norm does nothing while no embedding is trained along"),
        ({"other_embeddings": "my-dog: vectors=2"}, "No caption names the embedding my-dog"),
    ],
)
def test_what_does_nothing_beside_a_lora_is_told(job, changes, problem):
    samples = tuple(dataclasses.replace(sample, caption="my-cat, plain") for sample in job.dataset.samples)
    settings = dataclasses.replace(EmbeddingSettings(other_embeddings="my-cat: vectors=2"), **changes)
    with pytest.raises(AthanorError) as told:
        check_train_job(dataclasses.replace(job, dataset=dataclasses.replace(job.dataset, samples=samples), embedding=settings))
    assert problem in str(told.value)

"""T5 reads each caption once while the encoders beside it learn, and the training is the one that T5 at hand would give."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_flow import flux_models, make_flux_folder, make_sd35_folder

from athanor.trainer import preparation
from athanor.trainer.bases import describe_base
from athanor.trainer.checks.effects import effect_problems
from athanor.trainer.config import TrainJob
from athanor.trainer.control import Control
from athanor.trainer.data import captions
from athanor.trainer.data.cache import TensorCache
from athanor.trainer.data.remembered_t5 import RememberedT5, remembers_t5
from athanor.trainer.families import family
from athanor.trainer.families._t5 import encode_t5
from athanor.trainer.runs.run import Run, open_run
from athanor.trainer.settings import AdapterSettings, CaptionSettings, EmbeddingSettings, OptimizerSettings, SampleSettings, TrainSettings
from athanor.trainer.worker import work


@pytest.fixture(scope="module")
def job_of(tmp_path_factory, dataset):
    bases = {name: describe_base(make(tmp_path_factory.mktemp(name)).path) for name, make in (("flux", make_flux_folder), ("sd35", make_sd35_folder))}

    def job(name: str, **sections) -> TrainJob:
        train = TrainSettings(epochs=2, batch_size=2, rate=1e-3, text_encoder_rate=1e-3, precision="fp32", seed=3)
        return dataclasses.replace(TrainJob("r", bases[name], dataset, adapter=AdapterSettings(rank=2), train=train), **sections)

    return job


def test_states_are_t5s_own_and_it_is_asked_once(tmp_path):
    t5 = flux_models(tmp_path)["text_encoder_2"].eval()
    ids = torch.tensor([[3, 4, 1, 0], [5, 6, 7, 1], [3, 4, 1, 0]])
    asked = []
    t5.register_forward_pre_hook(lambda module, args, kwargs: asked.append(len(kwargs["input_ids"])), with_kwargs=True)
    remembered = RememberedT5(t5, "a T5", TensorCache(None))
    with torch.no_grad():
        expected = encode_t5(t5, ids)
    asked.clear()
    torch.testing.assert_close(encode_t5(remembered, ids), expected)
    remembered.forget()
    again = encode_t5(remembered, ids.flip(0))
    torch.testing.assert_close(again, expected.flip(0))
    assert asked == [2] and not again.requires_grad
    with pytest.raises(AssertionError, match="while T5 was there"):
        encode_t5(remembered, ids + 1)


def test_what_learns_in_t5_or_needs_its_gradients_has_it_at_hand(job_of):
    for name in ("flux", "sd35"):
        job = job_of(name)
        assert remembers_t5(job)
        assert not remembers_t5(dataclasses.replace(job, train=dataclasses.replace(job.train, text_encoder_rate=0.0)))
        assert not remembers_t5(dataclasses.replace(job, optimizer=OptimizerSettings(t5_rate=1e-4)))
        assert not remembers_t5(dataclasses.replace(job, embedding=EmbeddingSettings(token="zork", num_vectors=1), kind="embedding"))


def test_a_number_of_variants_has_an_effect_then(job_of):
    variants = CaptionSettings(variants=3, shuffle=True)
    assert not [problem for problem in effect_problems(job_of("flux", captions=variants)) if "variants" in problem]
    at_hand = job_of("flux", captions=variants, optimizer=OptimizerSettings(t5_rate=1e-4))
    assert [problem for problem in effect_problems(at_hand) if "variants" in problem]


def done(folder, job: TrainJob, monkeypatch, remembered: bool) -> tuple[Run, list[str]]:
    """With what T5 was asked for: "before" or "after" the first step."""
    asked, run = [], open_run(folder, job)
    for module in () if remembered else (preparation, captions):
        monkeypatch.setattr(module, "remembers_t5", lambda job: False)
    kind = type(family(job.base.family))
    load = kind.load_text

    def loaded(self, base, dtype):
        text = load(self, base, dtype)
        text.parts()[self.t5_part(base)].register_forward_pre_hook(note)
        return text

    def note(*_):
        asked.append("after" if any(event["event"] == "start" for event in run.events()) else "before")

    with monkeypatch.context() as patch:
        patch.setattr(kind, "load_text", loaded)
        assert work(run, Control()) == 0, run.events()[-1]
    monkeypatch.undo()
    return run, asked


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flux", "sd35"])
def test_a_run_is_the_one_with_t5_at_hand_to_the_bit(tmp_path, job_of, monkeypatch, name):
    job = job_of(name, samples=SampleSettings(prompts="a thing", steps=1))
    run, asked = done(tmp_path / "remembered", job, monkeypatch, True)
    assert set(asked) == {"before"}
    at_hand, often = done(tmp_path / "at hand", job, monkeypatch, False)
    assert often.count("after") > 6
    assert run.losses() == at_hand.losses() and run.epochs()[-1].sha256 == at_hand.epochs()[-1].sha256


@pytest.mark.slow
def test_captions_that_vary_are_all_read_before_the_first_step(tmp_path, job_of, monkeypatch):
    varied = CaptionSettings(shuffle=True, tag_dropout=0.3, dropout=0.2, variants=3)
    run, asked = done(tmp_path, job_of("flux", captions=varied), monkeypatch, True)
    assert run.finished() and set(asked) == {"before"}

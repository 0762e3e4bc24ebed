"""Captions as sd-scripts changes them: the order, the meaning, and that cached variants are all that is asked for."""

from __future__ import annotations

import dataclasses
import random

import pytest

from athanor.trainer.data.captions import Captioner, captioner_of, found_variants, longest_captions, varied_caption
from athanor.trainer.settings import CaptionOverrides, CaptionSettings, OptimizerSettings
from athanor.trainer.types import Sample

SAMPLE = Sample("/a.png", 8, 8, "1", caption="cat, red, {big|small} hat, on a mat")


def varied(caption: str, seed: int = 0, progress: float = 1.0, **settings) -> str:
    return varied_caption(caption, CaptionSettings(**settings), random.Random(seed), progress)


def many(caption: str, **settings) -> set[str]:
    return {varied(caption, seed, **settings) for seed in range(200)}


@pytest.mark.parametrize(
    ("caption", "settings", "expected"),
    [
        ("a, b", {}, "a, b"),
        ("a,b ,c", {}, "a,b ,c"),
        ("a, b", {"prefix": "x,", "suffix": "y"}, "x, a, b y"),
        ("", {"prefix": "x"}, "x"),
        ("first\nsecond", {}, "first"),
        # Without shuffling a separator still never reaches the model.
        ("cat ||| b, c", {}, "cat, b, c"),
        ("a;;;b, c", {}, "a,b, c"),
        ("a;;;b", {"secondary_separator": ""}, "a;;;b"),
        ("{a|b}", {}, "{a|b}"),
        ("{{a|b}}", {"wildcards": True}, "{a|b}"),
        ("{only}", {"wildcards": True}, "only"),
        ("a, b, c", {"tag_dropout": 1.0}, ""),
        ("a, b, c", {"tag_dropout": 1.0, "keep_tokens": 2}, "a, b"),
        ("a, b ||| c, d ||| e", {"tag_dropout": 1.0}, "a, b, e"),
        ("a|b|c", {"tag_dropout": 1.0, "keep_tokens": 1, "separator": "|", "keep_tokens_separator": ""}, "a"),
    ],
)
def test_what_is_settled(caption, settings, expected):
    assert many(caption, **settings) == {expected}


def test_a_shuffle_moves_all_but_the_kept_tags():
    assert many("a, b, c", shuffle=True) == {"a, b, c", "a, c, b", "b, a, c", "b, c, a", "c, a, b", "c, b, a"}
    assert many("a, b, c", shuffle=True, keep_tokens=1) == {"a, b, c", "a, c, b"}
    assert many("x ||| b, c ||| y", shuffle=True, keep_tokens=2) == {"x, b, c, y", "x, c, b, y"}
    assert many("a, b;;;c", shuffle=True) == {"a, b,c", "b,c, a"}, "what is joined by the secondary separator stays together"


def test_the_prefix_counts_as_the_first_tag():
    """sd-scripts puts it in front before anything else is done."""
    assert many("b, c", shuffle=True, keep_tokens=1, prefix="x,") == {"x, b, c", "x, c, b"}


def test_tags_are_left_out_at_their_rate():
    kept = sum(len(varied("a, b, c, d, e, f, g, h, i, j", seed, tag_dropout=0.3).split(", ")) for seed in range(300)) / 3000
    assert kept == pytest.approx(0.7, abs=0.03)


def test_wildcards_choose_before_tags_are_parted():
    assert many("{a, b|c}, d", wildcards=True) == {"a, b, d", "c, d"}
    assert many("{a, b|c}, d", wildcards=True, tag_dropout=1.0, keep_tokens=1) == {"a", "c"}
    assert many("one\ntwo {x|y}", wildcards=True) == {"one", "two x", "two y"}


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        # 4 tags, 1 at the start: floor(progress * (4 - 1)) + 1.
        (0.0, "k, a"),
        (0.3, "k, a"),
        (0.34, "k, a, b"),
        (0.67, "k, a, b, c"),
        (0.99, "k, a, b, c"),
        (1.0, "k, a, b, c, d"),
    ],
)
def test_a_warm_up_grows_from_few_tags_to_all(progress, expected):
    assert varied("k, a, b, c, d", progress=progress, tag_warmup=0.5, keep_tokens=1) == expected


def test_a_warm_up_that_starts_with_more_tags_than_there_are_shows_all():
    assert varied("a, b", progress=0.5, tag_warmup=0.5, tag_warmup_start=10) == "a, b"


def captioner(num_variants: int | None = None, total: int = 100, **settings) -> Captioner:
    return Captioner(CaptionSettings(**settings), "trigger", 3, total, num_variants=num_variants)


def prompts(of: Captioner, sample: Sample = SAMPLE, batches: int = 100, epoch: int = 1) -> list[str]:
    return [of.prompt(sample, epoch, batch, 0) for batch in range(batches)]


def test_live_prompts_are_new_each_time_and_the_same_again():
    shuffled = captioner(shuffle=True, wildcards=True)
    assert len(set(prompts(shuffled))) > 30
    assert prompts(shuffled) == prompts(shuffled)
    assert prompts(shuffled)[:5] != [shuffled.prompt(SAMPLE, 1, batch, 1) for batch in range(5)]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"shuffle": True},
        {"tag_dropout": 0.5, "dropout": 0.2},
        {"wildcards": True, "dropout_every_epochs": 2},
        {"shuffle": True, "tag_warmup": 0.5, "keep_tokens": 1},
        {"prefix": "x,", "suffix": "y"},
    ],
)
def test_cached_variants_are_all_that_is_asked_for(settings):
    cached = captioner(5, **settings)
    known = cached.every_prompt([SAMPLE])
    asked = {prompt for epoch in (1, 2) for prompt in prompts(cached, epoch=epoch, batches=300)}
    assert asked <= set(known)
    assert set(known) - asked == set()
    assert len(known) <= 5 * (2 if "tag_warmup" in settings else 1) + 1


def test_a_caption_is_dropped_at_its_rate_and_in_every_nth_epoch():
    for variants in (None, 4):
        assert sum(prompt == "" for prompt in prompts(captioner(variants, dropout=0.25), batches=1000)) == pytest.approx(250, abs=45)
        every_third = captioner(variants, dropout_every_epochs=3)
        assert [set(prompts(every_third, epoch=epoch, batches=3)) == {""} for epoch in range(1, 7)] == [False, False, True, False, False, True]


def test_a_cached_warm_up_grows_too():
    cached = captioner(4, tag_warmup=0.8)
    lengths = [len(prompt.split(", ")) for prompt in prompts(cached)]
    assert lengths[0] == 1 and lengths[-1] == 4 and lengths == sorted(lengths) and len(set(lengths)) == 4


def test_steps_of_several_batches_warm_up_as_long():
    halves = dataclasses.replace(captioner(tag_warmup=10), batches_per_step=2)
    assert len(halves.prompt(SAMPLE, 1, 19, 0).split(", ")) < 4 == len(halves.prompt(SAMPLE, 1, 20, 0).split(", "))


def test_a_job_with_accumulated_batches_counts_its_warm_up_in_steps(job):
    accumulated = dataclasses.replace(job, optimizer=OptimizerSettings(accumulation=3))
    assert captioner_of(accumulated).batches_per_step == 3
    assert captioner_of(job).total_batches == captioner_of(accumulated).total_batches > 0


def test_measuring_moves_nothing():
    plain = captioner(None, shuffle=True, tag_dropout=0.5, dropout=1.0, wildcards=True, prefix="x,").plain(SAMPLE)
    assert plain == "x, cat, red, big hat, on a mat"


def test_what_a_dataset_file_says_goes_first_for_its_folder():
    said = dataclasses.replace(SAMPLE, captioning=CaptionOverrides(shuffle=False, dropout=1.0))
    assert set(prompts(captioner(None, shuffle=True), said)) == {""}
    assert "" not in prompts(captioner(None, shuffle=True))


def test_the_trigger_stands_in_for_a_caption_but_never_on_regularization_images():
    bare = dataclasses.replace(SAMPLE, caption=None)
    assert captioner().prompt(bare, 1, 0, 0) == "trigger"
    assert captioner().prompt(dataclasses.replace(bare, role="regularization"), 1, 0, 0) == ""
    assert captioner().prompt(dataclasses.replace(bare, role="regularization", class_tokens="dog"), 1, 0, 0) == "dog"


def test_no_variant_is_longer_than_the_longest():
    settings = CaptionSettings(wildcards=True, shuffle=True, prefix="x,")
    caption = "{a|a much longer choice}, b\nshort"
    longest = longest_captions(caption, settings)
    assert longest == ["x, a much longer choice, b", "short"]
    assert all(len(prompt) <= max(map(len, longest)) for prompt in many(caption, wildcards=True, shuffle=True, prefix="x,"))


@pytest.mark.parametrize(
    ("num_images", "repeats", "epochs", "expected"),
    [(20, 10, 10, 32), (20, 1, 5, 5), (200, 10, 10, 5), (5000, 1, 10, 4), (5000, 1, 2, 2)],
)
def test_the_number_of_variants_follows_the_number_of_images(num_images, repeats, epochs, expected):
    samples = [dataclasses.replace(SAMPLE, caption=f"caption {i}", repeats=repeats) for i in range(num_images)]
    assert found_variants(CaptionSettings(), samples, epochs) == expected
    assert found_variants(CaptionSettings(variants=7), samples, epochs) == 7

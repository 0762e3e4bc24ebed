import pytest

from athanor.tagger.errors import RuleError
from athanor.tagger.presets import PRESETS
from athanor.tagger.rule_language import parse_rules
from athanor.tagger.rules import apply_rules, report
from athanor.tagger.tags import split_tags


def edited(rules, *captions):
    result, counts = apply_rules(parse_rules(rules), [split_tags(caption) for caption in captions])
    return [", ".join(tags) for tags in result], report(counts)


GIRL = [
    "smile, red hair, solo, 1girl, white shirt, shirt, outdoors, signature",
    "red hair, sitting, 1girl, solo, cat ears, school uniform, masterpiece",
    "1girl, solo, red hair, cat ears, closed eyes, jacket",
    "1girl, 1boy, black hair, watermark",
]


def test_a_character_loses_what_it_always_has_and_says_why():
    captions, told = edited("preset: character\ntrigger: mychar", *GIRL)
    assert captions == [
        "mychar, 1girl, solo, smile, white shirt, outdoors",
        "mychar, 1girl, solo, sitting, school uniform",
        "mychar, 1girl, solo, closed eyes, jacket",
        "mychar, 1girl, 1boy, black hair",
    ]
    assert "red hair ×3 (a trait, in 100%)" in told and "cat ears ×2 (a trait, in 67%)" in told
    assert "what the character always looks like belongs to the trigger: 3 captions changed" in told
    assert "shirt" in told and "a more specific one says already: 1 caption changed" in told
    assert "not to be learned: 3 captions changed, 3 tags out (masterpiece, signature, watermark)" in told


@pytest.mark.parametrize(
    ("preset", "gone", "kept"),
    [
        ("style", {"watercolor", "signature", "monochrome"}, {"1girl", "red hair", "school uniform", "sitting"}),
        ("outfit", {"school uniform", "signature"}, {"1girl", "red hair", "sitting", "watercolor", "monochrome"}),
        ("concept", {"sitting", "watercolor", "monochrome", "red hair", "school uniform", "signature"}, {"1girl"}),
        ("character", {"red hair", "signature"}, {"1girl", "school uniform", "sitting", "watercolor", "monochrome"}),
    ],
)
def test_each_subject_loses_its_own(preset, gone, kept):
    captions, _ = edited(f"Preset： {preset.upper()}", *["sitting, red hair, 1girl, school uniform, watercolor, monochrome, signature"] * 5)
    left = set(split_tags(captions[0]))
    assert left == kept and not left & gone


@pytest.mark.parametrize("preset", PRESETS)
def test_counts_never_fall_to_a_part_of_their_word(preset):
    captions, _ = edited(f"preset: {preset}", *["1girl, girl, 2boys, solo, solo focus"] * 3)
    assert {"1girl", "2boys", "solo", "solo focus"} <= set(split_tags(captions[0]))


def test_every_step_is_reported_and_an_unknown_preset_names_the_known():
    _, told = edited("preset: character", "1girl")
    assert len(told.splitlines()) == len(PRESETS["character"]) and all(line.endswith("changed nothing") for line in told.splitlines())
    with pytest.raises(RuleError, match=r"Line 2.*there is no preset 'charcter'; write one of character, style, outfit, concept"):
        parse_rules("deduplicate\npreset: charcter")

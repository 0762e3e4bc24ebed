import pytest

from athanor.trainer.types import Dataset, Sample


@pytest.mark.parametrize(
    ("caption", "class_tokens", "prompt"),
    [("a, b", "cat", "a, b"), ("", "cat", ""), (None, "cat", "cat"), (None, "", "trigger")],
)
def test_what_stands_in_for_a_caption(caption, class_tokens, prompt):
    assert Sample("/1_dog/a.png", 8, 8, "1", caption=caption, class_tokens=class_tokens).prompt("trigger") == prompt


def test_tags_are_the_parts_of_the_caption():
    sample = Sample("a.png", 8, 8, "1", caption=" red hair,, ^_^ ,")
    assert sample.tags == ("red hair", "^_^")
    assert sample.with_tags(("x", "y")).caption == "x, y"


def test_samples_by_role():
    samples = (Sample("a", 8, 8, "1"), Sample("b", 8, 8, "1", role="validation"))
    dataset = Dataset(samples, notes=("one",))
    assert dataset.with_role("validation") == samples[1:]
    assert dataset.with_samples(samples[:1], "two") == Dataset(samples[:1], notes=("one", "two"))

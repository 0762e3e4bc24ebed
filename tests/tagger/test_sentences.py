import pytest

from athanor.tagger.sentences import DEFAULT_PHRASES, add_tags, cleaned, combine_text, is_prose


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The image shows a young woman standing in a garden.", "A young woman standing in a garden."),
        ("In this image we can see a cat. There is a tree.", "A cat. There is a tree."),
        ("the image is a digital illustration of a girl, smiling. The image shows her face.", "A girl, smiling. Her face."),
        ("there is a woman that is standing", "there is a woman that is standing"),
        ("arafed image of a man", "Image of a man"),
        ("a man in an image of a man", "a man in an image of a man"),
        ("The image showsroom is large.", "The image showsroom is large."),
        ("The image shows.", ""),
        ("</s><s>A dog\n runs. <loc_12>", "A dog runs."),
        ("  ", ""),
    ],
)
def test_empty_beginnings_go(text: str, expected: str) -> None:
    assert cleaned(text, DEFAULT_PHRASES) == expected


def test_the_longest_phrase_counts_and_none_change_nothing() -> None:
    assert cleaned("A photo of a red cat.", ["a photo", "A PHOTO OF", ""]) == "A red cat."
    assert cleaned("The image shows a.b (c)*", []) == "The image shows a.b (c)*"
    assert cleaned("图片中有一只猫。它在树上。", ["图片中有"]) == "图片中有一只猫。它在树上。", "a phrase is a whole word"
    assert cleaned("a.c shows", ["a.c"]) == "Shows" and cleaned("abc shows", ["a.c"]) == "abc shows"


@pytest.mark.parametrize(
    ("existing", "mode", "expected"),
    [
        (None, "fill-empty", "A cat sits."),
        ("  ", "append", "A cat sits."),
        ("1girl, solo", "fill-empty", "1girl, solo"),
        ("1girl, solo", "overwrite", "A cat sits."),
        ("1girl, solo", "prepend", "A cat sits, 1girl, solo"),
        ("1girl, solo,", "append", "1girl, solo, A cat sits."),
        ("A dog. It runs.", "append", "A dog. It runs, A cat sits."),
        ("1girl, a cat sits", "append", "1girl, a cat sits"),
    ],
)
def test_sentences_and_tags_in_one_caption(existing: str | None, mode: str, expected: str) -> None:
    assert combine_text(existing, "A cat sits.", mode) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("1girl, solo, long hair", False),
        ("poster (object), ^_^, ...", False),
        ("A girl stands in a garden.", True),
        ("1girl, she stands in the garden near the old white house", True),
        ("A cat. A dog", True),
        ("一个女孩站在花园里。", True),
        ("", False),
    ],
)
def test_prose_is_told_from_tags(caption: str, expected: bool) -> None:
    assert is_prose(caption) is expected


def test_tags_join_sentences_without_touching_them() -> None:
    caption = "A girl, smiling, sits by a girl, smiling."
    assert add_tags(caption, ["1girl", "smiling", "hat"], "append") == "A girl, smiling, sits by a girl, smiling, 1girl, hat"
    assert add_tags(caption, ["1girl", "smiling"], "prepend") == f"1girl, {caption}"
    assert add_tags(caption, ["Smiling"], "append") == caption

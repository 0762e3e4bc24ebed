"""Prompts of captions, templates and both, in A1111's placeholders."""

from __future__ import annotations

import pytest

from athanor.trainer.errors import AthanorError
from athanor.trainer.settings import EmbeddingSettings
from athanor.trainer.trainees.templates import OWN, lines_of_template, prompt_of, sentences_of, template_problems

ONE, TWO = ("my-thing",), ("my-dog", "my-cat")


@pytest.mark.parametrize(
    ("templates", "caption", "prompt"),
    [
        ("captions", "red, my-thing", "red, my-thing"),
        ("captions", "red", "my-thing, red"),
        ("captions", "", "my-thing"),
        ("captions", "my-thing-2, red", "my-thing, my-thing-2, red"),
        ("subject", "red", "a photo of a my-thing"),
        ("style", "red", "a painting in the style of my-thing"),
        ("subject + captions", "red, large", "a photo of a my-thing, red, large"),
        ("subject + captions", "embedding:my-thing, red", "a photo of a my-thing, red"),
        ("subject + captions", "", "a photo of a my-thing"),
        ("style + captions", "a cat", "a painting in the style of my-thing, a cat"),
    ],
)
def test_prompts_of_captions_and_templates(templates, caption, prompt):
    assert prompt_of(EmbeddingSettings(templates=templates), ONE, caption, 0) == prompt


@pytest.mark.parametrize(
    ("templates", "caption", "prompt"),
    [
        ("captions", "my-cat, red", "my-cat, red"),
        ("captions", "red", "red"),
        ("subject", "my-cat, red", "a photo of a my-cat"),
        ("subject + captions", "MY-CAT on my-dog, red", "a photo of a my-dog, my-cat, on, red"),
    ],
)
def test_of_several_embeddings_the_caption_says_which(templates, caption, prompt):
    assert prompt_of(EmbeddingSettings(templates=templates), TWO, caption, 0) == prompt


def test_own_sentences_are_filled_literally_and_drawn_in_turn():
    own = EmbeddingSettings(templates=OWN, sentences=r"# a note" "\n" r"[filewords], a \1 drawing of {0} [name]" "\n\n [name] alone ")
    assert [prompt_of(own, ONE, r"a [name] \2", draw) for draw in range(3)] == [
        r"a [name] \2, a \1 drawing of {0} my-thing",
        "my-thing alone",
        r"a [name] \2, a \1 drawing of {0} my-thing",
    ]
    assert prompt_of(own, ONE, "", 0) == r"a \1 drawing of {0} my-thing"


def test_the_built_in_sentences_are_many_and_each_names_the_embedding():
    for templates, has_caption in (("subject", False), ("style", False), ("subject + captions", True), ("style + captions", True)):
        sentences = sentences_of(EmbeddingSettings(templates=templates))
        assert len(set(sentences)) == len(sentences) >= 7
        assert all(sentence.count("[name]") == 1 and ("[filewords]" in sentence) == has_caption for sentence in sentences)


def test_a_file_of_sentences_is_read_as_windows_writes_it(tmp_path):
    (tmp_path / "我的 模板.txt").write_bytes("\ufeff一张 [name] 的照片\r\n\r\n[name], [filewords]\r\n".encode())
    assert lines_of_template(tmp_path / "我的 模板.txt") == ("一张 [name] 的照片", "[name], [filewords]")
    (tmp_path / "empty.txt").write_text("# nothing\n", encoding="utf-8")
    (tmp_path / "picture.txt").write_bytes(b"\x89PNG\xff\xfe")
    for name, what in (("empty.txt", "holds no sentence"), ("picture.txt", "cannot be read as text"), ("gone.txt", "cannot be read as text")):
        with pytest.raises(AthanorError, match=what):
            lines_of_template(tmp_path / name)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (EmbeddingSettings(templates="style", sentences="a [name]"), "sentences does nothing with the templates style"),
        (EmbeddingSettings(templates=OWN), "no sentence is written"),
        (EmbeddingSettings(templates=OWN, sentences="a [name]\na photo"), "the sentence 'a photo' has no [name]"),
    ],
)
def test_sentences_that_would_teach_nothing_are_told(settings, problem):
    (told,) = template_problems(settings)
    assert problem in told
    assert not template_problems(EmbeddingSettings(templates=OWN, sentences="a [name]"))

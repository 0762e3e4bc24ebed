from __future__ import annotations

import json

import pytest

from athanor.trainer.errors import AthanorError
from athanor.trainer.sample_prompts import SamplePrompt, lines_of_file, prompt_problems, sample_prompts
from athanor.trainer.settings import SampleSettings


def test_flags_replace_the_settings_of_their_picture_alone():
    text = "a cat, well-fed --n bad hands --w 512 --h 768 --d 7 --s 30 --l 4.5\n# no\n\na dog -- and more\nflux --g 3.5 --l 1"
    first, second, third = sample_prompts(SampleSettings(prompts=text, negative_prompt="blurry", seed=10))
    assert first == SamplePrompt("a cat, well-fed", "bad hands", 7, 30, 4.5, 512, 768)
    assert second == SamplePrompt("a dog -- and more", "blurry", 11, 20, 7.0)
    assert third.guidance == 3.5
    (loud,) = sample_prompts(SampleSettings(prompts="a --W 512 --N bad"))
    assert (loud.prompt, loud.width_px, loud.negative_prompt) == ("a", 512, "bad"), "as in sd-scripts, large letters mean the same"


def test_a_line_of_flags_alone_is_an_empty_prompt():
    (only,) = sample_prompts(SampleSettings(prompts="--n x --d 3"))
    assert (only.prompt, only.negative_prompt, only.seed) == ("", "x", 3)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("a --ss euler", "sets the sampler"),
        ("a --q 1", "--q in 'a --q 1' is not known"),
        ("a --s many", "--s is 'many'"),
        ("a --d -1", "--d is '-1'"),
        ("a --w512", "write --w 512"),
        ("a --n bad --H=64", "write --H 64"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(line, sentence):
    with pytest.raises(AthanorError, match=sentence):
        sample_prompts(SampleSettings(prompts=line))
    assert sentence in prompt_problems(SampleSettings(prompts=line), 8)[0]


def test_sides_must_fit_the_model():
    assert prompt_problems(SampleSettings(prompts="a --w 500 --h 512"), 8) == [
        "Sample pictures: --w is 500 in 'a --w 500 --h 512'; it must be a multiple of 8 and at most 4096."
    ]


def test_files_of_prompts_become_lines(tmp_path):
    text = tmp_path / "提示.txt"
    text.write_text("# a comment\na cat --ss euler --w 512\n\n", encoding="utf-8")
    toml = tmp_path / "a.toml"
    toml.write_text(
        '[prompt]\nwidth = 512\nsample_sampler = "ddim"\n[[prompt.subset]]\nprompt = "a\\n dog"\nseed = 3\n[[prompt.subset]]\nprompt = "b"\n',
        encoding="utf-8",
    )
    data = tmp_path / "a.json"
    data.write_text(json.dumps([{"prompt": "a", "negative_prompt": "n", "scale": 5, "sample_steps": 9}, "b --d 4"]), encoding="utf-8")
    assert lines_of_file(text) == ("a cat --w 512",)
    assert lines_of_file(toml) == ("a dog --w 512 --d 3", "b --w 512")
    assert lines_of_file(data) == ("a --n n --s 9 --l 5", "b --d 4")
    first, _ = sample_prompts(SampleSettings(prompts="\n".join(lines_of_file(data))))
    assert first == SamplePrompt("a", "n", 1, 9, 5.0)


@pytest.mark.parametrize(("name", "text"), [("a.txt", "# nothing"), ("a.json", "{"), ("a.toml", "x = 1"), ("a.json", '[{"width": 4}]')])
def test_files_of_something_else_are_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(AthanorError, match=name):
        lines_of_file(tmp_path / name)

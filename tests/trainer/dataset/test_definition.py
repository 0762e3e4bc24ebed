import builtins
import json
from pathlib import Path

import pytest
from PIL import Image

from athanor.trainer.config import from_json, to_json
from athanor.trainer.dataset import load_list
from athanor.trainer.dataset.definition import is_definition, read_definition
from athanor.trainer.errors import AthanorError, InvalidJobError
from athanor.trainer.settings import CaptionOverrides, DataOverrides
from athanor.trainer.types import Dataset

README_EXAMPLE = """
[general]
shuffle_caption = true
caption_extension = '.txt'
keep_tokens = 1

[[datasets]]
resolution = 512
batch_size = 4
keep_tokens = 2

  [[datasets.subsets]]
  image_dir = 'C:\\hoge'
  class_tokens = 'hoge girl'

  [[datasets.subsets]]
  image_dir = 'fuga'
  class_tokens = 'fuga boy'
  num_repeats = 3
  caption_extension = 'caption'

  [[datasets.subsets]]
  is_reg = true
  image_dir = 'reg'
  class_tokens = 'human'

[[datasets]]
resolution = [768, 768]
num_repeats = 2
validation_split = 0.25

  [[datasets.subsets]]
  image_dir = 'piyo'
  metadata_file = 'piyo/meta.json'
"""


def written(tmp_path, text, name="dataset.toml"):
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return file


def problems_of(tmp_path, text):
    with pytest.raises(InvalidJobError) as error:
        read_definition(written(tmp_path, text))
    return error.value.problems


def test_each_level_inherits_from_the_one_above(tmp_path):
    definition = read_definition(written(tmp_path, README_EXAMPLE))
    hoge, fuga, reg, piyo = definition.subsets
    assert hoge.image_dir == tmp_path / "C:/hoge"
    assert [s.class_tokens for s in definition.subsets] == ["hoge girl", "fuga boy", "human", ""]
    assert [s.caption_extension for s in definition.subsets] == [".txt", ".caption", ".txt", ".txt"]
    assert [s.num_repeats for s in definition.subsets] == [1, 3, 1, 2]
    assert [s.is_reg for s in definition.subsets] == [False, False, True, False]
    assert [s.group for s in definition.subsets] == [1, 1, 1, 2]
    assert [s.validation_percent for s in definition.subsets] == [None, None, None, 25.0]
    assert piyo.metadata_file == tmp_path / "piyo" / "meta.json"
    assert (piyo.where, fuga.image_dir) == ("dataset 2, subset 1", tmp_path / "fuga")
    assert reg.mask_dir is None and not reg.alpha_mask
    assert set(definition.places) == {tmp_path / "C:/hoge", tmp_path / "fuga", tmp_path / "reg", tmp_path / "piyo", tmp_path / "piyo" / "meta.json"}


def test_what_has_no_effect_here_is_named_once(tmp_path):
    definition = read_definition(written(tmp_path, README_EXAMPLE))
    assert definition.notes == (
        "dataset.toml has sizes that are set in the Bucket node instead: resolution.",
        "dataset.toml has settings that are made in the training node instead: batch_size.",
    )
    plain = "[general]\nflip_aug = false\nkeep_tokens = 0\ncaption_separator = ','\ncache_info = true\n[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'a'"
    assert read_definition(written(tmp_path, plain)).notes == ()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("face_crop_aug_range = [1.0, 3.0]", r"general: face_crop_aug_range is set, but images are not cut around faces at random; take it out"),
        (
            "custom_attributes = { diff_output_preservation = true }",
            r"custom_attributes is set, but it is not known here what they do; take them out",
        ),
        ("resize_interpolation = 'magic'", r"subset 1: resize is 'magic'; choose one of auto, lanczos"),
    ],
)
def test_what_cannot_be_honoured_is_refused(tmp_path, line: str, told: str):
    with pytest.raises(AthanorError, match=told):
        read_definition(written(tmp_path, f"[general]\n{line}\n[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'a'"))


@pytest.mark.parametrize(("word", "meant"), [("lanczos", "lanczos"), ("cubic", "bicubic"), ("linear", "bilinear"), ("area", "area"), ("", "auto")])
def test_how_images_are_resized_is_carried_along(tmp_path, word: str, meant: str):
    text = f"[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'a'\nresize_interpolation = '{word}'\ncustom_attributes = {{}}"
    assert read_definition(written(tmp_path, text)).subsets[0].viewing == DataOverrides(resize=meant)


def test_what_captions_and_views_are_told_is_carried_along(tmp_path):
    text = """
    [general]
    shuffle_caption = true
    keep_tokens = 1
    [[datasets]]
    caption_dropout_rate = 0.1
      [[datasets.subsets]]
      image_dir = 'a'
      shuffle_caption = false
      token_warmup_step = 200
      flip_aug = true
      [[datasets.subsets]]
      image_dir = 'b'
      caption_separator = ';'
      enable_wildcard = true
    [[datasets]]
      [[datasets.subsets]]
      image_dir = 'c'
    """
    first, second, third = read_definition(written(tmp_path, text)).subsets
    assert first.captioning == CaptionOverrides(shuffle=False, keep_tokens=1, dropout=0.1, tag_warmup=200.0)
    assert first.viewing == DataOverrides(mirror=True)
    assert second.captioning == CaptionOverrides(shuffle=True, keep_tokens=1, dropout=0.1, separator=";", wildcards=True)
    assert third.captioning == CaptionOverrides(shuffle=True, keep_tokens=1) and third.viewing is None
    wrong = "[general]\ncaption_dropout_rate = 7\n[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'a'"
    with pytest.raises(AthanorError, match=r"dataset.toml, dataset 1, subset 1: dropout is 7.0; it must be from 0.0 to 1.0"):
        read_definition(written(tmp_path, wrong))


def test_samples_carry_what_their_folder_was_told_and_lines_stay_apart_for_wildcards(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "x.png")
        (tmp_path / folder / "x.txt").write_text("one\n\n two, \n", encoding="utf-8")
    text = "[[datasets]]\n[[datasets.subsets]]\nimage_dir='a'\ncaption_extension='.txt'\nenable_wildcard=true\nflip_aug=true\n"
    text += "[[datasets.subsets]]\nimage_dir='b'\ncaption_extension='.txt'"
    loaded = load_list(written(tmp_path, text), tmp_path, is_allowed=lambda path: True)
    first, second = loaded.samples
    assert first.caption == "one\ntwo," and first.captioning.wildcards and first.viewing.mirror
    assert second.caption == "one, two" and second.captioning is None and second.viewing is None
    assert from_json(Dataset, to_json(loaded)) == loaded


def test_all_mistakes_are_told_at_once(tmp_path):
    text = """
    [general]
    num_repeat = 3
    is_reg = true
    [extra]
    [[datasets]]
    resolution = "large"
      [[datasets.subsets]]
      image_dir = 'a'
      num_repeats = 2.5
      batch_size = 2
      [[datasets.subsets]]
      num_repeats = 0
      validation_split = 3
      caption_extension = '.png'
    """
    problems = "\n".join(problems_of(tmp_path, text))
    for part in (
        "unknown section 'extra'",
        "general: unknown setting 'num_repeat'",
        "general: unknown setting 'is_reg'. It belongs into [[datasets.subsets]].",
        "dataset 1: resolution must be a number or a pair of numbers, not 'large'",
        "dataset 1, subset 1: num_repeats must be a whole number, not 2.5",
        "dataset 1, subset 1: unknown setting 'batch_size'. It belongs into [[datasets]] or [general].",
        "dataset 1, subset 2: image_dir is missing",
        "dataset 1, subset 2: num_repeats is 0",
        "dataset 1, subset 2: validation_split is 3",
        "dataset 1, subset 2: Captions cannot be kept in .png files",
    ):
        assert part in problems


@pytest.mark.parametrize("text", ["", "[general]\n", "[[datasets]]\nresolution = 512\n"])
def test_a_file_without_subsets_is_refused(tmp_path, text):
    (problem,) = problems_of(tmp_path, text)
    assert "at least one [[datasets]] with one [[datasets.subsets]]" in problem


def test_broken_files_say_where(tmp_path):
    with pytest.raises(AthanorError, match=r"dataset\.toml is not valid TOML.*line 1"):
        read_definition(written(tmp_path, "[general\n"))
    with pytest.raises(AthanorError, match="single quotes"):
        read_definition(written(tmp_path, '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "C:\\hoge"\n'))
    for wrong in ("image_dir = cats", "image_dir = 'a'\nis_reg = True"):
        with pytest.raises(AthanorError, match="Text needs quotes, and true and false are written small"):
            read_definition(written(tmp_path, f"[[datasets]]\n[[datasets.subsets]]\n{wrong}\n"))
    with pytest.raises(AthanorError, match="not valid JSON"):
        read_definition(written(tmp_path, "{", "dataset.json"))
    with pytest.raises(AthanorError, match="cannot be read"):
        read_definition(tmp_path / "absent.toml")


def test_a_windows_path_in_double_quotes_is_told_from_a_missing_folder(tmp_path):
    (problem,) = problems_of(tmp_path, '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "D:\\new\\table"\n')
    assert r"image_dir is 'D:\new\table'" in problem and "'single quotes'" in problem


def test_repeats_have_a_limit(tmp_path):
    text = "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'a'\nnum_repeats = {}\n"
    assert "num_repeats is 20240101; it must be from 1 to 10,000" in problems_of(tmp_path, text.format(20240101))[0]
    assert read_definition(written(tmp_path, text.format(10_000))).subsets[0].num_repeats == 10_000


def test_json_says_the_same_as_toml(tmp_path):
    data = {"general": {"num_repeats": 2}, "datasets": [{"subsets": [{"image_dir": "a"}]}]}
    file = written(tmp_path, json.dumps(data), "dataset.json")
    (subset,) = read_definition(file).subsets
    assert (subset.num_repeats, subset.image_dir) == (2, tmp_path / "a")
    assert is_definition(file) and is_definition(Path("any.toml"))
    assert not is_definition(written(tmp_path, '{"a.png": {"caption": "x"}}', "meta.json"))


def test_a_byte_order_mark_and_windows_lines_do_no_harm(tmp_path):
    file = tmp_path / "dataset.toml"
    file.write_bytes(b"\xef\xbb\xbf" + "[[datasets]]\r\n[[datasets.subsets]]\r\nimage_dir = '图'\r\n".encode())
    assert read_definition(file).subsets[0].image_dir == tmp_path / "图"


def test_a_python_without_toml_says_what_to_install(tmp_path, monkeypatch):
    importing = builtins.__import__

    def without_toml(name, *args):
        if name in ("tomllib", "tomli"):
            raise ImportError(name)
        return importing(name, *args)

    file = written(tmp_path, README_EXAMPLE)
    monkeypatch.setattr(builtins, "__import__", without_toml)
    with pytest.raises(AthanorError, match="pip install tomli"):
        read_definition(file)

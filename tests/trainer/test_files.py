from __future__ import annotations

import errno

import pytest

from athanor.trainer.errors import AthanorError
from athanor.trainer.files import content_fingerprint, replace_atomically, safe_name


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a file.txt"
    target.write_text("old", encoding="utf-8")

    def full_disk(path):
        path.write_text("half", encoding="utf-8")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(AthanorError, match=r"Cannot write .*a file\.txt: No space left on device\. Free some space"):
        replace_atomically(target, full_disk)
    assert target.read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a file.txt"]


def test_a_write_makes_the_folders_it_needs(tmp_path):
    replace_atomically(tmp_path / "一" / "b" / "c.bin", lambda path: path.write_bytes(b"new"))
    assert (tmp_path / "一" / "b" / "c.bin").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("text", "name"),
    [("my lora", "my lora"), ("a/b:c?", "a_b_c_"), ("小狐狸", "小狐狸"), (" x. ", "x"), ("..\\..\\x", "_.._x"), (".hidden", "hidden")],
)
def test_names_are_made_safe_and_keep_all_letters(text, name):
    assert safe_name(text) == name


@pytest.mark.parametrize("text", ["漢" * 200, "🐈" * 119 + ". x", "n" * 119 + ". x", "a\ud800b", "a\u2028b", "..x", "y. . ."])
def test_every_name_can_be_made_with_an_epochs_number_behind_it(tmp_path, text):
    name = safe_name(text)
    assert safe_name(name) == name and name == name.strip(". ")
    (tmp_path / name).mkdir()
    (tmp_path / name / f".{name}-step00001000.safetensors.12345678.tmp").touch()


@pytest.mark.parametrize("text", ["..con", "CON .txt", " nul", "Aux.", "lpt1.a.b", ". .", ""])
def test_names_that_windows_keeps_for_itself_are_refused_in_every_disguise(text):
    with pytest.raises(AthanorError, match="cannot be used as a file name"):
        safe_name(text)


def test_a_fingerprint_tells_content_not_place(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    data = bytes(range(256)) * 40_000
    one.write_bytes(data)
    two.write_bytes(data)
    assert content_fingerprint(one) == content_fingerprint(two)
    two.write_bytes(data[:-1] + b"x")
    assert content_fingerprint(one) != content_fingerprint(two)
    assert content_fingerprint(tmp_path) != content_fingerprint(one)


@pytest.mark.parametrize("name", ["n" * 251 + ".txt", "长" * 83 + ".txt"])
def test_the_longest_names_can_be_written(tmp_path, name):
    try:
        (tmp_path / name).write_bytes(b"old")
    except OSError:
        pytest.skip("this system has no such long names")
    replace_atomically(tmp_path / name, lambda path: path.write_bytes(b"new") and None)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"new")]
    with pytest.raises(AthanorError, match="shorter name"):
        replace_atomically(tmp_path / ("n" * 300), lambda path: path.write_bytes(b"new") and None)
    assert len(list(tmp_path.iterdir())) == 1

import codecs

import pytest

from athanor.trainer.dataset import caption_extension, read_caption, write_caption
from athanor.trainer.dataset.encoding import decode_text
from athanor.trainer.errors import AthanorError


@pytest.fixture
def image(tmp_path):
    return tmp_path / "日本 1.v2.png"


@pytest.mark.parametrize(
    ("content", "caption", "num_notes"),
    [
        (b"1girl, solo", "1girl, solo", 0),
        (codecs.BOM_UTF8 + "1girl, 红发\r\n".encode(), "1girl, 红发", 1),
        (b" 1girl, solo, \r\n", "1girl, solo", 0),
        (b"", "", 0),
        (b"1girl\r\nsolo\r\n\r\nhat,\r\nred", "1girl, solo, hat, red", 1),
        (b"A cat sits.\nIt sleeps.", "A cat sits. It sleeps.", 1),
        ("一只猫。\n它在睡觉。".encode(), "一只猫。 它在睡觉。", 1),
        ("1girl, 赤い髪".encode("utf-16"), "1girl, 赤い髪", 1),
        ("1girl, 赤い髪".encode("utf-32"), "1girl, 赤い髪", 1),
    ],
)
def test_captions_are_cleaned(image, content, caption, num_notes):
    image.with_suffix(".txt").write_bytes(content)
    text, notes = read_caption(image)
    assert text == caption
    assert len(notes) == num_notes and all("日本 1.v2.txt" in note for note in notes)


@pytest.mark.parametrize(
    ("encoding", "name", "texts"),
    [
        (
            "gbk",
            "GBK",
            ["1girl, 红色头发, 白色背景", "红发", "一只猫坐在桌子上。", "蓝色的眼睛", "微笑", "雪", "1girl, 泳装", "风景, 微笑", "刘海、单人、翅膀"],
        ),
        ("cp932", "Shift JIS", ["1girl, 赤い髪, 白背景", "初音ミク", "青い目", "猫が机の上に座っている"]),
        ("big5", "Big5", ["紅色頭髮, 白色背景", "一隻貓坐在桌子上"]),
        ("cp949", "Korean", ["고양이, 빨간 머리", "하얀 배경에 있는 소녀"]),
        ("cp1252", "Windows-1252", ["café, crème brûlée", "Mädchen, grün", "niño"]),
    ],
)
def test_old_encodings_are_told_from_a_few_words(encoding, name, texts):
    for text in texts:
        decoded, told = decode_text(text.encode(encoding))
        assert decoded == text and name in told


@pytest.mark.parametrize("text", ["Синее небо, ёж", "Ц", "είναι γάτα", "שמיים", "سماء", "a · b × c, ½", "naïve café", "ǎ", "ї, ґ"])
def test_utf8_of_other_alphabets_stays_utf8(text):
    assert decode_text(text.encode()) == (text, None)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("1girl, 红色头发, 白".encode()[:-1], "1girl, 红色头发, "),
        ("猫耳, ".encode() + b"\xff" + "尾巴".encode(), "猫耳, 尾巴"),
    ],
)
def test_utf8_with_a_broken_byte_stays_utf8(content, text):
    decoded, told = decode_text(content)
    assert told is not None and "damaged" in told and "\ufffd" not in decoded
    assert decoded == text


def test_a_note_names_the_file_and_the_encoding(image):
    image.with_suffix(".txt").write_bytes("红色头发".encode("gbk"))
    caption, notes = read_caption(image)
    assert caption == "红色头发"
    assert "日本 1.v2.txt" in notes[0] and "GBK" in notes[0]


def test_a_binary_file_is_no_caption(image):
    image.with_suffix(".txt").write_bytes(b"\x89PNG\0\0\0")
    caption, notes = read_caption(image)
    assert caption is None
    assert "cannot be read" in notes[0]


def test_a_log_beside_the_image_is_no_caption(image):
    image.with_suffix(".txt").write_bytes(b"step 1, loss 0.1\n" * 100_000)
    caption, notes = read_caption(image)
    assert caption is None
    assert "日本 1.v2.txt cannot be read as a caption: it has more than 1 MiB" in notes[0]


def test_the_first_ending_counts_and_the_other_is_named(image):
    assert read_caption(image) == (None, ())
    image.with_suffix(".caption").write_text("second", encoding="utf-8")
    assert read_caption(image) == ("second", ())
    image.with_suffix(".TXT").write_text("first", encoding="utf-8")
    caption, notes = read_caption(image)
    assert caption == "first" and ".caption is not" in notes[0]
    assert read_caption(image, (".caption",)) == ("second", ())


def test_faces_cut_out_by_sd_scripts_have_the_caption_of_the_whole_picture(tmp_path):
    (tmp_path / "a b.txt").write_text("whole", encoding="utf-8")
    face = tmp_path / "a b_0120_0080_0064_0064.png"
    for listed in (None, frozenset(["a b.txt", face.name])):
        assert read_caption(face, listed=listed) == ("whole", ())
        assert read_caption(tmp_path / "a b_1_2_3_4.png", listed=listed) == (None, ())
    face.with_suffix(".txt").write_text("face", encoding="utf-8")
    assert read_caption(face) == ("face", ())


def test_writing_keeps_every_earlier_version(image):
    file = write_caption(image, "一, two")
    assert file == image.with_suffix(".txt") and file.read_bytes() == "一, two".encode()
    assert write_caption(image, "three") == file
    write_caption(image, "four")
    assert {path.name: path.read_text(encoding="utf-8") for path in image.parent.iterdir()} == {
        "日本 1.v2.txt": "four",
        "日本 1.v2.txt.bak1": "一, two",
        "日本 1.v2.txt.bak2": "three",
    }


def test_a_name_too_long_for_a_backup_is_told_and_nothing_is_lost(tmp_path):
    image = tmp_path / ("n" * 248 + ".png")
    try:
        write_caption(image, "one")
    except AthanorError:
        pytest.skip("this system has no such long names")
    with pytest.raises(AthanorError, match="Shorten the name"):
        write_caption(image, "two")
    assert image.with_suffix(".txt").read_text(encoding="utf-8") == "one"
    assert write_caption(image, "two", backup=False).read_text(encoding="utf-8") == "two"


def test_an_unchanged_caption_is_not_written(image):
    file = image.with_suffix(".txt")
    file.write_bytes(b"same\r\n")
    stamp = file.stat().st_mtime_ns
    write_caption(image, "same")
    assert file.stat().st_mtime_ns == stamp and file.read_bytes() == b"same\r\n"
    assert len(list(image.parent.iterdir())) == 1


def test_without_backup_only_the_new_file_is_left(image):
    write_caption(image, "one", "caption", backup=False)
    write_caption(image, "two", "caption", backup=False)
    assert [path.name for path in image.parent.iterdir()] == ["日本 1.v2.caption"]
    assert read_caption(image)[0] == "two"


@pytest.mark.parametrize("extension", ["", ".png", "..", "a/b", ".t xt", "JPG"])
def test_impossible_endings_are_refused(extension):
    with pytest.raises(AthanorError):
        caption_extension(extension)
    assert caption_extension("txt") == caption_extension(" .txt ") == ".txt"

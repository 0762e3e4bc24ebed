import os
import random
from pathlib import Path

import pytest

from athanor.tagger.errors import TaggerError
from athanor.tagger.rule_language import parse_rules
from athanor.tagger.rules import apply_rules
from athanor.tagger.tokens import clip_counter

pytest.importorskip("tokenizers")
REPOSITORY = Path(__file__).resolve().parents[2]
COMFYUI = Path(os.environ.get("ATHANOR_COMFYUI") or REPOSITORY / ".comfyui" / "ComfyUI")
CLIP = COMFYUI / "comfy" / "sd1_tokenizer"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tokenizer that knows `hat` and `hats` as words and everything else as letters."""
    letters = [*"abcdefghijklmnopqrstuvwxyz,()0123456789"]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "ha", "hat</w>", "hat", "hats</w>", "<|startoftext|>", "<|endoftext|>"]
    vocabulary = ",".join(f'"{word}": {i}' for i, word in enumerate(words))
    (tmp_path / "vocab.json").write_text(f"{{{vocabulary}}}", encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\nh a\nha t</w>\nha t\nhat s</w>\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("hat", 1),
        ("HAT", 1),
        ("hats", 1),
        ("hat, hats", 3),
        ("hat  \n hat", 2),
        ("hat,", 2),
        ("ab", 2),
        ("a1 22", 4),
        ("hat_", 2),
        ("(hat)", 3),
    ],
)
def test_words_are_counted_by_their_pieces(folder: Path, text: str, expected: int) -> None:
    assert clip_counter(folder)(text) == expected


def test_without_its_files_it_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(TaggerError, match=r"vocab\.json and merges\.txt.*not there") as error:
        clip_counter(tmp_path)
    assert str(tmp_path) in str(error.value)


@pytest.mark.skipif(not CLIP.is_dir(), reason="no ComfyUI")
@pytest.mark.parametrize(
    "text",
    [
        *(
            "1girl, solo, long hair, hatsune miku (vocaloid), ^_^, ;d, poster \\(object\\)",
            "it's a dog's   life…",
            "初音ミク, 红发，蓝眼 🎀",
            "don't they'll ÀÉ",
        ),
        *("year 2023, 1920x1080", "a_b__c", "", "x" * 50),
    ],
)
def test_counts_are_those_of_transformers(text: str) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.CLIPTokenizer.from_pretrained(str(CLIP))
    assert clip_counter(CLIP)(text) == len(theirs(text, add_special_tokens=False).input_ids)


def test_tags_are_counted_as_the_whole_caption_is() -> None:
    """`max tokens` counts each tag for itself, which is many times faster; it comes to the same."""
    count, chance = clip_counter(CLIP), random.Random(2)
    tags = [
        "1girl",
        "long hair",
        "^_^",
        ":)",
        ";d",
        "\\(^o^)/",
        "poster (object)",
        "it's",
        "don't",
        "x" * 30,
        "1920x1080",
        "初音ミク",
        "...",
        "a,b",
        "!?",
    ]
    captions = [tuple(chance.choices(tags, k=chance.randrange(20))) for _ in range(150)]
    for limit in (1, 7, 20, 75):
        edited, _ = apply_rules(parse_rules(f"max tokens: {limit}", count_tokens=count), captions)
        for before, after in zip(captions, edited, strict=True):
            expected = before
            while len(expected) > 1 and count(", ".join(expected)) > limit:
                expected = expected[:-1]
            assert after == expected

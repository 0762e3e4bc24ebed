import random
import time
from pathlib import Path

import pytest

from athanor.tagger.errors import TaggerError
from athanor.tagger.lexicon import Entry, Lexicon, read_lexicon
from athanor.tagger.tags import match_key

TAGCOMPLETE = """1girl,0,5000000,"1girls,sole_female"
hatsune_miku,4,100000,"miku,初音ミク"
miku_(other),4,10,"miku"
hat,0,900000,"hats,head_wear"
cap,0,500,"hat,caps"
"quoted, name",0,5,
someone,1
^_^,0,1000,"^^,happy_eyes"
"""


def _read(folder: Path, text: str, name: str = "danbooru 标签.csv") -> Lexicon:
    (folder / name).write_text(text, encoding="utf-8")
    return read_lexicon(folder / name)


def test_tagcomplete_s_csv_has_no_header(tmp_path: Path) -> None:
    lexicon = _read(tmp_path, "\ufeff" + TAGCOMPLETE)
    assert lexicon.name == "danbooru 标签" and len(lexicon) == 8
    assert lexicon.tag("Hatsune Miku") == lexicon.tag("hatsune_miku") == Entry("hatsune_miku", 4, 100_000)
    assert lexicon.tag("someone") == Entry("someone", 1, 0)
    assert lexicon.tag(r"miku \(other\)").count == 10
    assert lexicon.tag("nothing") is None and lexicon.tag("sole female") is None


def test_aliases_lead_to_their_tags(tmp_path: Path) -> None:
    lexicon = _read(tmp_path, TAGCOMPLETE)
    assert [entry.name for entry in lexicon.meant_by("Sole Female")] == ["1girl"]
    assert [entry.name for entry in lexicon.meant_by("miku")] == ["hatsune_miku", "miku_(other)"]
    assert [entry.name for entry in lexicon.meant_by("初音ミク")] == ["hatsune_miku"]
    assert lexicon.meant_by("hat") == (), "a tag means itself, whatever else it is an alias of"
    assert lexicon.meant_by("nothing") == ()


def test_a_tagger_s_csv_is_told_by_its_first_line(tmp_path: Path) -> None:
    lexicon = _read(tmp_path, "tag_id,name,category,count\n1,general,9,5\n2,long_hair,0,7\n")
    assert len(lexicon) == 2 and lexicon.tag("long hair") == Entry("long_hair", 0, 7)
    assert _read(tmp_path, "name,category\nlong_hair,0\n").tag("long hair") == Entry("long_hair", 0, 0)
    assert _read(tmp_path, "name,0,5,\ncategory,0,4,\n").tag("category") == Entry("category", 0, 4)


@pytest.mark.parametrize("first", ["name,type,count,aliases", "tag,category,count,alias", "Name, Category, post_count, Aliases"])
def test_a_header_of_another_list_is_read_by_its_names(tmp_path: Path, first: str) -> None:
    lexicon = _read(tmp_path, f'{first}\n1girl,0,600.0,"sole_female,a girl"\nmiku,character,,\n')
    assert lexicon.tag("1girl") == Entry("1girl", 0, 600) and lexicon.tag("miku") == Entry("miku", 4, 0) and len(lexicon) == 2
    assert [entry.name for entry in lexicon.meant_by("sole female")] == ["1girl"]


def test_the_line_that_is_wrong_is_told_not_the_last_one(tmp_path: Path) -> None:
    with pytest.raises(TaggerError, match="line 2: 'hat' has no type"):
        _read(tmp_path, "1girl,0,5\nhat\n" + "solo,0,5\n" * 50)


def test_a_remark_in_place_of_the_count_is_no_count(tmp_path: Path) -> None:
    assert _read(tmp_path, "masterpiece,5,Quality tag,\nbest_quality,5,,\n").tag("masterpiece") == Entry("masterpiece", 5, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no tag"),
        (b"1girl\n", "'1girl' has no type"),
        (b"1girl,0,5,\nhat,colour,3,\n", "line 2.*colour"),
        (b"tag_id,name,category,count\n1,hat\n", "line 2"),
        ("帽子,0,5,\n".encode("gbk"), "save it as UTF-8"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(TaggerError, match=message) as error:
        read_lexicon(tmp_path / "x.csv")
    assert str(tmp_path / "x.csv") in str(error.value)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaggerError, match="Cannot read"):
        read_lexicon(tmp_path / "absent.csv")


def test_triggers_that_mean_something_already(tmp_path: Path) -> None:
    lexicon = _read(tmp_path, TAGCOMPLETE, "danbooru.csv")
    assert lexicon.warning("mychar") == ""
    assert lexicon.warning("Hat").startswith("The trigger 'Hat' is a tag of danbooru (900,000 pictures)")
    assert "another name of hatsune_miku, miku_(other) in danbooru (100,000 pictures)" in lexicon.warning("miku")
    assert "pictures)" not in lexicon.warning("someone")


def test_a_large_lexicon_is_read_in_little_time(tmp_path: Path) -> None:
    text = "\n".join(f'tag_{i}_(series),{i % 6},{200_000 - i},"other_{i},alias_{i}"' for i in range(140_000))
    started_sec = time.process_time()
    lexicon = _read(tmp_path, text)
    assert time.process_time() - started_sec < 20
    assert len(lexicon) == 140_000 and lexicon.meant_by("alias 99")[0].name == "tag_99_(series)"


def test_search_finds_any_part_of_a_name_or_alias(tmp_path: Path):
    file = tmp_path / "tags.csv"
    rows = [
        'long_hair,0,900,"/lh,longhair"',
        "parallel_speed_lines,0,5,",
        "hair,0,50,",
        "black_hair,0,800,",
        "hairband,0,300,",
        "chair,0,1000,",
        'glasses,0,70,"eyeglasses,specs"',
        "hatsune_miku,4,40,miku",
    ]
    file.write_text("\n".join(rows), encoding="utf-8")
    lexicon = read_lexicon(file)

    def names(text: str, limit: int = 20) -> list[tuple[str, str]]:
        return [(found.entry.name, found.alias) for found in lexicon.search(text, limit)]

    assert names("eed lin") == [("parallel_speed_lines", "")]
    assert [name for name, _ in names("hair")] == ["hair", "hairband", "long_hair", "black_hair", "chair"]
    assert names("HAIR", 2) == [("hair", ""), ("hairband", "")]
    assert names("eyegl") == [("glasses", "eyeglasses")]
    assert names("specs") == [("glasses", "specs")]
    assert names("long_h") == [("long_hair", "")]
    assert names("miku") == [("hatsune_miku", "miku")]
    assert names("") == names(" _ ") == names("nothing like it") == []


@pytest.mark.parametrize("seed", range(6))
def test_search_gives_the_nearest_first_as_a_slow_one_would(tmp_path: Path, seed: int):
    chance = random.Random(seed)

    def word() -> str:
        return "".join(chance.choice("ab_(") for _ in range(chance.randrange(1, 6))).strip("_") or "a"

    names = list({match_key(name): name for name in (word() for _ in range(60)) if match_key(name)}.values())
    lexicon = _read(tmp_path, "\n".join(f'{name},0,{1000 - i},"{word()},{word()}"' for i, name in enumerate(names)))
    own = {match_key(name): number for number, name in enumerate(names)}
    for _ in range(40):
        text, limit = match_key(word()), chance.choice([1, 3, 50])
        if not text:
            continue

        def degree(key: str, text: str = text) -> int:
            return 0 if key == text else 1 if key.startswith(text) else 2 if f" {text}" in key or f"({text}" in key else 3

        ranked = [(degree(key), 0, number) for key, number in own.items() if text in key]
        for alias in {alias for alias in lexicon._aliases if text in alias}:
            ranked += [(degree(alias), 1, names.index(entry.name)) for entry in lexicon._aliases[alias]]
        best = list(dict.fromkeys(names[number] for _, _, number in sorted(ranked)))[:limit]
        found = [each.entry.name for each in lexicon.search(text, limit)]
        assert [match_key(name) for name in found] == [match_key(name) for name in best], (text, limit)


def test_one_letter_is_found_at_once_in_a_large_lexicon(tmp_path: Path):
    lexicon = _read(tmp_path, "\n".join(f'artist_{i}_(a),{i % 6},{200_000 - i},"alias_{i}"' for i in range(140_000)))
    lexicon.search("a", 24)
    started_sec = time.process_time()
    assert [each.entry.name for each in lexicon.search("a", 2)] == ["artist_0_(a)", "artist_1_(a)"]
    assert time.process_time() - started_sec < 0.05

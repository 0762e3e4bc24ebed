import pytest

from athanor.tagger.filter import FilterError, Item, filter_items, parse_filter
from athanor.tagger.tags import match_key


def _item(caption: str, path: str = "set/pic.png") -> Item:
    return Item(path, tuple(tag.strip() for tag in caption.split(",") if tag.strip()), caption)


SOLO = _item("1girl, solo, Long_Hair, poster (object)", "my set/IMG_001.PNG")
PAIR = _item("2girls, hat, hatsune miku, ;d", "other/deep/图 2.jpg")
EMPTY = _item("", "other/none.webp")
ITEMS = (SOLO, PAIR, EMPTY)


ODD = _item('orange "cat", cat*dog, it\'s', "odd/what?.png")


def _found(text: str, **options) -> str:
    test = parse_filter(text, **options)
    return "".join(name for name, item in zip("spe", ITEMS, strict=True) if test(item))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tag:solo", "s"),
        ("tag:hat", "p"),
        ("tag:*hat*", "p"),
        ("tag:hats", ""),
        ("tag:long_hair", "s"),
        ('tag:"long hair"', "s"),
        ("TAG:LONG*", "s"),
        ("tag:?girl?", "p"),
        ("tag:?girl*", "sp"),
        ("tag:;d", "p"),
        ("tag:poster_(object)", "s"),
        ('tag:"poster (object)"', "s"),
        (r"tag:poster_\(object\)", "s"),
        ("(tag:poster_(object))", "s"),
        ("tag: solo", "s"),
        ("tag：“long hair”", "s"),
        ('caption:"girls, hat"', "p"),
        ("caption:girl", "sp"),
        ("caption:1*solo", "s"),
        ("name:IMG", "s"),
        ("name:img_0?1", "s"),
        ("name:set", ""),
        ("path:set", "s"),
        (r"path:other\deep\图*", "p"),
        ('path:"my set/*png"', "s"),
        ("path:other/", "pe"),
        ("图", "p"),
        ("girl", "sp"),
        ('"my set"', "s"),
        ("tags:4", "sp"),
        ("tags:=0", "e"),
        ("tags:==4 tag:hat", "p"),
        ("tags:!=4", "e"),
        ("tags:>3", "sp"),
        ("tags: >= 5", ""),
        ("tags:<4", "e"),
        ("chars:<=30", "pe"),
        ("chars:>30", "s"),
        # NOT binds closest, then AND; OR last
        ("NOT tag:solo", "pe"),
        ("not not tag:solo", "s"),
        ("NOT tag:solo AND tag:hat", "p"),
        ("NOT (tag:solo OR tag:hat)", "e"),
        ("NOT(tag:solo)", "pe"),
        ("tag:hat OR tag:solo AND tags:0", "p"),
        ("(tag:hat OR tag:solo) AND tags:0", ""),
        ("tag:solo or tag:hat", "sp"),
        ("girl NOT solo", "p"),
        ("tag:solo tag:1girl", "s"),
        ("（tag:solo OR tags:0）", "se"),
        ("((tag:solo))", "s"),
        ("notebook", ""),
        ("*", "spe"),
    ],
)
def test_which_pictures_are_meant(text: str, expected: str) -> None:
    assert _found(text) == expected


@pytest.mark.parametrize(
    ("text", "is_odd"),
    [
        ("tag:'orange \"cat\"'", True),
        (r'tag:"orange \"cat\""', True),
        ("tag:‘it's’", True),
        ("'it'", True),
        ("it's", True),
        (r"tag:'it\'s'", True),
        ("'s", True),
        ("tag:'it'", False),
        ("NOT 'no such' AND ('dog')", True),
        (r"tag:cat\*dog", True),
        (r"caption:cat\*dog", True),
        (r"caption:orange\*", False),
        (r"name:what\?", True),
        (r"name:wha\?", False),
        (r"\?", True),
    ],
)
def test_quotes_and_stars_that_stand_for_themselves(text: str, is_odd: bool) -> None:
    """As TagGUI's documentation has them."""
    assert parse_filter(text)(ODD) is is_odd
    assert not parse_filter(r"\?")(SOLO)


def test_no_pattern_takes_long() -> None:
    """A regular expression of `.*` would take years."""
    item = _item("a" * 400)
    for key in ("tag", "caption", "name", "path"):
        assert not parse_filter(f"{key}:{'*a' * 60}*b")(item)
    assert parse_filter(f"tag:{'*a' * 60}")(item)


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("score:<0.4", True),
        ("score:<0.2", False),
        ("score: > .9", True),
        ("score:>=1", False),
        ("score:hat>0.3", False),
        ("score:hat<=.3 tag:hat", True),
        ("(score:hat<0.4)", True),
        ('score:"long hair">0.9', True),
        ("score:long*>0.9", True),
        ("score:long_hair = 0.95", True),
        ("score:poster_(object)>0.6", True),
        ("score:>_<>0.5", True),
        ("score:>_<<0.5", False),
        ("score:mine>0", False),
        ("NOT score:mine>0", True),
        ("score:gone>0", False),
        ("score：hat<0.4", True),
    ],
)
def test_scores_of_tags(text: str, is_found: bool) -> None:
    scores = {"hat": 0.3, "long hair": 0.95, "poster (object)": 0.7, match_key(">_<"): 0.8, "gone": 0.9}
    item = Item("a.png", ("hat", "long_hair", r"poster \(object\)", ">_<", "mine"), "", scores)
    assert parse_filter(text)(item) is is_found


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_empty_filter_means_all(text: str) -> None:
    assert parse_filter(text) is None


@pytest.mark.parametrize(
    "text", ["rating:safe", "re:zero", "Rating:S*", "tag:rating:safe", "(rating:safe OR nier:automata)", "NOT colour:red AND safe"]
)
def test_other_words_before_a_colon_are_text_as_in_taggui(text: str) -> None:
    test = parse_filter(text)
    assert test(_item("rating:safe, re:zero")) and not test(_item("rating questionable, colour:red"))


def test_words_of_the_language_in_quotes_are_text() -> None:
    test = parse_filter('"and"')
    assert test(_item("sand")) and not test(_item("solo"))
    assert parse_filter('tag:"not"')(_item("not, solo"))


def test_tokens_need_someone_to_count_them() -> None:
    assert _found("tokens:>4", count_tokens=lambda caption: len(caption.split())) == "sp"
    with pytest.raises(FilterError, match="cannot be counted here; use `chars:`"):
        parse_filter("tokens:>5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tag:hat AND", "missing before the end"),
        ("AND tag:hat", "missing before 'AND'"),
        ("tag:a OR OR tag:b", "missing before 'OR'"),
        ("NOT", "missing before the end"),
        ("()", r"missing before '\)'"),
        ("(tag:hat", "lacks a closing parenthesis"),
        ("tag:hat)", "closing parenthesis too many"),
        ("captoin:red", r"`captoin:`, which is not one of tag:, caption:.*stands in quotes"),
        ("tga:hat", "`tga:`, which is not one of"),
        ("char:5", "`char:`, which is not one of"),
        ("size:>5", "`size:`, which is not one of"),
        ("colour: red", "`colour:`, which is not one of"),
        ("tag:", "behind `tag:`; write something like tag:hat"),
        ("tag: (a)", "behind `tag:`"),
        ("tags:many", "`tags:` needs a comparison and a number, like tags:>5, instead of 'many'"),
        ("chars:>", "needs a comparison"),
        ("tags:>-1", "needs a comparison"),
        ("tags:>" + "9" * 5000, "needs a comparison"),
        ("score:", "behind `score:`; write something like score:<0.4"),
        ("score:hat", "`score:` needs a comparison and a number, like score:<0.4 or score:hat>0.8, instead of 'hat'"),
        ("score:hat>many", "needs a comparison"),
        ('tag:"long hair', "behind `tag:`"),
        ('"long hair', "is a quote not closed"),
        ("(" * 5000, "nested too deeply"),
    ],
)
def test_problems_say_what_to_write(text: str, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        parse_filter(text)


def test_twenty_thousand_pictures_are_quick() -> None:
    import time

    items = [_item(", ".join(f"tag {(i * j) % 3000}" for j in range(1, 31)), f"set/{i}.png") for i in range(20_000)]
    test = parse_filter("(tag:tag_1* OR caption:99) AND NOT name:7 AND tags:>20")
    started_sec = time.process_time()
    assert 0 < sum(map(test, items)) < len(items)
    assert time.process_time() - started_sec < 10


def test_paths_begin_at_the_folder_of_all_pictures(tmp_path) -> None:
    paths = [tmp_path / "girls" / "a" / "1.png", tmp_path / "girls" / "b" / "2.png", tmp_path / "girls" / "3.png"]
    items = filter_items([str(path) for path in paths], [(("x",), "x")] * 3)
    assert [item.path.replace("\\", "/") for item in items] == ["a/1.png", "b/2.png", "3.png"]
    assert [parse_filter("path:a/")(item) for item in items] == [True, False, False]
    assert not any(map(parse_filter("girls"), items)), "the folder itself is no reason to be found"
    assert filter_items([], []) == ()
    assert filter_items([str(paths[0])], [((), "")])[0].path == "1.png"

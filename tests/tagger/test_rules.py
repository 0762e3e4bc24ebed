import re

import pytest

from athanor.tagger import rule_language as language
from athanor.tagger.errors import RuleError, TaggerError
from athanor.tagger.lexicon import read_lexicon
from athanor.tagger.rule_language import parse_rules
from athanor.tagger.rules import apply_rules, report


def _apply(text: str, *captions: str) -> list[str]:
    edited, counts = apply_rules(parse_rules(text), [tuple(caption.split(", ")) if caption else () for caption in captions])
    assert len(counts) == len(parse_rules(text))
    return [", ".join(caption) for caption in edited]


@pytest.mark.parametrize(
    ("rules", "caption", "expected"),
    [
        # trigger
        ("trigger: mychar", "solo, smile", "mychar, solo, smile"),
        ("trigger: mychar", "solo, MyChar, smile", "mychar, solo, smile"),
        ("trigger: my_char", "solo, my char", "my_char, solo"),
        ("trigger: mychar", "", "mychar"),
        ("trigger: mychar, outfit a", "solo, outfit a", "mychar, outfit a, solo"),
        ("trigger: hat", "hatsune miku", "hat, hatsune miku"),
        # remove
        ("remove: hat", "hat, hatsune miku, witch hat", "hatsune miku, witch hat"),
        ("remove: *_hair, SOLO", "long hair, short_hair, hair ornament, solo focus, solo", "hair ornament, solo focus"),
        ("remove: poster (object)", r"poster \(object\), poster_(object), poster", "poster"),
        (r"remove: poster \(object\)", "poster (object), solo", "solo"),
        ("remove: ;d", ";d, :d, d", ":d, d"),
        (r"remove: \m/", r"\m/, m/, \o/", r"m/, \o/"),
        ("remove: girl", "1girl, girl", "1girl"),
        (r"remove: \?", "?, a, !", "a, !"),
        ("remove: 红发，蓝眼", "红发, 微笑, 蓝眼", "微笑"),
        # keep
        ("keep: 1girl, *_background", "1girl, white background, solo", "1girl, white background"),
        ("trigger: me\nkeep: solo", "1girl, solo", "me, solo"),
        ("keep: solo\ntrigger: me", "me, solo", "me, solo"),
        # replace
        ("replace: grey hair -> silver hair", "solo, grey_hair, smile", "solo, silver hair, smile"),
        ("replace: a, b -> c", "x, a, y, b, z", "x, c, y, z"),
        ("replace: a, b -> c", "x, b, c, a", "x, c"),
        ("replace: a, b -> c", "c, x, a, b", "c, x"),
        ("replace: a -> b, c", "x, a, y", "x, b, c, y"),
        ("replace: *_hair -> hair", "long hair, hair ornament, red hair", "hair, hair ornament"),
        ("replace: a -> A", "x, a", "x, A"),
        ("replace: hat -> cap", "hatsune miku, that", "hatsune miku, that"),
        ("replace: a ->", "x, a, y", "x, y"),
        ("replace: a->b", "a", "b"),
        ("replace：红发 → 赤发", "红发", "赤发"),
        ("replace: >_< -> closed eyes", ">_<, >_o", "closed eyes, >_o"),
        # regex
        (r"regex: ^(\w+) eyes$ -> eyes, \1", "blue eyes, closed eyes now", "eyes, blue, closed eyes now"),
        (r"regex: \s*\(.*\)$ ->", "saber (fate), (nothing)", "saber"),
        ('regex: _ -> " "', "long_hair, smile", "long hair, smile"),
        ('regex: "hair " ->', "hair ornament, hair", "ornament, hair"),
        ("regex: BLUE -> red", "blue eyes", "red eyes"),
        # deduplicate
        ("deduplicate", "solo, long_hair, Solo, long hair, 1girl", "solo, long_hair, 1girl"),
        ("deduplicate:", "a, a", "a"),
        # order
        ("sort: alphabetical", "b, C, a_z, a b", "a b, a_z, b, C"),
        ("sort: alphabetical reverse", "b, C, a", "C, b, a"),
        ("sort: length", "ccc, a, bb, d", "a, d, bb, ccc"),
        ("first: 1girl, solo", "smile, solo, hat, 1girl", "1girl, solo, smile, hat"),
        ("first: ?girl*, *hair", "smile, red hair, 2girls, long hair", "2girls, red hair, long hair, smile"),
        ("last: white background, explicit", "explicit, a, white_background, b", "a, b, white_background, explicit"),
        ("prepend: photo, solo", "a, solo", "photo, a, solo"),
        ("append: a, b", "x, A", "x, A, b"),
        ("add: b", "x", "x, b"),
        ("max: 2", "a, b, c", "a, b"),
        # consolidate
        ("consolidate", "1girl, shirt, white shirt, solo, hat, hatsune miku", "1girl, white shirt, solo, hat, hatsune miku"),
        ("trigger: shirt\nconsolidate", "white shirt", "shirt, white shirt"),
        # a trigger stays in front
        ("trigger: zzz\nsort: alphabetical", "b, a", "zzz, a, b"),
        ("trigger: zzz\nfirst: 1girl\nprepend: photo", "a, 1girl", "zzz, photo, 1girl, a"),
        ("trigger: zzz\nlast: zzz", "a", "zzz, a"),
        ("trigger: zzz\nmax: 1", "a", "zzz"),
        # spelling
        ("spaces", "long_hair, ^_^, ||_||, poster_(object)", "long hair, ^_^, ||_||, poster (object)"),
        ("unescape", r"poster \(object\), \m/, \(^o^)/", r"poster (object), \m/, \(^o^)/"),
    ],
)
def test_what_each_rule_does(rules: str, caption: str, expected: str) -> None:
    assert _apply(rules, caption) == [expected]


def test_rules_apply_in_their_order() -> None:
    assert _apply("replace: a -> b\nremove: b", "a, b, c") == ["c"]
    assert _apply("remove: b\nreplace: a -> b", "a, b, c") == ["b, c"]
    assert _apply("max: 2\nremove: a", "a, b, c") == ["b"]
    assert _apply("remove: a\nmax: 2", "a, b, c") == ["b, c"]
    assert _apply("first: a\ntrigger: t", "b, a") == ["t, a, b"]
    assert _apply("append: z\nsort: alphabetical reverse", "a") == ["z, a"]


def test_frequency_counts_captions_of_the_whole_set() -> None:
    captions = ("rare, some, all", "some, all, all", "all")
    assert _apply("sort: frequency", *captions) == ["all, some, rare", "all, all, some", "all"]
    assert _apply("sort: frequency reverse", *captions)[0] == "rare, some, all"
    assert _apply("sort: frequency", "often, often, often, most", "most") == ["most, often, often, often", "most"]
    assert _apply("sort: frequency", "b_c, a", "a, x", "B c", "b c") == ["b_c, a", "a, x", "B c", "b c"]


def test_no_rules_and_no_captions() -> None:
    assert apply_rules((), [("a",), ()]) == ((("a",), ()), ())
    assert parse_rules("\n# nothing\n   \n") == ()
    assert apply_rules(parse_rules("trigger: t\nsort: frequency"), [])[0] == ()


def test_it_is_pure() -> None:
    rules = parse_rules("trigger: t\nremove: a\nregex: x -> y")
    captions = (("a", "x"), ("b",))
    assert apply_rules(rules, captions) == apply_rules(rules, [list(caption) for caption in captions])
    assert captions == (("a", "x"), ("b",))
    assert len({*rules, *parse_rules("trigger: t")}) == 3 and rules[0] == parse_rules("trigger: t")[0]


def test_remarks_and_windows_text() -> None:
    rules = parse_rules("\ufeff# my rules\r\n\r\n  Trigger : me\r\nREMOVE: a\r\n")
    assert [(rule.line, rule.text) for rule in rules] == [(3, "Trigger : me"), (4, "REMOVE: a")]
    assert apply_rules(rules, [("a", "b")])[0] == (("me", "b"),)


def test_every_rule_counts_what_it_changed() -> None:
    text = "trigger: me\nremove: a\nreplace: b, c -> d\nremove: absent\nsort: alphabetical"
    _, counts = apply_rules(parse_rules(text), [("a", "b", "c"), ("z", "y"), ("a", "a"), ("me", "q")])
    assert [(count.num_captions, count.num_removed, count.num_added) for count in counts] == [
        (3, 0, 3),
        (2, 3, 0),
        (1, 2, 1),
        (0, 0, 0),
        (1, 0, 0),
    ]
    assert report(counts).splitlines() == [
        "trigger: me: 3 captions changed, 3 tags in",
        "remove: a: 2 captions changed, 3 tags out (a ×3)",
        "replace: b, c -> d: 1 caption changed, 2 tags out (b, c), 1 tag in",
        "remove: absent: changed nothing",
        "sort: alphabetical: 1 caption changed, order only",
    ]


def test_a_long_list_of_removed_tags_is_cut_in_the_report() -> None:
    _, counts = apply_rules(parse_rules("remove: *"), [tuple(f"tag {i}" for i in range(10)), ("tag 9",)])
    assert counts[0].removed[0] == ("tag 9", 2) and len(counts[0].removed) == 10
    assert report(counts) == "remove: *: 2 captions changed, 11 tags out (tag 9 ×2, tag 0, tag 1, tag 2, tag 3, tag 4, tag 5, tag 6, …)"


def test_pruning_goes_before_or_after_other_rules() -> None:
    captions = ("1girl, solo, red hair", "1girl, solo, Red_Hair, chair")
    assert _apply("prune: character", *captions) == ["1girl, solo", "1girl, solo, chair"]
    assert _apply("trigger: red hair\nprune: character", *captions)[0] == "red hair, 1girl, solo"
    assert _apply("replace: chair -> cat ears\nprune: character 51%", *captions)[1] == "1girl, solo, cat ears"
    assert _apply("replace: chair -> cat ears\nprune: character 50%", *captions)[1] == "1girl, solo"


def test_shuffling_keeps_the_front_and_repeats_itself() -> None:
    tags = [f"tag {i}" for i in range(20)]
    (first,) = _apply("shuffle: 3", ", ".join(tags))
    (again,) = _apply("shuffle: 3", ", ".join(tags[:3] + tags[:2:-1]))
    (other,) = _apply("shuffle: 3 seed 7", ", ".join(tags))
    assert first == again != other
    for text in (first, other):
        assert text.split(", ")[:3] == tags[:3] and sorted(text.split(", ")) == sorted(tags) and text.split(", ") != tags
    assert _apply("trigger: me\nshuffle: 0", "a")[0] == "me, a"
    (pinned,) = _apply("trigger: me\nshuffle: 1", ", ".join(tags))
    assert pinned.startswith("me, tag 0, ") and _apply("shuffle: 9", "b, a") == ["b, a"]


def test_tokens_are_limited_by_whole_tags_from_the_end() -> None:
    rules = parse_rules("trigger: me\nmax tokens: 5", count_tokens=lambda text: len(text.replace(",", " ,").split()))
    captions = [("a", "b c", "d"), ("a",), (), ("one two three four five six",)]
    assert apply_rules(rules, captions)[0] == (("me", "a"), ("me", "a"), ("me",), ("me",))
    assert apply_rules(rules[1:], captions[3:])[0] == (("one two three four five six",),), "a caption never becomes empty"
    with pytest.raises(RuleError, match="tokens cannot be counted here"):
        parse_rules("max tokens: 75")
    with pytest.raises(RuleError, match="'x' is not a number of tokens"):
        parse_rules("max tokens: x", count_tokens=len)


def test_a_pruned_tag_is_told_with_its_reason() -> None:
    captions = [("1girl", "Red_Hair", "tail"), ("1girl", "red hair"), ("1girl", "red hair", "hat")]
    _, counts = apply_rules(parse_rules("prune: character"), captions)
    assert report(counts) == "prune: character: 3 captions changed, 3 tags out (red hair ×2 (a trait, in 100%), Red_Hair (a trait, in 100%))"


@pytest.mark.parametrize(
    ("subject", "gone"), [("character", "red hair"), ("style", "sketch"), ("outfit", "hat"), ("concept", "red hair, sketch, hat")]
)
def test_prune_has_a_preset_for_each_subject(subject: str, gone: str) -> None:
    (left,) = _apply(f"prune: {subject}", "1girl, red hair, sketch, hat")
    assert set(left.split(", ")) == {"1girl", "red hair", "sketch", "hat"} - set(gone.split(", "))


def test_aliases_become_their_tags(tmp_path) -> None:
    file = tmp_path / "danbooru.csv"
    file.write_text('hatsune_miku,4,9,"miku,初音"\nmiku_(other),4,9,"miku"\n1girl,0,9,"sole_female"\n^_^,0,9,"happy_face"\n', encoding="utf-8")
    rules = parse_rules("trigger: 初音\nalias", read_lexicon(file))
    captions = (("sole female", "a", "1girl"), ("Sole_Female", "初音", "miku"), ("happy face",), ("a", "a"))
    edited, counts = apply_rules(rules, captions)
    assert edited == (("初音", "1girl", "a"), ("初音", "1girl", "miku"), ("初音", "^_^"), ("初音", "a", "a"))
    assert counts[1].num_captions == 3
    assert apply_rules(parse_rules("alias", read_lexicon(file)), [("初音",), ("初_音", "x")])[0] == (("hatsune miku",), ("初_音", "x"))


def test_all_problems_are_told_at_once() -> None:
    text = "trigger: fine\nremoev: a\n\n# ok\n1girl\nregex: (a -> b\nmax: many\nsort: colour\nremove:\ntrigger"
    with pytest.raises(RuleError) as error:
        parse_rules(text)
    assert isinstance(error.value, TaggerError)
    assert [int(re.match(r"Line (\d+), `", problem)[1]) for problem in error.value.problems] == [2, 5, 6, 7, 8, 9, 10]
    assert str(error.value).splitlines() == list(error.value.problems)
    assert "Did you mean `remove`?" in error.value.problems[0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("regex: (a -> b", r"'\(a' is not a regular expression: missing \)"),
        (r"regex: a -> \1", "does not fit the pattern: invalid group reference 1"),
        (r"regex: a -> \g<name>", "does not fit the pattern: unknown group name"),
        ("regex: a", "an arrow between blanks"),
        ("replace: a", "an arrow between blanks"),
        ("replace: a->b->c", "an arrow between blanks"),
        ("replace: -> b", "nothing in front of the arrow"),
        ("replace: , -> b", "no tag between the commas"),
        ("remove: , ,", "no tag between the commas"),
        ("remove", "needs a colon and something behind it, like `remove: 1girl, solo`"),
        ("max: 0", "'0' is not a number of tags"),
        ("max: -3", "'-3' is not a number of tags"),
        ("sort: length backwards", "sort by alphabetical, frequency, length"),
        ("deduplicate: a", "takes nothing behind it; delete 'a'"),
        (": a", "there is no rule ''"),
        ("prune: colour", "write one of character, style, outfit, concept"),
        ("prune: character 0%", "a share from 1% to 100%"),
        ("prune: character 40", "a share from 1% to 100%"),
        ("shuffle: all", "how many tags stay in front"),
        ("shuffle: 1 seed x", "how many tags stay in front"),
        ("alias", "`alias` needs a lexicon"),
        ("consolidate: a", "takes nothing behind it"),
        ("delete everything", "A rule is one of trigger, remove"),
    ],
)
def test_problems_name_the_value_and_the_way_out(line: str, message: str) -> None:
    with pytest.raises(RuleError, match=message):
        parse_rules(line)


def test_the_examples_of_the_description_are_rules() -> None:
    lines = [line.strip() for line in language.__doc__.split("\n\n")[1].splitlines()]
    rules = parse_rules("\n".join(re.split(r"\s{2,}", line)[0] for line in lines), count_tokens=len)
    assert len({rule.line for rule in rules}) == len(lines) - 1 == 21


def test_twenty_thousand_captions_are_quick() -> None:
    import time

    captions = [tuple(f"tag {(i * j) % 3000}" for j in range(1, 31)) for i in range(20_000)]
    rules = parse_rules("trigger: me\nremove: *7, tag 12?\nreplace: tag 1, tag 2 -> tag 3\nregex: ^tag -> t\ndeduplicate\nsort: frequency\nmax: 20")
    started_sec = time.process_time()
    edited, counts = apply_rules(rules, captions)
    assert len(edited) == 20_000 and all(count.num_captions for count in counts)
    assert time.process_time() - started_sec < 20


def test_the_surest_tags_come_first_each_caption_by_its_own_scores() -> None:
    captions = [("mine", "hat", "long_hair", "solo"), ("hat", "solo")]
    scores = [{"hat": 0.4, "long hair": 0.9, "solo": 0.6}, {"hat": 0.8, "solo": 0.3}]
    edited, _ = apply_rules(parse_rules("sort: score"), captions, scores)
    assert edited == (("long_hair", "solo", "hat", "mine"), ("hat", "solo"))
    edited, _ = apply_rules(parse_rules("trigger: me\nsort: score reverse\nmax: 3"), captions, scores)
    assert edited == (("me", "hat", "solo"), ("me", "solo", "hat"))
    assert apply_rules(parse_rules("sort: score"), captions)[0] == tuple(captions), "nothing is known: nothing moves"

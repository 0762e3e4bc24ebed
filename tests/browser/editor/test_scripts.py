"""The editor's scripts themselves: they agree with Python, and both languages are whole."""

from __future__ import annotations

import random

import pytest

from athanor.tagger.hand_edits import parse_hand_edits
from athanor.tagger.tags import match_key, split_tags, without_duplicates

pytestmark = [pytest.mark.comfy, pytest.mark.browser, pytest.mark.slow]


def test_the_scripts_agree_with_python(open_editor_page):
    """Hand edits are made by the page and replayed by Python: both must mean the same."""
    editor = open_editor_page()
    chance = random.Random(3)
    words = ["a", "B", "long_hair", "long hair", "Long  Hair", r"poster \(object\)", "poster (object)", r"\(^o^)/", "^_^", "ß", "ss", "蓝 发", "x_x"]
    pairs = [([*chance.choices(words, k=chance.randrange(0, 7))], [*chance.choices(words, k=chance.randrange(0, 7))]) for _ in range(400)]
    others = [[*chance.choices(words, k=chance.randrange(0, 7))] for _ in pairs]
    made = editor.page.evaluate(
        """async ([pairs, others, words]) => {
          const { diff, replay, editsText } = await import('/extensions/athanor/editor/edits.mjs')
          const { matchKey, splitTags, withoutDuplicates } = await import('/extensions/athanor/editor/tags.mjs')
          const edits = pairs.map(([before, after]) => diff(before, after))
          const text = editsText(new Map(edits.flatMap((edit, i) => edit ? [[`set/${i}.png`, edit]] : [])))
          return [text, edits.map((edit, i) => edit ? replay(others[i], edit) : others[i]), words.map(matchKey), splitTags(words.join(',')),
                  pairs.map(([before]) => withoutDuplicates(before))]
        }""",
        [pairs, others, words],
    )
    text, replayed, keys, parts, first = made
    edits = parse_hand_edits(text)
    assert len(edits) > 200
    for i, (before, after) in enumerate(pairs):
        edit = edits.get(f"set/{i}.png")
        if edit is None:
            assert without_duplicates(before) == without_duplicates(after)
            continue
        assert edit.replayed(tuple(before)) == without_duplicates(after), (before, after)
        assert edit.replayed(tuple(others[i])) == tuple(replayed[i]), (before, after, others[i])
    assert keys == [match_key(word) for word in words]
    assert tuple(parts) == split_tags(",".join(words))
    assert [tuple(tags) for tags in first] == [without_duplicates(before) for before, _ in pairs]


TOGGLES = [
    ("", "tag:hat", "tag:hat"),
    ("tag:hat", "tag:hat", ""),
    ("tag:smiley", "tag:smile", "tag:smiley tag:smile"),
    ('tag:a NOT tag:"long hair"', 'NOT tag:"long hair"', "tag:a"),
    ("NOT tag:hat", "tag:hat", "tag:hat"),
    ("tag:hat", "NOT tag:hat", "NOT tag:hat"),
    ("tag:a OR tag:hat", "tag:hat", "tag:a"),
    ("tag:a OR tag:hat OR tag:b", "tag:hat", "tag:a OR tag:b"),
    ("(tag:hat OR tag:b)", "tag:hat", "(tag:b)"),
    (r"tag:a\*b tag:c", r"tag:a\*b", "tag:c"),
]


def test_what_clicks_do_to_the_filter_and_to_the_selection(open_editor_page):
    """A click in the cloud takes whole terms out of the filter, and what joined them; a range begins at the cursor where its beginning is hidden."""
    editor = open_editor_page()
    script = "async rows => { const { toggledTerm } = await import('/extensions/athanor/editor/tags.mjs'); return rows.map(([filter, term]) => toggledTerm(filter, term)) }"
    assert editor.page.evaluate(script, [row[:2] for row in TOGGLES]) == [row[2] for row in TOGGLES]

    selected = editor.page.evaluate(
        """async () => {
          const { Model } = await import('/extensions/athanor/editor/model.mjs')
          const pictures = [...Array(9).keys()].map(i => [`set/${i}.png`, 8, 8, 'train', [], 0])
          const model = new Model('x', { pictures, tags: [], places: {} }, '')
          model.pick(1, 'alone')
          model.pick(4, 'range')
          model.show([2, 3, 4, 5, 7])
          model.pick(7, 'range')
          return [...model.selection]
        }"""
    )
    assert selected == [4, 5, 7]

    text, changed = editor.page.evaluate(
        """async () => {
          const { Model } = await import('/extensions/athanor/editor/model.mjs')
          const picture = key => [key, 8, 8, 'train', [0], 0]
          const edits = JSON.stringify({ version: 1, pictures: { 'set/a.png': { add: ['old'] } } })
          const listing = { pictures: ['set/a.png', 'set/b.png', 'set/a.png'].map(picture), tags: [['cat', 0]], places: { 'set/a.png': [0, 2] } }
          const model = new Model('x', listing, edits)
          const changed = model.change([0], tags => [...tags, 'new'])
          const again = new Model('x', { ...listing, places: {} }, '')
          again.restore(model.editsText())
          return [[model.editsText(), again.editsText()], changed]
        }"""
    )
    assert changed == 2, "a mirrored copy is the same file, and has the same edits"
    assert all(parse_hand_edits(each)["set/a.png"].add == ("old", "new") for each in text)


def test_both_languages_have_every_text(open_editor_page):
    editor = open_editor_page(settings={"Comfy.Locale": "zh"})
    tables = editor.page.evaluate("async () => (await import('/extensions/athanor/editor/text.mjs')).TEXTS")
    assert tables["en"].keys() == tables["zh"].keys()
    places = {key: sorted(part.split("}")[0] for part in text.split("{")[1:]) for key, text in tables["en"].items()}
    assert {key: sorted(part.split("}")[0] for part in text.split("{")[1:]) for key, text in tables["zh"].items()} == places
    assert all(text.strip() for table in tables.values() for text in table.values())

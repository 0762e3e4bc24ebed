"""What docs/rules.md promises is what the rules do."""

import re
from pathlib import Path

import pytest

from athanor.tagger.rule_language import _EXAMPLES, _WITHOUT_BODY, parse_rules
from athanor.tagger.rules import apply_rules

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ("rules.md", "rules.zh.md")
EXAMPLE = re.compile(r"^\| `([^`]+)` \| `([^`]+)` \| `([^`]+)` \| ", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_every_example_comes_out_as_printed(page):
    examples = EXAMPLE.findall((DOCS / page).read_text(encoding="utf-8"))
    assert len(examples) > 15
    wrong = []
    for rule, before, after in examples:
        (edited,), _ = apply_rules(parse_rules(rule), [before.split(", ")])
        if ", ".join(edited) != after:
            wrong.append((rule, before, after, edited))
    assert wrong == []


@pytest.mark.parametrize("page", PAGES)
def test_every_kind_of_rule_is_explained(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    assert [name for name in _EXAMPLES if f"`{name}:" not in text] == []
    assert [name for name in _WITHOUT_BODY if f"`{name}`" not in text] == []


@pytest.mark.parametrize("page", PAGES)
def test_the_recipes_can_be_pasted(page):
    recipes = re.findall(r"^```\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(recipes) == 3
    for recipe in recipes:
        assert len(parse_rules(recipe)) == len(recipe.splitlines())


def test_both_languages_show_the_same_examples():
    english, chinese = (EXAMPLE.findall((DOCS / page).read_text(encoding="utf-8")) for page in PAGES)
    assert english == chinese

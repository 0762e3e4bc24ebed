r"""The language of Edit Tags: an ordered list of rules, one a line. What a rule leaves is what the next one gets.

    # lines that start with # are remarks
    trigger: mychar                  put first, moved there if present; no later rule moves it from the front
    remove: simple background, *_hair    whole tags; * stands for any text, ? for one character
    keep: 1girl, *_background        only these stay (and the trigger)
    replace: grey hair -> silver hair    `rename:` is the same
    replace: jeans, shorts -> pants  any of them becomes one `pants`
    replace: school uniform -> serafuku, pleated skirt
    regex: ^(\w+) eyes$ -> eyes, \1 color    Python's re on every tag as it is spelled, blind to case
    deduplicate                      of a tag that is there twice the first stays
    sort: alphabetical               or frequency (in the whole set, frequent first), length, or score (surest first); with `reverse` behind it
    first: 1girl, solo               those that are there come first, in this order (`order:` is the same); `last:` likewise
    prepend: photo                   in front, where it is missing
    append: outdoors                 at the end, where it is missing; `add:` is the same
    shuffle: 2                       by chance, but the first 2 stay in front; the same every time; `seed 7` behind it gives another order
    max: 30                          only the first 30 tags stay
    max tokens: 75                   whole tags go from the end until a text encoder reads all of the caption
    prune: character 40%             hair, eyes, ears and the like that 40 % of the solo pictures have: the trigger learns them
    preset: character                or style, outfit, concept: several of these rules that suit it, see `presets`
    prune: style                     or outfit, or concept: what belongs to it and most pictures have (`prune` tells the kinds)
    consolidate                      shirt goes where white shirt stands, smile where grin stands
    spaces                           long_hair becomes long hair; kaomoji such as ^_^ stay
    unescape                         poster \(object\) becomes poster (object)

Tags are compared blind to case, to underscore or blank, and to escaped parentheses, and always as a whole: `hat` is not in
`hatsune miku`. Tags are written into captions as the rule spells them. A comma separates tags, so `;d` is one; `\*` and `\?`
stand for themselves. A pattern or replacement of `regex` in double quotes keeps its outer blanks. With nothing behind its
arrow `replace` or `regex` removes. `alias`, with a lexicon only, turns other names of tags into the tags. The full-width comma, colon and arrow of Chinese and Japanese keyboards do as well.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import replace

from .edits import (
    Add,
    Alias,
    Caption,
    Consolidate,
    Deduplicate,
    Edit,
    Keep,
    Limit,
    LimitTokens,
    Move,
    Prune,
    Remove,
    Replace,
    Respell,
    Shuffle,
    Sort,
    Substitute,
    Trigger,
)
from .errors import RuleError
from .lexicon import Lexicon
from .presets import preset_steps
from .prune import SUBJECTS, usual_percent
from .rules import Rule
from .tags import split_tags, without_duplicates
from .tokens import CountTokens

_SORTS = ("alphabetical", "frequency", "length", "score")


def parse_rules(text: str, lexicon: Lexicon | None = None, count_tokens: CountTokens | None = None) -> tuple[Rule, ...]:
    """The rules of `text`, in their order. `alias` needs the `lexicon`, `prune` finds names with it; `max tokens` needs `count_tokens`.

    Raises RuleError with all problems and their line numbers.
    """
    rules: list[Rule] = []
    problems: list[str] = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        try:
            rules += _rules(number, line, lexicon, count_tokens)
        except ValueError as error:
            problems.append(f"Line {number}, `{line if len(line) <= 80 else line[:79] + '…'}`: {error}")
    if problems:
        raise RuleError(problems)
    return tuple(rules)


def _rules(number: int, line: str, lexicon: Lexicon | None, count_tokens: CountTokens | None) -> list[Rule]:
    preset = re.fullmatch(r"preset\s*[:：](.*)", line, re.IGNORECASE)
    if preset is None:
        return [Rule(number, line, _parse_line(line, lexicon, count_tokens))]
    return [Rule(number, f"{line}, {why}", _parse_line(rule, lexicon, count_tokens)) for rule, why in preset_steps(preset[1])]


def _parse_line(line: str, lexicon: Lexicon | None, count_tokens: CountTokens | None) -> Edit:
    name, colon, body = (part.strip() for part in re.match(r"([^:：]*)([:：]?)(.*)", line, re.DOTALL).groups())
    word = name.casefold()
    if word in _WITHOUT_BODY:
        if body:
            raise ValueError(f"`{word}` takes nothing behind it; delete {body!r}.")
        return _WITHOUT_BODY[word](lexicon)
    if word not in _WITH_BODY:
        near = difflib.get_close_matches(word, known := [*_WITH_BODY, *_WITHOUT_BODY, "preset"], n=1)
        hint = f"Did you mean `{near[0]}`?" if near else f"A rule is one of {', '.join(known)}, then a colon and tags, like `remove: hat`."
        raise ValueError(f"there is no rule {name!r}. {hint}")
    if not colon or not body:
        raise ValueError(f"`{word}` needs {'a colon and ' if not colon else ''}something behind it, like `{_EXAMPLES[word]}`.")
    edit = _WITH_BODY[word](body)
    if isinstance(edit, LimitTokens):
        if count_tokens is None:
            raise ValueError("tokens cannot be counted here; use `max:` with a number of tags.")
        return replace(edit, count_tokens=count_tokens)
    return replace(edit, lexicon=lexicon) if isinstance(edit, Prune) else edit


def _tags(body: str) -> Caption:
    if tags := without_duplicates(split_tags(body)):
        return tags
    raise ValueError("there is no tag between the commas.")


def _arrow(body: str) -> tuple[str, str]:
    """Both sides of the first arrow that stands between blanks; `a->b` is understood when it is the only one."""
    sides = re.split(r"(?:^|\s+)->(?:\s+|$)|\s*→\s*", body, maxsplit=1)
    if len(sides) == 1:
        sides = body.split("->")
    if len(sides) != 2:
        raise ValueError("an arrow between blanks is needed, like `old tag -> new tag`.")
    if not sides[0].strip():
        raise ValueError("there is nothing in front of the arrow.")
    return sides[0].strip(), sides[1].strip()


def _replace(body: str) -> Replace:
    old, new = _arrow(body)
    return Replace(_tags(old), without_duplicates(split_tags(new)))


def _regex(body: str) -> Substitute:
    pattern, replacement = map(_unquoted, _arrow(body))
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
    except (re.error, OverflowError) as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}.") from error
    try:
        compiled.sub(replacement, "")
    except (re.error, IndexError) as error:
        raise ValueError(f"the replacement {replacement!r} does not fit the pattern: {error}.") from error
    return Substitute(compiled, replacement)


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text


def _sort(body: str) -> Sort:
    by, *rest = body.casefold().split()
    if by not in _SORTS or rest not in ([], ["reverse"]):
        raise ValueError(f"sort by {', '.join(_SORTS)}, with `reverse` behind it or not, instead of {body!r}.")
    return Sort(by, reverse=bool(rest))


def _prune(body: str) -> Prune:
    words = re.fullmatch(rf"({'|'.join(SUBJECTS)})(?:\s+(\d{{1,3}})\s*%)?", body.casefold())
    percent = int(words[2] or usual_percent(words[1])) if words else 0
    if not 1 <= percent <= 100:
        raise ValueError(
            f"write one of {', '.join(SUBJECTS)} and, if you like, a share from 1% to 100%, like `prune: character 40%`, instead of {body!r}."
        )
    return Prune(words[1], percent / 100)


def _alias(lexicon: Lexicon | None) -> Alias:
    if lexicon is None:
        raise ValueError("`alias` needs a lexicon that knows other names of tags; choose one.")
    return Alias(lexicon)


def _shuffle(body: str) -> Shuffle:
    match = re.fullmatch(r"(\d{1,4})(?:\s+seed\s+(\d{1,9}))?", body.casefold())
    if not match:
        raise ValueError(
            f"write how many tags stay in front, from 0, and a seed if you like, like `shuffle: 1` or `shuffle: 1 seed 7`, not {body!r}."
        )
    return Shuffle(int(match[1]), int(match[2] or 0))


def _number(body: str, what: str, example: str) -> int:
    if not body.isdecimal() or int(body) < 1:
        raise ValueError(f"{body!r} is not a number of {what}; write a whole number from 1, like `{example}`.")
    return int(body)


_WITH_BODY: dict[str, Callable[[str], Edit]] = {
    "trigger": lambda body: Trigger(_tags(body)),
    "remove": lambda body: Remove(_tags(body)),
    "keep": lambda body: Keep(_tags(body)),
    "replace": _replace,
    "rename": _replace,
    "regex": _regex,
    "sort": _sort,
    "first": lambda body: Move(_tags(body), "first"),
    "order": lambda body: Move(_tags(body), "first"),
    "last": lambda body: Move(_tags(body), "last"),
    "prepend": lambda body: Add(_tags(body), "front"),
    "append": lambda body: Add(_tags(body), "end"),
    "add": lambda body: Add(_tags(body), "end"),
    "shuffle": _shuffle,
    "max": lambda body: Limit(_number(body, "tags", "max: 30")),
    "max tokens": lambda body: LimitTokens(_number(body, "tokens", "max tokens: 75")),
    "prune": _prune,
}
_WITHOUT_BODY: dict[str, Callable[[Lexicon | None], Edit]] = {
    "deduplicate": lambda _: Deduplicate(),
    "consolidate": lambda _: Consolidate(),
    "alias": _alias,
    "spaces": lambda _: Respell("spaces"),
    "unescape": lambda _: Respell("unescaped"),
}
_EXAMPLES = {
    **{name: f"{name}: 1girl, solo" for name in _WITH_BODY},
    "trigger": "trigger: mychar",
    "replace": "replace: old tag -> new tag",
    "rename": "rename: old tag -> new tag",
    "regex": r"regex: ^(\w+) eyes$ -> \1 iris",
    "sort": "sort: frequency",
    "shuffle": "shuffle: 1",
    "max": "max: 30",
    "max tokens": "max tokens: 75",
    "prune": "prune: character 40%",
}

r"""The filter line of Edit Tags: which pictures are meant. Its language is TagGUI's.

    1girl                        pictures whose caption or path has this text
    tag:hat  tag:*_hair          with this whole tag; * stands for any text, ? for one character
    caption:"long hair"          whose caption has this text
    name:IMG_*  path:"my set/*"  by file name or by path below the dataset's folder, with / or \
    tags:>5  chars:<=200  tokens:>75    by the number of tags, characters or tokens: = != < > <= >=
    score:<0.4  score:hat>=0.8  score:"long hair">0.5    with a tag, or this tag, of which the tagger was so sure
    NOT tag:solo AND (tag:hat OR tag:cap)    NOT binds closest, then AND; two terms side by side mean AND

Upper and lower case are alike, in texts and in the words NOT, AND and OR. Text with blanks stands in double or single quotes; so does one
with a lone parenthesis, like ";)". A colon behind another word, as in rating:safe, is a part of the text. Inside them \" is a quote, and \* and \? are a star and a question mark everywhere. `tag:` compares whole tags as the rules do, blind to underscores and escaped parentheses; the others find their text
anywhere. Tags that no tagger has scored fit no `score:`. The full-width colon, parentheses and quotes of Chinese and Japanese keyboards do as well.
"""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import PurePath

from .errors import TaggerError
from .tags import match_key, tag_matcher
from .tokens import CountTokens
from .wildcards import part_test


class FilterError(TaggerError):
    """A filter that cannot be read: what is wrong with it, where, and what to write."""


@dataclass(frozen=True)
class Item:
    """A picture as a filter sees it."""

    path: str
    """Below the dataset's folder, or wherever; `name:` looks at its last part."""
    tags: tuple[str, ...]
    caption: str
    scores: Mapping[str, float] = field(default_factory=dict)
    """Of its tags, by `match_key`, where a tagger has given them."""


Test = Callable[[Item], bool]

_COMPARISONS = {"=": operator.eq, "==": operator.eq, "!=": operator.ne, "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge}
_TEXTS, _NUMBERS = ("tag", "caption", "name", "path"), ("tags", "chars", "tokens")
_KEYS = (*_TEXTS, *_NUMBERS, "score")
_LEAST_LIKENESS = 0.65
"""Of a word before a colon to one of the keys, from which on it counts as a misspelt one: `tga` is `tag`, `rating` is itself."""
_QUOTED = r""""(?:\\"|[^"])*"|'(?:\\'|[^'])*'(?=[\s()（）<>=!]|$)|“[^”]*”|‘[^’]*’"""
"""A single quote that is never closed is an apostrophe."""
_PLAIN = r"""(?!["“(（])(?:[^\s()（）]|\([^\s()]*\)|（[^\s（）]*）)+"""
"""Parentheses inside a word are its own as long as each is closed: `poster_(object)`."""
_TOKEN = re.compile(
    rf"""\s*(?:(?P<open>[(（])|(?P<close>[)）])|(?P<operator>and|or|not)(?=[\s()（）"“]|$)"""
    rf"""|(?P<score>score)\s*[:：]\s*(?P<limit>(?:{_QUOTED}|{_PLAIN})?\s*[<>=!]=?\s*\d*\.?\d+(?=[\s()（）"“]|$))"""
    rf"""|(?P<key>[a-z]+)\s*[:：]\s*(?P<value>{_QUOTED}|[<>=!]=?\s*\d+|{_PLAIN})?|(?P<quoted>{_QUOTED})|(?P<word>{_PLAIN}))""",
    re.IGNORECASE,
)


def parse_filter(text: str, count_tokens: CountTokens | None = None) -> Test | None:
    """A test for pictures; None for an empty filter, which means all of them.

    `count_tokens` makes `tokens:` possible. Raises FilterError.
    """
    reader = _Reader(text, count_tokens)
    if reader.is_at_end():
        return None
    try:
        test = reader.either()
    except RecursionError as error:
        raise FilterError("The filter is nested too deeply.") from error
    if not reader.is_at_end():
        raise FilterError(f"The filter {text!r} has a closing parenthesis too many.")
    return test


def filter_items(
    paths: Sequence[str], captions: Sequence[tuple[tuple[str, ...], str]], scores: Sequence[Mapping[str, float]] | None = None
) -> tuple[Item, ...]:
    """Pictures for a filter, from their full paths, their (tags, caption) and, by `match_key`, the scores of their tags.

    Each path is told from the folder that holds them all.
    """
    try:
        root = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120
    except ValueError:  # none at all, or on several drives
        root = ""
    shown = [os.path.relpath(path, root) if root else path for path in paths]
    known = scores if scores is not None else [{}] * len(shown)
    return tuple(Item(path, tags, caption, own) for path, (tags, caption), own in zip(shown, captions, known, strict=True))


class _Reader:
    """Reads one filter from left to right."""

    def __init__(self, text: str, count_tokens: CountTokens | None):
        self._text = text
        self._count_tokens = count_tokens
        self._tokens = _tokens(text)
        self._next = 0

    def is_at_end(self) -> bool:
        return self._next == len(self._tokens)

    def either(self) -> Test:
        tests = [self._all()]
        while self._takes("or"):
            tests.append(self._all())
        return tests[0] if len(tests) == 1 else lambda item: any(test(item) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while self._takes("and") or not (self.is_at_end() or self._is("or") or self._is("close")):
            tests.append(self._one())
        return tests[0] if len(tests) == 1 else lambda item: all(test(item) for test in tests)

    def _one(self) -> Test:
        if self._takes("not"):
            denied = self._one()
            return lambda item: not denied(item)
        if self._takes("open"):
            inner = self.either()
            if not self._takes("close"):
                raise FilterError(f"The filter {self._text!r} lacks a closing parenthesis.")
            return inner
        if self.is_at_end() or self._tokens[self._next].kind in ("and", "or", "close"):
            before = "the end" if self.is_at_end() else repr(self._tokens[self._next].text)
            raise FilterError(f"In the filter {self._text!r} something is missing before {before}; write a term like tag:hat there.")
        token = self._tokens[self._next]
        self._next += 1
        return self._anywhere(token.text) if token.kind == "text" else self._term(token.kind, token.text)

    def _anywhere(self, text: str) -> Test:
        in_caption, in_path = _text_test(text), _text_test(text)
        return lambda item: in_caption(item.caption) or in_path(item.path)

    def _term(self, key: str, value: str) -> Test:
        if key == "tag":
            matches = tag_matcher((value,))
            return lambda item: any(map(matches, item.tags))
        if key in _TEXTS:
            fits = _text_test(re.sub(r"\\(?![*?])", "/", value) if key == "path" else value)
            if key == "caption":
                return lambda item: fits(item.caption)
            return (lambda item: fits(PurePath(item.path).name)) if key == "name" else (lambda item: fits(PurePath(item.path).as_posix()))
        if key == "score":
            return self._score(value)
        compare, number = self._comparison(key, value)
        if key == "tags":
            return lambda item: compare(len(item.tags), number)
        if key == "chars":
            return lambda item: compare(len(item.caption), number)
        count_tokens = self._count_tokens
        if count_tokens is None:
            raise FilterError(f"The filter {self._text!r} asks for `tokens:`, which cannot be counted here; use `chars:` or `tags:`.")
        return lambda item: compare(count_tokens(item.caption), number)

    def _score(self, value: str) -> Test:
        match = re.fullmatch(r"(.*?)\s*(==|=|!=|<=|>=|<|>)\s*(\d*\.?\d+)", value)
        if not match:
            raise FilterError(
                f"In the filter {self._text!r} `score:` needs a comparison and a number, like score:<0.4 or score:hat>0.8, instead of {value!r}."
            )
        compare, number = _COMPARISONS[match[2]], float(match[3])
        matches = tag_matcher((_unquoted(match[1]) if match[1] else "*",))
        return lambda item: any(compare(item.scores[key], number) for tag in item.tags if (key := match_key(tag)) in item.scores and matches(tag))

    def _comparison(self, key: str, value: str) -> tuple[Callable[[int, int], bool], int]:
        match = re.fullmatch(r"(==|=|!=|<=|>=|<|>)?\s*(\d{1,15})", value)
        if not match:
            raise FilterError(f"In the filter {self._text!r} `{key}:` needs a comparison and a number, like {key}:>5, instead of {value!r}.")
        return _COMPARISONS[match[1] or "="], int(match[2])

    def _is(self, kind: str) -> bool:
        return not self.is_at_end() and self._tokens[self._next].kind == kind

    def _takes(self, kind: str) -> bool:
        taken = self._is(kind)
        self._next += taken
        return taken


@dataclass(frozen=True)
class _Token:
    kind: str
    """`open`, `close`, `and`, `or`, `not`, `text`, or a key such as `tag`."""
    text: str


def _tokens(text: str) -> Sequence[_Token]:
    tokens: list[_Token] = []
    place = 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None:  # a quote that is never closed
            raise FilterError(f"The filter {text!r} cannot be read from {text[place:].strip()[:30]!r} on; is a quote not closed?")
        place = match.end()
        key = (match["key"] or "").casefold()
        if match["score"]:
            tokens.append(_Token("score", match["limit"]))
            continue
        if key and key not in _KEYS:
            if _is_text_with_colon(key, match):
                tokens.append(_Token("text", match[0].strip()))
                continue
            known = ", ".join(f"{name}:" for name in _KEYS)
            raise FilterError(f"The filter {text!r} asks for `{key}:`, which is not one of {known}. A text with a colon stands in quotes.")
        if key and not match["value"]:
            example = f"{key}:{'>5' if key in _NUMBERS else '<0.4' if key == 'score' else 'hat'}"
            raise FilterError(f"In the filter {text!r} nothing that can be read stands behind `{key}:`; write something like {example}.")
        if key:
            tokens.append(_Token(key, _unquoted(match["value"])))
        elif match["operator"]:
            tokens.append(_Token(match["operator"].casefold(), match["operator"]))
        elif match["open"] or match["close"]:
            tokens.append(_Token("open" if match["open"] else "close", match[0].strip()))
        else:
            tokens.append(_Token("text", _unquoted(match["quoted"] or match["word"])))
    return tokens


def _is_text_with_colon(key: str, match: re.Match[str]) -> bool:
    """Whether `rating:safe` is meant, as it is where `key` is no slip of the pen and nothing is compared or quoted."""
    return (
        match["value"] is not None
        and re.match(r"[<>=!\"'“‘]", match["value"]) is None
        and not re.search(r"\s", match[0].strip())
        and not get_close_matches(key, _KEYS, 1, _LEAST_LIKENESS)
    )


def _unquoted(text: str) -> str:
    """Without its quotes, and without the backslashes before quotes inside."""
    if len(text) < 2 or text[0] + text[-1] not in ('""', "''", "“”", "‘’"):
        return text
    return text[1:-1].replace(f"\\{text[0]}", text[0])


def _text_test(pattern: str) -> Callable[[str], bool]:
    """Whether a text has `pattern` in it, blind to case."""
    fits = part_test(pattern.casefold())
    return lambda text: fits(text.casefold())

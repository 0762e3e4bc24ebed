r"""The filter line of Edit Tags: which pictures are meant. Its language is TagGUI's.

    1girl                        pictures whose caption or path has this text
    tag:hat  tag:*_hair          with this whole tag; * stands for any text, ? for one character
    caption:"long hair"          whose caption has this text
    name:IMG_*  path:"my set/*"  by file name or by path below the dataset's folder
    tags:>5  chars:<=200  tokens:>75    by the number of tags, characters or tokens: = != < > <= >=
    NOT tag:solo AND (tag:hat OR tag:cap)    NOT binds closest, then AND; two terms side by side mean AND

Upper and lower case are alike, in texts and in the words NOT, AND and OR. Text with blanks stands in quotes; so does one with a lone
parenthesis, like ";)". `tag:` compares whole tags as the rules do, blind to underscores and escaped parentheses; the others find their text
anywhere. The full-width colon, parentheses and quotes of Chinese and Japanese keyboards do as well.
"""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from .errors import TaggerError
from .tags import tag_matcher
from .tokens import CountTokens


class FilterError(TaggerError):
    """A filter that cannot be read: what is wrong with it, where, and what to write."""


@dataclass(frozen=True)
class Item:
    """A picture as a filter sees it."""

    path: str
    """Below the dataset's folder, or wherever; `name:` looks at its last part."""
    tags: tuple[str, ...]
    caption: str


Test = Callable[[Item], bool]

_COMPARISONS = {"=": operator.eq, "==": operator.eq, "!=": operator.ne, "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge}
_TEXTS, _NUMBERS = ("tag", "caption", "name", "path"), ("tags", "chars", "tokens")
_QUOTED = r""""[^"]*"|“[^”]*”"""
_PLAIN = r"""(?!["“(（])(?:[^\s()（）]|\([^\s()]*\)|（[^\s（）]*）)+"""
"""Parentheses inside a word are its own as long as each is closed: `poster_(object)`."""
_TOKEN = re.compile(
    rf"""\s*(?:(?P<open>[(（])|(?P<close>[)）])|(?P<operator>and|or|not)(?=[\s()（）"“]|$)"""
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


def filter_items(paths: Sequence[str], captions: Sequence[tuple[tuple[str, ...], str]]) -> tuple[Item, ...]:
    """Pictures for a filter, from their full paths and their (tags, caption): each path is told from the folder that holds them all."""
    try:
        root = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120
    except ValueError:  # none at all, or on several drives
        root = ""
    shown = [os.path.relpath(path, root) if root else path for path in paths]
    return tuple(Item(path, tags, caption) for path, (tags, caption) in zip(shown, captions, strict=True))


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
            fits = _text_test(value)
            if key == "caption":
                return lambda item: fits(item.caption)
            return (lambda item: fits(PurePath(item.path).name)) if key == "name" else (lambda item: fits(PurePath(item.path).as_posix()))
        compare, number = self._comparison(key, value)
        if key == "tags":
            return lambda item: compare(len(item.tags), number)
        if key == "chars":
            return lambda item: compare(len(item.caption), number)
        count_tokens = self._count_tokens
        if count_tokens is None:
            raise FilterError(f"The filter {self._text!r} asks for `tokens:`, which cannot be counted here; use `chars:` or `tags:`.")
        return lambda item: compare(count_tokens(item.caption), number)

    def _comparison(self, key: str, value: str) -> tuple[Callable[[int, int], bool], int]:
        match = re.fullmatch(r"(==|=|!=|<=|>=|<|>)?\s*(\d+)", value)
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
        if key and key not in (*_TEXTS, *_NUMBERS):
            known = ", ".join(f"{name}:" for name in (*_TEXTS, *_NUMBERS))
            raise FilterError(f"The filter {text!r} asks for `{key}:`, which is not one of {known}. A text with a colon stands in quotes.")
        if key and not match["value"]:
            example = f"{key}:{'>5' if key in _NUMBERS else 'hat'}"
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


def _unquoted(text: str) -> str:
    return text[1:-1] if text[0] + text[-1] in ('""', "“”") and len(text) >= 2 else text


def _text_test(pattern: str) -> Callable[[str], bool]:
    """Whether a text has `pattern` in it, in which * stands for any text and ? for one character."""
    wild = {"*": ".*", "?": "."}
    regex = re.compile("".join(wild.get(part) or re.escape(part) for part in re.split(r"([*?])", pattern.casefold())), re.DOTALL)
    return lambda text: regex.search(text.casefold()) is not None

"""The trigger in captions, and the class's name in its place. No torch."""

from __future__ import annotations

import re


def mentions(caption: str, trigger: str) -> bool:
    """Whether `trigger` stands in `caption` as words of their own; capitals are alike, as they are to CLIP."""
    return bool(trigger.strip()) and _pattern(trigger).search(caption) is not None


def with_class_word(caption: str, trigger: str, class_word: str) -> str:
    """`caption` with `class_word` wherever `trigger` stood (ai-toolkit's differential output preservation)."""
    return _pattern(trigger).sub(lambda _: class_word.strip(), caption) if trigger.strip() else caption


def _pattern(trigger: str) -> re.Pattern[str]:
    # Words of Chinese stand without blanks, so that only letters and digits of ASCII belong to a neighbour.
    return re.compile(rf"(?<![A-Za-z0-9_]){re.escape(trigger.strip())}(?![A-Za-z0-9_])", re.IGNORECASE)

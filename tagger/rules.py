"""Rules applied to the captions of a whole set, in their order, and what each of them did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .edits import (
    Captions,
    Edit,
    Prune,
    Sort,
    Trigger,
)
from .prune import Pruned
from .tags import match_key

_NUM_NAMED = 8


@dataclass(frozen=True)
class Rule:
    """One rule and where it stands."""

    line: int
    """Counted from 1, remarks and empty lines included."""
    text: str
    edit: Edit


@dataclass(frozen=True)
class RuleCount:
    """What one rule changed in the captions that it got from the rule before."""

    rule: Rule
    num_captions: int
    """Changed in any way, a changed order included."""
    num_removed: int
    num_added: int
    """Tags over all captions; a replaced tag counts in both."""
    removed: tuple[tuple[str, int], ...]
    """The tags that went and how often, the most frequent first."""
    reasons: tuple[Pruned, ...] = ()
    """Of `prune`: why they went."""


def apply_rules(
    rules: Sequence[Rule], captions: Sequence[Sequence[str]], scores: Sequence[Mapping[str, float]] = ()
) -> tuple[Captions, tuple[RuleCount, ...]]:
    """The captions of a whole set after all `rules`, and what each of them did. Nothing but the arguments decides.

    `scores`: for each caption how sure a tagger was of its tags, by `match_key`, for `sort: score`.
    """
    current: Captions = tuple(map(tuple, captions))
    counts: list[RuleCount] = []
    pinned: frozenset[str] = frozenset()
    for rule in rules:
        edit = replace(rule.edit, scores=tuple(scores)) if isinstance(rule.edit, Sort) else rule.edit
        edited = edit.edited(current, pinned)
        reasons = rule.edit.pruned(current, pinned) if isinstance(rule.edit, Prune) else ()
        counts.append(replace(_count(rule, current, edited), reasons=reasons))
        if isinstance(rule.edit, Trigger):
            pinned |= rule.edit.keys
        current = edited
    return current, tuple(counts)


def report(counts: Sequence[RuleCount]) -> str:
    """One line for each rule, for people."""
    return "\n".join(f"{count.rule.text}: {_outcome(count)}" for count in counts)


def _outcome(count: RuleCount) -> str:
    if not count.num_captions:
        return "changed nothing"
    parts = [f"{count.num_captions} {'caption' if count.num_captions == 1 else 'captions'} changed"]
    if count.num_removed:
        reasons = {pruned.key: f" ({pruned.kind}, in {pruned.share:.0%})" for pruned in count.reasons}
        named = [f"{tag}{'' if number == 1 else f' ×{number}'}{reasons.get(match_key(tag), '')}" for tag, number in count.removed[:_NUM_NAMED]]
        more = ", …" if len(count.removed) > _NUM_NAMED else ""
        parts.append(f"{count.num_removed} {'tag' if count.num_removed == 1 else 'tags'} out ({', '.join(named)}{more})")
    if count.num_added:
        parts.append(f"{count.num_added} {'tag' if count.num_added == 1 else 'tags'} in")
    return ", ".join(parts if len(parts) > 1 else [*parts, "order only"])


def _count(rule: Rule, before: Captions, after: Captions) -> RuleCount:
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    removed: Counter[str] = Counter()
    num_added = 0
    for old, new in changed:
        removed.update(Counter(old) - Counter(new))
        num_added += (Counter(new) - Counter(old)).total()
    by_number = sorted(removed.items(), key=lambda item: (-item[1], item[0]))
    return RuleCount(rule, len(changed), removed.total(), num_added, tuple(by_number))

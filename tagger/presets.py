"""Ready lists of rules for what a LoRA is to learn, so that nobody has to write them: `preset: character`, style, outfit, concept.

What is to be learned goes out of the captions, so that the trigger takes it up; what varies stays, so that prompts can vary it.
"""

from __future__ import annotations

from .wordlists import OVERLAY_PATTERNS

Step = tuple[str, str]
"""A rule, and how the report calls it and says why."""

_ONCE: Step = ("deduplicate", "each tag once")
_OVERLAYS: Step = (f"remove: {', '.join(OVERLAY_PATTERNS)}", "what is written upon pictures or says how good they are is not to be learned")
_SPECIFIC: Step = ("consolidate", "tags that a more specific one says already")
_PEOPLE_FIRST: Step = ("first: ?girl, ?girls, ?+girls, ?boy, ?boys, ?+boys, multiple girls, multiple boys, solo", "who is there comes first")

PRESETS: dict[str, tuple[Step, ...]] = {
    "character": (_ONCE, ("prune: character", "what the character always looks like belongs to the trigger"), _OVERLAYS, _SPECIFIC, _PEOPLE_FIRST),
    "style": (_ONCE, ("prune: style", "names of the style belong to it, what is shown stays"), _PEOPLE_FIRST),
    "outfit": (_ONCE, ("prune: outfit", "parts of the outfit belong to the trigger, the body stays"), _OVERLAYS, _SPECIFIC, _PEOPLE_FIRST),
    "concept": (_ONCE, ("prune: concept", "what nearly all pictures share is the concept"), _OVERLAYS, _PEOPLE_FIRST),
}


def preset_steps(name: str) -> tuple[Step, ...]:
    """Raises ValueError for a preset that there is not."""
    steps = PRESETS.get(name.strip().casefold())
    if steps is None:
        raise ValueError(f"there is no preset {name.strip()!r}; write one of {', '.join(PRESETS)}, like `preset: character`.")
    return steps

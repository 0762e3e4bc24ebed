"""How pictures are described in sentences."""

from __future__ import annotations

from dataclasses import dataclass

from .field import setting

DETAILS = ("short", "detailed", "very detailed", "tags (PromptGen)", "tags and sentences (PromptGen)")


@dataclass(frozen=True)
class CaptioningSettings:
    """What decides about a model's own words for a picture. What is done to them afterwards is not here."""

    detail: str = setting(
        "detailed",
        "How much Florence-2 writes; BLIP always writes one short sentence. The last two are for the PromptGen variants of Florence-2 only.",
        choices=DETAILS,
    )
    beginning: str = setting("", "Words with which BLIP has to begin, such as: a photo of. Florence-2 does not know this.")
    max_tokens: int = setting(256, "Where a caption is cut off at the latest. A token is a short word or a part of one.", 1, 1024, advanced=True)
    num_beams: int = setting(3, "How many wordings are weighed against each other. 1 is fastest.", 1, 16, advanced=True)

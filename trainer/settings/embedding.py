"""What an embedding is made of."""

from __future__ import annotations

from dataclasses import dataclass

from .field import setting


@dataclass(frozen=True)
class EmbeddingSettings:
    """Textual inversion (Gal et al. 2022): new vectors in the text encoder's token table."""

    token: str = setting("my-concept", "The word for the prompt; in ComfyUI it is written embedding:name.")
    num_vectors: int = setting(
        4, "How many tokens the embedding takes. More hold more detail and leave less room in the prompt. Usual: 2 to 8.", 1, 75
    )
    initial_words: str = setting("", "Words whose vectors the training starts from, for example: red heart. Empty starts from small random vectors.")
    templates: str = setting(
        "captions",
        "What the prompts are made of: the captions of the images, or sentences about a subject or a style.",
        choices=("captions", "subject", "style"),
    )

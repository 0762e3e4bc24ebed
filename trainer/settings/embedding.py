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
        "What the prompts are made of: the captions of the images, sentences about a subject or a style, both together, or your own sentences.",
        choices=("captions", "subject", "style", "subject + captions", "style + captions", "own sentences"),
    )
    sentences: str = setting(
        "",
        "Your own sentences, one a line. [name] becomes the embedding, [filewords] the image's caption, for example: a photo of [name], [filewords].",
        multiline=True,
    )
    other_embeddings: str = setting(
        "",
        "Embeddings that are trained along, one a line, for example: my-dog: vectors=2; words=brown dog. Each learns from the images whose captions name it.",
        multiline=True,
        advanced=True,
    )
    keep_norm: bool = setting(
        False,
        "Keeps the new vectors about as long as those of real words, so that they mix well with the rest of a prompt and cannot run away.",
        advanced=True,
    )
    start_embedding: str = setting(
        "", "Training goes on from this embedding. Its vectors are taken from the file, instead of from initial words.", advanced=True
    )
    embedding_rate: float = setting(
        1e-3, "Learning rate of the embeddings that are trained with a LoRA. Usual: 0.0003 to 0.003.", 1e-7, 10.0, step=1e-6, advanced=True
    )
    embedding_percent: float = setting(
        100.0,
        "The embeddings of a LoRA learn for this share of the run, then stay while the LoRA goes on. Usual: 50 to 100.",
        1.0,
        100.0,
        advanced=True,
    )
    encoders: str = setting(
        "all",
        "Which text encoders get new vectors. The others read the initial words where the name stands, or nothing. SDXL has clip_l and clip_g, SD3.5 also t5, FLUX clip_l and t5.",
        choices=("all", "clip", "clip_l", "clip_g", "t5"),
        advanced=True,
    )
    embedding_sha256: str = setting("", "What the files to go on from held when the job was written; with another content it is another run.")

"""A job that trains a whole model or an embedding, for the scripts of sd-scripts that do so."""

from __future__ import annotations

from typing import Any

from ...config import TrainJob

WHOLE_SCRIPTS = {"sd15": "train_db.py", "sd2": "train_db.py", "sdxl": "sdxl_train.py", "flux": "flux_train.py", "sd35": "sd3_train.py"}
EMBEDDING_SCRIPTS = {"sd15": "train_textual_inversion.py", "sd2": "train_textual_inversion.py", "sdxl": "sdxl_train_textual_inversion.py"}
_TEMPLATES = {"subject": "use_object_template", "style": "use_style_template"}


def embedding_settings(job: TrainJob, notes: list[str]) -> dict[str, Any]:
    """What the scripts for textual inversion know of the embedding."""
    settings = job.embedding
    if job.base.family not in EMBEDDING_SCRIPTS:
        notes.append("sd-scripts trains no embeddings for this model.")
    found: dict[str, Any] = {"token_string": settings.token, "num_vectors_per_token": settings.num_vectors}
    if settings.initial_words:
        found["init_word"] = settings.initial_words
    if settings.start_embedding:
        found["weights"] = settings.start_embedding
    if settings.templates in _TEMPLATES:
        found[_TEMPLATES[settings.templates]] = True
    elif settings.templates != "captions":
        notes.append(f"Prompts of {settings.templates} are not known there; captions take their place.")
    if job.captions.dropout or job.captions.tag_dropout or job.captions.dropout_every_epochs:
        notes.append("Captions are not left out there while an embedding is trained.")
    if settings.other_embeddings:
        notes.append("One embedding is trained at a time there.")
    if settings.keep_norm:
        notes.append("Keeping the length of the vectors is not known there.")
    return found


def whole_settings(job: TrainJob, notes: list[str]) -> dict[str, Any]:
    """What train_db.py, sdxl_train.py and their like know of training the model's own weights."""
    settings, found = job.checkpoint, {}
    first, second = job.text_rates
    if job.base.family == "sdxl":
        rates = {"learning_rate_te1": first, "learning_rate_te2": second} if job.trains_text else {}
        found |= {"train_text_encoder": job.trains_text, **rates}
    elif job.base.family in ("sd15", "sd2"):
        found |= {"learning_rate_te": first} if job.trains_text else {"stop_text_encoder_training": -1}
    elif job.base.family == "sd35":
        rates = {"learning_rate_te1": first, "learning_rate_te2": second} if job.trains_text else {}
        t5 = {"train_t5xxl": True, "learning_rate_te3": job.optimizer.t5_rate} if job.optimizer.t5_rate > 0 else {}
        found |= {"train_text_encoder": job.trains_text, **rates, **t5}
    elif job.trains_text:
        notes.append("The text encoders are trained here at rates of their own, which sd-scripts has not for this model.")
    if settings.fused_backward and job.base.family in ("sdxl", "flux", "sd35"):
        found["fused_backward_pass"] = True
    if settings.weights == "bf16":
        found["full_bf16"] = True
        notes.append("Weights in bf16 are rounded by chance here; sd-scripts rounds them to the nearest, but for its fused Adafactor.")
    if settings.blocks or settings.pattern:
        notes.append("Only some weights are trained here (blocks, pattern); sd-scripts trains all.")
    return found

"""A job that trains a whole model, for the scripts of sd-scripts that do so."""

from __future__ import annotations

from typing import Any

from ...config import TrainJob

WHOLE_SCRIPTS = {"sd15": "train_db.py", "sd2": "train_db.py", "sdxl": "sdxl_train.py", "flux": "flux_train.py", "sd35": "sd3_train.py"}


def whole_settings(job: TrainJob, notes: list[str]) -> dict[str, Any]:
    """What train_db.py, sdxl_train.py and their like know of training the model's own weights."""
    settings, found = job.checkpoint, {}
    first, second = job.text_rates
    if job.base.family == "sdxl":
        rates = {"learning_rate_te1": first, "learning_rate_te2": second} if job.trains_text else {}
        found |= {"train_text_encoder": job.trains_text, **rates}
    elif job.base.family in ("sd15", "sd2"):
        found |= {"learning_rate_te": first} if job.trains_text else {"stop_text_encoder_training": -1}
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

"""What a file tells of itself: `ss_*` as sd-scripts writes it and `modelspec.*` (Stability's model spec 1.0.1).

Everything here follows from the job, so that the same job gives the same file to the bit; times of day come in when an
epoch is saved under its final name.
"""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import datetime, timezone
from pathlib import Path

from ..config import TrainJob
from ..families.base import Family
from ..files import file_sha256
from ..objective.noise import trained_base
from ..optimizing.steps import steps_of
from ..runs.run import job_hash
from ..settings.optimizer import chosen_options
from ..trainees.words import Word, words_of
from ..types import BaseModel
from .dataset_metadata import common_size_px, dataset_metadata
from .parameters import flow_arguments

_UNUSED = ("ss_face_crop_aug_range", "ss_validation_seed", "ss_max_validation_steps", "ss_validate_every_n_steps")
"""What sd-scripts always names, and what has no like here."""
_STABILITY = "https://github.com/Stability-AI/generative-models"
_MIXED_PRECISION = {"bf16": "bf16", "fp16": "fp16", "fp32": "no"}


def file_metadata(job: TrainJob, family: Family, epoch: int, step: int) -> dict[str, str]:
    """The metadata of an epoch's file; all values are strings, lists and objects are JSON."""
    train, steps = job.train, steps_of(job)
    width, height = common_size_px(job.dataset.with_role("train"))
    values: dict[str, object] = {
        "ss_session_id": int(job_hash(job)[:8], 16),
        "ss_output_name": job.name,
        "ss_learning_rate": train.rate,
        "ss_unet_lr": train.rate if job.kind != "embedding" else None,
        "ss_text_encoder_lr": _text_rates(job, family),
        "ss_num_batches_per_epoch": steps.batches_per_epoch,
        "ss_num_epochs": steps.epochs,
        "ss_epoch": epoch,
        "ss_steps": step,
        "ss_max_train_steps": steps.total,
        "ss_batch_size_per_device": train.batch_size,
        "ss_total_batch_size": train.batch_size,
        "ss_gradient_checkpointing": job.performance.gradient_checkpointing in ("partial", "full"),
        "ss_gradient_accumulation_steps": steps.accumulation,
        "ss_lr_warmup_steps": steps.warmup,
        "ss_lr_scheduler": train.schedule,
        "ss_optimizer": _optimizer(job),
        "ss_max_grad_norm": train.max_grad_norm,
        "ss_mixed_precision": _MIXED_PRECISION[train.precision],
        "ss_full_fp16": False,
        "ss_fp8_base": train.base_precision == "fp8",
        "ss_fp8_base_unet": train.base_precision == "fp8",
        "ss_lowram": False,
        "ss_v2": family.kohya_version(job.base).startswith("sd_v2"),
        "ss_base_model_version": family.kohya_version(job.base),
        "ss_clip_skip": job.base.clip_skip or None,
        "ss_max_token_length": min(int(job.captions.max_tokens), 75 * family.max_chunks),
        "ss_cache_latents": True,
        "ss_seed": train.seed,
        **_objective_metadata(job),
        **_flow_metadata(job),
        **dataset_metadata(job),
        "ss_validate_every_n_epochs": train.save_every_epochs if job.dataset.with_role("validation") else None,
        **dict.fromkeys(_UNUSED),
        "ss_sd_model_name": Path(job.base.path).name,
        "ss_vae_name": Path(job.base.vae_path).name if job.base.vae_path else None,
        "ss_training_comment": "trained with Athanor",
        "ss_sd_scripts_commit_hash": "(unknown)",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.implementation": _implementation(job, family),
        "modelspec.title": job.name,
        "modelspec.description": _description(job, family),
        "modelspec.resolution": f"{width}x{height}",
        "modelspec.prediction_type": None if job.base.prediction == "flow" else job.base.prediction,
        "modelspec.encoder_layer": job.base.clip_skip or None,
        "modelspec.timestep_range": _timestep_range(job),
        "modelspec.trigger_phrase": job.embedding.token if job.kind == "embedding" else job.dataset.trigger or None,
    }
    if job.kind == "lora":
        values |= {
            "modelspec.architecture": f"{family.modelspec_architecture(job.base)}/lora",
        }
        if job.word_names:
            values["athanor_embeddings"] = ", ".join(job.word_names)
    elif job.kind == "checkpoint":
        values |= {"modelspec.architecture": family.modelspec_architecture(job.base)}
    else:
        values |= _of_word(job, family, words_of(job.kind, job.embedding)[0])
    return {key: str(value) for key, value in values.items() if value is not None or key.startswith("ss_")}


def _implementation(job: TrainJob, family: Family) -> str:
    """Whose names the file has: a LoRA's may be diffusers', a model's are those of the family's authors."""
    return model_implementation(family) if job.kind == "checkpoint" else family.modelspec_implementation


def model_implementation(family: Family) -> str:
    """modelspec's value for a whole model: the address of its authors' code."""
    return _STABILITY if family.modelspec_implementation == "diffusers" else family.modelspec_implementation


def word_metadata(job: TrainJob, family: Family, epoch: int, step: int, word: Word, num_vectors: int) -> dict[str, str]:
    """The metadata of an embedding that is saved beside the epoch's own file, of `num_vectors` vectors."""
    values = file_metadata(job, family, epoch, step)
    values.pop("athanor_embeddings", None)
    rate = job.embedding.embedding_rate if job.kind == "lora" else job.train.text_encoder_rate
    own = {**_of_word(job, family, dataclasses.replace(word, num_vectors=num_vectors)), "ss_learning_rate": rate, "ss_unet_lr": None}
    own |= {"ss_output_name": word.name, "modelspec.title": word.name, "modelspec.trigger_phrase": word.name}
    own["modelspec.description"] = f"Embedding of a {values['modelspec.description']}"
    return {**values, **{key: str(value) for key, value in own.items()}}


def _of_word(job: TrainJob, family: Family, word: Word) -> dict[str, object]:
    return {
        "ss_num_vectors": word.num_vectors,
        "ss_token_string": word.name,
        "ss_init_word": word.initial_words,
        "modelspec.architecture": f"{family.modelspec_architecture(job.base)}/textual-inversion",
        "modelspec.implementation": model_implementation(family),
    }


def _text_rates(job: TrainJob, family: Family) -> float | list[float]:
    """One for all encoders, or as sd-scripts lists them: both CLIPs (FLUX has one) and T5."""
    rates = list(job.text_rates)
    if job.optimizer.t5_rate > 0:
        return [*rates[: len(family.text_parts)], job.optimizer.t5_rate]
    return rates[0] if len(set(rates)) == 1 else rates


def _objective_metadata(job: TrainJob) -> dict[str, object]:
    """Under the names of sd-scripts; None where something is off."""
    objective, captions = job.objective, job.captions
    bends = objective.loss in ("huber", "smooth_l1")
    return {
        "ss_noise_offset": objective.noise_offset or None,
        "ss_noise_offset_random_strength": objective.noise_offset_random,
        "ss_adaptive_noise_scale": objective.adaptive_noise_scale or None,
        "ss_multires_noise_iterations": objective.multires_iterations or None,
        "ss_multires_noise_discount": objective.multires_discount,
        "ss_ip_noise_gamma": objective.input_perturbation or None,
        "ss_ip_noise_gamma_random_strength": False,
        "ss_min_snr_gamma": objective.min_snr_gamma if objective.weighting == "min_snr" else None,
        "ss_debiased_estimation": objective.weighting == "debiased",
        "ss_zero_terminal_snr": trained_base(job.base, objective).zero_terminal_snr,
        "ss_masked_loss": objective.masked_loss != "off" and any(sample.mask for sample in job.dataset.trained),
        "ss_loss_type": {"mse": "l2"}.get(objective.loss, objective.loss),
        "ss_huber_schedule": objective.huber_schedule if bends else None,
        "ss_huber_c": objective.huber_c if bends else None,
        "ss_huber_scale": objective.huber_scale if bends else None,
        "ss_prior_loss_weight": objective.regularization_weight,
        "ss_shuffle_caption": captions.shuffle,
        "ss_keep_tokens": captions.keep_tokens,
        "ss_caption_dropout_rate": captions.dropout,
        "ss_caption_dropout_every_n_epochs": captions.dropout_every_epochs,
        "ss_caption_tag_dropout_rate": captions.tag_dropout,
        "ss_flip_aug": job.data.mirror,
        "ss_color_aug": job.data.colors,
        "ss_random_crop": job.data.random_crop,
    }


def _flow_metadata(job: TrainJob) -> dict[str, object]:
    """What sd-scripts writes for FLUX and SD3 besides; nothing for the others."""
    if job.base.prediction != "flow":
        return {}
    told: dict[str, object] = {
        "ss_apply_t5_attn_mask": False,
        "ss_weighting_scheme": "none",
        "ss_logit_mean": None,
        "ss_logit_std": None,
        "ss_mode_scale": None,
    }
    if job.base.family == "flux":
        told |= {"ss_model_type": "flux", "ss_sigmoid_scale": None, "ss_discrete_flow_shift": None}
    else:
        told |= {"ss_apply_lg_attn_mask": False}
    return told | {f"ss_{key}": value for key, value in flow_arguments(job).items()}


def _description(job: TrainJob, family: Family) -> str:
    noun = {"lora": "LoRA", "embedding": "embedding", "checkpoint": "checkpoint"}[job.kind]
    num_images = len({sample.path for sample in job.dataset.with_role("train")})
    return f"{noun} for {family.title}, trained with Athanor on {num_images} image{'' if num_images == 1 else 's'} upon {job.base.name}."


def _timestep_range(job: TrainJob) -> str | None:
    """Where not all times are trained."""
    low, high = job.objective.min_timestep, job.objective.max_timestep
    return f"{low},{high}" if (low, high) != (0, 1000) else None


def base_hashes(base: BaseModel) -> dict[str, str]:
    """By which other programs recognise the base: of a file, or the first of a folder's denoiser; and of a VAE of its own."""
    path = Path(base.path)
    folders = () if path.is_file() else (path / "unet", path / "transformer")
    weights = path if path.is_file() else next((file for folder in folders for file in sorted(folder.glob("*.safetensors"))), None)
    found: dict[str, str] = {}
    for file, short, whole in ((weights, "ss_sd_model_hash", "ss_new_sd_model_hash"), (base.vae_path, "ss_vae_hash", "ss_new_vae_hash")):
        if file:
            found |= {short: _legacy_hash(Path(file)), whole: file_sha256(Path(file))}
    return found


def _legacy_hash(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(0x100000)
        return hashlib.sha256(file.read(0x10000)).hexdigest()[:8]


def time_metadata(started: float, finished: float) -> dict[str, str]:
    """When it was trained, as sd-scripts (seconds since 1970) and modelspec (ISO 8601) write it."""
    return {
        "ss_training_started_at": str(started),
        "ss_training_finished_at": str(finished),
        "modelspec.date": datetime.fromtimestamp(finished, tz=timezone.utc).replace(microsecond=0).isoformat(),
    }


def _optimizer(job: TrainJob) -> str:
    """As sd-scripts writes it: the name with its arguments."""
    arguments = {"weight_decay": job.train.weight_decay, **chosen_options(job.optimizer)}
    return f"{job.train.optimizer}({','.join(f'{key}={value}' for key, value in arguments.items())})"

"""What a file tells of itself: `ss_*` as sd-scripts writes it and `modelspec.*` (Stability's model spec 1.0.1).

Everything here follows from the job, so that the same job gives the same file to the bit; times of day come in when an
epoch is saved under its final name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

from ..config import TrainJob
from ..families.base import Family
from ..files import file_sha256
from ..noise import trained_base
from ..run import job_hash
from ..settings.optimizer import chosen_options
from ..steps import steps_of
from ..types import BaseModel, Sample
from ..words import Word, words_of
from .parameters import flow_arguments

_MAX_TAGS, _MAX_TAG_BYTES = 2000, 300_000
"""Keeps the header well under the megabyte that ComfyUI and A1111 read: a LoRA of FLUX needs a quarter of it for its names."""
_MIXED_PRECISION = {"bf16": "bf16", "fp16": "fp16", "fp32": "no"}


def file_metadata(job: TrainJob, family: Family, epoch: int, step: int) -> dict[str, str]:
    """The metadata of an epoch's file; all values are strings, lists and objects are JSON."""
    train, samples = job.train, job.dataset.with_role("train")
    steps = steps_of(job)
    values: dict[str, object] = {
        "ss_session_id": int(job_hash(job)[:8], 16),
        "ss_output_name": job.name,
        "ss_learning_rate": train.rate,
        "ss_unet_lr": train.rate if job.kind != "embedding" else None,
        "ss_text_encoder_lr": _text_rates(job, family),
        "ss_num_train_images": sum(sample.repeats for sample in samples),
        "ss_num_validation_images": len(job.dataset.with_role("validation")),
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
        "ss_lowram": False,
        "ss_v2": family.kohya_version(job.base).startswith("sd_v2"),
        "ss_base_model_version": family.kohya_version(job.base),
        "ss_clip_skip": job.base.clip_skip or None,
        "ss_max_token_length": min(int(job.captions.max_tokens), 75 * family.max_chunks),
        "ss_cache_latents": True,
        "ss_seed": train.seed,
        **_objective_metadata(job),
        **_flow_metadata(job),
        "ss_enable_bucket": True,
        "ss_resolution": _resolution(samples),
        "ss_bucket_info": json.dumps(_bucket_info(samples)),
        "ss_dataset_dirs": json.dumps(_dataset_folders(samples), ensure_ascii=False),
        "ss_tag_frequency": json.dumps(_tag_frequency(samples), ensure_ascii=False),
        "ss_sd_model_name": Path(job.base.path).name,
        "ss_vae_name": Path(job.base.vae_path).name if job.base.vae_path else None,
        "ss_training_comment": "trained with Athanor",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.implementation": _implementation(job, family),
        "modelspec.title": job.name,
        "modelspec.resolution": _resolution(samples).replace(",", "x"),
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
    whole = job.kind == "checkpoint" and family.modelspec_implementation == "diffusers"
    return "https://github.com/Stability-AI/generative-models" if whole else family.modelspec_implementation


def word_metadata(job: TrainJob, family: Family, epoch: int, step: int, word: Word, num_vectors: int) -> dict[str, str]:
    """The metadata of an embedding that is saved beside the epoch's own file, of `num_vectors` vectors."""
    values = file_metadata(job, family, epoch, step)
    values.pop("athanor_embeddings", None)
    rate = job.embedding.embedding_rate if job.kind == "lora" else job.train.text_encoder_rate
    own = {**_of_word(job, family, dataclasses.replace(word, num_vectors=num_vectors)), "ss_learning_rate": rate, "ss_unet_lr": None}
    own |= {"ss_output_name": word.name, "modelspec.title": word.name, "modelspec.trigger_phrase": word.name}
    return {**values, **{key: str(value) for key, value in own.items()}}


def _of_word(job: TrainJob, family: Family, word: Word) -> dict[str, object]:
    return {
        "ss_num_vectors": word.num_vectors,
        "ss_token_string": word.name,
        "ss_init_word": word.initial_words,
        "modelspec.architecture": f"{family.modelspec_architecture(job.base)}/textual-inversion",
    }


def _text_rates(job: TrainJob, family: Family) -> float | list[float]:
    """One for all encoders, or as sd-scripts lists them: both CLIPs (FLUX has one) and T5."""
    rates = list(job.text_rates)
    if job.optimizer.t5_rate > 0:
        return [*rates[: len(family.text_parts)], job.optimizer.t5_rate]
    return rates[0] if len(set(rates)) == 1 else rates


def _objective_metadata(job: TrainJob) -> dict[str, object]:
    """Under the names of sd-scripts; None where something is off."""
    objective, captions, regularization = job.objective, job.captions, job.dataset.with_role("regularization")
    bends = objective.loss in ("huber", "smooth_l1")
    return {
        "ss_num_reg_images": sum(sample.repeats for sample in regularization),
        "ss_reg_dataset_dirs": json.dumps(_dataset_folders(regularization), ensure_ascii=False),
        "ss_noise_offset": objective.noise_offset or None,
        "ss_noise_offset_random_strength": objective.noise_offset_random,
        "ss_adaptive_noise_scale": objective.adaptive_noise_scale or None,
        "ss_multires_noise_iterations": objective.multires_iterations or None,
        "ss_multires_noise_discount": objective.multires_discount,
        "ss_ip_noise_gamma": objective.input_perturbation or None,
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


def _resolution(samples: tuple[Sample, ...]) -> str:
    """The bucket that most images are in, as "width,height"."""
    sizes = Counter(sample.placement.bucket_px for sample in samples if sample.placement)
    width, height = max(sizes, key=lambda size: (sizes[size], size))
    return f"{width},{height}"


def _bucket_info(samples: tuple[Sample, ...]) -> dict[str, object]:
    counts: Counter[tuple[int, int]] = Counter()
    errors = []
    for sample in samples:
        if sample.placement:
            width, height = sample.placement.bucket_px
            counts[(width, height)] += sample.repeats
            errors.append(abs(width / height - sample.width_px / sample.height_px))
    buckets = {str(i): {"resolution": list(size), "count": counts[size]} for i, size in enumerate(sorted(counts))}
    return {"buckets": buckets, "mean_img_ar_error": sum(errors) / len(errors)}


def _folder_name(sample: Sample) -> str:
    return Path(sample.path).parent.name


def _dataset_folders(samples: tuple[Sample, ...]) -> dict[str, dict[str, int]]:
    folders: dict[str, dict[str, int]] = {}
    for sample in samples:
        entry = folders.setdefault(_folder_name(sample), {"n_repeats": sample.repeats, "img_count": 0})
        entry["img_count"] += 1
    return folders


def _tag_frequency(samples: tuple[Sample, ...]) -> dict[str, dict[str, int]]:
    """The commonest tags of each folder; of many folders as few a folder as keep the header small."""
    counts: dict[str, Counter[str]] = {}
    for sample in samples:
        counts.setdefault(_folder_name(sample), Counter()).update(sample.tags)
    most = _MAX_TAGS
    while True:
        found = {folder: dict(counter.most_common(most)) for folder, counter in counts.items()}
        if most <= 1 or len(json.dumps(found, ensure_ascii=False).encode("utf-8")) <= _MAX_TAG_BYTES:
            return found
        most //= 2

"""A job as a --config_file of sd-scripts, so that a run can be repeated there."""

from __future__ import annotations

import json
from typing import Any

from ...config import TrainJob
from ...optimizing.optimizers import own_options
from ...optimizing.schedules import own_options as schedule_options
from ...optimizing.steps import steps_of
from ...settings.optimizer import all_options
from ...settings.schedule import chosen_options as chosen_schedule_options
from .sd_scripts_objective import objective_arguments
from .sd_scripts_whole import EMBEDDING_SCRIPTS, WHOLE_SCRIPTS, embedding_settings, whole_settings

_MODULES = {"flux": "networks.lora_flux", "sd35": "networks.lora_sd3"}
_SCRIPTS = {
    "sd15": "train_network.py",
    "sd2": "train_network.py",
    "sdxl": "sdxl_train_network.py",
    "flux": "flux_train_network.py",
    "sd35": "sd3_train_network.py",
}
_OPTIMIZERS = {
    "adamw": "AdamW",
    "adamw8bit": "AdamW8bit",
    "paged_adamw8bit": "PagedAdamW8bit",
    "lion": "Lion",
    "lion8bit": "Lion8bit",
    "prodigy": "Prodigy",
    "adafactor": "Adafactor",
    "adam": "torch.optim.Adam",
    "sgd": "torch.optim.SGD",
    "rmsprop": "torch.optim.RMSprop",
    "schedulefree_adamw": "AdamWScheduleFree",
}
_SCHEDULES = {"cosine_restarts": "cosine_with_restarts"}
_UNKNOWN_SCHEDULES = ("rex",)
_ARGUMENTS = {
    "epsilon": "eps",
    "bias_correction": "use_bias_correction",
    "averaging_power": "r",
    "rate_power": "weight_lr_power",
}
_PRESETS = {"default": "attn-mlp", "attention-mlp": "attn-mlp", "attention": "attn-only", "linear": "full-lin", "full": "full"}


def sd_scripts_toml(job: TrainJob) -> tuple[str, tuple[str, ...]]:
    """The file's text, and a sentence for each setting that sd-scripts does not have.

    Paths of the model are the job's own; the dataset stays to be described there (--dataset_config).
    """
    lines: dict[str, dict[str, Any]] = {"model": _model(job), "training": _training(job)}
    notes: list[str] = []
    lines["optimizer"] = _optimizer(job, notes)
    if job.kind == "checkpoint":
        lines["checkpoint"] = whole_settings(job, notes)
    if job.kind == "lora":
        lines["network"] = _network(job, notes)
    if job.kind == "embedding":
        lines["embedding"] = embedding_settings(job, notes)
    lines["captions"] = _captions(job)
    lines["objective"] = objective_arguments(job, notes)
    lines["samples"] = _samples(job)
    _note_the_rest(job, notes)
    scripts = {"lora": _SCRIPTS, "checkpoint": WHOLE_SCRIPTS, "embedding": EMBEDDING_SCRIPTS}[job.kind]
    script = scripts.get(job.base.family, "no script")
    head = [f"# {job.name}: for {script} of sd-scripts.", "# Name your images there with --dataset_config or train_data_dir."]
    head += [f"# {note}" for note in notes]
    body = [f"\n[{title}]\n" + "\n".join(f"{key} = {_toml(value)}" for key, value in part.items()) for title, part in lines.items() if part]
    return "\n".join(head) + "\n" + "\n".join(body) + "\n", tuple(notes)


def _model(job: TrainJob) -> dict[str, Any]:
    found: dict[str, Any] = {"pretrained_model_name_or_path": job.base.path}
    if job.base.vae_path:
        found["ae" if job.base.family == "flux" else "vae"] = job.base.vae_path
    if job.base.family == "sd2":
        found["v2"] = True
    if job.base.prediction == "v":
        found["v_parameterization"] = True
    if job.base.clip_skip and job.base.family in ("sd15", "sd2"):
        found["clip_skip"] = job.base.clip_skip
    return found


def _training(job: TrainJob) -> dict[str, Any]:
    train, run = job.train, job.run
    found: dict[str, Any] = {
        "output_name": job.name,
        "save_model_as": "safetensors",
        "train_batch_size": train.batch_size,
        "gradient_accumulation_steps": job.optimizer.accumulation,
        "seed": train.seed,
        "mixed_precision": "no" if train.precision == "fp32" else train.precision,
        "save_precision": "float" if train.save_precision == "fp32" else train.save_precision,
        "max_grad_norm": train.max_grad_norm,
        "save_every_n_epochs": train.save_every_epochs,
        "cache_latents": not job.data.has_variants,
    }
    found["max_train_steps" if run.steps else "max_train_epochs"] = run.steps or train.epochs
    if train.base_precision == "fp8":
        found["fp8_base"] = True
    if run.save_every_steps:
        found["save_every_n_steps"] = run.save_every_steps
    if run.keep_last:
        found["save_last_n_epochs"] = run.keep_last
    if job.data.resize != "auto":
        found["resize_interpolation"] = job.data.resize
    return found | {
        key: True for key, on in (("flip_aug", job.data.mirror), ("random_crop", job.data.random_crop), ("color_aug", job.data.colors)) if on
    }


def _optimizer(job: TrainJob, notes: list[str]) -> dict[str, Any]:
    train = job.train
    first, second = job.text_rates
    found: dict[str, Any] = {"learning_rate": train.rate or first}
    if job.kind == "lora":
        if train.rate > 0:
            found["unet_lr"] = train.rate
        else:
            found["network_train_text_encoder_only"] = True
        if not job.trains_text:
            found["network_train_unet_only"] = True
        elif job.optimizer.t5_rate > 0:
            clips = [first] if job.base.family == "flux" else [first, second]
            found["text_encoder_lr"] = [*clips, job.optimizer.t5_rate]
        else:
            found["text_encoder_lr"] = first if first == second else [first, second]
    known = own_options(train.optimizer)
    options = {key: value for key, value in all_options(train.optimizer, job.optimizer).items() if key in known}
    arguments = [f"weight_decay={train.weight_decay}"]
    if "beta1" in options and "beta2" in options:
        arguments.append(f"betas={options.pop('beta1')},{options.pop('beta2')}")
    if train.optimizer == "adafactor":
        options["beta1"] = options["beta1"] or None
        arguments += ["relative_step=False", "warmup_init=False", f"decay_rate={-float(options.pop('decay_power'))}"]
    if train.optimizer == "rmsprop" and "beta2" in options:
        arguments.append(f"alpha={options.pop('beta2')}")
    if train.optimizer == "prodigy":
        arguments.append("decouple=True")
        if not options.get("growth_rate"):
            options.pop("growth_rate", None)
    arguments += [f"{_ARGUMENTS.get(key, key)}={value}" for key, value in options.items()]
    if train.optimizer in _OPTIMIZERS:
        found |= {"optimizer_type": _OPTIMIZERS[train.optimizer], "optimizer_args": arguments}
    else:
        notes.append(f"The optimizer {train.optimizer} has no name that is known there.")
    return found | _schedule(job, notes)


def _schedule(job: TrainJob, notes: list[str]) -> dict[str, Any]:
    name, total = job.train.schedule, steps_of(job)
    options = {**schedule_options(name), **chosen_schedule_options(job.schedule)}
    if name in _UNKNOWN_SCHEDULES:
        notes.append(f"The schedule {name} is not known there.")
        return {}
    told = _SCHEDULES.get(name, name)
    if name == "constant" and total.warmup:
        told = "constant_with_warmup"
    if name == "cosine" and job.schedule.min_ratio > 0:
        told = "cosine_with_min_lr"
    elif job.schedule.min_ratio > 0 and name != "warmup_stable_decay":
        notes.append(f"The schedule {name} falls to 0 there, not to min_ratio.")
    found: dict[str, Any] = {"lr_scheduler": told, "lr_warmup_steps": total.warmup}
    if job.schedule.min_ratio > 0 and told in ("cosine_with_min_lr", "warmup_stable_decay"):
        found["lr_scheduler_min_lr_ratio"] = job.schedule.min_ratio
    names = {"num_cycles": "lr_scheduler_num_cycles", "power": "lr_scheduler_power", "timescale_steps": "lr_scheduler_timescale"}
    found |= {names[key]: value for key, value in options.items() if key in names and value}
    if name == "warmup_stable_decay":
        found["lr_decay_steps"] = round(total.total * float(options["decay_percent"]) / 100)
    return found


def _network(job: TrainJob, notes: list[str]) -> dict[str, Any]:
    adapter = job.adapter
    plain = adapter.kind in ("lora", "locon") and adapter.targets == "default" and not adapter.rank_stabilised
    module = _MODULES.get(job.base.family, "networks.lora") if plain else "lycoris.kohya"
    found: dict[str, Any] = {"network_module": module, "network_dim": adapter.rank, "network_alpha": adapter.alpha}
    if adapter.dropout:
        found["network_dropout"] = adapter.dropout
    if adapter.max_norm:
        found["scale_weight_norms"] = adapter.max_norm
    arguments: dict[str, Any] = {}
    conv_rank = adapter.conv_rank or (adapter.rank if adapter.kind == "locon" else 0)
    if conv_rank and adapter.kind != "ia3":
        arguments |= {"conv_dim": conv_rank, "conv_alpha": adapter.conv_alpha or float(conv_rank)}
    if not plain:
        arguments["algo"] = {"dora": "lora", "lora": "lora", "locon": "locon"}.get(adapter.kind, adapter.kind)
        preset = "" if conv_rank and adapter.targets == "default" else _PRESETS.get(adapter.targets, "")
        if preset:
            arguments["preset"] = preset
        if adapter.targets == "attention-mlp":
            notes.append("LyCORIS's attn-mlp takes proj_in and proj_out as well.")
    if adapter.kind == "dora":
        arguments |= {"dora_wd": True, "wd_on_output": False}
    if adapter.kind == "lokr":
        arguments |= {"factor": adapter.factor or -1, "decompose_both": adapter.decompose_both, "full_matrix": adapter.full_matrix}
    optional = (
        ("rank_dropout", adapter.rank_dropout),
        ("module_dropout", adapter.module_dropout),
        ("loraplus_lr_ratio", adapter.lora_plus_ratio),
        ("rs_lora", adapter.rank_stabilised),
        ("train_t5xxl", job.optimizer.t5_rate > 0),
    )
    arguments |= {key: value for key, value in optional if value}
    if arguments:
        found["network_args"] = [f"{key}={value}" for key, value in arguments.items()]
    if adapter.start_file:
        found["network_weights"] = adapter.start_file
    for name in ("blocks", "pattern", "rules", "merge_files"):
        if getattr(adapter, name):
            notes.append(f"The adapter's {name} are not carried over.")
    return found


def _captions(job: TrainJob) -> dict[str, Any]:
    """They count as defaults of the datasets there."""
    captions = job.captions
    tokens = captions.max_tokens if job.base.family in ("sd15", "sd2", "sdxl") else "75"
    drops = job.kind != "embedding"
    pairs = (
        ("shuffle_caption", captions.shuffle),
        ("keep_tokens", captions.keep_tokens),
        ("caption_separator", captions.separator if captions.separator != "," else ""),
        ("caption_dropout_rate", captions.dropout if drops else 0),
        ("caption_tag_dropout_rate", captions.tag_dropout if drops else 0),
        ("caption_dropout_every_n_epochs", captions.dropout_every_epochs if drops else 0),
        ("enable_wildcard", captions.wildcards),
        ("caption_prefix", captions.prefix),
        ("caption_suffix", captions.suffix),
        ("token_warmup_step", captions.tag_warmup),
        # 75 is said there by saying nothing.
        ("max_token_length", 0 if tokens == "75" else int(tokens)),
        ("clip_l_dropout_rate", captions.clip_l_dropout),
        ("clip_g_dropout_rate", captions.clip_g_dropout),
        ("t5_dropout_rate", captions.t5_dropout),
    )
    found: dict[str, Any] = {key: value for key, value in pairs if value}
    if captions.is_flexible:
        found |= {"keep_tokens_separator": captions.keep_tokens_separator, "secondary_separator": captions.secondary_separator}
    if captions.tag_warmup:
        found["token_warmup_min"] = captions.tag_warmup_start
    return found


def _samples(job: TrainJob) -> dict[str, Any]:
    if not job.samples.lines:
        return {}
    samples = job.samples
    found: dict[str, Any] = {"sample_every_n_epochs": samples.every_epochs or job.train.save_every_epochs}
    if samples.every_steps:
        found["sample_every_n_steps"] = samples.every_steps
    return found | ({"sample_at_first": True} if samples.at_start else {})


def _note_the_rest(job: TrainJob, notes: list[str]) -> None:
    if job.optimizer.ema_decay:
        notes.append("The running mean of the weights (EMA) is not known there.")
    if job.samples.lines:
        notes.append("Put the prompts into a text file and name it with --sample_prompts.")
    if job.train.base_precision in ("nf4", "int8"):
        notes.append(f"A base in {job.train.base_precision} is not known there.")
    if job.base.family == "sd35" and job.objective.timestep_sampling == "resolution_shifted":
        notes.append("Times that are shifted with the resolution are not known there for SD3; logit_normal takes their place.")
    if job.run.patience:
        notes.append("Ending early by the held-out loss is not known there.")
    if job.prior.class_images:
        notes.append("Class images are not drawn there: name the folder in output/athanor/class-images that has them with --reg_data_dir.")
    if job.prior.class_target == "base":
        notes.append(
            "Class images teach themselves there, but with custom_attributes.diff_output_preservation = true at their subset of the dataset file."
        )
    if job.prior.hold_weight:
        notes.append("Holding the images to the base with the class word instead of the trigger is not known there.")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    # TOML's basic strings are JSON's.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")

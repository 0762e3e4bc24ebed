"""From the arguments of sd-scripts to settings. Every key ends up in the report."""

from __future__ import annotations

from typing import Any

from ...settings.data import RESIZE_WORDS
from .network import translate_network
from .optimizer import translate_optimizer, translate_schedule
from .sheet import Sheet
from .tables import ELSEWHERE, LEFT_OUT, NOT_NEEDED, PREFIXES

_DIRECT = {
    "train_batch_size": "train.batch_size",
    "max_grad_norm": "train.max_grad_norm",
    "seed": "train.seed",
    "save_every_n_epochs": "train.save_every_epochs",
    "save_every_n_steps": "run.save_every_steps",
    "save_last_n_epochs": "run.keep_last",
    "gradient_accumulation_steps": "optimizer.accumulation",
    "keep_tokens": "captions.keep_tokens",
    "caption_dropout_rate": "captions.dropout",
    "caption_tag_dropout_rate": "captions.tag_dropout",
    "caption_dropout_every_n_epochs": "captions.dropout_every_epochs",
    "caption_prefix": "captions.prefix",
    "caption_suffix": "captions.suffix",
    "keep_tokens_separator": "captions.keep_tokens_separator",
    "secondary_separator": "captions.secondary_separator",
    "caption_separator": "captions.separator",
    "token_warmup_step": "captions.tag_warmup",
    "clip_l_dropout_rate": "captions.clip_l_dropout",
    "clip_g_dropout_rate": "captions.clip_g_dropout",
    "t5_dropout_rate": "captions.t5_dropout",
    "noise_offset": "objective.noise_offset",
    "adaptive_noise_scale": "objective.adaptive_noise_scale",
    "multires_noise_iterations": "objective.multires_iterations",
    "ip_noise_gamma": "objective.input_perturbation",
    "min_timestep": "objective.min_timestep",
    "sample_every_n_steps": "samples.every_steps",
    "sample_every_n_epochs": "samples.every_epochs",
}
"""Taken as they are wherever they say something; 0 and nothing is off."""
_FLAGS = {
    "shuffle_caption": "captions.shuffle",
    "enable_wildcard": "captions.wildcards",
    "flip_aug": "data.mirror",
    "random_crop": "data.random_crop",
    "color_aug": "data.colors",
    "sample_at_first": "samples.at_start",
    "torch_compile": "performance.compile",
    "cpu_offload_checkpointing": "performance.activation_offload",
}
_PRECISIONS = {"fp16": "fp16", "bf16": "bf16", "no": "fp32", "float": "fp32", "fp32": "fp32"}
_SAMPLINGS = {
    "sigmoid": "sigmoid",
    "uniform": "uniform",
    "sigma": "uniform",
    "shift": "shifted",
    "flux_shift": "resolution_shifted",
    "logit_normal": "logit_normal",
    "mode": "mode",
}


def translate(sheet: Sheet) -> None:
    """Everything there is in `sheet`, which has the names of sd-scripts."""
    _length(sheet)
    _rates(sheet)
    translate_optimizer(sheet)
    translate_schedule(sheet)
    translate_network(sheet)
    _precision(sheet)
    _base_precision(sheet)
    _objective(sheet)
    _samples(sheet)
    if sheet.has("resize_interpolation"):
        word = sheet.text("resize_interpolation").lower() or "auto"
        sheet.take("resize_interpolation", "data.resize", RESIZE_WORDS.get(word, word))
    for key, path in _DIRECT.items():
        if sheet.on(key):
            sheet.take(key, path)
    for key, path in _FLAGS.items():
        if sheet.flag(key):
            sheet.take(key, path, True)
    _keep_last(sheet)
    _max_tokens(sheet)
    if sheet.on("token_warmup_step") and sheet.has("token_warmup_min"):
        sheet.take("token_warmup_min", "captions.tag_warmup_start")
    sheet.drop("token_warmup_min", "multires_noise_discount", *_DIRECT, *_FLAGS)
    _tell_the_rest(sheet)


def _length(sheet: Sheet) -> None:
    if sheet.on("max_train_epochs"):
        sheet.take("max_train_epochs", "train.epochs")
        sheet.drop("max_train_steps")
    elif sheet.on("max_train_steps"):
        sheet.take("max_train_steps", "run.steps")
    elif sheet.has("network_module") or sheet.has("optimizer_type"):
        sheet.imply("run.steps", 1600, "sd-scripts trains for 1600 steps")
    sheet.drop("max_train_epochs", "max_train_steps")


def _rates(sheet: Sheet) -> None:
    """unet_lr and text_encoder_lr fall back to learning_rate; text_encoder_lr may be one for each encoder."""
    plain = sheet.number("learning_rate")
    unet_only, text_only = sheet.flag("network_train_unet_only"), sheet.flag("network_train_text_encoder_only")
    if text_only:
        sheet.take("network_train_text_encoder_only", "train.rate", 0.0)
    elif sheet.has("unet_lr"):
        sheet.take("unet_lr", "train.rate")
    elif plain is not None:
        sheet.take("learning_rate", "train.rate")
    if unet_only:
        sheet.take("network_train_unet_only", "train.text_encoder_rate", 0.0)
    elif sheet.has("text_encoder_lr"):
        _text_rates(sheet)
    elif plain is not None:
        sheet.take("learning_rate", "train.text_encoder_rate", plain)
    if sheet.flag("train_t5xxl") and not unet_only and "optimizer.t5_rate" not in sheet.values:
        rate = sheet.number("t5xxl_lr") if sheet.on("t5xxl_lr") else plain
        if rate is not None:
            sheet.take("train_t5xxl", "optimizer.t5_rate", rate)
            sheet.drop("t5xxl_lr")
    if unet_only and "optimizer.text_encoder_2_rate" in sheet.values:
        del sheet.values["optimizer.text_encoder_2_rate"]
    sheet.drop("learning_rate", "unet_lr", "text_encoder_lr", "network_train_unet_only", "network_train_text_encoder_only")


def _text_rates(sheet: Sheet) -> None:
    key = "text_encoder_lr"
    try:
        rates = [float(each) for each in sheet.items(key)]
    except ValueError:
        sheet.leave(key, "it is not a number.")
        return
    sheet.take(key, "train.text_encoder_rate", rates[0])
    if sheet.flag("train_t5xxl") and not sheet.on("t5xxl_lr"):
        sheet.take("train_t5xxl", "optimizer.t5_rate", rates[-1])
    if sheet.text("network_module").endswith("lora_flux"):
        # CLIP-L and T5; FLUX has no second CLIP.
        return
    if len(rates) > 1 and rates[1] != rates[0]:
        sheet.take(key, "optimizer.text_encoder_2_rate", rates[1])


def _precision(sheet: Sheet) -> None:
    for key, path in (("mixed_precision", "train.precision"), ("save_precision", "train.save_precision")):
        if sheet.has(key):
            told = sheet.text(key).lower()
            if told in _PRECISIONS:
                sheet.take(key, path, _PRECISIONS[told])
            else:
                sheet.leave(key, "it is not known here.")


def _base_precision(sheet: Sheet) -> None:
    for key in ("fp8_base", "fp8_base_unet"):
        if sheet.flag(key) and sheet.on("blocks_to_swap"):
            sheet.leave(key, "blocks that wait outside of the GPU keep the training's number format.")
        elif sheet.flag(key):
            sheet.take(key, "train.base_precision", "fp8")
    if sheet.on("blocks_to_swap"):
        sheet.take("blocks_to_swap", "performance.block_offload", True)
    sheet.drop("blocks_to_swap")


def _keep_last(sheet: Sheet) -> None:
    """sd-scripts says how many steps back files are kept; here it is how many files."""
    if not sheet.on("save_last_n_steps"):
        sheet.drop("save_last_n_steps")
        return
    every, back = sheet.number("save_every_n_steps") or 0, sheet.number("save_last_n_steps") or 0
    if every and back and "run.keep_last" not in sheet.values:
        sheet.take("save_last_n_steps", "run.keep_last", max(1, int(back // every)))
    else:
        sheet.leave("save_last_n_steps", "without save_every_n_steps, or beside save_last_n_epochs, it is not known how many files it means.")


def _max_tokens(sheet: Sheet) -> None:
    """Of CLIP; kohya_ss writes it for FLUX and SD3 as well, where sd-scripts does not read it."""
    if not sheet.on("max_token_length") or sheet.text("network_module").endswith(("_flux", "_sd3")):
        sheet.drop("max_token_length")
    else:
        sheet.take("max_token_length", "captions.max_tokens", str(int(sheet.number("max_token_length") or 0)))


def _objective(sheet: Sheet) -> None:
    if sheet.on("min_snr_gamma"):
        sheet.take("min_snr_gamma", "objective.weighting", "min_snr")
        sheet.take("min_snr_gamma", "objective.min_snr_gamma")
        if sheet.flag("debiased_estimation_loss"):
            sheet.leave("debiased_estimation_loss", "there is one weighting at a time; min_snr is taken.")
    elif sheet.flag("debiased_estimation_loss"):
        sheet.take("debiased_estimation_loss", "objective.weighting", "debiased")
    if sheet.on("noise_offset") and sheet.flag("noise_offset_random_strength"):
        sheet.take("noise_offset_random_strength", "objective.noise_offset_random", True)
    if sheet.on("ip_noise_gamma") and sheet.flag("ip_noise_gamma_random_strength"):
        sheet.take("ip_noise_gamma_random_strength", "objective.input_perturbation_random", True)
    if sheet.on("multires_noise_iterations") and sheet.has("multires_noise_discount"):
        sheet.take("multires_noise_discount", "objective.multires_discount")
    if sheet.on("max_timestep") and sheet.text("max_timestep") != "1000":
        sheet.take("max_timestep", "objective.max_timestep")
    if sheet.flag("zero_terminal_snr"):
        sheet.take("zero_terminal_snr", "objective.zero_terminal_snr", "on")
    if sheet.flag("masked_loss"):
        sheet.tell("elsewhere", "masked_loss", "choose the masks in Load Dataset.")
    if sheet.has("prior_loss_weight") and sheet.number("prior_loss_weight") != 1:
        sheet.take("prior_loss_weight", "objective.regularization_weight")
    _loss(sheet)
    _times(sheet)
    sheet.drop(
        "debiased_estimation_loss",
        "noise_offset_random_strength",
        "ip_noise_gamma_random_strength",
        "max_timestep",
        "zero_terminal_snr",
        "masked_loss",
        "prior_loss_weight",
        "noise_offset_type",
    )


def _loss(sheet: Sheet) -> None:
    told = {"l2": "mse"}.get(sheet.text("loss_type"), sheet.text("loss_type"))
    if told and told != "mse":
        sheet.take("loss_type", "objective.loss", told)
    if told in ("huber", "smooth_l1"):
        for key in ("huber_schedule", "huber_c", "huber_scale"):
            if sheet.on(key) and not (key == "huber_scale" and (sheet.text("huber_schedule") or "snr") == "snr"):
                sheet.take(key, f"objective.{key}")
    sheet.drop("loss_type", "huber_schedule", "huber_c", "huber_scale")


def _times(sheet: Sheet) -> None:
    """FLUX says timestep_sampling, SD3.5 weighting_scheme: here both are the timestep sampling."""
    key = "timestep_sampling" if sheet.has("timestep_sampling") else "weighting_scheme"
    told = sheet.text(key)
    if told in ("none", ""):
        told = ""
    elif told in _SAMPLINGS:
        sheet.take(key, "objective.timestep_sampling", _SAMPLINGS[told])
    else:
        sheet.leave(key, f"{told} is not known here; choose one in Objective Settings.")
    wanted = {"logit_normal": ("logit_mean", "logit_std"), "mode": ("mode_scale",)}.get(told, ())
    for each in wanted:
        if sheet.has(each):
            sheet.take(each, f"objective.{each}")
    if told == "shift":
        if sheet.has("discrete_flow_shift"):
            sheet.take("discrete_flow_shift", "objective.shift")
    elif sheet.on("training_shift") and sheet.number("training_shift") != 1:
        sheet.leave("training_shift", "choose the timestep sampling shifted in Objective Settings, with this shift.")
    if told in ("sigmoid", "shift", "flux_shift") and sheet.has("sigmoid_scale"):
        sheet.take("sigmoid_scale", "objective.logit_std")
    if sheet.on("guidance_scale") and sheet.number("guidance_scale") != 1:
        sheet.leave("guidance_scale", "FLUX is trained at guidance 1.")
    sheet.drop("timestep_sampling", "weighting_scheme", "logit_mean", "logit_std", "mode_scale", "discrete_flow_shift", "training_shift")
    sheet.drop("sigmoid_scale", "guidance_scale")


def _samples(sheet: Sheet) -> None:
    prompts = sheet.text("sample_prompts")
    if not prompts:
        return
    looks_like_a_file = "\n" not in prompts and prompts.lower().endswith((".txt", ".toml", ".json"))
    if looks_like_a_file:
        sheet.leave("sample_prompts", "a file must not name others: put it into ComfyUI's input folder and choose it in Sample Settings.")
    else:
        sheet.take("sample_prompts", "samples.prompts", prompts)


def _tell_the_rest(sheet: Sheet) -> None:
    for key, same in (("model_prediction_type", "raw"), ("train_blocks", "all")):
        if sheet.text(key) == same:
            sheet.tell("not needed", key, "so it is done here.")
    for key in sheet.keys():  # noqa: SIM118
        prefix = next((why for start, why in PREFIXES.items() if key.startswith(start)), None)
        if key in ELSEWHERE:
            sheet.tell("elsewhere", key, ELSEWHERE[key])
        elif key in NOT_NEEDED:
            sheet.tell("not needed", key, NOT_NEEDED[key])
        elif prefix is not None and sheet.on(key):
            sheet.tell("not needed", key, prefix)
        elif key in LEFT_OUT:
            if sheet.on(key):
                sheet.leave(key, LEFT_OUT[key])
        elif not sheet.on(key):
            sheet.tell("not needed", key, "it is off.")
        elif prefix is None:
            sheet.tell("unknown", key, "")


def known_keys() -> frozenset[str]:
    """Those that have a meaning or a reason here, for tests."""
    from . import kohya_gui, lora_scripts

    found: set[Any] = {*ELSEWHERE, *NOT_NEEDED, *LEFT_OUT, *_DIRECT, *_FLAGS}
    return frozenset(found | set(kohya_gui.NAMES) | set(lora_scripts.KEYS))

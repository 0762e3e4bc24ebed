"""From the arguments of sd-scripts to settings. Every key ends up in the report."""

from __future__ import annotations

from typing import Any

from ...optimizing.optimizers import RATE_FINDING
from ...sample_prompts import left_out_flags, without_left_out
from ...settings.data import RESIZE_WORDS
from .network import translate_network
from .objective import is_flow, translate_objective
from .optimizer import translate_optimizer, translate_schedule
from .other_kinds import translate_embedding, translate_whole_model
from .rates import translate_rates
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


def translate(sheet: Sheet) -> None:
    """Everything there is in `sheet`, which has the names of sd-scripts."""
    _length(sheet)
    translate_rates(sheet)
    translate_whole_model(sheet)
    translate_embedding(sheet)
    translate_optimizer(sheet)
    translate_schedule(sheet)
    translate_network(sheet)
    _precision(sheet)
    _base_precision(sheet)
    translate_objective(sheet)
    _samples(sheet)
    if sheet.has("resize_interpolation"):
        word = sheet.text("resize_interpolation").lower() or "auto"
        sheet.take("resize_interpolation", "data.resize", RESIZE_WORDS.get(word, word))
    for key, path in _DIRECT.items():
        if key not in sheet.told and (sheet.on(key) or (key == "max_grad_norm" and sheet.has(key))):
            sheet.take(key, path)
    for key, path in _FLAGS.items():
        if sheet.flag(key):
            sheet.take(key, path, True)
    if "captions.keep_tokens" in sheet.values and not any(sheet.values.get(f"captions.{name}") for name in ("shuffle", "tag_dropout", "tag_warmup")):
        del sheet.values["captions.keep_tokens"]
        sheet.warn("keep_tokens", "no tag is moved or left out in this file, so that nothing has to be kept.", "not needed")
    _keep_last(sheet)
    _max_tokens(sheet)
    _what_is_not_said(sheet)
    if sheet.on("token_warmup_step") and sheet.has("token_warmup_min"):
        sheet.take("token_warmup_min", "captions.tag_warmup_start")
    _without_effect(sheet)
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


def _without_effect(sheet: Sheet) -> None:
    """What would do nothing in this file, and be refused for that before a training."""
    values = sheet.values
    if values.get("embedding.templates", "captions") != "captions":
        for path in [path for path in values if path.startswith("captions.")]:
            del values[path]
            sheet.untake(path, "the prompts are made of templates, without captions.")
    if not values.get("samples.prompts"):
        for path in [path for path in values if path.startswith("samples.")]:
            del values[path]
            sheet.untake(path, "there are no prompts in the file.")
    rates = [values.get(path, 0.0) for path in ("train.rate", "train.text_encoder_rate", "optimizer.text_encoder_2_rate", "optimizer.t5_rate")]
    trained = [rate for rate in rates if rate > 0]
    if values.get("train.optimizer") in RATE_FINDING and len(set(trained)) > 1:
        for path in ("train.rate", "train.text_encoder_rate", "optimizer.text_encoder_2_rate", "optimizer.t5_rate"):
            if values.get(path, 0.0) > 0 and values[path] != trained[0]:
                values[path] = trained[0]
        sheet.warn("optimizer_type", f"it finds one rate for everything, so that {trained[0]:g} counts for all parts, as in sd-scripts.")


def _what_is_not_said(sheet: Sheet) -> None:
    """What sd-scripts does where a whole file of its own is silent."""
    if not (sheet.has("network_module") or sheet.has("optimizer_type")):
        return
    if not sheet.has("optimizer_type"):
        sheet.imply("train.optimizer", "adamw", "sd-scripts takes AdamW")
    if not sheet.has("lr_scheduler"):
        sheet.imply("train.schedule", "constant", "sd-scripts takes a constant rate")
        sheet.imply("train.warmup_percent", 0.0, "no warm-up")
    if not is_flow(sheet) and not sheet.has("max_token_length"):
        sheet.imply("captions.max_tokens", "75", "sd-scripts cuts captions off there")


def _max_tokens(sheet: Sheet) -> None:
    """Of CLIP; kohya_ss writes it for FLUX and SD3 as well, where sd-scripts does not read it."""
    if not sheet.on("max_token_length") or is_flow(sheet):
        sheet.drop("max_token_length")
    else:
        told = int(sheet.number("max_token_length") or 0)
        # sd-scripts cuts captions into whole pieces of 75; lora-scripts writes 255 by default, which are three of them.
        sheet.take("max_token_length", "captions.max_tokens", str(told // 75 * 75 or told))


def _samples(sheet: Sheet) -> None:
    prompts = sheet.text("sample_prompts")
    if not prompts:
        return
    looks_like_a_file = "\n" not in prompts and prompts.lower().endswith((".txt", ".toml", ".json"))
    if looks_like_a_file:
        sheet.leave("sample_prompts", "a file must not name others: put it into ComfyUI's input folder and choose it in Sample Settings.")
    else:
        sheet.take("sample_prompts", "samples.prompts", "\n".join(without_left_out(line.strip()) for line in prompts.splitlines()))
        flags = left_out_flags(prompts)
        if flags:
            sheet.warn("sample_prompts", f"{', '.join(flags)} behind prompts: not offered; the rest of the line is taken.")


def _tell_the_rest(sheet: Sheet) -> None:
    if sheet.text("model_type") not in ("", "flux"):
        sheet.leave("model_type", "the model is not known here.")
    sheet.drop("model_type")
    for key in ("single_blocks_to_swap", "double_blocks_to_swap"):
        if sheet.on(key):
            sheet.take(key, "performance.block_offload", True)
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

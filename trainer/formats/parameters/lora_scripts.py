"""The TOML files of lora-scripts (SD Trainer): sd-scripts' arguments, and some more of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEYS = frozenset(
    {
        "lycoris_algo",
        "lokr_factor",
        "dropout",
        "network_args_custom",
        "optimizer_args_custom",
        "prodigy_d0",
        "prodigy_d_coef",
        "enable_preview",
        "positive_prompts",
        "negative_prompts",
        "sample_width",
        "sample_height",
        "sample_cfg",
        "sample_seed",
        "sample_steps",
        "prompt_file",
        "ui_custom_params",
        "lr_restart_cycles",
        "randomly_choice_prompt",
        "enable_block_weights",
        "enable_base_weight",
        "model_train_type",
    }
)


def looks_like_it(data: Mapping[str, Any]) -> bool:
    return bool(KEYS & set(data)) or any(isinstance(data.get(key), str) for key in ("learning_rate", "unet_lr", "text_encoder_lr"))


def as_arguments(data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The arguments that lora-scripts would give sd-scripts, and by argument the name it has in the file."""
    found, names = dict(data), {}
    for own, name in (("lycoris_algo", "algo"), ("lokr_factor", "factor"), ("lr_restart_cycles", "lr_scheduler_num_cycles")):
        if own in found:
            found[name], names[name] = found.pop(own), own
    if found.get("enable_block_weights") in (False, None, ""):
        for key in ("enable_block_weights", "down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold"):
            found.pop(key, None)
    arguments = _list(found.pop("optimizer_args_custom", ())) + _list(found.get("optimizer_args", ()))
    for own, name in (("prodigy_d0", "d0"), ("prodigy_d_coef", "d_coef")):
        value = found.pop(own, "")
        if str(value).strip() and str(found.get("optimizer_type", "")).lower() == "prodigy":
            arguments.append(f"{name}={value}")
    if arguments:
        found["optimizer_args"] = arguments
    if found.get("network_module") == "lycoris.kohya" and "preset=" not in f"{found.get('network_args')}{found.get('network_args_custom')}":
        # There is no field for it, and LyCORIS trains every layer where it is told none.
        found["preset"], names["preset"] = "full", "network_module"
    if "network_args_custom" in found:
        found["network_args"] = _list(found.get("network_args", ())) + _list(found.pop("network_args_custom"))
    _preview(found, names)
    return found, names


def _list(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else str(value).split()


def _preview(found: dict[str, Any], names: dict[str, str]) -> None:
    """The fields of the preview become one prompt in kohya's syntax."""
    parts = {key: str(found.pop(key, "")).strip() for key in ("positive_prompts", "negative_prompts", *(f"sample_{each}" for each in _FLAGS))}
    enabled = str(found.pop("enable_preview", True)).lower() not in ("false", "0")
    if not enabled or not parts["positive_prompts"] or found.get("sample_prompts"):
        if not enabled:
            for key in ("sample_prompts", "sample_every_n_epochs", "sample_every_n_steps", "prompt_file", "sample_sampler"):
                found.pop(key, None)
        return
    line = " ".join(parts["positive_prompts"].split())
    if parts["negative_prompts"]:
        line += f" --n {' '.join(parts['negative_prompts'].split())}"
    for own, flag in _FLAGS.items():
        if parts[f"sample_{own}"] not in ("", "0"):
            line += f" --{flag} {parts[f'sample_{own}']}"
    found["sample_prompts"], names["sample_prompts"] = line, "positive_prompts"


_FLAGS = {"width": "w", "height": "h", "cfg": "l", "steps": "s", "seed": "d"}

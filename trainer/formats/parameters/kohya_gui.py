"""The JSON files that kohya_ss saves: other names, percents and drop-downs in place of sd-scripts' arguments."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

NAMES = {
    "optimizer": "optimizer_type",
    "max_resolution": "resolution",
    "LyCORIS_preset": "preset",
    "sdxl_no_half_vae": "no_half_vae",
    "sdxl_cache_text_encoder_outputs": "cache_text_encoder_outputs",
    "sdxl_cache_text_encoder_outputs_to_disk": "cache_text_encoder_outputs_to_disk",
    "flux1_cache_text_encoder_outputs": "cache_text_encoder_outputs",
    "flux1_cache_text_encoder_outputs_to_disk": "cache_text_encoder_outputs_to_disk",
    "sd3_cache_text_encoder_outputs": "cache_text_encoder_outputs",
    "sd3_cache_text_encoder_outputs_to_disk": "cache_text_encoder_outputs_to_disk",
    "sd3_cache_text_encoder_outputs_disk": "cache_text_encoder_outputs_to_disk",
    "conv_dims": "conv_dim",
}
"""What is called so in the program, and in sd-scripts."""
_TYPES: dict[str, tuple[str, str]] = {
    "Standard": ("networks.lora", ""),
    "Kohya LoCon": ("networks.lora", ""),
    "Kohya DyLoRA": ("networks.dylora", ""),
    "LoRA-FA": ("networks.lora_fa", ""),
    "Flux1": ("networks.lora_flux", ""),
    "Flux1 OFT": ("networks.oft_flux", ""),
    "Kohya LoHa": ("networks.loha", ""),
    "Kohya LoKr": ("networks.lokr", ""),
    "LyCORIS/LoCon": ("lycoris.kohya", "locon"),
    "LyCORIS/LoHa": ("lycoris.kohya", "loha"),
    "LyCORIS/LoKr": ("lycoris.kohya", "lokr"),
    "LyCORIS/iA3": ("lycoris.kohya", "ia3"),
    "LyCORIS/DyLoRA": ("lycoris.kohya", "dylora"),
    "LyCORIS/GLoRA": ("lycoris.kohya", "glora"),
    "LyCORIS/BOFT": ("lycoris.kohya", "boft"),
    "LyCORIS/Diag-OFT": ("lycoris.kohya", "diag-oft"),
    "LyCORIS/Native Fine-Tuning": ("lycoris.kohya", "full"),
}
_WITH_CONVOLUTIONS = ("Kohya LoCon", "LyCORIS/LoCon", "LyCORIS/LoHa", "LyCORIS/LoKr", "Kohya LoHa", "Kohya LoKr")


def looks_like_it(data: Mapping[str, Any]) -> bool:
    return "LoRA_type" in data or ("optimizer" in data and "max_resolution" in data)


def as_arguments(data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The arguments that kohya_ss would give sd-scripts, and by argument the name it has in the file."""
    found: dict[str, Any] = {}
    names: dict[str, str] = {}
    for key, value in data.items():
        if value is None or (isinstance(value, str) and value.strip() in ("", "None")):
            continue
        name = NAMES.get(key, key)
        if name not in found or _is_on(value):
            found[name] = value
            names[name] = key
    _network(data, found, names)
    _rates(found)
    _length(found)
    if data.get("noise_offset_type") == "Multires":
        found.pop("noise_offset", None)
    elif "noise_offset_type" in data:
        found.pop("multires_noise_iterations", None)
    found.update(_more(found.pop("additional_parameters", "")))
    return found, names


def _is_on(value: Any) -> bool:
    return str(value).strip().lower() not in ("", "0", "0.0", "false", "none")


def _network(data: Mapping[str, Any], found: dict[str, Any], names: dict[str, str]) -> None:
    told = str(data.get("LoRA_type", ""))
    if not told:
        return
    module, algo = _TYPES.get(told, (told, ""))
    if told == "Standard" and _is_on(data.get("sd3_checkbox", "")):
        module = "networks.lora_sd3"
    found["network_module"], names["network_module"] = module, "LoRA_type"
    found.pop("LoRA_type", None)
    if algo:
        found["algo"] = algo
        names["algo"] = "LoRA_type"
    if told not in _WITH_CONVOLUTIONS:
        # Their fields stay filled when another type is chosen.
        for key in ("conv_dim", "conv_alpha"):
            found.pop(key, None)
    for key, only_with in (("factor", "LoKr"), ("decompose_both", "LoKr"), ("unit", "DyLoRA"), ("constrain", "OFT"), ("rescaled", "OFT")):
        if only_with not in told:
            found.pop(key, None)
    if not told.startswith("LyCORIS"):
        for key in ("preset", "train_norm", "bypass_mode", "dora_wd", "use_cp", "use_tucker", "use_scalar", "rank_dropout_scale", "train_on_input"):
            found.pop(key, None)


def _rates(found: dict[str, Any]) -> None:
    """A rate of 0 leaves a part out; where both are 0, learning_rate counts for both."""
    unet, text = _number(found.get("unet_lr")), _number(found.get("text_encoder_lr"))
    if not unet and not text:
        found.pop("unet_lr", None)
        found.pop("text_encoder_lr", None)
    elif not text:
        found["network_train_unet_only"] = True
        found.pop("text_encoder_lr", None)
    elif not unet:
        found["network_train_text_encoder_only"] = True
        found.pop("unet_lr", None)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def _length(found: dict[str, Any]) -> None:
    """Steps count where they are given; else the program computes them from `epoch`."""
    epochs = found.pop("epoch", None)
    if not _is_on(found.get("max_train_epochs", "")) and not _is_on(found.get("max_train_steps", "")) and epochs is not None:
        found["max_train_epochs"] = epochs


def _more(text: Any) -> dict[str, Any]:
    """Arguments as on a command line: --key value, --key=value, or --key alone."""
    found: dict[str, Any] = {}
    key = ""
    try:
        words = shlex.split(str(text), posix=True)
    except ValueError:
        words = str(text).split()
    for word in words:
        if word.startswith("--"):
            key, separator, value = word[2:].partition("=")
            found[key] = value if separator else True
        elif key:
            earlier = found[key]
            found[key] = word if earlier is True else [*(earlier if isinstance(earlier, list) else [earlier]), word]
    return found

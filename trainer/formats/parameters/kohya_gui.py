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
    "sd3_clip_l_dropout_rate": "clip_l_dropout_rate",
    "sd3_t5_dropout_rate": "t5_dropout_rate",
    "sd3_enable_scaled_pos_embed": "enable_scaled_pos_embed",
    "sd3_fused_backward_pass": "fused_backward_pass",
    "flux_fused_backward_pass": "fused_backward_pass",
    "sd3_text_encoder_batch_size": "text_encoder_batch_size",
    "sd3_disable_mmap_load_safetensors": "disable_mmap_load_safetensors",
    "conv_dims": "conv_dim",
    # Of preparing images in the tab Finetune; the training's is train_batch_size.
    "batch_size": "vae_batch_size",
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
_OTHER_MODELS = {"HunyuanImage-2.1": "HunyuanImage-2.1", "Anima": "Anima", "Lumina": "Lumina Image 2.0"}
_OF_FLUX = (
    "timestep_sampling", "model_prediction_type", "discrete_flow_shift", "guidance_scale", "apply_t5_attn_mask", "t5xxl_max_token_length", "mem_eff_save",
    "cpu_offload_checkpointing", "single_blocks_to_swap", "double_blocks_to_swap", "fp8_base_unet", "ae", "clip_l", "t5xxl", "model_type",
    "blockwise_fused_optimizers", "flux_fused_backward_pass",
)  # fmt: skip
_OF_SD3 = (
    "weighting_scheme", "logit_mean", "logit_std", "mode_scale", "clip_g", "clip_g_dropout_rate", "sd3_clip_l_dropout_rate", "sd3_t5_dropout_rate",
    "clip_l_dropout_rate", "t5_dropout_rate", "pos_emb_random_crop_rate", "sd3_enable_scaled_pos_embed", "enable_scaled_pos_embed", "save_clip", "save_t5xxl",
    "t5xxl_device", "t5xxl_dtype", "sd3_clip_l", "sd3_t5xxl", "sd3_text_encoder_batch_size", "sd3_fused_backward_pass",
)  # fmt: skip
_OF_FLUX_LORA = (
    "train_t5xxl", "split_qkv", "split_mode", "train_blocks", "img_attn_dim", "img_mlp_dim", "img_mod_dim", "single_dim", "txt_attn_dim", "txt_mlp_dim",
    "txt_mod_dim", "single_mod_dim", "in_dims", "train_double_block_indices", "train_single_block_indices", "train_lora_ggpo", "ggpo_beta", "ggpo_sigma",
)  # fmt: skip
_WITH_CONVOLUTIONS = ("Kohya LoCon", "LyCORIS/LoCon", "LyCORIS/LoHa", "LyCORIS/LoKr", "Kohya LoHa", "Kohya LoKr")


def looks_like_it(data: Mapping[str, Any]) -> bool:
    return "LoRA_type" in data or ("optimizer" in data and "max_resolution" in data)


def as_arguments(data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The arguments that kohya_ss would give sd-scripts, and by argument the name it has in the file."""
    found: dict[str, Any] = {}
    names: dict[str, str] = {}
    flux, sd3 = _is_on(data.get("flux1_checkbox", "")), _is_on(data.get("sd3_checkbox", ""))
    # The fields of models that are not chosen stay filled.
    others = {*(() if flux else _OF_FLUX), *(() if sd3 else _OF_SD3), *(() if flux or sd3 else ("blocks_to_swap",))}
    others -= {"clip_l", "t5xxl"} if sd3 else set()
    if (flux or sd3) and not _is_of_lora(data):
        # Of SDXL; these two have fields of their own.
        others.add("fused_backward_pass")
    if not _is_on(data.get("reg_data_dir", "")) and not _is_on(data.get("dataset_config", "")):
        others.add("prior_loss_weight")
    for key, value in data.items():
        if key in others:
            continue
        if value is None or (isinstance(value, str) and value.strip() in ("", "None")):
            continue
        name = NAMES.get(key, key)
        if name not in found or _is_on(value):
            found[name] = value
            names[name] = key
    _network(data, found, names)
    _rates(found, several_encoders=_is_on(data.get("sdxl", "")) or sd3)
    _parts_of_a_whole_model(data, found, names)
    _length(data, found)
    if _is_of_lora(data):
        _offsets(data, found)
        # The program says that it is not supported yet, and goes on without.
        found.pop("stop_text_encoder_training", None)
        found.pop("stop_text_encoder_training_pct", None)
    if found.get("lr_scheduler") == "cosine_with_restarts" and "lr_scheduler_num_cycles" not in found and _number(data.get("epoch")):
        found["lr_scheduler_num_cycles"], names["lr_scheduler_num_cycles"] = data["epoch"], "epoch"
    found.update(_more(found.pop("additional_parameters", "")))
    return found, names


def _is_of_lora(data: Mapping[str, Any]) -> bool:
    """Not of the tabs for whole models and for embeddings."""
    return "LoRA_type" in data


def _offsets(data: Mapping[str, Any], found: dict[str, Any]) -> None:
    """The fields of the other type of noise stay filled."""
    if data.get("noise_offset_type") == "Multires":
        for key in ("noise_offset", "noise_offset_random_strength", "adaptive_noise_scale"):
            found.pop(key, None)
    elif "noise_offset_type" in data:
        for key in ("multires_noise_iterations", "multires_noise_discount"):
            found.pop(key, None)


def _parts_of_a_whole_model(data: Mapping[str, Any], found: dict[str, Any], names: dict[str, str]) -> None:
    """Which text encoders of a whole model are trained; the rates of other models' encoders stay filled."""
    if _is_of_lora(data) or "token_string" in data:
        return
    xl = _is_on(data.get("sdxl", "")) or _is_on(data.get("sdxl_checkbox", ""))
    flow = _is_on(data.get("flux1_checkbox", "")) or _is_on(data.get("sd3_checkbox", ""))
    for key in ("learning_rate_te",) if xl or flow else ("learning_rate_te1", "learning_rate_te2"):
        found.pop(key, None)
    if xl and "train_text_encoder" not in data:
        # The tab DreamBooth trains the encoders whose rates are not 0.
        rates = [_number(data.get(key)) for key in ("learning_rate_te1", "learning_rate_te2")]
        if any(key in data for key in ("learning_rate_te1", "learning_rate_te2")):
            found["train_text_encoder"], names["train_text_encoder"] = max(rates) > 0, "learning_rate_te1"
    asked = _is_on(data.get("train_text_encoder", ""))
    if (xl or flow or "image_folder" in data) and "train_text_encoder" in data and not asked:
        found["network_train_unet_only"], names["network_train_unet_only"] = True, "train_text_encoder"


def _is_on(value: Any) -> bool:
    return str(value).strip().lower() not in ("", "0", "0.0", "false", "none")


def _network(data: Mapping[str, Any], found: dict[str, Any], names: dict[str, str]) -> None:
    told = str(data.get("LoRA_type", ""))
    if not told:
        return
    module, algo = _TYPES.get(told, (told, ""))
    if told == "Standard" and _is_on(data.get("sd3_checkbox", "")):
        module = "networks.lora_sd3"
    if told != "Flux1":
        for key in _OF_FLUX_LORA:
            found.pop(key, None)
    found["network_module"], names["network_module"] = _OTHER_MODELS.get(told, module), "LoRA_type"
    found.pop("LoRA_type", None)
    if algo:
        found["algo"] = algo
        names["algo"] = "LoRA_type"
    if algo and "preset" not in found:
        # Files from before there was a choice: LyCORIS trains every layer where it is told none.
        found["preset"], names["preset"] = "full", "LoRA_type"
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


def _rates(found: dict[str, Any], several_encoders: bool) -> None:
    """A rate of 0 leaves a part out; where both are 0, learning_rate counts for both. T5's own rate counts for the second of `several_encoders`, too."""
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
    if text and several_encoders and _number(found.get("t5xxl_lr")):
        found["text_encoder_lr"] = [found["text_encoder_lr"], found.pop("t5xxl_lr")]


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def _length(data: Mapping[str, Any], found: dict[str, Any]) -> None:
    """Steps count where they are given; else the program computes them from `epoch`, but not where a dataset file says what is trained."""
    epochs = found.pop("epoch", None)
    if _is_on(data.get("dataset_config", "")) and _is_of_lora(data):
        return
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

"""The adapter out of sd-scripts' network_module and network_args, LyCORIS's algorithms among them."""

from __future__ import annotations

from ...adapters import adapter
from ...settings import AdapterSettings
from .objective import is_flow
from .sheet import Sheet

_PLAIN = ("networks.lora", "networks.lora_flux", "networks.lora_sd3")
_ALGOS = {"lora": "lora", "locon": "lora", "loha": "loha", "lokr": "lokr", "ia3": "ia3"}
_FOR_EVERY_KIND = {"kind", "targets"}
_WHOLE = 10_000
_OF_SPLIT_FACTORS = ("rank", "alpha", "conv_alpha", "decompose_both", "rank_stabilised")
_PRESETS = {
    "attn-mlp": "default",
    "unet-transformer-only": "default",
    "attn-only": "attention",
    "full-lin": "linear",
    "full": "full",
    "unet-only": "full",
}
"""LyCORIS's attn-mlp takes all linear layers of a transformer with its proj_in and proj_out, as the default does here."""
_WITH_WINDOWS = ("locon", "loha", "lokr", "dora")
_WITHOUT_WINDOWS = ("attn-mlp", "attn-only", "full-lin", "unet-transformer-only")


def translate_network(sheet: Sheet) -> None:
    """Kind, ranks, alphas and dropouts. What LyCORIS alone has, and Athanor not, is left to the table of reasons."""
    module = sheet.text("network_module")
    kind = _kind(sheet, module)
    if not kind:
        sheet.drop("network_module")
    if kind:
        _take_kind(sheet, kind)
    if kind == "lokr":
        _whole_matrix(sheet)
    for key, path in (("network_dim", "adapter.rank"), ("network_alpha", "adapter.alpha"), ("scale_weight_norms", "adapter.max_norm")):
        if sheet.on(key) and not (key == "network_dim" and "adapter.full_matrix" in sheet.values):
            sheet.take(key, path)
    for key in ("dropout", "network_dropout"):
        if sheet.on(key):
            sheet.take(key, "adapter.dropout")
    for key in ("rank_dropout", "module_dropout"):
        if sheet.on(key):
            sheet.take(key, f"adapter.{key}")
    _windows(sheet, kind, module)
    if kind == "lokr":
        for key in ("factor", "decompose_both", "full_matrix"):
            if sheet.on(key):
                value = sheet.number(key) if key == "factor" else None
                sheet.take(key, f"adapter.{key}", 0 if value is not None and value < 0 else None)
        if not sheet.has("factor"):
            sheet.imply("adapter.factor", 0, "LyCORIS splits evenly")
    else:
        for key in (key for key in ("factor", "decompose_both", "full_matrix") if sheet.on(key)):
            sheet.leave(key, "it belongs to LoKr.")
        sheet.drop("factor", "decompose_both", "full_matrix")
    if sheet.flag("rs_lora"):
        sheet.take("rs_lora", "adapter.rank_stabilised", True)
    _lora_plus(sheet)
    _preset(sheet, kind)
    if kind != "ia3" and (module or sheet.has("network_dim")):
        if not sheet.on("network_dim"):
            sheet.imply("adapter.rank", 4, "sd-scripts takes 4")
        if not sheet.has("network_alpha"):
            sheet.imply("adapter.alpha", 1.0, "sd-scripts takes 1")
        elif not sheet.on("network_alpha"):
            sheet.imply("adapter.alpha", float(sheet.values.get("adapter.rank", 4)), "an alpha of 0 is the rank")
    _only_what_counts(sheet, kind or "lora")
    if sheet.values.get("adapter.full_matrix"):
        for path in [f"adapter.{name}" for name in _OF_SPLIT_FACTORS if f"adapter.{name}" in sheet.values]:
            del sheet.values[path]
            sheet.untake(path, "LoKr's whole factors have none.")


def _windows(sheet: Sheet, kind: str, module: str) -> None:
    """The ranks of convolutions of 3 x 3. LyCORIS trains them at those of the others where it is told none; a transformer has none."""
    told = (sheet.number("conv_dim") or 0) if sheet.on("conv_dim") else 0
    if is_flow(sheet) or (module == "lycoris.kohya" and sheet.text("preset") in _WITHOUT_WINDOWS):
        for key in (key for key in ("conv_dim", "conv_alpha") if sheet.on(key)):
            sheet.tell("not needed", key, "no convolution is trained.")
        return
    for key, path in (("conv_dim", "adapter.conv_rank"), ("conv_alpha", "adapter.conv_alpha")):
        if sheet.on(key) and told < _WHOLE and (told or module == "lycoris.kohya"):
            sheet.take(key, path)
    if module == "lycoris.kohya" and kind == "lokr" and told >= _WHOLE:
        sheet.values["adapter.conv_rank"] = AdapterSettings().rank  # That convolutions are trained; their factors are whole.
    elif module == "lycoris.kohya" and kind in _WITH_WINDOWS:
        sheet.imply("adapter.conv_rank", sheet.values.get("adapter.rank", 4), "LyCORIS trains convolutions at the rank of the others")
        sheet.imply("adapter.conv_alpha", _alpha(sheet), "and at their alpha")
    sheet.drop("conv_alpha")


def _alpha(sheet: Sheet) -> float:
    return float(sheet.values.get("adapter.alpha", sheet.values.get("adapter.rank", 4) if sheet.has("network_alpha") else 1.0))


def _only_what_counts(sheet: Sheet, kind: str) -> None:
    """What a kind has not is left out, as it is there."""
    chosen = adapter(kind)
    for path in [path for path in sheet.values if path.startswith("adapter.")]:
        name = path.split(".")[1]
        if name not in chosen.options | _FOR_EVERY_KIND:
            del sheet.values[path]
            sheet.untake(path, f"{chosen.title} has none.")


def _whole_matrix(sheet: Sheet) -> None:
    """A rank larger than any layer is how LyCORIS is told to train LoKr's second factor whole."""
    if (sheet.number("network_dim") or 0) >= _WHOLE:
        sheet.take("network_dim", "adapter.full_matrix", True)
        if (sheet.number("conv_dim") or 0) >= _WHOLE:
            sheet.tell("translated", "conv_dim", "adapter.full_matrix = True")


def _kind(sheet: Sheet, module: str) -> str:
    """Empty where there is no such kind here, which is told."""
    if not module:
        return ""
    if module in _PLAIN:
        return "locon" if sheet.on("conv_dim") and not is_flow(sheet) else "lora"
    if module == "networks.lora_fa":
        sheet.leave("network_module", "LoRA-FA keeps one matrix fixed; plain LoRA takes its place, with the same files.")
        return "lora"
    if module in ("networks.loha", "networks.lokr"):
        return module.rpartition(".")[2]
    if module == "lycoris.kohya":
        algo = sheet.text("algo").lower() or "lora"
        if algo not in _ALGOS:
            sheet.leave("algo" if sheet.has("algo") else "network_module", f"LyCORIS's {algo} is not known here; choose a kind in Adapter Settings.")
            return ""
        if sheet.flag("dora_wd") and _ALGOS[algo] == "lora":
            sheet.tell("translated", "dora_wd", "adapter.kind = dora")
            return "dora"
        without = is_flow(sheet) or sheet.text("preset") in _WITHOUT_WINDOWS
        return "locon" if _ALGOS[algo] == "lora" and not without else _ALGOS[algo]
    sheet.leave("network_module", f"{module} is not known here; choose a kind in Adapter Settings.")
    return ""


def _take_kind(sheet: Sheet, kind: str) -> None:
    if "network_module" in sheet.keys():  # noqa: SIM118
        sheet.take("network_module", "adapter.kind", kind)
    else:
        sheet.values["adapter.kind"] = kind
    sheet.drop("algo")


def _lora_plus(sheet: Sheet) -> None:
    if sheet.on("loraplus_lr_ratio"):
        sheet.take("loraplus_lr_ratio", "adapter.lora_plus_ratio")
    for key in ("loraplus_unet_lr_ratio", "loraplus_text_encoder_lr_ratio"):
        if not sheet.on(key):
            continue
        if "adapter.lora_plus_ratio" in sheet.values:
            sheet.leave(key, "one ratio counts for all parts.")
        else:
            sheet.take(key, "adapter.lora_plus_ratio")


def _preset(sheet: Sheet, kind: str) -> None:
    preset = sheet.text("preset")
    if not preset:
        return
    if preset not in _PRESETS:
        sheet.leave("preset", "choose the layers in Adapter Settings.")
        return
    targets = _PRESETS[preset]
    if preset.startswith("unet-"):
        sheet.values["train.text_encoder_rate"] = 0.0
    if targets == "full" and (kind not in _WITH_WINDOWS or is_flow(sheet) or _is_sdxl(sheet)):
        # With its convolutions that is the default: what SD1.5 has beside them has other names in SDXL, where LyCORIS does not find it.
        sheet.drop("preset")
    else:
        sheet.take("preset", "adapter.targets", targets)


def _is_sdxl(sheet: Sheet) -> bool:
    """As far as the file says so."""
    return sheet.flag("sdxl") or sheet.text("model_train_type").startswith("sdxl")

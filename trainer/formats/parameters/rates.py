"""The learning rates out of sd-scripts' learning_rate, unet_lr, text_encoder_lr and learning_rate_te…"""

from __future__ import annotations

from .objective import is_flux, is_whole_flow
from .sheet import Sheet


def translate_rates(sheet: Sheet) -> None:
    """unet_lr and text_encoder_lr fall back to learning_rate; text_encoder_lr may be one for each encoder."""
    plain = sheet.number("learning_rate")
    unet_only, text_only = sheet.flag("network_train_unet_only"), sheet.flag("network_train_text_encoder_only")
    without_text = is_whole_flow(sheet) and not sheet.flag("train_text_encoder")
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
    elif sheet.text("stop_text_encoder_training") == "-1" or (_has_rate(sheet) and without_text):
        sheet.imply("train.text_encoder_rate", 0.0, "the text encoders are not trained")
    elif _of_whole_encoders(sheet):
        _text_rates_of_a_whole_model(sheet, plain)
    elif plain is not None:
        sheet.take("learning_rate", "train.text_encoder_rate", plain)
    if sheet.flag("train_t5xxl") and not (unet_only or without_text) and "optimizer.t5_rate" not in sheet.values:
        key = "learning_rate_te3" if sheet.has("learning_rate_te3") else "t5xxl_lr"
        rate = sheet.number(key) if sheet.on(key) or key == "learning_rate_te3" else plain
        if rate is not None:
            sheet.take("train_t5xxl", "optimizer.t5_rate", rate)
            sheet.drop("t5xxl_lr")
    sheet.drop("learning_rate_te3")
    if unet_only and "optimizer.text_encoder_2_rate" in sheet.values:
        del sheet.values["optimizer.text_encoder_2_rate"]
    if sheet.text("stop_text_encoder_training") == "-1":
        sheet.drop("stop_text_encoder_training")
    sheet.drop("learning_rate", "unet_lr", "text_encoder_lr", "network_train_unet_only", "network_train_text_encoder_only")
    sheet.drop("learning_rate_te", "learning_rate_te1", "learning_rate_te2", "train_text_encoder")


def _of_whole_encoders(sheet: Sheet) -> bool:
    return any(sheet.has(key) for key in ("learning_rate_te", "learning_rate_te1", "train_text_encoder"))


def _has_rate(sheet: Sheet) -> bool:
    return sheet.has("learning_rate") or _of_whole_encoders(sheet)


def _text_rates_of_a_whole_model(sheet: Sheet, plain: float | None) -> None:
    """sdxl_train.py trains its two encoders where train_text_encoder says so; train_db.py its one at learning_rate_te."""
    if sheet.has("train_text_encoder") and not sheet.flag("train_text_encoder"):
        sheet.take("train_text_encoder", "train.text_encoder_rate", 0.0)
        return
    if sheet.has("learning_rate_te1") and not sheet.has("train_text_encoder"):
        sheet.imply("train.text_encoder_rate", 0.0, "without train_text_encoder they are not trained")
        return
    first = "learning_rate_te1" if sheet.has("learning_rate_te1") else "learning_rate_te"
    if sheet.has(first):
        sheet.take(first, "train.text_encoder_rate")
    elif plain is not None:
        sheet.take("train_text_encoder", "train.text_encoder_rate", plain)
    if sheet.has("learning_rate_te2"):
        second = sheet.number("learning_rate_te2")
        if second is not None and second != sheet.values.get("train.text_encoder_rate"):
            sheet.take("learning_rate_te2", "optimizer.text_encoder_2_rate")


def _text_rates(sheet: Sheet) -> None:
    key = "text_encoder_lr"
    try:
        rates = [float(each) for each in sheet.items(key)]
    except ValueError:
        rates = []
    if not rates:
        sheet.leave(key, "it is not a number.")
        return
    sheet.take(key, "train.text_encoder_rate", rates[0])
    if sheet.flag("train_t5xxl") and not sheet.on("t5xxl_lr"):
        sheet.take("train_t5xxl", "optimizer.t5_rate", rates[-1])
    if is_flux(sheet):
        # CLIP-L and T5; FLUX has no second CLIP.
        return
    if len(rates) > 1 and rates[1] != rates[0]:
        sheet.take(key, "optimizer.text_encoder_2_rate", rates[1])

"""What files for whole models and for embeddings have beside those for LoRAs."""

from __future__ import annotations

from .sheet import Sheet


def translate_whole_model(sheet: Sheet) -> None:
    """How the weights are kept and moved where no LoRA is trained."""
    if sheet.has("network_module"):
        return
    if sheet.flag("full_bf16"):
        sheet.take("full_bf16", "checkpoint.weights", "bf16")
    if sheet.flag("fused_backward_pass"):
        sheet.take("fused_backward_pass", "checkpoint.fused_backward", True)


def translate_embedding(sheet: Sheet) -> None:
    """Of train_textual_inversion.py. Its word is the name in Train Embedding."""
    if sheet.on("num_vectors_per_token"):
        sheet.take("num_vectors_per_token", "embedding.num_vectors")
    elif sheet.has("token_string"):
        sheet.imply("embedding.num_vectors", 1, "sd-scripts takes 1")
    if sheet.on("init_word"):
        sheet.take("init_word", "embedding.initial_words")
    told = sheet.text("template")
    for key, name in (("use_object_template", "subject"), ("use_style_template", "style")):
        if sheet.flag(key):
            sheet.take(key, "embedding.templates", name)
        elif told == f"{key.split('_')[1]} template":
            sheet.take("template", "embedding.templates", name)
    if told == "caption":
        sheet.take("template", "embedding.templates", "captions")
    if sheet.has("token_string"):
        for key in (key for key in ("caption_dropout_rate", "caption_tag_dropout_rate", "caption_dropout_every_n_epochs") if sheet.on(key)):
            sheet.tell("not needed", key, "sd-scripts leaves no caption out while an embedding is trained.")

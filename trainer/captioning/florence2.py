"""Florence-2 (Xiao et al. 2023): from one sentence to a paragraph.

Its checkpoints come in two layouts: that of transformers (florence-community/Florence-2-base and others), and the original one
(microsoft/Florence-2-base, the PromptGen variants) that was made for code of its own. That code is never run here: the original
weights are renamed for the class of transformers, as its convert_florence2_original_pytorch_to_hf.py does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import AthanorError
from ..settings import CaptioningSettings
from ..settings.captioning import DETAILS
from .base import CAPTIONERS, checked, stopping

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from transformers import Florence2Config, Florence2ForConditionalGeneration, Florence2Processor

_TASKS = dict(zip(DETAILS, ("<CAPTION>", "<DETAILED_CAPTION>", "<MORE_DETAILED_CAPTION>", "<GENERATE_TAGS>", "<MIXED_CAPTION>"), strict=True))
_IMAGE_TOKEN = "<image>"
_REGIONS = "cap ncap dcap grounding seg sep region_cap region_to_desciption proposal poly and".split()  # noqa: SIM905
_ADDED = (
    *("<od>", "</od>", "<ocr>", "</ocr>"),
    *(f"<loc_{i}>" for i in range(1000)),
    *(token for name in _REGIONS for token in ([f"<{name}>"] if name in ("sep", "and") else [f"<{name}>", f"</{name}>"])),
)
"""Tokens behind the vocabulary of the original layout, in the order (and the spelling) of its processing_florence2.py."""
_RENAMED = (
    (r"^vision_tower\.convs\.(\d+)\.proj\.", r"model.vision_tower.convs.\1.conv."),
    (r"^vision_tower\.", "model.vision_tower."),
    (r"\.(?:window_attn|channel_attn)\.norm\.", ".norm1."),
    (r"\.ffn\.norm\.", ".norm2."),
    (r"\.(conv[12])\.fn\.dw\.", r".\1."),
    (r"\.((?:window|channel)_attn)\.fn\.", r".\1."),
    (r"\.ffn\.fn\.net\.", ".ffn."),
    (r"^image_projection$", "model.multi_modal_projector.image_projection.weight"),
    (r"^image_proj_norm\.", "model.multi_modal_projector.image_proj_norm."),
    (r"^image_pos_embed\.", "model.multi_modal_projector.image_position_embed."),
    (r"^visual_temporal_embed\.", "model.multi_modal_projector.visual_temporal_embed."),
    (r"^language_model\.lm_head\.", "lm_head."),
    (r"^language_model\.model\.", "model.language_model."),
)
_OF_WRITING = (
    *("bos_token_id", "decoder_start_token_id", "eos_token_id", "forced_bos_token_id", "forced_eos_token_id", "pad_token_id"),
    *("num_beams", "early_stopping", "length_penalty", "min_length", "no_repeat_ngram_size", "repetition_penalty"),
)
"""What an original checkpoint says among the settings of its text model of how to write; transformers has a class of its own for that."""
_WITHOUT_USE = ("language_model.final_logits_bias",)
_SHARED = (
    "model.language_model.shared.weight",
    "lm_head.weight",
    "model.language_model.encoder.embed_tokens.weight",
    "model.language_model.decoder.embed_tokens.weight",
)


@CAPTIONERS.register("florence2")
def _load(folder: Path, device: torch.device, dtype: torch.dtype) -> Florence2:
    _check_transformers()
    from transformers import AutoProcessor, Florence2ForConditionalGeneration

    model, told = Florence2ForConditionalGeneration.from_pretrained(folder, local_files_only=True, dtype=dtype, output_loading_info=True)
    return Florence2(checked(model, told["missing_keys"], folder).to(device), AutoProcessor.from_pretrained(folder, local_files_only=True))


@CAPTIONERS.register("florence2-original")
def _load_original(folder: Path, device: torch.device, dtype: torch.dtype) -> Florence2:
    _check_transformers()
    import torch
    from transformers import Florence2ForConditionalGeneration

    processor = _original_processor(folder)
    data = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = original_config(data, processor.image_token_id)
    weights = {name: tensor.to(dtype) for name, tensor in renamed(_original_weights(folder)).items()}
    with torch.device("meta"):
        model = Florence2ForConditionalGeneration(config)
    own = model.state_dict()
    shared = next((weights[name] for name in _SHARED if name in weights), None)
    if shared is not None:  # one table under several names; the image's token has a row of its own, of which nothing is read
        padded = torch.nn.functional.pad(shared, (0, 0, 0, max(0, config.text_config.vocab_size - len(shared))))
        weights |= dict.fromkeys(_SHARED, padded)
    missing = [name for name in own if name not in weights]
    wrong = [name for name in own if name in weights and weights[name].shape != own[name].shape]
    if wrong:
        raise AthanorError(
            f"The captioner in {folder} is not a Florence-2: {wrong[0]} is {list(weights[wrong[0]].shape)}, expected is {list(own[wrong[0]].shape)}."
        )
    checked(model, missing, folder)
    model.load_state_dict({name: weights[name] for name in own}, assign=True)
    model.tie_weights()
    model.generation_config.update(**{name: data["text_config"][name] for name in _OF_WRITING if data["text_config"].get(name) is not None})
    return Florence2(model.to(device), processor)


class Florence2:
    def __init__(self, model: Florence2ForConditionalGeneration, processor: Florence2Processor):
        self._model, self._processor = model, processor
        tokenizer = processor.tokenizer
        if tokenizer.bos_token is None or tokenizer.eos_token is None:
            raise AthanorError("The tokenizer of this Florence-2 model lacks its special tokens. Download the model again.")

    def describe(self, images: Sequence[Image.Image], settings: CaptioningSettings, is_stopped: Callable[[], bool]) -> list[str]:
        """A text for each RGB image, in order."""
        import torch

        inputs = self._processor(images=list(images), text=[_TASKS[settings.detail]] * len(images), return_tensors="pt")
        with torch.inference_mode():
            tokens = self._model.generate(
                **inputs.to(self._model.device, self._model.dtype),
                max_new_tokens=settings.max_tokens,
                num_beams=settings.num_beams,
                do_sample=False,
                suppress_tokens=[self._processor.image_token_id],
                stopping_criteria=stopping(is_stopped),
            )
        return [text.strip() for text in self._processor.batch_decode(tokens, skip_special_tokens=True)]


def renamed(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of the original layout under the names of transformers' class."""
    found: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        if name in _WITHOUT_USE:
            continue
        new = name
        for pattern, replacement in _RENAMED:
            new = re.sub(pattern, replacement, new)
        found[new] = tensor.T.contiguous() if name == "image_projection" else tensor
    return found


def original_config(data: Mapping[str, Any], image_token_id: int) -> Florence2Config:
    """The configuration of an original checkpoint for transformers' class, with a row more for the image's token where it has none."""
    from transformers import BartConfig, Florence2Config, Florence2VisionConfig

    vision, text = data["vision_config"], {**data["text_config"]}
    same = ("depths", "patch_size", "patch_stride", "patch_padding", "patch_prenorm", "num_heads", "num_groups", "window_size", "projection_dim")
    vision_config = Florence2VisionConfig(
        **{name: vision[name] for name in same if name in vision},
        embed_dim=vision["dim_embed"],
        max_temporal_embeddings=vision["visual_temporal_embedding"]["max_temporal_embeddings"],
        max_position_embeddings=vision["image_pos_embed"]["max_pos_embeddings"],
    )
    known = {name: value for name, value in text.items() if name in BartConfig().to_dict() and name != "model_type"}
    known["vocab_size"] = max(text["vocab_size"], image_token_id + 1)
    return Florence2Config(text_config=BartConfig(**known), vision_config=vision_config, image_token_id=image_token_id)


def _original_processor(folder: Path) -> Florence2Processor:
    from transformers import AddedToken, BartTokenizerFast, CLIPImageProcessor, Florence2Processor

    tokenizer = BartTokenizerFast.from_pretrained(folder, local_files_only=True)
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in _ADDED], special_tokens=True)
    tokenizer.add_tokens([AddedToken(_IMAGE_TOKEN, special=True, normalized=False)], special_tokens=True)
    tokenizer.image_token, tokenizer.image_token_id = _IMAGE_TOKEN, tokenizer.convert_tokens_to_ids(_IMAGE_TOKEN)
    return Florence2Processor(CLIPImageProcessor.from_pretrained(folder, local_files_only=True), tokenizer)


def _original_weights(folder: Path) -> dict[str, torch.Tensor]:
    """From safetensors, else from pytorch_model.bin, of which only tensors are read."""
    import torch
    from safetensors.torch import load_file

    if (file := folder / "model.safetensors").is_file():
        return load_file(file)
    return torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)


def _check_transformers() -> None:
    import transformers

    if not hasattr(transformers, "Florence2ForConditionalGeneration"):
        raise AthanorError(
            f"Florence-2 needs transformers 4.56 or newer; {transformers.__version__} is installed. Update it with: pip install -U transformers"
        )

"""A BLIP and a Florence-2 of some thousand random weights, as transformers saves them, and Florence-2 in its original layout, too."""

from __future__ import annotations

import json
import re
from pathlib import Path

SIDE_PX = 32
WORDS = "a photo of the red blue green cat dog house tree sits stands runs under over near , .".split()  # noqa: SIM905
_LETTERS = [*map(chr, range(33, 127)), "Ġ", "Ċ"]
REGION_TOKENS = [
    "<od>",
    "</od>",
    "<ocr>",
    "</ocr>",
    *(f"<loc_{i}>" for i in range(1000)),
    *[
        "<cap>",
        "</cap>",
        "<ncap>",
        "</ncap>",
        "<dcap>",
        "</dcap>",
        "<grounding>",
        "</grounding>",
        "<seg>",
        "</seg>",
        "<sep>",
        "<region_cap>",
        "</region_cap>",
    ],
    *["<region_to_desciption>", "</region_to_desciption>", "<proposal>", "</proposal>", "<poly>", "</poly>", "<and>"],
]
"""What Florence-2 has behind its vocabulary."""


WRITING = {"forced_bos_token_id": 0, "no_repeat_ngram_size": 2, "num_beams": 3, "early_stopping": True, "min_length": 6}
"""As in microsoft/Florence-2-base, where two is three; random weights would often write nothing."""


def make_blip(folder: Path, *, seed: int = 0) -> Path:
    import torch
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    torch.manual_seed(seed)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "[DEC]"]
    tokenizer = BertTokenizer(
        vocab={word: i for i, word in enumerate(vocabulary)}, bos_token="[DEC]", model_input_names=["input_ids", "attention_mask"]
    )
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BlipConfig(
        text_config={
            **size,
            "vocab_size": len(vocabulary),
            "encoder_hidden_size": 16,
            "projection_dim": 16,
            "max_position_embeddings": 64,
            "bos_token_id": len(vocabulary) - 1,
            "eos_token_id": 3,
            "sep_token_id": 3,
            "pad_token_id": 0,
        },
        vision_config={**size, "image_size": SIDE_PX, "patch_size": 8},
        projection_dim=16,
    )
    model = _lively(BlipForConditionalGeneration(config))
    model.save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": SIDE_PX, "width": SIDE_PX}), tokenizer).save_pretrained(folder)
    return folder


def make_florence2(folder: Path, *, seed: int = 3) -> Path:
    """In the layout of transformers."""
    import torch
    from transformers import BartConfig, CLIPImageProcessor, Florence2Config, Florence2ForConditionalGeneration, Florence2Processor

    torch.manual_seed(seed)
    tokenizer = _florence_tokenizer(folder)
    tokenizer.add_tokens(REGION_TOKENS, special_tokens=True)
    tokenizer.save_pretrained(folder)
    tokenizer = type(tokenizer).from_pretrained(folder, extra_special_tokens={"image_token": "<image>"})
    text = BartConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=256,
        forced_bos_token_id=None,
    )
    config = Florence2Config(text_config=text, vision_config=_vision_config(), image_token_id=tokenizer.image_token_id)
    model = _lively(Florence2ForConditionalGeneration(config))
    with torch.no_grad():  # rather words than places, of which nothing can be read
        model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids(REGION_TOKENS)] *= 0.01
    model.generation_config.update(**WRITING)
    model.save_pretrained(folder)
    images = CLIPImageProcessor(size={"height": SIDE_PX, "width": SIDE_PX}, do_center_crop=False, image_seq_length=17)
    images.image_seq_length = 17
    tokenizer.save_pretrained(folder)
    Florence2Processor(images, tokenizer).save_pretrained(folder)
    return folder


def make_florence2_original(folder: Path, native: Path) -> Path:
    """The same model as in `native`, in the layout of microsoft/Florence-2-base."""
    import torch
    from safetensors.torch import load_file, save_file

    config = json.loads((native / "config.json").read_text(encoding="utf-8"))
    vision, text = config["vision_config"], config["text_config"]
    same = ("depths", "patch_size", "patch_stride", "patch_padding", "patch_prenorm", "num_heads", "num_groups", "window_size", "projection_dim")
    image_token_id = config["image_token_id"]
    original = {
        "model_type": "florence2",
        "architectures": ["Florence2ForConditionalGeneration"],
        "auto_map": {"AutoConfig": "configuration_florence2.Florence2Config", "AutoModelForCausalLM": "modeling_florence2.Florence2ForConditionalGeneration"},
        "text_config": {**text, "model_type": "florence2_language", "vocab_size": image_token_id, **WRITING},
        "vision_config": {
            **{name: vision[name] for name in same},
            "model_type": "davit",
            "dim_embed": vision["embed_dim"],
            "visual_temporal_embedding": {"type": "COSINE", "max_temporal_embeddings": vision["max_temporal_embeddings"]},
            "image_pos_embed": {"type": "learned_abs_2d", "max_pos_embeddings": vision["max_position_embeddings"]},
            "image_feature_source": ["spatial_avg_pool", "temporal_avg_pool"],
        },
    }  # fmt: skip
    _florence_tokenizer(folder).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(original), encoding="utf-8")
    images = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"height": SIDE_PX, "width": SIDE_PX},
        "do_center_crop": False,
        "image_seq_length": 17,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(images), encoding="utf-8")
    tensors = {}
    for name, tensor in load_file(native / "model.safetensors").items():
        old = _original_name(name)
        if "shared" in old:
            tensor = tensor[:image_token_id]
        tensors[old] = (tensor.T if old == "image_projection" else tensor).contiguous()
    for name in ("encoder.embed_tokens", "decoder.embed_tokens"):
        tensors[f"language_model.model.{name}.weight"] = tensors["language_model.model.shared.weight"].clone()
    tensors["language_model.lm_head.weight"] = tensors["language_model.model.shared.weight"].clone()
    tensors["language_model.final_logits_bias"] = torch.zeros(1, image_token_id)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _original_name(name: str) -> str:
    for pattern, replacement in (
        (r"^model\.vision_tower\.convs\.(\d+)\.conv\.", r"vision_tower.convs.\1.proj."),
        (r"^model\.vision_tower\.", "vision_tower."),
        (r"\.spatial_block\.norm1\.", ".spatial_block.window_attn.norm."),
        (r"\.channel_block\.norm1\.", ".channel_block.channel_attn.norm."),
        (r"\.norm2\.", ".ffn.norm."),
        (r"\.((?:window|channel)_attn)\.(qkv|proj)\.", r".\1.fn.\2."),
        (r"_block\.(conv[12])\.", r"_block.\1.fn.dw."),
        (r"\.ffn\.(fc[12])\.", r".ffn.fn.net.\1."),
        (r"^model\.multi_modal_projector\.image_projection\.weight$", "image_projection"),
        (r"^model\.multi_modal_projector\.image_proj_norm\.", "image_proj_norm."),
        (r"^model\.multi_modal_projector\.image_position_embed\.", "image_pos_embed."),
        (r"^model\.multi_modal_projector\.visual_temporal_embed\.", "visual_temporal_embed."),
        (r"^lm_head\.", "language_model.lm_head."),
        (r"^model\.language_model\.", "language_model.model."),
    ):
        name = re.sub(pattern, replacement, name)
    return name


def _vision_config() -> dict:
    return {
        "depths": [1, 1],
        "patch_size": [7, 3],
        "patch_stride": [4, 2],
        "patch_padding": [3, 1],
        "patch_prenorm": [False, True],
        "embed_dim": [8, 16],
        "num_heads": [2, 2],
        "num_groups": [2, 2],
        "window_size": 4,
        "projection_dim": 16,
        "max_temporal_embeddings": 10,
        "max_position_embeddings": 8,
        "drop_path_rate": 0.0,
    }


def _florence_tokenizer(folder: Path):
    from transformers import BartTokenizerFast

    words = ["Ġ" + word for word in WORDS]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *_LETTERS, *words, "<mask>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return BartTokenizerFast.from_pretrained(folder)


def _lively(model):
    """Weights large enough for the words to depend on the picture."""
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2:
                weight.normal_(0, 0.5 if "embed" in name or "shared" in name else weight[0].numel() ** -0.5 * 1.5)
    model.tie_weights()
    return model

"""Tiny random CLIP, DINOv2 and ONNX models, as they lie in people's folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny import write_letter_tokenizer

from athanor.trainer.errors import AthanorError
from athanor.trainer.scoring.embedders import BUILT_IN, kind_of_embedder, load_embedder

CPU = torch.device("cpu")
PICTURES = [Image.radial_gradient("L").resize((40 + 10 * i, 64)).convert("RGB").point(lambda value, i=i: value * (i + 1) % 256) for i in range(11)]


def clip_folder(folder: Path) -> Path:
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    torch.manual_seed(0)
    vocab = write_letter_tokenizer(folder)
    text = CLIPTextConfig(
        vocab_size=vocab,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=vocab - 2,
        eos_token_id=vocab - 1,
        pad_token_id=vocab - 1,
    )
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=16, image_size=32, patch_size=8, projection_dim=12
    )
    CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=12)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}),
        encoding="utf-8",
    )
    return folder


def dino_folder(folder: Path) -> Path:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"crop_size": 28, "size": {"shortest_edge": 30}}), encoding="utf-8")
    return folder


def onnx_file(path: Path, batch: int | str = "n") -> Path:
    from onnx import TensorProto, helper, numpy_helper, save

    weights = numpy_helper.from_array(numpy.random.default_rng(0).normal(size=(3 * 16 * 16, 9)).astype("float32"), "w")
    nodes = [helper.make_node("Flatten", ["picture"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["numbers"])]
    given = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [batch, 3, 16, 16])
    graph = helper.make_graph(nodes, "g", [given], [helper.make_tensor_value_info("numbers", TensorProto.FLOAT, [batch, 9])], [weights])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


@pytest.fixture(scope="module", params=["clip", "clip-vision", "dino", "onnx", "onnx of four"])
def model(request, tmp_path_factory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("encoders 编码器")
    if request.param == "clip":
        return "clip", clip_folder(folder / "clip")
    if request.param == "dino":
        return "dino", dino_folder(folder / "dino")
    if request.param == "clip-vision":
        from safetensors.torch import load_file

        whole = load_file(clip_folder(folder / "clip") / "model.safetensors")
        path = folder / "CLIP-ViT.safetensors"
        save_file({name: tensor for name, tensor in whole.items() if name.startswith(("vision_model.", "visual_projection."))}, path)
        return "clip-vision", path
    return "onnx", onnx_file(folder / "model.onnx", 4 if "four" in request.param else "n")


def test_pictures_become_unit_vectors_that_do_not_depend_on_their_neighbours(model):
    kind, path = model
    assert kind_of_embedder(path) == kind
    embedder = load_embedder(str(path), CPU)
    together = embedder.images(PICTURES)
    assert together.shape[0] == len(PICTURES) and numpy.linalg.norm(together, axis=1) == pytest.approx([1] * len(PICTURES), abs=1e-4)
    assert numpy.abs(embedder.images(PICTURES[5:6]) - together[5]).max() < 1e-4
    assert numpy.abs(together[0] - together[4]).max() > 1e-3, "they are told apart"
    assert (embedder.texts(["a cat"]) is None) == (kind != "clip")


def test_a_clip_folder_gives_what_transformers_gives(tmp_path):
    from transformers import CLIPModel, CLIPTokenizerFast

    folder = clip_folder(tmp_path / "clip")
    embedder, model, tokenizer = load_embedder(str(folder), CPU), CLIPModel.from_pretrained(folder).eval(), CLIPTokenizerFast.from_pretrained(folder)
    texts = ["a cat", "dog and much more"]
    square = Image.radial_gradient("L").convert("RGB").resize((40, 40), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(numpy.asarray(square.crop((4, 4, 36, 36)), dtype="float32") / 127.5 - 1).permute(2, 0, 1)[None]
    words = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        given = model(pixel_values=pixels, **words)
    assert numpy.abs(embedder.texts(texts) - given.text_embeds.numpy()).max() < 1e-5
    assert numpy.abs(embedder.images([square])[0] - given.image_embeds.numpy()[0]).max() < 1e-5
    both = embedder.images([square]) @ embedder.texts(texts).T
    assert numpy.abs(both - (given.logits_per_image / model.logit_scale.exp()).detach().numpy()).max() < 1e-5


def test_the_image_half_in_one_file_gives_what_the_folder_gives(tmp_path):
    from safetensors.torch import load_file

    folder = clip_folder(tmp_path / "clip")
    (folder / "preprocessor_config.json").unlink()
    whole = load_file(folder / "model.safetensors")
    save_file({name: tensor for name, tensor in whole.items() if name.startswith("vis")}, tmp_path / "half.safetensors")
    one, other = (load_embedder(str(path), CPU).images(PICTURES[:3]) for path in (folder, tmp_path / "half.safetensors"))
    assert numpy.abs(one - other).max() < 1e-4


def test_without_a_model_there_are_shapes_and_colours():
    embedder = load_embedder(BUILT_IN, CPU)
    assert embedder.images(PICTURES[:2]).shape == (2, 1956) and embedder.texts(["a"]) is None


def test_what_cannot_judge_is_told(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "lora.safetensors")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "config.json").write_text('{"model_type": "clip"}', encoding="utf-8")
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    for path, said in (
        (tmp_path / "lora.safetensors", "not the image half of a CLIP"),
        (tmp_path / "bert", "of the type 'bert'"),
        (tmp_path, "no model of transformers"),
        (tmp_path / "clip", "cannot be loaded"),
        (tmp_path / "bad.onnx", "cannot be loaded"),
    ):
        with pytest.raises(AthanorError, match=said):
            load_embedder(str(path), CPU)


@pytest.mark.parametrize("kind", ["vit", "dinov3_vit"])
def test_the_first_dino_and_the_third_give_the_class_token_that_transformers_gives(kind, tmp_path):
    from transformers import DINOv3ViTConfig, DINOv3ViTModel, ViTConfig, ViTModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "patch_size": 8}
    torch.manual_seed(0)
    model = ViTModel(ViTConfig(**sizes, image_size=32)) if kind == "vit" else DINOv3ViTModel(DINOv3ViTConfig(**sizes, image_size=32))
    model.eval().save_pretrained(tmp_path)
    side = 32 if kind == "vit" else 224
    assert kind_of_embedder(tmp_path) == "dino"
    picture = Image.radial_gradient("L").convert("RGB").resize((side, side))
    pixels = (numpy.asarray(picture, dtype="float32") / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    with torch.no_grad():
        token = model(torch.from_numpy(pixels.astype("float32")).permute(2, 0, 1)[None]).last_hidden_state[0, 0].numpy()
    found = load_embedder(str(tmp_path), CPU).images([picture])[0]
    assert numpy.abs(found - token / numpy.linalg.norm(token)).max() < 1e-5

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

from athanor.trainer.errors import AthanorError
from athanor.trainer.formats.contents import describe_contents, lora_family
from athanor.trainer.formats.files import load_tensors, save_tensors, with_metadata
from athanor.trainer.formats.header import Header, read_header

TENSORS = {"b.weight": torch.arange(400_000, dtype=torch.float32).reshape(400, 1000) / 3, "a.alpha": torch.tensor(4.0)}
METADATA = {"ss_output_name": "狐", "modelspec.title": "t", **{f"ss_k{i}": str(i) for i in range(30)}}


def test_the_hashes_are_those_that_sd_scripts_writes(tmp_path):
    """Over the tensor data alone, and over 64 KiB of the file as it is with ss_* metadata only."""
    sha256 = save_tensors(tmp_path / "x.safetensors", TENSORS, METADATA, "fp32")
    raw = (tmp_path / "x.safetensors").read_bytes()
    assert sha256 == hashlib.sha256(raw).hexdigest()
    header_bytes = 8 + int.from_bytes(raw[:8], "little")
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["sshs_model_hash"] == hashlib.sha256(raw[header_bytes:]).hexdigest()
    assert metadata["modelspec.hash_sha256"] == "0x" + metadata["sshs_model_hash"]
    plain = save(TENSORS, {key: value for key, value in METADATA.items() if key.startswith("ss_")})
    shift = (8 + int.from_bytes(plain[:8], "little")) % 8
    assert shift == 0
    assert metadata["sshs_legacy_hash"] == hashlib.sha256(plain[0x100000 : 0x100000 + 0x10000]).hexdigest()[:8]
    assert {key: metadata[key] for key in METADATA} == METADATA


def test_another_process_writes_the_same_bytes(tmp_path):
    """safetensors itself orders the metadata anew in each process."""
    script = (
        "import sys, torch; from pathlib import Path; from athanor.trainer.formats.files import save_tensors; "
        f"print(save_tensors(Path(sys.argv[1]), {{'a': torch.ones(3)}}, {METADATA!r}, 'fp16'))"
    )
    hashes = {
        subprocess.run([sys.executable, "-c", script, str(tmp_path / f"{i}")], capture_output=True, text=True, check=True).stdout for i in range(2)
    }
    hashes.add(save_tensors(tmp_path / "here", {"a": torch.ones(3)}, METADATA, "fp16") + "\n")
    assert len(hashes) == 1


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_the_precision_is_that_asked_for(tmp_path, precision, dtype):
    save_tensors(tmp_path / "x.safetensors", TENSORS, {}, precision)
    loaded = load_file(tmp_path / "x.safetensors")
    assert {tensor.dtype for tensor in loaded.values()} == {dtype}
    assert torch.equal(loaded["b.weight"], TENSORS["b.weight"].to(dtype))


def test_more_metadata_changes_no_tensor(tmp_path):
    save_tensors(tmp_path / "x.safetensors", TENSORS, METADATA, "fp32")
    with_metadata(tmp_path / "x.safetensors", tmp_path / "y.safetensors", {"ss_k1": "new" * 100, "more": "1"})
    before, after = read_header(tmp_path / "x.safetensors"), read_header(tmp_path / "y.safetensors")
    again = save(load_file(tmp_path / "y.safetensors"), {key: value for key, value in after.metadata.items() if key.startswith("ss_")})
    legacy = hashlib.sha256(again[0x100000 : 0x100000 + 0x10000]).hexdigest()[:8]
    assert after.metadata == {**before.metadata, "ss_k1": "new" * 100, "more": "1", "sshs_legacy_hash": legacy}
    first, second = load_file(tmp_path / "x.safetensors"), load_file(tmp_path / "y.safetensors")
    assert all(torch.equal(first[key], second[key]) for key in first) and first.keys() == second.keys()


def test_a_header_is_read_without_the_weights(tmp_path):
    save_tensors(tmp_path / "x.safetensors", TENSORS, METADATA, "fp16")
    header = read_header(tmp_path / "x.safetensors")
    assert header.shapes == {"a.alpha": (), "b.weight": (400, 1000)}
    assert set(header.dtypes.values()) == {"F16"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-5],
        lambda raw: raw[:4],
        lambda raw: b"",
        lambda raw: b"\xff" * 40,
        lambda raw: raw + b"x",
        lambda raw: b"\x02" + b"\0" * 7 + b"[]",
    ],
)
def test_a_damaged_file_is_refused_with_its_name(tmp_path, damage):
    save_tensors(tmp_path / "x.safetensors", {"a": torch.ones(3)}, {}, "fp32")
    (tmp_path / "x.safetensors").write_bytes(damage((tmp_path / "x.safetensors").read_bytes()))
    with pytest.raises(AthanorError, match=r"x\.safetensors is not a whole safetensors file"):
        read_header(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        (["lora_unet_x.lora_down.weight"], "a LoRA"),
        (["emb_params"], "an embedding"),
        (["encoder.conv_in.weight", "decoder.conv_in.weight"], "a VAE"),
        (["text_model.encoder.layers.0.mlp.fc1.weight"], "a text encoder"),
        (["control_model.x"], "a ControlNet"),
        (["model.diffusion_model.x"], "a checkpoint of another model family"),
        (["model.1.sub.0.RDB1.conv1.0.weight"], "an upscaler"),
        (["ip_adapter.1.to_k_ip.weight"], "an IP-Adapter"),
        (["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"], "a model of FLUX's kind"),
        (["joint_blocks.0.x_block.attn.qkv.weight"], "a model of SD3's kind"),
        (["down_blocks.0.resnets.0.conv1.weight"], "a U-Net in diffusers' names without its folder"),
        (["blocks.0.cross_attn.q.weight"], "a Wan video model"),
        ([], "a file without weights"),
        (["controlnet_blocks.0.weight", "double_blocks.0.img_attn.qkv.weight", "img_in.weight"], "a ControlNet"),
        (["down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight"], "an AnimateDiff motion module"),
        (["redux_up.weight"], "a FLUX Redux adapter"),
        (["conv_first.weight", "layers.0.blocks.0.attn.qkv.weight"], "an upscaler"),
        (["mask_decoder.transformer.layers.0.self_attn.q_proj.weight"], "a segmentation model"),
        (["model.layers.0.self_attn.q_proj.weight"], "a language model"),
        (["transformer_blocks.0.attn.add_q_proj.weight"], "a transformer in diffusers' names without its folder"),
        (["adaln_single.linear.weight"], "a model of PixArt's or LTX-Video's kind"),
        (["blocks.0.cross_attn.q_linear.weight"], "a PixArt model"),
        (["net.blocks.0.cross_attn.q_proj.weight"], "a Cosmos model"),
        (["model.model.txt_in.individual_token_refiner.blocks.0.norm1.weight"], "a HunyuanVideo model"),
        (["joint_layers.0.attn.w1q.weight"], "an AuraFlow model"),
        (["caption_projection.0.linear.weight"], "a HiDream model"),
        (["double_blocks.0.processor.ip_adapter_double_stream_k_proj.weight"], "an IP-Adapter"),
        (["pulid_ca.0.to_q.weight"], "a PuLID adapter"),
        (["lllite_unet_x.conditioning1.0.weight"], "a ControlNet (LLLite)"),
        (["adapter.conv_in.weight"], "a T2I-Adapter"),
        (["768.linear.0.weight"], "a hypernetwork"),
        (["1.weight", "3.conv.0.weight"], "a small VAE for previews (TAESD)"),
        (["model.0.conv.weight"], "a model that finds things in pictures (YOLO)"),
        (["diffusion_model.input_blocks.0.0.diff_b"], "a LoRA"),
        (["lora_unet_x.a1.weight", "lora_unet_x.b1.weight"], "a LoRA"),
        (["base_model.model.x.oft_R.weight"], "a LoRA"),
        (["encoder.layers.0.self_attn.q_proj.weight"], "a text encoder"),
        (["something.weight"], "a model of an unknown kind"),
    ],
)
def test_other_files_are_told_for_what_they_are(tmp_path, keys, what):
    save_tensors(tmp_path / "x.safetensors", {key: torch.ones(1) for key in keys}, {}, "fp32")
    assert describe_contents(read_header(tmp_path / "x.safetensors")) == what


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1", "it is a Git LFS pointer"),
        (b"<!DOCTYPE html><html>Sign in</html>", "it is a web page"),
        (b"PK\x03\x04 archive/data.pkl", "it is an archive or an old pickle"),
        (b"GGUF\x03\0\0\0 tensors", "it is a GGUF file"),
    ],
)
def test_another_file_under_this_name_is_told_for_what_it_is(tmp_path, start, words):
    (tmp_path / "x.safetensors").write_bytes(start)
    with pytest.raises(AthanorError, match=words):
        read_header(tmp_path / "x.safetensors")


def test_loaded_tensors_let_go_of_their_file(tmp_path):
    """Windows refuses to replace a file that is mapped; elsewhere a mapped tensor would change with the file."""
    path = tmp_path / "epoch.safetensors"
    save_file({"weight": torch.full((64,), 3.0)}, path)
    loaded = load_tensors(path)
    with path.open("rb+") as file:
        file.write(bytes(path.stat().st_size))
    assert torch.equal(loaded["weight"], torch.full((64,), 3.0))


@pytest.mark.parametrize(
    ("key", "shape", "expected"),
    [
        ("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight", (4, 3072), "flux"),
        ("transformer.single_transformer_blocks.3.attn.to_q.lora_A.weight", (4, 3072), "flux"),
        ("lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight", (4, 1536), "sd35"),
        ("transformer.transformer_blocks.0.attn.add_q_proj.lora_A.weight", (4, 1536), "sd35"),
        ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight", (4, 768), "sd15"),
        ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_v.lora_down.weight", (4, 2048), "sdxl"),
        ("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight", (4, 2048), "sdxl"),
        ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight", (4, 64), ""),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", (4, 768), ""),
    ],
)
def test_a_lora_tells_its_family(key, shape, expected):
    assert lora_family(Header({key: shape}, {}, {})) == expected

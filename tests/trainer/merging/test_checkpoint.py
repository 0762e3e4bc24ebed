"""A base with adapters worked into it: its weights are those that the model has with the adapters beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_families import MAKERS
from tiny_flow import FLOW_MAKERS

from athanor.trainer.adapters import adapter
from athanor.trainer.adapters.attached import attach, export, trained
from athanor.trainer.adapters.base import base_weight
from athanor.trainer.adapters.plan import plan_layers
from athanor.trainer.bases import describe_base
from athanor.trainer.errors import AthanorError, InvalidJobError
from athanor.trainer.families import family
from athanor.trainer.files import file_sha256
from athanor.trainer.formats.header import read_header
from athanor.trainer.merging.additions import Addition
from athanor.trainer.merging.checkpoint import SaveFolders, merge_into_checkpoint
from athanor.trainer.settings import AdapterSettings
from athanor.trainer.types import BaseModel

BASES = {key: maker for key, maker in {**MAKERS, **FLOW_MAKERS}.items() if key[1] in ("file", "split", "large split")}
KINDS = {"lora": {}, "locon": {"conv_rank": 2}, "loha": {}, "lokr": {"factor": 2}, "dora": {}, "ia3": {}}
MODEL, TEXT = 0.7, -0.4


def described(made) -> BaseModel:
    return describe_base(made.path, (), made.text_encoders, made.vae)


def folders(root: Path) -> SaveFolders:
    return SaveFolders(*(root / name for name in ("checkpoints", "diffusion_models", "text_encoders")))


def modules_of(base: BaseModel, beside: BaseModel | None = None) -> dict:
    """`beside` has the tokenizers, without which a family loads no text encoder."""
    for folder in Path(beside.path).parent.glob("tokenizer*") if beside else ():
        shutil.copytree(folder, Path(base.path).parent / folder.name, dirs_exist_ok=True)
    of_family = family(base.family)
    return {"denoiser": of_family.load_denoiser(base, torch.float32), **of_family.load_text(base, torch.float32).parts()}


def random_adapter(base: BaseModel, path: Path, settings: AdapterSettings, seed: int = 0) -> dict[tuple[str, str], torch.Tensor]:
    """Writes a file with changes of every part; returns what each layer's weight is to be at the strengths above."""
    of_family, kind, tensors, expected = family(base.family), adapter(settings.kind), {}, {}
    for part, module in modules_of(base).items():
        targets = of_family.adapter_targets(part)
        layers = attach(kind, module, plan_layers(module, part, targets, settings), settings, seed)
        draw = torch.Generator().manual_seed(seed)
        for tensor in trained(kind, layers).values():
            tensor.data += 0.2 * torch.randn(tensor.shape, generator=draw)
        tensors |= export(kind, layers, lambda name, part=part: of_family.export_key(part, name))
        for name, layer in layers.items():
            weight = base_weight(layer)
            held = {suffix: tensor.detach() for suffix, tensor in kind.tensors(layer).items()}
            expected[part, name] = weight + (MODEL if part == "denoiser" else TEXT) * kind.change(held, weight)
    save_file(tensors, path)
    return expected


@pytest.fixture(scope="module", params=BASES, ids=" ".join)
def made(request, tmp_path_factory):
    return described(BASES[request.param](tmp_path_factory.mktemp("bases") / "a 模型"))


@pytest.mark.slow
def test_every_part_of_every_family_has_the_sum(made, tmp_path):
    if made.family == "sdxl" and made.text_encoder_paths:
        pytest.skip("the same as in one file")
    few = {"sd15": KINDS, "flux": {"lora": {}, "lokr": {"factor": 2}}}
    for kind, options in few.get(made.family, {"lora": {}}).items():
        expected = random_adapter(made, tmp_path / "新.safetensors", AdapterSettings(kind=kind, rank=2, alpha=1.0, **options))
        baked = merge_into_checkpoint(made, [Addition(tmp_path / "新.safetensors", MODEL, TEXT)], folders(tmp_path / kind), f"with {kind}")
        found = modules_of(baked.base, made)
        assert len(expected) > 10
        for (part, name), weight in expected.items():
            assert torch.allclose(found[part].get_submodule(name).weight, weight, atol=2e-6), (kind, part, name)
        before = modules_of(made)
        changed = {f"{part}.{name}.weight" for part, name in expected}
        for part, module in before.items():
            after = found[part].state_dict()
            for name, tensor in module.state_dict().items():
                assert f"{part}.{name}" in changed or torch.equal(tensor, after[name])
        assert "left out" not in baked.report


def test_a_part_that_is_a_file_of_its_own_stays_one(made, tmp_path):
    random_adapter(made, tmp_path / "it.safetensors", AdapterSettings(rank=1))
    baked = merge_into_checkpoint(made, [Addition(tmp_path / "it.safetensors")], folders(tmp_path), "new")
    kinds = [path.parent.name for path in baked.files]
    if made.text_encoder_paths:
        assert kinds == ["diffusion_models", *["text_encoders"] * len(made.text_encoder_paths)]
        only = merge_into_checkpoint(made, [Addition(tmp_path / "it.safetensors", 1.0, 0.0)], folders(tmp_path), "model only")
        assert len(only.files) == 1 and only.base.text_encoder_paths == made.text_encoder_paths
    else:
        assert kinds == ["checkpoints"]
    for path in baked.files:
        assert (
            read_header(path).shapes.keys()
            == read_header(next(p for p in map(Path, made.files) if read_header(p).shapes.keys() == read_header(path).shapes.keys())).shapes.keys()
        )


@pytest.fixture(scope="module")
def sd15(tmp_path_factory) -> BaseModel:
    return described(MAKERS["sd15", "file"](tmp_path_factory.mktemp("sd15")))


@pytest.fixture(scope="module")
def loras(sd15, tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("loras")
    for seed in (1, 2):
        random_adapter(sd15, folder / f"{seed}.safetensors", AdapterSettings(rank=2), seed)
    return [folder / "1.safetensors", folder / "2.safetensors"]


def test_several_add_up_and_the_file_says_what_is_in_it(sd15, loras, tmp_path):
    def weights(*additions: Addition) -> dict[str, torch.Tensor]:
        return load_file(merge_into_checkpoint(sd15, additions, folders(tmp_path), "x").files[0])

    base, (one, two) = load_file(sd15.path), loras
    both, first, second = weights(Addition(one, 0.5, 0.25), Addition(two, -1, 2)), weights(Addition(one, 0.5, 0.25)), weights(Addition(two, -1, 2))
    for key, tensor in both.items():
        assert torch.allclose(tensor, first[key] + second[key] - base[key], atol=1e-5), key
    assert sum(not torch.equal(tensor, base[key]) for key, tensor in both.items()) > 30
    metadata = read_header(tmp_path / "checkpoints" / "x.safetensors").metadata
    assert json.loads(metadata["athanor_merged_from"]) == [["1.safetensors", file_sha256(one), 0.5, 0.25], ["2.safetensors", file_sha256(two), -1, 2]]
    assert json.loads(metadata["athanor_merged_base"]) == [[Path(sd15.path).name, file_sha256(Path(sd15.path))]]
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1" and metadata["modelspec.title"] == "x"
    assert metadata["modelspec.implementation"] == "https://github.com/Stability-AI/generative-models"


def test_the_same_is_written_once_and_another_of_its_name_is_left_alone(sd15, loras, tmp_path):
    first = merge_into_checkpoint(sd15, [Addition(loras[0])], folders(tmp_path), "x")
    stamp = first.files[0].stat().st_mtime_ns
    again = merge_into_checkpoint(sd15, [Addition(loras[0])], folders(tmp_path), "x")
    other = merge_into_checkpoint(sd15, [Addition(loras[0], 0.5)], folders(tmp_path), "x")
    assert again == first and first.files[0].stat().st_mtime_ns == stamp and other.files[0].name == "x-2.safetensors"


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", "F16"), ("bf16", "BF16"), ("fp32", "F32"), ("as it is", "F32")])
def test_the_precision_is_kept_or_chosen(sd15, loras, tmp_path, precision, dtype):
    baked = merge_into_checkpoint(sd15, [Addition(loras[0])], folders(tmp_path), "x", precision)
    assert set(read_header(baked.files[0]).dtypes.values()) == {dtype}


def test_fp8_is_unfolded_to_bf16(tmp_path):
    base = described(FLOW_MAKERS["flux", "schnell fp8 split"](tmp_path / "base"))
    expected = random_adapter(base, tmp_path / "it.safetensors", AdapterSettings(rank=2))
    baked = merge_into_checkpoint(base, [Addition(tmp_path / "it.safetensors", MODEL, TEXT)], folders(tmp_path), "new")
    header = read_header(baked.files[0])
    assert "F8_E4M3" not in header.dtypes.values() and not any("scale_" in key for key in header.shapes)
    found = modules_of(baked.base, base)
    for (part, name), weight in expected.items():
        assert torch.allclose(found[part].get_submodule(name).weight, weight, rtol=2**-8, atol=1e-6), (part, name)


def test_other_programs_spellings_and_fused_layers_and_biases_are_taken(tmp_path):
    base = described(FLOW_MAKERS["flux", "file"](tmp_path / "base"))
    weights, draw = load_file(base.path), torch.Generator().manual_seed(0)
    native = "double_blocks.0.img_attn.qkv"
    whole = weights[f"model.diffusion_model.{native}.weight"]
    up, down = torch.randn(whole.shape[0], 2, generator=draw), torch.randn(2, whole.shape[1], generator=draw)
    bias = torch.randn(whole.shape[0], generator=draw)
    spellings = {
        "kohya": {f"lora_unet_{native.replace('.', '_')}.lora_up.weight": up, f"lora_unet_{native.replace('.', '_')}.lora_down.weight": down},
        "comfyui": {
            f"diffusion_model.{native}.lora_B.weight": up,
            f"diffusion_model.{native}.lora_A.weight": down,
            f"diffusion_model.{native}.diff_b": bias,
        },
    }
    for name, tensors in spellings.items():
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, tmp_path / f"{name}.safetensors")
        found = load_file(merge_into_checkpoint(base, [Addition(tmp_path / f"{name}.safetensors", 0.5)], folders(tmp_path), name).files[0])
        assert torch.allclose(found[f"model.diffusion_model.{native}.weight"], whole + 0.5 * up @ down, atol=1e-6)
        moved = found[f"model.diffusion_model.{native}.bias"] - weights[f"model.diffusion_model.{native}.bias"]
        assert torch.allclose(moved, 0.5 * bias if name == "comfyui" else torch.zeros_like(bias), atol=1e-6)


def test_all_that_is_wrong_is_told_before_anything_is_written(sd15, loras, tmp_path):
    sdxl = described(MAKERS["sdxl", "file"](tmp_path / "sdxl"))
    random_adapter(sdxl, tmp_path / "xl.safetensors", AdapterSettings(rank=1))
    # By the width of its text alone a tiny SDXL cannot be told: as the real one has it.
    wide = {key: torch.zeros(1, 2048) if "attn2_to_k.lora_down" in key else tensor for key, tensor in load_file(tmp_path / "xl.safetensors").items()}
    save_file(wide, tmp_path / "xl.safetensors")
    save_file({"clip_l": torch.ones(1, 4)}, tmp_path / "word.safetensors")
    larger = {key: torch.cat([tensor, tensor]) if key.endswith("lora_up.weight") else tensor for key, tensor in load_file(loras[0]).items()}
    save_file(larger, tmp_path / "larger.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"12345678901")
    given = [Addition(tmp_path / name) for name in ("xl.safetensors", "word.safetensors", "cut.safetensors", "none.safetensors")]
    with pytest.raises(InvalidJobError) as caught:
        merge_into_checkpoint(sd15, given, folders(tmp_path / "out"), "x")
    told = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    for sentence in (
        "xl.safetensors was made for SDXL, and tiny sd15 is SD1.5",
        "word.safetensors is an embedding",
        "cut.safetensors is not a whole",
        "There is no file",
    ):
        assert sentence in told
    with pytest.raises(
        InvalidJobError,
        match=r"larger.safetensors does not fit this base: \S+ is \(32, 32, 1, 1\) in the base and \(64, 32\) in the file \(and \d+ more\)",
    ):
        merge_into_checkpoint(sd15, [Addition(tmp_path / "larger.safetensors")], folders(tmp_path / "out"), "x")
    with pytest.raises(InvalidJobError, match="Every strength is 0"):
        merge_into_checkpoint(sd15, [Addition(loras[0], 0, 0)], folders(tmp_path / "out"), "x")
    assert not (tmp_path / "out").exists()


def test_nothing_is_left_where_it_is_stopped_or_the_disk_is_full(sd15, loras, tmp_path, monkeypatch):
    class StoppedError(BaseException):
        pass

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        merge_into_checkpoint(sd15, [Addition(loras[0])], folders(tmp_path), "x", on_progress=stop)
    assert not list((tmp_path / "checkpoints").iterdir())
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1 << 20})())
    with pytest.raises(AthanorError, match=r"checkpoints has 1\.0 MiB free, and [\d.]+ MiB are needed"):
        merge_into_checkpoint(sd15, [Addition(loras[0])], folders(tmp_path), "x")


@pytest.mark.parametrize("key", [("sd15", "folder"), ("sd2", "folder"), ("sdxl", "folder"), ("flux", "folder")], ids=" ".join)
def test_a_diffusers_folder_becomes_the_files_of_stock_loaders(key, tmp_path):
    base = described({**MAKERS, **FLOW_MAKERS}[key](tmp_path / "a folder"))
    expected = random_adapter(base, tmp_path / "it.safetensors", AdapterSettings(rank=2))
    baked = merge_into_checkpoint(base, [Addition(tmp_path / "it.safetensors", MODEL, TEXT)], folders(tmp_path), "new")
    assert [path.parent.name for path in baked.files] == (["diffusion_models", *["text_encoders"] * 2] if key[0] == "flux" else ["checkpoints"])
    for folder in Path(base.path).glob("tokenizer*"):
        shutil.copytree(folder, Path(baked.base.path).parent / folder.name)
    found = modules_of(baked.base)
    for (part, name), weight in expected.items():
        layer = found[part].get_submodule(name)
        assert torch.allclose(layer.weight, weight.reshape(layer.weight.shape), atol=2e-6), (part, name)
    for part, module in modules_of(base).items():
        after = found[part].state_dict()
        for name, tensor in module.state_dict().items():
            assert (part, name.removesuffix(".weight")) in expected or torch.equal(tensor.reshape(after[name].shape), after[name]), (part, name)
    of_family = family(base.family)
    vaes = [of_family.load_vae(each).state_dict() for each in (base, baked.base)]
    assert vaes[0].keys() == vaes[1].keys() and all(torch.equal(vaes[0][name], vaes[1][name]) for name in vaes[0])

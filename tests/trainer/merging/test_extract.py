"""The LoRA out of two models: exact at full rank, the nearest one at any other, and told by its file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_families import MAKERS
from tiny_flow import FLOW_MAKERS

from athanor.trainer.bases import describe_base
from athanor.trainer.errors import AthanorError, InvalidJobError
from athanor.trainer.families._native import TensorFile
from athanor.trainer.formats.header import read_header
from athanor.trainer.merging import stored
from athanor.trainer.merging.additions import Addition
from athanor.trainer.merging.checkpoint import SaveFolders, merge_into_checkpoint
from athanor.trainer.merging.extract import Extraction, extract_lora
from athanor.trainer.merging.network import network_metadata
from athanor.trainer.merging.spectrum import Bounds, nearest
from athanor.trainer.merging.stored import StoredWeights
from athanor.trainer.types import BaseModel

WHOLE = Extraction(Bounds(0), Bounds(0), precision="fp32")
CASES = [("sd15", "file"), ("sd15", "folder"), ("sd2", "file"), ("sdxl", "file"), ("flux", "file"), ("sd35", "file")]


def moved(base: BaseModel, path: Path, seed: int = 1) -> BaseModel:
    """Another model: every weight a little elsewhere."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {key: tensor + 0.05 * torch.randn(tensor.shape, generator=draw) for key, tensor in load_file(base.path).items()}
    save_file(tensors, path)
    return describe_base(path)


def made_base(key: tuple[str, str], folder: Path) -> BaseModel:
    return describe_base({**MAKERS, **FLOW_MAKERS}[key](folder).path)


def test_a_file_is_opened_once_however_many_layers_are_read(tmp_path, monkeypatch):
    opened = []

    class Counted(TensorFile):
        def __init__(self, path: Path, prefix: str = ""):
            opened.append(path)
            super().__init__(path, prefix)

    monkeypatch.setattr(stored, "TensorFile", Counted)
    weights = StoredWeights(made_base(("sd15", "file"), tmp_path))
    for part, modules in weights.by_part.items():
        for module in modules:
            weights.read(part, module)
    assert len(opened) == 1


@pytest.mark.slow
@pytest.mark.parametrize("key", [case for case in CASES if case[1] == "file"], ids=" ".join)
def test_at_full_rank_the_base_with_the_lora_is_the_trained_model(key, tmp_path):
    base = made_base(key, tmp_path / "base")
    tuned = moved(base, tmp_path / "训练 tuned.safetensors")
    for names in ("auto", "kohya"):
        report = extract_lora(base, tuned, tmp_path / f"{names}.safetensors", dataclasses.replace(WHOLE, names=names))
        assert "model: 100.00 %" in report and "text encoder 1: 100.00 %" in report
        baked = merge_into_checkpoint(base, [Addition(tmp_path / f"{names}.safetensors")], SaveFolders(*[tmp_path / names] * 3), "again")
        found, wanted, bare = load_file(baked.files[0]), StoredWeights(tuned), StoredWeights(base)
        assert "left out" not in baked.report
        checked = 0
        for part, modules in wanted.by_part.items():
            for held in modules.values():
                assert torch.allclose(found[held.name], load_tensor(tuned, held.name), atol=2e-6), (part, held.name)
                checked += 1
        assert checked == sum(len(modules) for modules in bare.by_part.values()) > 20


def load_tensor(model: BaseModel, name: str) -> torch.Tensor:
    from safetensors import safe_open

    with safe_open(model.path, framework="pt") as file:
        return file.get_tensor(name)


@pytest.mark.parametrize("shape", [(24, 15), (15, 24), (20, 20)])
@pytest.mark.parametrize("rank", [1, 4, 15])
def test_the_error_is_the_tail_of_the_singular_values(shape, rank):
    change = torch.randn(shape, generator=torch.Generator().manual_seed(rank))
    values = torch.linalg.svdvals(change.double())
    factors = nearest(change, Bounds(rank))
    error = float((change.double() - factors.up.double() @ factors.down.double()).norm())
    assert error == pytest.approx(float(values[rank:].norm()), rel=1e-5, abs=2e-6)
    assert factors.rank == rank and factors.kept == pytest.approx(float(values[:rank].square().sum() / values.square().sum()), abs=1e-9)


def test_energy_chooses_each_layers_rank_within_its_bounds():
    left, right = (torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(i)))[0] for i in (1, 2))
    values = torch.tensor([4.0, 2.0, 1.0, 0.5, *[0.0] * 8])
    change, total = left * values @ right, float(values.square().sum())
    for energy, rank in ((16 / total - 0.01, 1), (16 / total + 0.01, 2), (20 / total + 0.01, 3), (0.99999, 4)):
        assert nearest(change, Bounds(0, energy)).rank == rank
    assert nearest(change, Bounds(2, 0.99999)).rank == 2 and nearest(change, Bounds(0, 0.1, min_rank=3)).rank == 3
    assert nearest(torch.zeros(5, 4), Bounds(3)).rank == 1


def test_a_clamp_cuts_the_largest_numbers_off_and_says_what_that_costs():
    change = torch.randn(30, 20, generator=torch.Generator().manual_seed(3))
    whole, cut = nearest(change, Bounds(6)), nearest(change, Bounds(6, clamp=0.9))
    largest = max(float(cut.up.abs().max()), float(cut.down.abs().max()))
    numbers = torch.cat([cut.up.flatten(), cut.down.flatten()]).abs()
    assert (numbers == largest).float().mean() == pytest.approx(0.2, abs=0.02) and cut.kept < whole.kept
    assert 1 - float((change - cut.up @ cut.down).square().sum() / change.square().sum()) == pytest.approx(cut.kept, abs=1e-5)


@pytest.mark.parametrize("shape", [(40, 25), (25, 40), (16, 4, 3, 3)])
@pytest.mark.parametrize("clamp", [1.0, 0.99, 0.9])
def test_the_product_is_that_of_the_singular_value_decomposition_as_sd_scripts_cuts_it(shape, clamp):
    """Its factors are U S and Vᵀ, both cut off at the quantile of their numbers, whose signs are a matter of chance."""
    change = torch.randn(shape, generator=torch.Generator().manual_seed(4)).flatten(1).double()
    left, values, right = torch.linalg.svd(change, full_matrices=False)
    up, down = left[:, :6] * values[:6], right[:6]
    numbers = torch.cat([up.flatten(), down.flatten()])
    bound = float(torch.quantile(torch.cat([numbers, -numbers]), clamp))
    wanted = up.clamp(-bound, bound) @ down.clamp(-bound, bound)
    found = nearest(change, Bounds(6, clamp=clamp))
    assert float((found.up.double() @ found.down.double() - wanted).norm() / wanted.norm()) < 1e-6


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[BaseModel, BaseModel]:
    folder = tmp_path_factory.mktemp("pair")
    base = made_base(("sd15", "file"), folder / "base")
    return base, moved(base, folder / "tuned.safetensors")


def test_the_file_says_what_it_is_made_of_and_convolutions_have_their_rank(pair, tmp_path):
    base, tuned = pair
    report = extract_lora(base, tuned, tmp_path / "x.safetensors", Extraction(Bounds(4), Bounds(2)))
    header = read_header(tmp_path / "x.safetensors")
    assert header.shapes["lora_unet_mid_block_resnets_0_conv1.lora_down.weight"] == (2, 64, 3, 3)
    assert header.shapes["lora_unet_mid_block_attentions_0_proj_in.lora_down.weight"] == (4, 64, 1, 1)
    metadata = header.metadata
    assert metadata["ss_network_dim"] == "4" and json.loads(metadata["ss_network_args"]) == {"conv_dim": "2", "conv_alpha": "2"}
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/lora" and metadata["athanor_extract"] == report
    assert [name for name, _ in json.loads(metadata["athanor_extracted_from"])] == ["tuned", base.name]
    without = extract_lora(base, tuned, tmp_path / "y.safetensors", Extraction(Bounds(4), None, text_encoders=False))
    assert "convolutions left out" in without and "text encoder" not in without
    assert not any("conv1" in key or "lora_te" in key for key in read_header(tmp_path / "y.safetensors").shapes)


def test_what_did_not_change_is_left_out_even_in_another_precision(pair, tmp_path):
    base, _ = pair
    tensors = {key: tensor.half() for key, tensor in load_file(base.path).items()}
    key = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight"
    save_file({**tensors, key: tensors[key] + 1}, tmp_path / "one.safetensors")
    report = extract_lora(base, describe_base(tmp_path / "one.safetensors"), tmp_path / "x.safetensors", WHOLE)
    assert {name.split(".")[0] for name in read_header(tmp_path / "x.safetensors").shapes} == {
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    }
    assert "text encoder 1: no difference" in report
    save_file(tensors, tmp_path / "none.safetensors")
    with pytest.raises(AthanorError, match="do not differ in any layer"):
        extract_lora(base, describe_base(tmp_path / "none.safetensors"), tmp_path / "z.safetensors", WHOLE)
    assert not (tmp_path / "z.safetensors").exists()


def test_models_that_do_not_belong_together_are_refused(pair, tmp_path):
    base, _ = pair
    sdxl = made_base(("sdxl", "file"), tmp_path / "xl")
    with pytest.raises(AthanorError, match=r"tiny sd15 is SD1\.5 and tiny sdxl is SDXL; choose two models of one family"):
        extract_lora(base, sdxl, tmp_path / "x.safetensors", WHOLE)
    with pytest.raises(InvalidJobError, match="are the same model"):
        extract_lora(base, base, tmp_path / "x.safetensors", WHOLE)
    wide = {key: torch.cat([tensor, tensor], dim=1) if key.endswith("attn2.to_k.weight") else tensor for key, tensor in load_file(base.path).items()}
    save_file(wide, tmp_path / "wide.safetensors")
    with pytest.raises(InvalidJobError, match=r"attn2\.to_k is \(\d+, 64\) in tiny sd15 and \(\d+, 128\) in wide \(and \d+ more of the model\)"):
        extract_lora(base, describe_base(tmp_path / "wide.safetensors"), tmp_path / "x.safetensors", WHOLE)


def test_what_sd_scripts_says_of_a_size():
    assert json.loads(network_metadata([4, 4], [])["ss_network_args"]) == {}
    assert network_metadata([4, 8], [2])["ss_network_dim"] == "Dynamic" and network_metadata([], []) == {}

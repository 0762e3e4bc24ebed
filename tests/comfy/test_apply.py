"""Apply Epoch puts on ComfyUI's models what the stock loader would, and what it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from adapter_layouts import LAYOUTS
from comfyui_apply_side import ODD_NAMES
from comfyui_server import find_comfyui
from safetensors.torch import load_file, save_file
from sides import run_side

from athanor.trainer.adapters import adapter
from athanor.trainer.adapters.attached import attach, export, trained
from athanor.trainer.adapters.base import base_weight
from athanor.trainer.adapters.plan import plan_layers
from athanor.trainer.families import family
from athanor.trainer.settings import AdapterSettings

pytestmark = [pytest.mark.comfy, pytest.mark.skipif(find_comfyui() is None, reason="no ComfyUI")]
SD15, STRENGTH = family("sd15"), 0.7
TUCKER = "lora_unet_down_blocks_0_resnets_0_conv1"
FORMS = {
    "lora": AdapterSettings(rank=3, alpha=2.0),
    "locon": AdapterSettings(kind="locon", rank=4, alpha=2.0, conv_rank=2),
    "loha": AdapterSettings(kind="loha", rank=3, alpha=2.0),
    "lokr": AdapterSettings(kind="lokr", rank=2, alpha=1.0, factor=4),
    "dora": AdapterSettings(kind="dora", rank=3, alpha=2.0),
    "ia3": AdapterSettings(kind="ia3"),
    "ia3-stock": AdapterSettings(kind="ia3", stock_form=True),
}


@pytest.fixture(scope="module")
def applied(tmp_path_factory) -> Path:
    """A folder with the files of each form, and the weights that come of them; what was told on the way is in told.txt."""
    folder = tmp_path_factory.mktemp("applied")
    base = {}
    for form, settings in FORMS.items():
        torch.manual_seed(0)
        tensors, spelt, ours = {}, {}, {}
        for part, module in LAYOUTS["sd15"].modules().items():
            kind = adapter(settings.kind)
            layers = attach(kind, module, plan_layers(module, part, SD15.adapter_targets(part), settings), settings, 1)
            draw = torch.Generator().manual_seed(2)
            for tensor in trained(kind, layers).values():
                tensor.data += 0.3 * torch.randn(tensor.shape, generator=draw)
            tensors |= export(kind, layers, lambda name, part=part: SD15.export_key(part, name), settings.stock_form)
            prefix = "unet" if part == "denoiser" else "text_encoder.text_model"
            spelt |= export(kind, layers, lambda name, prefix=prefix: f"{prefix}.{name.removeprefix('text_model.')}")
            base |= {SD15.export_key(part, name): base_weight(layer).contiguous() for name, layer in layers.items()}
            ours |= {SD15.export_key(part, name): kind.change(kind.tensors(layer), base_weight(layer)).detach() for name, layer in layers.items()}
        save_file(tensors, folder / f"{form}.safetensors")
        save_file(ours, folder / f"change {form}.safetensors")
        if form == "lora":
            peft = {key.replace("lora_down", "lora_A").replace("lora_up", "lora_B"): tensor for key, tensor in spelt.items()}
            save_file(peft, folder / "lora-peft.safetensors")
            save_file({key.replace("_text_model_", "_"): tensor for key, tensor in tensors.items()}, folder / "lora-newer.safetensors")
        if form == "dora":
            # As peft writes one: under its names, with a magnitude for each output channel.
            layers = by_layer(tensors)
            magnitudes = {
                f"{name}.lora_magnitude_vector": 0.5 + torch.rand(base[name].shape[0], generator=torch.Generator().manual_seed(3)) for name in layers
            }
            peft = {
                key.replace("lora_down", "lora_A").replace("lora_up", "lora_B"): tensor for key, tensor in tensors.items() if "dora_scale" not in key
            }
            save_file({**peft, **magnitudes}, folder / "dora-peft.safetensors")
            held = {name: {**tensors_of, "lora_magnitude_vector": magnitudes[f"{name}.lora_magnitude_vector"]} for name, tensors_of in layers.items()}
            save_file({name: adapter("dora").change(of_peft, base[name]) for name, of_peft in held.items()}, folder / "change dora-peft.safetensors")
        if form == "ia3":
            save_file({key: tensor for key, tensor in spelt.items() if "text" not in key}, folder / "ia3-dotted.safetensors")
    draw, shapes = torch.Generator().manual_seed(4), {"lokr_w1": (4, 4), "lokr_w2_a": (2, 8), "lokr_w2_b": (2, 8), "lokr_t2": (2, 2, 3, 3)}
    tucker = {suffix: torch.randn(shape, generator=draw) for suffix, shape in shapes.items()} | {"alpha": torch.tensor(1.0)}
    save_file({f"{TUCKER}.{suffix}": tensor for suffix, tensor in tucker.items()}, folder / "lokr-tucker.safetensors")
    save_file({TUCKER: adapter("lokr").change(tucker, base[TUCKER])}, folder / "change lokr-tucker.safetensors")
    save_file(
        {"lora_unet_nothing.lora_up.weight": torch.ones(1, 1), "lora_unet_nothing.lora_down.weight": torch.ones(1, 1)}, folder / "other.safetensors"
    )
    save_file(base, folder / "base.safetensors")
    (folder / "layout.json").write_text(json.dumps(LAYOUTS["sd15"].comfyui), encoding="utf-8")
    files = [folder / f"{name}.safetensors" for name in (*FORMS, "lora-peft", "lora-newer", "dora-peft", "ia3-dotted", "lokr-tucker", "other")]
    told = run_side("comfyui_apply_side.py", folder / "layout.json", folder / "base.safetensors", folder, STRENGTH, *files, complaints=False)
    (folder / "told.txt").write_text(told, encoding="utf-8")
    return folder


def weights(folder: Path, whose: str, form: str) -> dict[str, torch.Tensor]:
    return load_file(folder / f"{whose} {form}.safetensors")


@pytest.mark.parametrize("form", [form for form in FORMS if form != "ia3"])
def test_what_the_stock_loader_knows_is_applied_as_it_does_to_the_bit(applied: Path, form: str):
    ours, stock = weights(applied, "ours", form), weights(applied, "stock", form)
    assert ours.keys() == stock.keys() and len(ours) > 10
    assert all(torch.equal(ours[key], stock[key]) for key in ours)


def test_ia3_which_the_stock_loader_leaves_out_is_applied(applied: Path):
    assert weights(applied, "stock", "ia3") == {}
    ours, compact = weights(applied, "ours", "ia3"), weights(applied, "stock", "ia3-stock")
    assert ours.keys() == compact.keys()
    for key in ours:
        assert torch.allclose(ours[key], compact[key], rtol=1e-5, atol=2e-6), key
    base, changes = load_file(applied / "base.safetensors"), weights(applied, "change", "ia3")
    expected = sorted((base[name] + STRENGTH * change).double().sum().item() for name, change in changes.items())
    assert sorted(weight.double().sum().item() for weight in ours.values()) == pytest.approx(expected, abs=1e-4)


def by_layer(tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, suffix = key.partition(".")
        found.setdefault(name, {})[suffix] = tensor
    return found


def test_a_dora_of_peft_is_applied_as_peft_computes_it(applied: Path):
    """The stock loader leaves its magnitudes out."""
    ours, stock, bare = weights(applied, "ours", "dora-peft"), weights(applied, "stock", "dora-peft"), load_file(applied / "base.safetensors")
    assert ours.keys() == stock.keys() and not any(torch.allclose(ours[key], stock[key]) for key in ours)
    expected = sorted((bare[name] + STRENGTH * change).double().sum().item() for name, change in weights(applied, "change", "dora-peft").items())
    assert sorted(weight.double().sum().item() for weight in ours.values()) == pytest.approx(expected, abs=1e-3)


def test_a_tucker_lokr_whose_product_torch_refuses_to_the_stock_loader_is_applied(applied: Path):
    """It says so in the log and leaves these convolutions as they are."""
    (ours,), (stock,) = (weights(applied, whose, "lokr-tucker").values() for whose in ("ours", "stock"))
    base = load_file(applied / "base.safetensors")[TUCKER]
    assert torch.equal(stock, base)
    assert torch.allclose(ours, base + STRENGTH * weights(applied, "change", "lokr-tucker")[TUCKER], atol=1e-5) and not torch.allclose(ours, base)


def test_spellings_that_the_stock_loader_does_not_know_are_applied_too(applied: Path):
    kohya = weights(applied, "ours", "lora")
    for form in ("lora-peft", "lora-newer"):
        ours = weights(applied, "ours", form)
        assert len(weights(applied, "stock", form)) < len(kohya), "otherwise there would be nothing to do"
        assert ours.keys() == kohya.keys() and all(torch.equal(ours[key], kohya[key]) for key in ours)
    dotted, ia3 = weights(applied, "ours", "ia3-dotted"), weights(applied, "ours", "ia3")
    assert 0 < len(dotted) < len(ia3) and all(torch.equal(dotted[key], ia3[key]) for key in dotted)


def test_a_file_that_fits_nowhere_is_told(applied: Path):
    assert "other.safetensors holds nothing that fits this model" in (applied / "told.txt").read_text(encoding="utf-8")
    assert not (applied / "ours other.safetensors").exists()


def test_an_embedding_is_read_by_its_name_in_that_clip_alone(tmp_path: Path):
    torch.manual_seed(0)
    stored, epoch = torch.randn(2, 32), torch.randn(3, 32)
    save_file({"emb_params": stored}, tmp_path / "my-thing.safetensors")
    save_file({"emb_params": epoch}, tmp_path / "epoch.safetensors")
    (tmp_path / "layout.json").write_text(json.dumps(LAYOUTS["sd15"].comfyui), encoding="utf-8")
    run_side("comfyui_apply_side.py", "embedding", tmp_path / "layout.json", tmp_path, tmp_path / "out.safetensors")
    found = load_file(tmp_path / "out.safetensors")
    assert torch.equal(found["before"], stored) and torch.equal(found["again"], stored)
    assert torch.equal(found["after"], epoch * 0.5) and torch.equal(found["both"], epoch * 0.5)
    assert torch.equal(found["second"], epoch + 1)
    assert found["odd"][:, 0].tolist() == list(range(len(ODD_NAMES))), "whatever a file is called, prompts call it so"

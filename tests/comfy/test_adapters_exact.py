"""Each kind of adapter, for each family: the weights that ComfyUI's own loader computes from our file are ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from adapter_layouts import LAYOUTS, Layout
from comfyui_server import find_comfyui
from safetensors.torch import load_file, save_file
from sides import run_side

from athanor.trainer.adapters import adapter
from athanor.trainer.adapters.attached import attach, export, trained
from athanor.trainer.adapters.base import base_weight
from athanor.trainer.adapters.plan import plan_layers
from athanor.trainer.families import all_families, family
from athanor.trainer.families.base import Family
from athanor.trainer.formats.layers import layers_of
from athanor.trainer.formats.spelling import spelt
from athanor.trainer.settings import AdapterSettings

pytestmark = pytest.mark.comfy


FORMS = {
    "lora": AdapterSettings(rank=3, alpha=2.0),
    "lora-attention": AdapterSettings(rank=3, alpha=2.0, targets="attention"),
    "lora-linear": AdapterSettings(rank=3, alpha=2.0, targets="linear"),
    "lora-stabilised": AdapterSettings(rank=4, alpha=2.0, rank_stabilised=True),
    "lora-rules": AdapterSettings(rank=3, alpha=2.0, rules="*.attn*: rank=5\n*.ff.*: rank=1 alpha=3"),
    "locon": AdapterSettings(kind="locon", rank=4, alpha=2.0, conv_rank=2, conv_alpha=1.0),
    "locon-full": AdapterSettings(kind="locon", rank=4, alpha=2.0, conv_rank=2, targets="full"),
    "loha": AdapterSettings(kind="loha", rank=3, alpha=2.0),
    "loha-conv": AdapterSettings(kind="loha", rank=3, alpha=2.0, conv_rank=2),
    "lokr": AdapterSettings(kind="lokr", rank=2, alpha=1.0, factor=4),
    "lokr-conv": AdapterSettings(kind="lokr", rank=2, alpha=1.0, factor=4, conv_rank=2),
    "lokr-both": AdapterSettings(kind="lokr", rank=1, alpha=1.5, factor=4, decompose_both=True),
    "lokr-even": AdapterSettings(kind="lokr", rank=2, alpha=1.0, factor=0),
    "lokr-whole": AdapterSettings(kind="lokr", rank=2, alpha=1.0, factor=4, full_matrix=True),
    "dora": AdapterSettings(kind="dora", rank=3, alpha=2.0),
    "dora-conv": AdapterSettings(kind="dora", rank=3, alpha=2.0, conv_rank=2),
    "ia3-stock": AdapterSettings(kind="ia3", stock_form=True),
    "other-ia3": AdapterSettings(kind="ia3"),
    "ia3-stock-conv": AdapterSettings(kind="ia3", stock_form=True, targets="full"),
}


@pytest.fixture(scope="module", params=LAYOUTS)
def merged(request, tmp_path_factory) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, torch.Tensor], Path]:
    """Our merged weights by form and the base's, both by the names in files, and the folder of ComfyUI's."""
    if find_comfyui() is None:
        pytest.skip("no ComfyUI: `python dev.py test` fetches one, or let ATHANOR_COMFYUI name a checkout")
    layout, of_family, folder = LAYOUTS[request.param], family(request.param), tmp_path_factory.mktemp(request.param)
    (folder / "theirs").mkdir()
    base, ours = {}, {}
    for form, settings in FORMS.items():
        if not layout.has_convolutions and (settings.kind == "locon" or settings.conv_rank or settings.targets == "full"):
            continue
        torch.manual_seed(0)
        ours[form], tensors = {}, {}
        for part, module in layout.modules().items():
            kind, plans = adapter(settings.kind), plan_layers(module, part, of_family.adapter_targets(part), settings)
            layers = attach(kind, module, plans, settings, 1)
            draw = torch.Generator().manual_seed(2)
            for tensor in trained(kind, layers).values():
                tensor.data += 0.3 * torch.randn(tensor.shape, generator=draw)
            tensors |= export(kind, layers, lambda name, part=part: of_family.export_key(part, name), settings.stock_form)
            for name, layer in layers.items():
                key, weight = of_family.export_key(part, name), base_weight(layer)
                base[key] = weight
                ours[form][key] = kind.change({suffix: tensor.detach() for suffix, tensor in kind.tensors(layer).items()}, weight)
        save_file(tensors, folder / f"{form}.safetensors")
    save_file({key: weight.contiguous() for key, weight in base.items()}, folder / "base.safetensors")
    (folder / "layout.json").write_text(json.dumps(layout.comfyui), encoding="utf-8")
    others = _other_spellings(of_family, layout, folder)
    files = [folder / f"{form}.safetensors" for form in (*ours, *others)]
    told = run_side("comfyui_adapter_side.py", folder / "layout.json", folder / "base.safetensors", folder / "theirs", *files)
    counted = {stem: (int(stock), int(applied)) for stem, stock, applied in (line.split() for line in told.splitlines())}
    for form, changes in ours.items():
        assert counted[form] == ((0 if form == "other-ia3" else len(changes)), len(changes))
    for form, same_as in others.items():
        # Fused layers are fewer weights.
        assert form == "other-kohya" or counted[form][1] == len(ours[same_as])
    return ours, base, folder / "theirs"


def _other_spellings(of_family: Family, layout: Layout, folder: Path) -> dict[str, str]:
    """Writes files of other programs' names; returns which of ours each is the same as."""
    names = {part: [name for name, _ in module.named_modules()] for part, module in layout.modules().items()}
    by_form = {}
    for form in ("lora", "loha"):
        tensors = load_file(folder / f"{form}.safetensors")
        by_form[form] = {part: layers_of(tensors, of_family, part, each) for part, each in names.items()}
    dotted = {
        "denoiser": "unet." if layout.has_convolutions else "transformer.",
        "text_encoder": "text_encoder.",
        "text_encoder_2": "text_encoder_2.",
    }
    peft, lycoris, kohya = {}, {}, {}
    for part, layers in by_form["lora"].items():
        # diffusers has no name for T5.
        is_t5 = part == "text_encoder_3" or (part == "text_encoder_2" and of_family.name == "flux")
        for name, held in layers.items():
            inner = name if part == "denoiser" else "text_model." + name.removeprefix("text_model.")
            key = of_family.export_key(part, name) if is_t5 else dotted[part] + inner
            peft |= {f"{key}.lora_A.weight": held["lora_down.weight"], f"{key}.lora_B.weight": held["lora_up.weight"], f"{key}.alpha": held["alpha"]}
        fused = spelt("kohya", part, layers, names[part])
        kohya |= fused or {f"{of_family.export_key(part, name)}.{suffix}": tensor for name, held in layers.items() for suffix, tensor in held.items()}
    for part, layers in by_form["loha"].items():
        for name, held in layers.items():
            key = "lycoris_" + name.replace(".", "_") if part == "denoiser" else of_family.export_key(part, name)
            lycoris |= {f"{key}.{suffix}": tensor for suffix, tensor in held.items()}
    for form, tensors in (("other-peft", peft), ("other-kohya", kohya), ("other-lycoris", lycoris)):
        save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, folder / f"{form}.safetensors")
    return {"other-peft": "lora", "other-kohya": "lora", "other-lycoris": "loha"}


def test_every_family_is_compared():
    assert {each.name for each in all_families()} == LAYOUTS.keys()


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("form", FORMS)
def test_stock_weights_are_ours(merged, form: str, strength: float):
    ours, base, folder = merged
    if form not in ours:
        pytest.skip("this family has no convolutions")
    theirs = load_file(folder / f"{form}@{strength:g}.safetensors")
    applied = load_file(folder / f"applied {form}@{strength:g}.safetensors")
    if form == "other-ia3":
        assert all(torch.equal(theirs[key].reshape(weight.shape), weight) for key, weight in base.items()), "the stock loader does not know it"
        theirs = applied
    else:
        assert all(torch.equal(theirs[key], applied[key]) for key in theirs), "Apply Epoch does what the stock loader does"
    assert len(ours[form]) > 10
    for key, change in ours[form].items():
        whole = base[key] + strength * change
        assert torch.allclose(theirs[key].reshape(whole.shape), whole, rtol=1e-5, atol=2e-6), key
        assert change.abs().max() > 1e-3, key
    for key in base.keys() - ours[form].keys():
        assert torch.equal(theirs[key].reshape(base[key].shape), base[key]), key


@pytest.mark.parametrize(("form", "same_as"), [("other-peft", "lora"), ("other-kohya", "lora"), ("other-lycoris", "loha")])
def test_apply_epoch_takes_other_spellings(merged, form: str, same_as: str):
    ours, base, folder = merged
    applied = load_file(folder / f"applied {form}@1.safetensors")
    for key, change in ours[same_as].items():
        whole = base[key] + change
        assert torch.allclose(applied[key].reshape(whole.shape), whole, rtol=1e-5, atol=2e-6), key

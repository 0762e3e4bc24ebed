"""Each kind of adapter, for each family: the weights that ComfyUI's own loader computes from our file are ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from adapter_layouts import LAYOUTS
from comfyui_server import find_comfyui
from safetensors.torch import load_file, save_file
from sides import run_side

from athanor.trainer.adapters import adapter
from athanor.trainer.adapters.attached import attach, export, trained
from athanor.trainer.adapters.base import base_weight
from athanor.trainer.adapters.plan import plan_layers
from athanor.trainer.families import all_families, family
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
    files = [folder / f"{form}.safetensors" for form in ours]
    told = run_side("comfyui_adapter_side.py", folder / "layout.json", folder / "base.safetensors", folder / "theirs", *files)
    counted = dict(line.split() for line in told.splitlines())
    assert counted == {form: str(len(changes)) for form, changes in ours.items()}
    return ours, base, folder / "theirs"


def test_every_family_is_compared():
    assert {each.name for each in all_families()} == LAYOUTS.keys()


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("form", FORMS)
def test_stock_weights_are_ours(merged, form: str, strength: float):
    ours, base, folder = merged
    if form not in ours:
        pytest.skip("this family has no convolutions")
    theirs = load_file(folder / f"{form}@{strength:g}.safetensors")
    assert len(ours[form]) > 10
    for key, change in ours[form].items():
        whole = base[key] + strength * change
        assert torch.allclose(theirs[key].reshape(whole.shape), whole, rtol=1e-5, atol=2e-6), key
        assert change.abs().max() > 1e-3, key
    for key in base.keys() - ours[form].keys():
        assert torch.equal(theirs[key].reshape(base[key].shape), base[key]), key

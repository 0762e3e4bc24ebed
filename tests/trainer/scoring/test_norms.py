from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from athanor.trainer.adapters import adapter
from athanor.trainer.adapters.attached import attach, export, trained
from athanor.trainer.adapters.plan import plan_layers
from athanor.trainer.errors import AthanorError
from athanor.trainer.families import family
from athanor.trainer.scoring.norms import layer_norms
from athanor.trainer.settings import AdapterSettings

SD15 = family("sd15")


@pytest.mark.parametrize(
    "settings",
    [
        AdapterSettings(rank=3, alpha=2.0),
        AdapterSettings(kind="locon", rank=3, conv_rank=2),
        AdapterSettings(kind="loha", rank=2),
        AdapterSettings(kind="lokr", rank=2, factor=2),
        AdapterSettings(kind="lokr", factor=2, full_matrix=True),
        AdapterSettings(kind="ia3"),
    ],
    ids=lambda s: s.kind + ("-full" if s.full_matrix else ""),
)
def test_the_norm_of_each_layer_is_that_of_its_change(tmp_path, base, settings):
    kind, denoiser = adapter(settings.kind), SD15.load_denoiser(base, torch.float32)
    layers = attach(kind, denoiser, plan_layers(denoiser, "denoiser", SD15.adapter_targets("denoiser"), settings), settings, 0)
    draw = torch.Generator().manual_seed(0)
    for tensor in trained(kind, layers).values():
        tensor.data += 0.3 * torch.randn(tensor.shape, generator=draw)
    save_file(export(kind, layers, lambda name: SD15.export_key("denoiser", name)), tmp_path / "epoch.safetensors")
    norms = layer_norms(tmp_path / "epoch.safetensors")
    expected = {}
    for name, layer in layers.items():
        held = {suffix: tensor.detach() for suffix, tensor in kind.tensors(layer).items()}
        weight = layer.base_layer.weight
        change = held["weight"] if settings.kind == "ia3" else kind.change(held, weight)
        expected[SD15.export_key("denoiser", name)] = float(change.norm())
    assert norms == pytest.approx(expected, rel=1e-4) and len(norms) > 5


def test_vectors_of_an_embedding_have_their_length(tmp_path):
    save_file({"clip_l": torch.tensor([[3.0, 4.0], [0.0, 2.0]])}, tmp_path / "word.safetensors")
    assert layer_norms(tmp_path / "word.safetensors") == pytest.approx({"clip_l 1": 5.0, "clip_l 2": 2.0})


def test_layers_of_an_unknown_kind_are_left_out_and_a_broken_file_is_told(tmp_path):
    save_file(
        {"a.dora_scale": torch.ones(2, 2), "b.lora_up.weight": torch.ones(2, 1), "b.lora_down.weight": torch.ones(1, 2)}, tmp_path / "x.safetensors"
    )
    assert layer_norms(tmp_path / "x.safetensors") == pytest.approx({"b": 2.0})
    (tmp_path / "half.safetensors").write_bytes(b"12")
    with pytest.raises(AthanorError, match="not a whole safetensors file"):
        layer_norms(tmp_path / "half.safetensors")

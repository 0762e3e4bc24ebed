from __future__ import annotations

import pytest
import torch
from torch import nn

from athanor.trainer.adapters import adapter
from athanor.trainer.errors import AthanorError

LORA = adapter("lora")


def small_net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4), nn.Unflatten(1, (4, 1, 1)), nn.Conv2d(4, 3, 3, padding=1)).requires_grad_(False)


def key_of(name: str) -> str:
    return "lora_unet_" + name.replace(".", "_")


def randomised(net: nn.Module) -> nn.Module:
    draw = torch.Generator().manual_seed(2)
    for parameter in LORA.parameters(net).values():
        parameter.data = torch.randn(parameter.shape, generator=draw)
    return net


def test_a_fresh_adapter_changes_nothing_and_trains_only_itself():
    net, x = small_net(), torch.randn(2, 6)
    before = net(x)
    assert LORA.attach(net, r"0|2|4", rank=2, alpha=1.0, seed=0) == ("0", "2", "4")
    assert torch.equal(net(x), before)
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert len(trained) == 6 and all("lora_" in name for name in trained)
    assert all(parameter.dtype == torch.float32 for parameter in LORA.parameters(net).values())


def test_adapters_of_a_half_precision_base_are_fp32():
    net = small_net().to(torch.bfloat16)
    LORA.attach(net, r"0", rank=2, alpha=1.0, seed=0)
    assert all(parameter.dtype == torch.float32 for parameter in LORA.parameters(net).values())


def test_the_exported_tensors_merged_by_hand_give_the_adapted_output():
    """W + alpha / rank * up @ down, as every loader computes it."""
    net, x = small_net(), torch.randn(2, 6)
    LORA.attach(net, r"0|2|4", rank=2, alpha=3.0, seed=0)
    adapted = randomised(net)(x)
    tensors = LORA.export(net, key_of)
    merged = small_net()
    for name in ("0", "2", "4"):
        down, up = tensors[f"{key_of(name)}.lora_down.weight"], tensors[f"{key_of(name)}.lora_up.weight"]
        delta = (up.flatten(1) @ down.flatten(1)) * tensors[f"{key_of(name)}.alpha"] / down.shape[0]
        layer = merged[int(name)]
        layer.weight.data += delta.reshape(layer.weight.shape)
    assert torch.allclose(merged(x), adapted, atol=1e-5)
    assert tensors["lora_unet_4.lora_down.weight"].shape == (2, 4, 3, 3) and tensors["lora_unet_4.lora_up.weight"].shape == (3, 2, 1, 1)
    assert tensors["lora_unet_4.alpha"].shape == ()


def test_loading_is_the_inverse_and_strength_scales_the_change():
    net, x = small_net(), torch.randn(2, 6)
    plain = net(x)
    LORA.attach(net, r"0", rank=2, alpha=3.0, seed=0)
    adapted = randomised(net)(x)
    tensors = LORA.export(net, key_of)
    other = small_net()
    LORA.attach(other, r"0", rank=2, alpha=1.0, seed=9)
    assert LORA.load(other, tensors, key_of) == 3
    assert torch.allclose(other(x), adapted, atol=1e-6)
    LORA.set_strength(other, 0.0)
    assert torch.allclose(other(x), plain, atol=1e-6)
    LORA.set_strength(other, 1.0)
    assert torch.allclose(other(x), adapted, atol=1e-6)


def test_a_file_of_another_shape_or_without_a_module_is_refused():
    net = small_net()
    LORA.attach(net, r"0|2", rank=2, alpha=1.0, seed=0)
    tensors = LORA.export(net, key_of)
    with pytest.raises(AthanorError, match=r"lacks the tensor lora_unet_2.lora_up.weight"):
        LORA.load(net, {key: value for key, value in tensors.items() if key != "lora_unet_2.lora_up.weight"}, key_of)
    with pytest.raises(AthanorError, match=r"lora_unet_0 has the shape \(3, 6\)"):
        LORA.load(net, {**tensors, "lora_unet_0.lora_down.weight": torch.zeros(3, 6)}, key_of)


def test_the_seed_decides_the_start_whatever_was_drawn_before():
    nets = []
    for _ in range(2):
        net = small_net()
        torch.rand(len(nets) + 3)
        LORA.attach(net, r"0", rank=2, alpha=1.0, seed=7)
        nets.append(net)
    first, second = (LORA.parameters(net)["0.lora_down"] for net in nets)
    assert torch.equal(first, second) and first.abs().max() > 0

"""Every kind of adapter by the same measures, on layers of a few weights."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from pretended_gpu import pretended_gpu
from torch import nn

from athanor.trainer.adapters import adapter, all_adapters
from athanor.trainer.adapters.attached import attach, export, kind_of, limit_norms, load, plans_of, set_strength, set_training, trained
from athanor.trainer.adapters.base import LayerPlan
from athanor.trainer.errors import AthanorError
from athanor.trainer.formats.layers import grouped
from athanor.trainer.settings import AdapterSettings

NAMES = ("0", "2", "4", "5")
"""A linear layer with a bias, one without, a convolution of 3 x 3 and one of 1 x 1."""
FORMS = [
    AdapterSettings(kind="lora"),
    AdapterSettings(kind="locon"),
    AdapterSettings(kind="loha"),
    AdapterSettings(kind="lokr", factor=2),
    AdapterSettings(kind="lokr", factor=2, decompose_both=True),
    AdapterSettings(kind="lokr", factor=4, full_matrix=True),
    AdapterSettings(kind="dora"),
    AdapterSettings(kind="ia3"),
    AdapterSettings(kind="ia3", stock_form=True),
]
every_form = pytest.mark.parametrize(
    "settings", FORMS, ids=lambda s: s.kind + "".join(f"-{n}" for n in ("decompose_both", "full_matrix", "stock_form") if getattr(s, n))
)


def small_net() -> nn.Module:
    torch.manual_seed(1)
    layers = (
        nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 16, bias=False), nn.Unflatten(1, (16, 1, 1)), nn.Conv2d(16, 12, 3, padding=1), nn.Conv2d(12, 4, 1),
    )  # fmt: skip
    return nn.Sequential(*layers).requires_grad_(False)


def images() -> torch.Tensor:
    return torch.randn((3, 12), generator=torch.Generator().manual_seed(5))


def adapted(settings: AdapterSettings, *, seed: int = 0, rank: int = 3, alpha: float = 2.0, names: tuple[str, ...] = NAMES):
    """A net, its kind and its adapted layers."""
    net, kind = small_net(), adapter(settings.kind)
    return net, kind, attach(kind, net, [LayerPlan(name, rank, alpha) for name in names], settings, seed)


def randomise(kind, layers) -> None:
    draw = torch.Generator().manual_seed(2)
    for tensor in trained(kind, layers).values():
        tensor.data += 0.3 * torch.randn(tensor.shape, generator=draw)


def by_layer(tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        name, suffix = key.split(".", 1)
        found.setdefault(name, {})[suffix] = tensor
    return found


def merged(kind, tensors, strength: float = 1.0) -> nn.Module:
    net = small_net()
    for name, held in by_layer(tensors).items():
        layer = net.get_submodule(name)
        layer.weight.data += strength * kind.change(held, layer.weight)
    return net


@every_form
def test_a_fresh_adapter_changes_nothing_and_trains_only_itself_in_fp32(settings):
    net, kind, layers = adapted(settings)
    assert tuple(layers) == NAMES
    assert torch.allclose(net(images()), small_net()(images()), atol=1e-6)
    own = {id(tensor) for tensor in trained(kind, layers).values()}
    assert own and {id(parameter) for parameter in net.parameters() if parameter.requires_grad} == own
    assert all(tensor.dtype == torch.float32 for tensor in trained(kind, layers).values())


@every_form
def test_a_half_precision_base_has_fp32_adapters_and_gradients_reach_all_of_them(settings):
    net, kind = small_net().to(torch.bfloat16), adapter(settings.kind)
    layers = attach(kind, net, [LayerPlan(name, 3, 2.0) for name in NAMES], settings, 0)
    randomise(kind, layers)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        net(images()).float().square().mean().backward()
    for key, tensor in trained(kind, layers).items():
        assert tensor.dtype == torch.float32 and tensor.grad is not None and tensor.grad.abs().max() > 0, key


@every_form
@pytest.mark.parametrize("strength", [1.0, 0.5, -0.7])
def test_the_exported_change_added_to_the_weights_gives_the_adapted_output(settings, strength):
    net, kind, layers = adapted(settings)
    randomise(kind, layers)
    set_strength(kind, layers, strength)
    ours = net(images())
    assert torch.allclose(merged(kind, export(kind, layers, str, settings.stock_form), strength)(images()), ours, atol=1e-5)
    assert (ours - small_net()(images())).abs().max() > 1e-3
    set_strength(kind, layers, 0.0)
    assert torch.allclose(net(images()), small_net()(images()), atol=1e-6)


@every_form
def test_on_a_gpu_it_is_the_same(settings):
    """The adapted net, one whose adapters were attached there, and weights there with a file's tensors that are not."""
    net, kind, layers = adapted(settings)
    randomise(kind, layers)
    expected, given = net(images()).detach(), by_layer(export(kind, layers, str, settings.stock_form))
    changes = {name: kind.change(held, small_net().get_submodule(name).weight) for name, held in given.items()}
    with pretended_gpu():
        there = images().to("cuda")
        assert torch.allclose(net.to("cuda")(there).cpu(), expected, atol=1e-6)
        other = small_net().to("cuda")
        others = attach(kind, other, [LayerPlan(name, 3, 2.0) for name in NAMES], settings, 0)
        if not settings.stock_form:
            load(kind, others, given)
            assert torch.allclose(other(there).cpu(), expected, atol=1e-5)
        other(there).square().mean().backward()
        assert all(tensor.is_cuda and tensor.grad.is_cuda for tensor in trained(kind, others).values())
        for name, held in given.items():
            changed = kind.change(held, small_net().get_submodule(name).weight.to("cuda"))
            assert changed.is_cuda and torch.allclose(changed.cpu(), changes[name], atol=1e-6)


@every_form
def test_a_file_tells_its_kind_and_form_and_loading_is_the_inverse(settings):
    net, kind, layers = adapted(settings)
    randomise(kind, layers)
    given = by_layer(export(kind, layers, str, settings.stock_form))
    name, found = kind_of(given, "x.safetensors")
    assert name == ("lora" if settings.kind == "locon" else settings.kind)
    other = small_net()
    others = attach(found, other, plans_of(found, given), dataclasses.replace(settings, kind=name, factor=0), 9)
    load(found, others, given)
    assert torch.allclose(other(images()), net(images()), atol=1e-5)
    again = by_layer(export(found, others, str, settings.stock_form))
    for layer, held in given.items():
        assert torch.allclose(
            found.change(held, small_net()[int(layer)].weight), found.change(again[layer], small_net()[int(layer)].weight), atol=1e-6
        )


@every_form
def test_the_seed_decides_the_start_whatever_was_drawn_before(settings):
    first = trained(*adapted(settings, seed=7)[1:])
    torch.rand(5)
    second = trained(*adapted(settings, seed=7)[1:])
    assert all(torch.equal(first[key], second[key]) for key in first)
    if settings.kind != "ia3":
        other = trained(*adapted(settings, seed=8)[1:])
        assert any(not torch.equal(first[key], other[key]) for key in first)


@every_form
def test_layers_of_different_rank_live_side_by_side(settings):
    net, kind = small_net(), adapter(settings.kind)
    layers = attach(kind, net, [LayerPlan("0", 2, 1.0), LayerPlan("2", 5, 4.0), LayerPlan("4", 2, 3.0)], settings, 0)
    randomise(kind, layers)
    tensors = export(kind, layers, str, settings.stock_form)
    assert torch.allclose(merged(kind, tensors)(images()), net(images()), atol=1e-5)
    if settings.kind in ("lora", "locon", "loha", "dora"):
        assert [kind.rank_of(held) for held in by_layer(tensors).values()] == [2, 5, 2]


@pytest.mark.parametrize("kind_name", [name for name, kind in all_adapters().items() if kind.factors])
def test_a_change_that_grew_too_long_is_shortened_and_keeps_its_direction(kind_name):
    settings = AdapterSettings(kind=kind_name, factor=2)
    _, kind, layers = adapted(settings, names=("0", "2"))
    randomise(kind, layers)

    def changes() -> dict[str, torch.Tensor]:
        found = by_layer(export(kind, layers, str))
        if kind_name == "dora":
            found = {name: {suffix: tensor for suffix, tensor in held.items() if suffix != "dora_scale"} for name, held in found.items()}
            return {name: adapter("lora").change(held, small_net()[int(name)].weight) for name, held in found.items()}
        return {name: kind.change(held, small_net()[int(name)].weight) for name, held in found.items()}

    before = changes()
    limit = float(min(change.norm() for change in before.values())) * 0.5
    assert limit_norms(kind, layers, limit) == 2
    for name, change in changes().items():
        assert abs(float(change.norm()) - limit) < 1e-4 * limit
        assert torch.allclose(change / change.norm(), before[name] / before[name].norm(), atol=1e-5)
    assert limit_norms(kind, layers, limit * 1.01) == 0


@pytest.mark.parametrize(
    "settings",
    [
        AdapterSettings(kind="lora", dropout=0.5),
        AdapterSettings(kind="lora", rank_dropout=0.5),
        AdapterSettings(kind="lora", module_dropout=0.5),
        AdapterSettings(kind="dora", rank_dropout=0.5),
        AdapterSettings(kind="dora", dropout=0.5),
        AdapterSettings(kind="dora", module_dropout=0.5),
        AdapterSettings(kind="loha", rank_dropout=0.5),
        AdapterSettings(kind="loha", module_dropout=0.5),
        AdapterSettings(kind="lokr", factor=2, rank_dropout=0.5),
        AdapterSettings(kind="lokr", factor=2, module_dropout=0.5),
    ],
    ids=lambda s: f"{s.kind} {next(name for name in ('dropout', 'rank_dropout', 'module_dropout') if getattr(s, name))}",
)
def test_dropout_acts_in_training_follows_the_seed_and_rests_otherwise(settings):
    net, kind, layers = adapted(settings)
    randomise(kind, layers)
    resting = [net(images()) for _ in range(2)]
    assert torch.equal(*resting)
    set_training(layers, True)

    def trained_output(seed: int) -> torch.Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return net(images())

    outputs = [trained_output(seed) for seed in range(8)]
    assert torch.equal(outputs[0], trained_output(0))
    assert any(not torch.allclose(output, resting[0], atol=1e-6) for output in outputs)
    set_training(layers, False)
    assert torch.equal(net(images()), resting[0])


def test_rank_dropout_keeps_the_mean():
    _, kind, layers = adapted(AdapterSettings(kind="lora", rank_dropout=0.3), names=("2",))
    randomise(kind, layers)
    x = torch.randn(1, 16, generator=torch.Generator().manual_seed(0)).expand(20_000, 16)
    calm = layers["2"](x[:1])
    set_training(layers, True)
    torch.manual_seed(0)
    assert torch.allclose(layers["2"](x).mean(0), calm[0], atol=0.05)


def test_a_file_of_another_shape_or_without_a_layer_is_refused():
    _, kind, layers = adapted(AdapterSettings(), names=("0", "2"))
    given = by_layer(export(kind, layers, str))
    with pytest.raises(AthanorError, match="lacks the layer 2"):
        load(kind, layers, {"0": given["0"]})
    with pytest.raises(AthanorError, match=r"layer 2 lacks the tensor lora_up.weight"):
        load(kind, layers, {**given, "2": {"lora_down.weight": given["2"]["lora_down.weight"]}})
    with pytest.raises(AthanorError, match=r"layer 0 has lora_down.weight of the shape \(4, 12\)"):
        load(kind, layers, {**given, "0": {**given["0"], "lora_down.weight": torch.zeros(4, 12)}})


def test_what_is_no_single_kind_is_refused():
    lora, loha = (by_layer(export(*adapted(AdapterSettings(kind=kind))[1:], str)) for kind in ("lora", "loha"))
    with pytest.raises(AthanorError, match="x holds no adapter"):
        kind_of({}, "x")
    with pytest.raises(AthanorError, match="several kinds"):
        kind_of({"0": lora["0"], "2": loha["2"]}, "x")
    with pytest.raises(AthanorError, match="not known here"):
        kind_of({"0": {"oft_blocks": torch.zeros(1)}}, "x")


def test_a_dora_with_magnitudes_of_the_outputs_is_not_gone_on_with():
    _, kind, layers = adapted(AdapterSettings(kind="dora"), names=("0",))
    given = by_layer(export(kind, layers, str))
    with pytest.raises(AthanorError, match="magnitude for each output channel"):
        load(kind, layers, {"0": {**given["0"], "dora_scale": torch.ones(16, 1)}})


def test_a_dora_of_peft_is_what_peft_computes():
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    torch.manual_seed(0)
    bare = nn.Sequential(nn.Linear(8, 12), nn.Conv2d(4, 6, 3))
    model = get_peft_model(copy.deepcopy(bare), LoraConfig(r=2, lora_alpha=3, use_dora=True, target_modules=["0", "1"]))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.rand_like(parameter)
    file = {**get_peft_model_state_dict(model), **{f"base_model.model.{i}.alpha": torch.tensor(3.0) for i in (0, 1)}}
    merged = model.merge_and_unload()
    given = {name.removeprefix("base_model.model."): held for name, held in grouped(file).items()}
    assert kind_of(given, "x")[0] == "dora"
    for i, layer in enumerate(merged):
        change = adapter("dora").change(given[str(i)], bare[i].weight.detach())
        assert torch.allclose(bare[i].weight + change, layer.weight, atol=1e-5) and change.abs().max() > 0.05
    _, kind, layers = adapted(AdapterSettings(kind="dora"), names=("0",))
    with pytest.raises(AthanorError, match="magnitude for each output channel"):
        load(kind, layers, {"0": given["0"]})


def test_the_forms_of_files():
    """Suffixes and shapes as ComfyUI's comfy/weight_adapter reads them."""

    def shapes(settings: AdapterSettings, name: str) -> dict[str, tuple[int, ...]]:
        _, kind, layers = adapted(settings)
        return {suffix: tuple(tensor.shape) for suffix, tensor in by_layer(export(kind, layers, str, settings.stock_form))[name].items()}

    assert shapes(AdapterSettings(), "4") == {"lora_down.weight": (3, 16, 3, 3), "lora_up.weight": (12, 3, 1, 1), "alpha": ()}
    assert shapes(AdapterSettings(), "5") == {"lora_down.weight": (3, 12, 1, 1), "lora_up.weight": (4, 3, 1, 1), "alpha": ()}
    assert shapes(AdapterSettings(kind="dora"), "4")["dora_scale"] == (1, 16, 1, 1)
    assert shapes(AdapterSettings(kind="dora"), "2")["dora_scale"] == (1, 16)
    assert shapes(AdapterSettings(kind="ia3"), "4") == {"weight": (1, 12, 1, 1), "on_input": ()}
    assert shapes(AdapterSettings(kind="ia3"), "0") == {"weight": (16,), "on_input": ()}
    assert shapes(AdapterSettings(kind="ia3", stock_form=True), "0")["dora_scale"] == (16, 1)
    assert shapes(AdapterSettings(kind="loha"), "4")["hada_w1_b"] == (3, 144)
    assert {"lokr_w1", "lokr_w2"} < shapes(AdapterSettings(kind="lokr", full_matrix=True), "2").keys()

"""A base with other adapters in it, against the same adapters worn beside it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import save_file

from athanor.trainer.adapters import adapter
from athanor.trainer.adapters.attached import attach, export, set_strength, trained
from athanor.trainer.adapters.plan import plan_layers
from athanor.trainer.base_merges import merge_into, merged_fingerprint
from athanor.trainer.control import Control
from athanor.trainer.errors import AthanorError
from athanor.trainer.families import family
from athanor.trainer.loop import train
from athanor.trainer.runs.run import open_run
from athanor.trainer.settings import AdapterSettings

SD15 = family("sd15")


@pytest.fixture(scope="module", params=["lora", "locon", "loha", "lokr", "dora", "ia3"])
def other(request, tmp_path_factory, base):
    """A file with strong changes of both parts, and the parts that wear it."""
    settings, kind = AdapterSettings(kind=request.param, factor=2, rank=2, alpha=2.0), adapter(request.param)
    parts = {"denoiser": SD15.load_denoiser(base, torch.float32), "text_encoder": SD15.load_text(base, torch.float32).parts()["text_encoder"]}
    tensors, draw = {}, torch.Generator().manual_seed(0)
    worn = {}
    for part, module in parts.items():
        worn[part] = attach(kind, module, plan_layers(module, part, SD15.adapter_targets(part), settings), settings, 0)
        for tensor in trained(kind, worn[part]).values():
            tensor.data += 0.2 * torch.randn(tensor.shape, generator=draw)
        tensors |= export(kind, worn[part], lambda name, part=part: SD15.export_key(part, name))
    path = tmp_path_factory.mktemp("other") / "other style.safetensors"
    save_file(tensors, path)
    return path, parts, kind, worn


def answer(denoiser, text) -> torch.Tensor:
    with torch.no_grad():
        states = text(input_ids=torch.arange(8)[None]).last_hidden_state
        latents = torch.randn((1, 4, 4, 4), generator=torch.Generator().manual_seed(1))
        return denoiser(latents, torch.tensor([500]), states).sample


@pytest.mark.parametrize("strength", [1.0, -0.4])
def test_a_merged_base_answers_as_one_that_wears_the_file(other, base, strength):
    path, parts, kind, worn = other
    for layers in worn.values():
        set_strength(kind, layers, strength)
    expected = answer(parts["denoiser"], parts["text_encoder"])
    text, denoiser = SD15.load_text(base, torch.float32), SD15.load_denoiser(base, torch.float32)
    bare = answer(denoiser, text.parts()["text_encoder"])
    settings = AdapterSettings(merge_files=f"{path}: {strength}")
    taken = merge_into(settings, SD15, text.parts())
    assert merge_into(settings, SD15, {"denoiser": denoiser}, before=taken) == taken == {str(path)}
    merged = answer(denoiser, text.parts()["text_encoder"])
    assert torch.allclose(merged, expected, atol=1e-4) and (merged - bare).abs().max() > 1e-2


def test_a_file_for_another_base_is_refused(tmp_path, base):
    save_file({"lora_unet_other.lora_up.weight": torch.ones(1, 1), "lora_unet_other.lora_down.weight": torch.ones(1, 1)}, tmp_path / "x.safetensors")
    denoiser, settings = SD15.load_denoiser(base, torch.float32), AdapterSettings(merge_files=str(tmp_path / "x.safetensors"))
    assert merge_into(settings, SD15, {"denoiser": denoiser}) == set()
    with pytest.raises(AthanorError, match=r"x\.safetensors, which should be merged first, holds nothing for SD1\.5"):
        merge_into(settings, SD15, {"denoiser": denoiser}, before=set())


def test_text_is_cached_by_what_is_merged(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    plain, merged = AdapterSettings(), AdapterSettings(merge_files=f"{tmp_path / 'a.safetensors'}: 0.5")
    assert merged_fingerprint("base", plain) == "base"
    first = merged_fingerprint("base", merged)
    assert first != "base" and first == merged_fingerprint("base", merged)
    assert first != merged_fingerprint("base", dataclasses.replace(merged, merge_files=merged.merge_files.replace("0.5", "0.6")))
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    assert first != merged_fingerprint("base", merged)


@pytest.mark.slow
def test_a_run_on_a_merged_base_starts_from_its_loss(tmp_path, job, other):
    """The held-out loss before the first step is that of the merged base, cached text or not."""
    path, *_ = other
    losses = {}
    for name, text_encoder_rate, merge in (("plain", 0.0, ""), ("cached", 0.0, str(path)), ("live", 1e-3, str(path))):
        given = dataclasses.replace(
            job,
            name=name,
            adapter=AdapterSettings(rank=2, merge_files=merge),
            train=dataclasses.replace(job.train, epochs=1, text_encoder_rate=text_encoder_rate),
        )
        run = open_run(tmp_path, given)
        train(run, Control())
        losses[name] = next(event["loss"] for event in run.events() if event["event"] == "validation")
    assert losses["cached"] == pytest.approx(losses["live"], rel=1e-4)
    assert losses["cached"] != pytest.approx(losses["plain"], rel=1e-3)

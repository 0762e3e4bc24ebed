"""Files as ComfyUI's own trainer writes them: a LoRA on the layers, whole changes of the norms and biases beside it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import save_file

from athanor.trainer.adapters.whole import WholeChanges
from athanor.trainer.base_merges import merge_into
from athanor.trainer.compare.painter import Painter
from athanor.trainer.config import CompareJob, SheetCell
from athanor.trainer.data.cache import TensorCache
from athanor.trainer.errors import AthanorError
from athanor.trainer.families import family
from athanor.trainer.formats.unet_names import SD1_LAYOUT
from athanor.trainer.scoring.norms import layer_norms
from athanor.trainer.settings import AdapterSettings
from athanor.trainer.trainees.lora import lora_trainee

SD15 = family("sd15")


@pytest.fixture(scope="module")
def given(tmp_path_factory, base):
    """A file that changes every norm, linear layer, convolution and bias of the U-Net, and its weights with all of it in them."""
    denoiser, draw, tensors = SD15.load_denoiser(base, torch.float32), torch.Generator().manual_seed(0), {}

    def random(*shape: int) -> torch.Tensor:
        return 0.1 * torch.randn(shape, generator=draw)

    for name, module in denoiser.named_modules():
        if getattr(module, "weight", None) is None:
            continue
        key, weight = f"diffusion_model.{SD1_LAYOUT.native(name)}", module.weight
        if weight.dim() > 1:
            up, down = random(len(weight), 2), random(2, weight[0].numel())
            tensors |= {f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down, f"{key}.alpha": torch.tensor(1.0)}
            weight.data += (0.5 * up @ down).reshape(weight.shape)
        else:
            tensors[f"{key}.diff"] = random(len(weight))
            weight.data += tensors[f"{key}.diff"]
        if module.bias is not None:
            tensors[f"{key}.diff_b"] = random(len(module.bias))
            module.bias.data += tensors[f"{key}.diff_b"]
    path = tmp_path_factory.mktemp("other") / "ComfyUI_trained_lora_16_steps_00001_.safetensors"
    save_file(tensors, path)
    return path, tensors, answer(denoiser)


def answer(denoiser) -> torch.Tensor:
    with torch.no_grad():
        draw = torch.Generator().manual_seed(1)
        latents, states = torch.randn((1, 4, 4, 4), generator=draw), torch.randn((1, 7, denoiser.config.cross_attention_dim), generator=draw)
        return denoiser(latents, torch.tensor([500]), states).sample


def test_merged_before_a_training(given, base):
    path, _, expected = given
    denoiser = SD15.load_denoiser(base, torch.float32)
    merge_into(AdapterSettings(merge_files=str(path)), SD15, {"denoiser": denoiser}, before=())
    assert torch.allclose(answer(denoiser), expected, atol=1e-5)


def test_drawn_and_taken_off_again(given, base):
    path, _, expected = given
    cells = tuple(SheetCell("x.png", file, 1.0, 1.0, "a", "", 0, 1, 1.0) for file in ("", str(path)))
    painter = Painter(CompareJob(base, cells, 32, 32, "fp32"), torch.device("cpu"), TensorCache(None))
    painter.load(cells)
    bare = answer(painter.denoiser)
    for _ in range(2):
        painter.wear(str(path), 1.0, 1.0)
        assert torch.allclose(answer(painter.denoiser), expected, atol=1e-5) and not torch.allclose(bare, expected, atol=1e-2)
        painter.wear("", 1.0, 1.0)
        assert torch.equal(answer(painter.denoiser), bare) and not painter.notes


def test_gone_on_with(given, job):
    path, tensors, expected = given
    train = dataclasses.replace(job.train, text_encoder_rate=0.0)
    wanted = dataclasses.replace(job, train=train, adapter=AdapterSettings(kind="locon", start_file=str(path)))
    denoiser = SD15.load_denoiser(job.base, torch.float32)
    bare = answer(denoiser)
    trainee = lora_trainee(wanted, SD15, denoiser, None)
    assert torch.allclose(answer(denoiser), expected, atol=1e-5)
    with trainee.switched_off():
        assert torch.allclose(answer(denoiser), bare, atol=1e-6)
    assert trainee.notes == ()
    exported = trainee.export()
    assert len(exported) == len(tensors)
    whole = {key: tensor for key, tensor in exported.items() if key.endswith((".diff", ".diff_b"))}
    assert len(whole) == sum(key.endswith((".diff", ".diff_b")) for key in tensors)
    norm = SD1_LAYOUT.native("mid_block.resnets.0.norm1")
    assert torch.equal(whole["lora_unet_mid_block_resnets_0_norm1.diff"], tensors[f"diffusion_model.{norm}.diff"])


def test_norms_are_measured(given):
    path, tensors, _ = given
    key = f"diffusion_model.{SD1_LAYOUT.native('mid_block.resnets.0.norm1')}"
    wanted = (tensors[f"{key}.diff"].norm() ** 2 + tensors[f"{key}.diff_b"].norm() ** 2) ** 0.5
    assert layer_norms(path)[key] == pytest.approx(float(wanted))


def test_whole_changes_alone_are_no_lora(tmp_path, job):
    path = tmp_path / "full.safetensors"
    save_file({"lora_unet_mid_block_resnets_0_norm1.w_norm": torch.ones(32)}, path)
    wanted = dataclasses.replace(job, train=dataclasses.replace(job.train, text_encoder_rate=0.0), adapter=AdapterSettings(start_file=str(path)))
    with pytest.raises(AthanorError, match="whole weights alone"):
        lora_trainee(wanted, SD15, SD15.load_denoiser(job.base, torch.float32), None)


def test_what_does_not_fit_is_told():
    module = torch.nn.Sequential(torch.nn.Linear(2, 3))
    with pytest.raises(AthanorError, match=r"x\.safetensors changes the bias of 0, which this base has in another size"):
        WholeChanges(module, {"0": {"diff_b": torch.ones(4)}}, "x.safetensors")

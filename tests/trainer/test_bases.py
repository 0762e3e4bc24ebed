"""Files as people have them: every number format, old checkpoints, damaged ones."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import types
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_families import TinyBase, make_sd15_file, make_sdxl_file, make_sdxl_folder
from tiny_flow import flux_models, flux_tensors, in_scaled_fp8, make_flux_folder, make_schnell_split, make_sd35_file, make_sd35_folder

from athanor.trainer.bases import describe_base
from athanor.trainer.checks.validate import base_problems, check_train_job
from athanor.trainer.errors import AthanorError
from athanor.trainer.families import family

IN = "model.diffusion_model.input_blocks.0.0.weight"


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> TinyBase:
    return make_sdxl_file(tmp_path_factory.mktemp("sdxl file"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_a_file_of_every_number_format_is_read(sdxl, tmp_path, dtype):
    tensors = {key: value.to(dtype) for key, value in load_file(sdxl.path).items()}
    save_file(tensors, tmp_path / "small.safetensors")
    base, found = describe_base(tmp_path / "small.safetensors", (sdxl.path.parent / "tokenizer",)), family("sdxl")
    assert base.family == "sdxl" and not base_problems(base)
    for part, module in {"unet": found.load_denoiser(base, torch.bfloat16), "vae": found.load_vae(base)}.items():
        assert {parameter.dtype for parameter in module.parameters()} == {torch.float32 if part == "vae" else torch.bfloat16}
    weight = found.load_denoiser(base, torch.float32).conv_in.weight
    assert torch.equal(weight, tensors[IN].float())
    encoder = found.load_text(base, torch.float32).parts()["text_encoder_2"]
    assert torch.equal(encoder.text_projection.weight, tensors["conditioner.embedders.1.model.text_projection"].float().t())


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_a_file_in_the_arithmetics_own_format_is_mapped_and_not_copied(sdxl):
    base = describe_base(sdxl.path, (sdxl.path.parent / "tokenizer",))
    place = family("sdxl").load_denoiser(base, torch.float32).mid_block.resnets[0].conv1.weight
    lines = [line.split() for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()]
    mapped = [[int(end, 16) for end in line[0].split("-")] for line in lines if line[-1].endswith(sdxl.path.name.split()[-1])]
    assert any(start <= place.data_ptr() < end for start, end in mapped)


def test_an_old_checkpoint_is_read_without_running_its_code(tmp_path):
    made = make_sd15_file(tmp_path)
    torch.save({"state_dict": load_file(made.path), "epoch": 3}, tmp_path / "old.ckpt")
    base, found = describe_base(tmp_path / "old.ckpt"), family("sd15")
    assert base.family == "sd15" and not base_problems(base)
    new = found.load_denoiser(describe_base(made.path), torch.float32).state_dict()
    assert all(torch.equal(value, new[key]) for key, value in found.load_denoiser(base, torch.float32).state_dict().items())

    class Bad:
        def __reduce__(self):
            return Path.write_text, (tmp_path / "ran", "x", "utf-8")

    torch.save({"state_dict": Bad()}, tmp_path / "bad.ckpt")
    with pytest.raises(AthanorError, match="cannot be read as a checkpoint without running what is in it"):
        describe_base(tmp_path / "bad.ckpt")
    assert not (tmp_path / "ran").exists()


def test_checkpoints_of_the_first_years_are_read_with_what_their_trainers_left_in_them(tmp_path, monkeypatch):
    """Stability's first files hold the state of a callback of pytorch_lightning, with numbers of numpy."""
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    made = make_sd15_file(tmp_path)
    held = {"state_dict": load_file(made.path), "callbacks": {module.ModelCheckpoint: {"best": numpy.float64(0.5)}}, "global_step": 470000}
    torch.save(held, tmp_path / "first.ckpt")
    torch.save(load_file(made.path), tmp_path / "no state_dict.pt", _use_new_zipfile_serialization=False)
    monkeypatch.undo()
    for name in ("first.ckpt", "no state_dict.pt"):
        assert describe_base(tmp_path / name).family == "sd15" and not base_problems(describe_base(tmp_path / name)), name


def test_pickles_that_are_no_whole_checkpoint_say_what_they_are(tmp_path):
    made = make_sd15_file(tmp_path)
    torch.save(load_file(made.path), tmp_path / "whole.ckpt")
    data = (tmp_path / "whole.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(data[: len(data) // 2])
    (tmp_path / "page.ckpt").write_text("<!DOCTYPE html><html>Sign in</html>", encoding="utf-8")
    torch.save([1, 2], tmp_path / "list.pt")
    for name, told in (
        ("cut.ckpt", "is not a whole checkpoint|damaged or no checkpoint"),
        ("page.ckpt", "damaged or no checkpoint"),
        ("list.pt", "no table of weights but a list"),
    ):
        with pytest.raises(AthanorError, match=told):
            describe_base(tmp_path / name)


def test_a_file_whose_name_ends_in_sft_is_a_safetensors_file(tmp_path):
    made = make_sd15_file(tmp_path)
    short = made.path.rename(tmp_path / "tiny.SFT")
    base, found = describe_base(short), family("sd15")
    assert base.family == "sd15" and not base_problems(base)
    assert found.load_denoiser(base, torch.float32).conv_in.weight.isfinite().all() and found.load_vae(base) is not None
    with pytest.raises(AthanorError, match=r"its name must end in \.safetensors, \.sft, "):
        describe_base(short.rename(tmp_path / "tiny.zip"))
    with pytest.raises(AthanorError, match="keeps its weights as GGUF"):
        describe_base((tmp_path / "tiny.zip").rename(tmp_path / "tiny.gguf"))


@pytest.mark.parametrize(
    ("marks", "expected"),
    [((), ("epsilon", False)), (("v_pred",), ("v", False)), (("v_pred", "ztsnr"), ("v", True))],
)
def test_the_prediction_is_told_as_comfyui_tells_it(tmp_path, marks, expected):
    base = describe_base(make_sdxl_file(tmp_path, marks=marks).path)
    assert (base.prediction, base.zero_terminal_snr) == expected
    assert describe_base(Path(base.path), prediction="v").prediction == "v"


def test_a_folder_tells_its_prediction_in_the_scheduler(tmp_path):
    made = make_sdxl_folder(tmp_path / "model")
    config = made.path / "scheduler" / "scheduler_config.json"
    text = (
        config.read_text(encoding="utf-8")
        .replace('"epsilon"', '"v_prediction"')
        .replace('"rescale_betas_zero_snr": false', '"rescale_betas_zero_snr": true')
    )
    config.write_text(text, encoding="utf-8")
    base = describe_base(made.path)
    assert (base.prediction, base.zero_terminal_snr) == ("v", True)


def test_files_that_give_the_model_nothing_are_told(tmp_path):
    (tmp_path / "xl").mkdir()
    whole, split = make_sdxl_file(tmp_path / "xl"), make_schnell_split(tmp_path)
    clip, t5 = split.text_encoders
    tokenizers = (tmp_path / "tokenizer", tmp_path / "tokenizer_2")
    assert base_problems(describe_base(split.path, tokenizers, (t5, clip), split.vae)) == ()
    twice = clip.with_name("again.safetensors")
    twice.write_bytes(clip.read_bytes())
    (problem,) = base_problems(describe_base(split.path, tokenizers, (clip, t5, twice), split.vae))
    assert problem.startswith("The text encoder again.safetensors does nothing, since another of the files has the same")
    told = base_problems(describe_base(whole.path, (tmp_path / "xl" / "tokenizer",), (t5,), split.vae))
    assert told[0].startswith("The text encoder t5xxl.safetensors does nothing, since SDXL reads none of that kind")
    assert told[1].startswith("ae.safetensors is no VAE for SDXL, whose latents have 4 channels")
    folder = make_sdxl_folder(tmp_path / "folder")
    (problem,) = base_problems(describe_base(folder.path, text_encoders=(clip,)))
    assert "does nothing, since the folder folder has its own" in problem


def test_a_truncated_file_is_told_before_anything_loads(sdxl, tmp_path):
    (tmp_path / "half.safetensors").write_bytes(sdxl.path.read_bytes()[:-1000])
    with pytest.raises(AthanorError, match=r"half\.safetensors is not a whole safetensors file: .*the download is not complete"):
        describe_base(tmp_path / "half.safetensors")


def test_missing_parts_are_each_named_with_the_file_that_brings_them(sdxl, tmp_path):
    held = {key: value for key, value in load_file(sdxl.path).items() if key.startswith("model.")}
    save_file(held, tmp_path / "unet only.safetensors")
    problems = base_problems(describe_base(tmp_path / "unet only.safetensors", (sdxl.path.parent / "tokenizer",)))
    assert [next(word for word in ("CLIP-L", "CLIP-G", "VAE") if word in problem) for problem in problems] == ["CLIP-L", "CLIP-G", "VAE"]
    assert all("models/" in problem and "Load Base Model" in problem for problem in problems)


def test_a_base_that_went_is_told_with_what_brings_it_back(tmp_path):
    made = make_sd15_file(tmp_path)
    written = tmp_path / ".bases"
    written.mkdir()
    base = describe_base(made.path.rename(written / "0123.safetensors"), (tmp_path / "tokenizer",))
    assert not base_problems(base)
    (written / "0123.safetensors").unlink()
    assert base_problems(base) == (f"The base model {base.path} is not there any more; queue the graph again, which writes it anew.",)
    other = dataclasses.replace(base, path=str(tmp_path / "mine.safetensors"))
    assert base_problems(other) == (f"The base model {other.path} is not there any more; choose another one in Load Base Model.",)


def test_clip_skip_reads_another_layer_and_is_refused_where_it_cannot(sdxl):
    found, states = family("sdxl"), []
    for clip_skip in (0, 2, 3):
        base = describe_base(sdxl.path, (sdxl.path.parent / "tokenizer",), clip_skip=clip_skip)
        with torch.no_grad():
            states.append(found.encode_text(found.load_text(base, torch.float32), ["a"], 1)["states"])
    assert torch.equal(states[0], states[1]) and not torch.equal(states[1], states[2])
    assert base.text_identity != base.fingerprint
    far = describe_base(sdxl.path, (sdxl.path.parent / "tokenizer",), clip_skip=13)
    assert "Clip skip is 13; for SDXL it can be at most 12" in base_problems(far)[0]


def in_shards(folder: Path, stem: str, variant: str | None, num: int = 3) -> list[Path]:
    """A component's weights as the hub has large ones: numbered files and an index that names them."""
    whole, files, places = folder / f"{stem}.safetensors", [], {}
    tensors = load_file(whole)
    whole.unlink()
    names = sorted(tensors)
    for i in range(num):
        files.append(folder / f"{stem}{f'.{variant}' if variant else ''}-{i + 1:05d}-of-{num:05d}.safetensors")
        held = {name: tensors[name] for name in names[i::num]}
        save_file(held, files[-1], metadata={"format": "pt"})
        places |= dict.fromkeys(held, files[-1].name)
    index = folder / f"{stem}.safetensors.index.{f'{variant}.' if variant else ''}json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}), encoding="utf-8")
    return files


@pytest.mark.parametrize("variant", [None, "fp16", "bf16"])
def test_folders_in_shards_are_read_and_their_missing_or_cut_files_named(tmp_path, variant):
    made, found = make_sd35_folder(tmp_path), family("sd35")
    whole = found.load_denoiser(describe_base(made.path), torch.float32).state_dict()
    shards = in_shards(made.path / "transformer", "diffusion_pytorch_model", variant)
    in_shards(made.path / "text_encoder_3", "model", variant)
    base = describe_base(made.path)
    assert not base_problems(base)
    read = found.load_denoiser(base, torch.float32).state_dict()
    assert all(torch.equal(value, read[name]) for name, value in whole.items())
    assert found.load_text(base, torch.float32).encoders[2] is not None
    data = shards[1].read_bytes()
    shards[1].write_bytes(data[:-10])
    (problem,) = base_problems(base)
    assert f"{shards[1]} is not a whole safetensors file" in problem and problem.endswith("Get it again, or choose another.")
    shards[1].unlink()
    assert base_problems(base) == (f"The base model lacks {shards[1]}; copy it there from the model's page.",)


def test_a_folder_of_fp16_files_alone_is_read(tmp_path):
    made = make_flux_folder(tmp_path)
    for file in list(made.path.glob("*/*.safetensors")):
        file.rename(file.with_name(f"{file.stem}.fp16.safetensors"))
    base, found = describe_base(made.path), family("flux")
    assert not base_problems(base)
    assert (
        found.load_denoiser(base, torch.float32) is not None and found.load_vae(base) is not None and found.load_text(base, torch.float32) is not None
    )
    (made.path / "text_encoder_2" / "model.fp16.safetensors").unlink()
    assert base_problems(base) == (
        f"The base model lacks {made.path / 'text_encoder_2' / 'model.safetensors'}; copy it there from the model's page.",
    )


@pytest.mark.parametrize("part", ["text_encoders", "vae"])
def test_a_cut_file_beside_the_denoiser_is_named_as_such(tmp_path, part):
    made = make_schnell_split(tmp_path)
    file = made.vae if part == "vae" else made.text_encoders[0]
    file.write_bytes(file.read_bytes()[:-100])
    (problem,) = base_problems(describe_base(made.path, text_encoders=made.text_encoders, vae=made.vae))
    assert problem.startswith(f"{file} is not a whole safetensors file") and "the download is not complete" in problem


def test_a_checkpoint_of_scaled_fp8_in_one_file_is_read(tmp_path):
    made, found = make_sd35_file(tmp_path), family("sd35")
    tensors = load_file(made.path)
    save_file(in_scaled_fp8(tensors), made.path)
    base = describe_base(made.path)
    assert not base_problems(base)
    t5 = found.load_text(base, torch.float32).encoders[2]
    wanted = tensors["text_encoders.t5xxl.transformer.encoder.block.0.layer.1.DenseReluDense.wo.weight"]
    assert torch.allclose(t5.encoder.block[0].layer[1].DenseReluDense.wo.weight, wanted, atol=float(wanted.abs().max()) / 16)
    assert found.load_denoiser(base, torch.float32).proj_out.weight.isfinite().all()


def test_a_t5_whose_table_goes_by_its_other_name_is_read(tmp_path):
    made, found = make_schnell_split(tmp_path), family("flux")
    held = load_file(made.text_encoders[1])
    held["encoder.embed_tokens.weight"] = held.pop("shared.weight")
    save_file(held, made.text_encoders[1])
    base = describe_base(made.path, text_encoders=made.text_encoders, vae=made.vae)
    assert torch.equal(found.load_text(base, torch.float32).encoders[1].shared.weight, held["encoder.embed_tokens.weight"])


def test_packed_weights_are_refused_before_anything_loads(tmp_path):
    tensors = flux_tensors(flux_models(tmp_path)["transformer"])
    key = "model.diffusion_model.double_blocks.0.img_mlp.0.weight"
    save_file({**tensors, key: torch.zeros(8, 1, dtype=torch.uint8), f"{key}.absmax": torch.zeros(4)}, tmp_path / "nf4.safetensors")
    with pytest.raises(
        AthanorError, match="keeps its weights as NF4 or FP4 of bitsandbytes, which cannot be trained upon; choose the bf16, fp16 or fp8"
    ):
        describe_base(tmp_path / "nf4.safetensors")


def test_other_things_in_pickles_are_named(tmp_path):
    torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": torch.zeros(2, 768)}}, tmp_path / "word.pt")
    torch.save({"params_ema": {"conv_first.weight": torch.zeros(2)}}, tmp_path / "up.pth")
    torch.save({768: [{"linear.0.weight": torch.zeros(2)}]}, tmp_path / "hyper.pt")
    for name, what in (("word.pt", "an embedding"), ("up.pth", "an upscaler"), ("hyper.pt", "a file without weights")):
        with pytest.raises(AthanorError, match=f"{name} is {what}, not a checkpoint"):
            describe_base(tmp_path / name)


def test_a_lora_of_another_family_is_refused_before_anything_loads(tmp_path, job):
    save_file({"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.zeros(4, 3072)}, tmp_path / "flux style.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "flux style.safetensors").read_bytes()[:-9])
    told = "flux style.safetensors is a LoRA for FLUX.1, and tiny base is another family; choose one made for it."
    for settings in (
        dataclasses.replace(job.adapter, start_file=str(tmp_path / "flux style.safetensors"), rank=16, alpha=16.0),
        dataclasses.replace(job.adapter, merge_files=f"{tmp_path / 'flux style.safetensors'}: 0.5"),
    ):
        with pytest.raises(AthanorError, match=re.escape(told)):
            check_train_job(dataclasses.replace(job, adapter=settings))
    with pytest.raises(AthanorError, match=r"cut\.safetensors is not a whole safetensors file"):
        check_train_job(dataclasses.replace(job, adapter=dataclasses.replace(job.adapter, merge_files=str(tmp_path / "cut.safetensors"))))


def test_a_folder_of_pickles_or_of_packed_weights_is_told(tmp_path):
    made = make_sdxl_folder(tmp_path / "model")
    unet, clip = made.path / "unet" / "diffusion_pytorch_model", made.path / "text_encoder" / "model"
    unet.with_suffix(".safetensors").rename(unet.with_suffix(".bin"))
    clip.with_suffix(".safetensors").rename(clip.with_name("pytorch_model.bin"))
    save_file({"a.weight": torch.zeros(4), "a.weight.absmax": torch.zeros(4)}, made.path / "text_encoder_2" / "model.safetensors")
    told = base_problems(describe_base(made.path))
    assert len(told) == 3 and "diffusion_pytorch_model.bin alone, a pickle" in told[0] and "pytorch_model.bin alone" in told[1]
    assert "keeps its weights as NF4 or FP4" in told[2]


def test_a_packed_text_encoder_is_told(sdxl, tmp_path):
    save_file({"a.qweight": torch.zeros(4)}, tmp_path / "packed.safetensors")
    base = describe_base(sdxl.path, (sdxl.path.parent / "tokenizer",), [tmp_path / "packed.safetensors"])
    assert any("packed.safetensors keeps its weights as 4 bits" in each for each in base_problems(base))

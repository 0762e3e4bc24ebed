"""Traps in files of other trainers, read from their sources: fields that stay filled, other meanings of 0, other programs, what is not said."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import pytest

from athanor.trainer.checks.effects import effect_problems
from athanor.trainer.config import TrainJob, write_job
from athanor.trainer.errors import AthanorError
from athanor.trainer.formats.parameters import Imported, rates_are_for_another_kind, read_parameters, sd_scripts_toml
from athanor.trainer.formats.parameters.read import parse_toml
from athanor.trainer.settings import (
    AdapterSettings,
    CaptionSettings,
    CheckpointSettings,
    EmbeddingSettings,
    ObjectiveSettings,
    Settings,
    range_problems,
    value_type,
)
from athanor.trainer.types import BaseModel, Dataset

GUI = {
    "LoRA_type": "Standard",
    "network_dim": 8,
    "network_alpha": 4,
    "unet_lr": 1e-4,
    "text_encoder_lr": 5e-5,
    "optimizer": "AdamW",
    "lr_scheduler": "constant",
}
FLOW_OF_GUI = {
    "timestep_sampling": "sigma",
    "discrete_flow_shift": 3,
    "weighting_scheme": "logit_normal",
    "logit_mean": 0.2,
    "logit_std": 1.5,
    "guidance_scale": 3.5,
}


def read(folder: Path, data: dict | str, name: str = "") -> Imported:
    path = folder / (name or ("a.json" if isinstance(data, dict) else "a.toml"))
    path.write_text(json.dumps(data) if isinstance(data, dict) else data, encoding="utf-8")
    return read_parameters(path)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"max_grad_norm": 0}, {"train.max_grad_norm": 0.0}),
        ({"noise_offset_type": "Original", "noise_offset": 0.1, "multires_noise_iterations": 6}, {"objective.noise_offset": 0.1, "objective.multires_iterations": None}),
        ({"noise_offset_type": "Multires", "noise_offset": 0.1, "adaptive_noise_scale": 0.01}, {"objective.noise_offset": None, "objective.adaptive_noise_scale": None}),
        ({"lr_scheduler": "cosine_with_restarts", "lr_scheduler_num_cycles": "", "epoch": 6}, {"schedule.num_cycles": 6, "train.epochs": 6}),
        ({"epoch": 6, "max_train_steps": 300}, {"run.steps": 300, "train.epochs": None}),
        ({"epoch": 6, "max_train_steps": 300, "max_train_epochs": 4}, {"run.steps": None, "train.epochs": 4}),
        ({"epoch": 6, "dataset_config": "d.toml"}, {"run.steps": 1600, "train.epochs": None}),
        ({"keep_tokens": 2}, {"captions.keep_tokens": None}),
        ({"keep_tokens": 2, "shuffle_caption": True}, {"captions.keep_tokens": 2}),
        (FLOW_OF_GUI, {"objective.timestep_sampling": None, "objective.logit_std": None, "captions.max_tokens": "75"}),
        ({**FLOW_OF_GUI, "sd3_checkbox": True}, {"objective.timestep_sampling": "logit_normal", "objective.logit_mean": 0.2, "captions.max_tokens": None}),
        ({**FLOW_OF_GUI, "LoRA_type": "Flux1", "flux1_checkbox": True}, {"objective.timestep_sampling": "shifted", "objective.shift": 3.0, "objective.logit_std": 1.7}),
        ({"LoRA_type": "Flux1", "flux1_checkbox": True, "min_snr_gamma": 5, "noise_offset": 0.1}, {"objective.weighting": None, "objective.noise_offset": None}),
        ({"LoRA_type": "Flux1", "flux1_checkbox": True, "timestep_sampling": "sigma", "discrete_flow_shift": 1}, {"objective.timestep_sampling": "uniform"}),
        ({"LoRA_type": "LyCORIS/LoHa", "LyCORIS_preset": "full", "conv_dim": 0}, {"adapter.kind": "loha", "adapter.conv_rank": 8, "adapter.conv_alpha": 4.0, "adapter.targets": "full"}),
        ({"LoRA_type": "LyCORIS/LoKr", "factor": -1}, {"adapter.kind": "lokr", "adapter.conv_rank": 8, "adapter.targets": "full"}),
        ({"LoRA_type": "LyCORIS/LoCon", "dora_wd": True}, {"adapter.kind": "dora", "adapter.conv_rank": 8, "adapter.targets": "full"}),
        ({"LoRA_type": "LyCORIS/LoCon", "LyCORIS_preset": "full", "sdxl": True}, {"adapter.kind": "locon", "adapter.conv_rank": 8, "adapter.targets": None}),
        ({"LoRA_type": "LyCORIS/LoHa", "LyCORIS_preset": "unet-only"}, {"adapter.targets": "full", "train.text_encoder_rate": 0.0}),
        ({"LoRA_type": "LyCORIS/LoKr", "flux1_checkbox": True}, {"adapter.conv_rank": None, "adapter.targets": None}),
        ({"LoRA_type": "LyCORIS/LoHa", "LyCORIS_preset": "attn-mlp", "conv_dim": 4}, {"adapter.conv_rank": None, "adapter.targets": "default"}),
        ({"LoRA_type": "LyCORIS/LoCon", "LyCORIS_preset": "unet-transformer-only"}, {"adapter.kind": "lora", "train.text_encoder_rate": 0.0}),
        ({"LoRA_type": "LyCORIS/iA3", "scale_weight_norms": 1, "network_dropout": 0.3}, {"adapter.kind": "ia3", "adapter.rank": None, "adapter.dropout": None}),
        ({"optimizer": "Prodigy", "unet_lr": 1, "text_encoder_lr": 0.5}, {"train.rate": 1.0, "train.text_encoder_rate": 1.0}),
        ({"sample_every_n_epochs": 2}, {"samples.every_epochs": None}),
        ({"sample_prompts": "a cat --W 512 --ss euler_a --d 3"}, {"samples.prompts": "a cat --W 512 --d 3"}),
        ({"train_t5xxl": True, "t5xxl_lr": 1e-5}, {"optimizer.t5_rate": None, "optimizer.text_encoder_2_rate": None}),
        ({"sd3_checkbox": True, "t5xxl_lr": 1e-5, "stop_text_encoder_training_pct": 3}, {"train.text_encoder_rate": 5e-5, "optimizer.text_encoder_2_rate": 1e-5}),
        ({"LoRA_type": "LyCORIS/LoKr", "flux1_checkbox": True, "t5xxl_lr": 1e-5}, {"train.text_encoder_rate": 5e-5, "optimizer.text_encoder_2_rate": None}),
        ({"prior_loss_weight": 0.5, "reg_data_dir": "", "blocks_to_swap": 3}, {"objective.regularization_weight": None, "performance.block_offload": None}),
        ({"prior_loss_weight": 0.5, "reg_data_dir": "D:/reg"}, {"objective.regularization_weight": 0.5}),
    ],
)  # fmt: skip
def test_fields_of_the_gui_mean_what_its_program_makes_of_them(tmp_path, changes, expected):
    values = dict(read(tmp_path, {**GUI, **changes}).values)
    assert {path: values.get(path) for path in expected} == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"sdxl": True, "train_text_encoder": True, "learning_rate_te": 3e-6, "learning_rate_te1": 1e-6, "learning_rate_te2": 2e-6, "full_bf16": True, "fused_backward_pass": True},
         {"train.rate": 1e-5, "train.text_encoder_rate": 1e-6, "optimizer.text_encoder_2_rate": 2e-6, "checkpoint.weights": "bf16", "checkpoint.fused_backward": True}),
        ({"sdxl": True, "train_text_encoder": False, "learning_rate_te1": 1e-6}, {"train.text_encoder_rate": 0.0}),
        ({"sdxl": True, "learning_rate_te": 3e-6, "learning_rate_te1": 1e-6, "learning_rate_te2": 0.0}, {"train.text_encoder_rate": 1e-6, "optimizer.text_encoder_2_rate": 0.0}),
        ({"sdxl": True, "learning_rate_te1": 0.0, "learning_rate_te2": "2e-6"}, {"train.text_encoder_rate": 0.0, "optimizer.text_encoder_2_rate": 2e-6}),
        ({"sdxl": True, "learning_rate_te1": 0.0, "learning_rate_te2": 0.0}, {"train.text_encoder_rate": 0.0, "optimizer.text_encoder_2_rate": None}),
        ({"flux1_checkbox": True, "learning_rate_te": 3e-6, "fused_backward_pass": True}, {"train.text_encoder_rate": 0.0, "checkpoint.fused_backward": None}),
        ({"sd3_checkbox": True, "learning_rate_te1": 3e-6, "sd3_fused_backward_pass": True}, {"train.text_encoder_rate": 0.0, "checkpoint.fused_backward": True}),
        ({"learning_rate_te": 3e-6, "learning_rate_te1": 1e-6}, {"train.text_encoder_rate": 3e-6, "optimizer.text_encoder_2_rate": None}),
        ({"token_string": "zxc", "init_word": "cat", "num_vectors_per_token": 6, "template": "object template", "caption_dropout_rate": 0.1},
         {"embedding.num_vectors": 6, "embedding.initial_words": "cat", "embedding.templates": "subject", "train.text_encoder_rate": 1e-5, "captions.dropout": None}),
    ],
)  # fmt: skip
def test_files_for_whole_models_and_embeddings_are_read(tmp_path, data, expected):
    imported = read(tmp_path, {"optimizer": "Adafactor", "max_resolution": "512,512", "learning_rate": 1e-5, "epoch": 3, **data})
    values = dict(imported.values)
    assert {path: values.get(path) for path in expected} == expected
    assert not [line for line in imported.lines if line.outcome == "unknown"]


@pytest.mark.parametrize(
    ("more", "targets"),
    [
        ("", "full"),
        ('model_train_type = "sdxl-lora"', None),
        ('network_args_custom = ["preset=attn-mlp"]', "default"),
        ('model_train_type = "flux-lora"', None),
    ],
)
def test_lycoris_of_lora_scripts_trains_every_layer(tmp_path, more, targets):
    text = f'network_module = "lycoris.kohya"\nlycoris_algo = "lokr"\nlokr_factor = -1\nconv_dim = 4\nconv_alpha = 1\nunet_lr = "1e-4"\n{more}'
    assert dict(read(tmp_path, text).values).get("adapter.targets") == targets


def test_what_a_file_of_sd_scripts_does_not_say_is_as_there(tmp_path):
    values = dict(read(tmp_path, 'network_module = "networks.lora"\nlearning_rate = 1e-4\nmax_train_epochs = 2').values)
    told = ("train.optimizer", "train.schedule", "train.warmup_percent", "captions.max_tokens", "adapter.rank", "adapter.alpha")
    assert [values[path] for path in told] == ["adamw", "constant", 0.0, "75", 4, 1.0]


def test_captions_are_as_long_as_sd_scripts_makes_them(tmp_path):
    told = {
        length: dict(read(tmp_path, f'max_token_length = {length}\nunet_lr = "1e-4"').values).get("captions.max_tokens")
        for length in (75, 149, 150, 255, 300)
    }
    assert told == {75: "75", 149: "75", 150: "150", 255: "225", 300: None}


def test_captions_are_not_left_out_where_sd_scripts_trains_an_embedding(tmp_path):
    text = 'token_string = "zxc"\nlearning_rate = 1e-3\ncaption_dropout_rate = 0.1\ncaption_dropout_every_n_epochs = 2\nshuffle_caption = true'
    values = dict(read(tmp_path, text).values)
    assert values["captions.shuffle"] is True and values["embedding.num_vectors"] == 1
    assert not {"captions.dropout", "captions.dropout_every_epochs"} & set(values)


def test_fields_of_models_that_are_not_known_are_no_spelling_mistakes(tmp_path):
    text = 'model_train_type = "lumina-lora"\nunet_lr = "1e-4"\ngemma2 = "g"\ncfg_trunc = 0.25\nrenorm_cfg = 1\nsystem_prompt = "You are"'
    assert not [line for line in read(tmp_path, text).lines if line.outcome == "unknown"]


@pytest.mark.parametrize(
    ("name", "data", "program"),
    [
        ("a.json", {"__version": 10, "training_method": "LORA", "learning_rate": 3e-4, "epochs": 50}, "OneTrainer"),
        ("a.json", {"base_model_name": "x", "output_model_destination": "y", "learning_rate": 3e-4}, "OneTrainer"),
        ("a.json", {"job": "extension", "config": {"process": [{"train": {"lr": 1e-4}}]}}, "ai-toolkit"),
        ("a.json", {"--learning_rate": 1e-4, "--model_family": "sdxl"}, "SimpleTuner"),
        ("a.toml", 'epochs = 10\nmicro_batch_size_per_gpu = 1\n[optimizer]\ntype = "adamw"\nlr = 1e-4', "diffusion-pipe"),
        ("a.yaml", "job: extension", "ai-toolkit"),
    ],
)  # fmt: skip
def test_programs_that_mean_other_things_by_the_same_names_are_refused(tmp_path, name, data, program):
    with pytest.raises(AthanorError, match=f"{program}.*not read here"):
        read(tmp_path, data, name)


@pytest.mark.parametrize("changes", [{"base": "x"}, {"dataset": []}, {"kind": "scores"}, {"train": 3}, {"train": {"epochs": "many"}}])
def test_a_broken_job_is_refused_with_a_sentence(tmp_path, job, changes):
    write_job(tmp_path / "job.json", job)
    data = {**json.loads((tmp_path / "job.json").read_text(encoding="utf-8")), **changes}
    with pytest.raises(AthanorError):
        read(tmp_path, data, "job.json")


BASES = {
    family: BaseModel("base", family, "/x", "f", 512, 64, prediction="flow" if family in ("flux", "sd35") else "epsilon")
    for family in ("sd15", "sdxl", "flux", "sd35")
}


def any_settings(chance: random.Random, kind: type) -> object:
    """Half of the fields at any value of their ranges."""
    values: dict[str, object] = {}
    for item in dataclasses.fields(kind):  # type: ignore[arg-type]
        limits, wanted = item.metadata, value_type(kind, item.name)
        if not limits or chance.random() < 0.5 or "file" in item.name or item.name in ("token", "start_embedding", "embedding_sha256"):
            continue
        if limits["choices"]:
            values[item.name] = chance.choice(limits["choices"])
        elif wanted is bool:
            values[item.name] = chance.random() < 0.5
        elif wanted is str:
            values[item.name] = "dog: vectors=2" if item.name == "other_embeddings" else chance.choice(['a, "b"\n漢 \\ c', ""])
        else:
            values[item.name] = wanted(round(chance.uniform(limits["minimum"], min(limits["maximum"], 1000)), 4))
    return kind(**values)


SECTIONS = {item.name: type(item.default) for item in dataclasses.fields(TrainJob) if dataclasses.is_dataclass(item.default)}
_OF_OTHERS = {"lora": ("checkpoint", "embedding"), "embedding": ("adapter", "checkpoint"), "checkpoint": ("adapter", "embedding")}


def any_job(chance: random.Random, kind: str) -> TrainJob:
    sections = {name: any_settings(chance, each) for name, each in SECTIONS.items() if name not in _OF_OTHERS[kind]}
    return TrainJob("run", BASES["sd15"], Dataset(()), kind, **sections)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["lora", "embedding", "checkpoint"])
def test_any_job_imports_again_whole(tmp_path, kind):
    chance = random.Random(kind)
    for _ in range(25):
        job = any_job(chance, kind)
        write_job(tmp_path / "job.json", job)
        settings = read_parameters(tmp_path / "job.json").applied_to(Settings())
        assert {name: getattr(settings, name) for name in SECTIONS} == {name: getattr(job, name) for name in SECTIONS}


def test_the_embeddings_of_a_lora_are_imported_but_for_their_files(tmp_path, job):
    words = EmbeddingSettings(other_embeddings="dog: vectors=2", embedding_rate=2e-3, keep_norm=True)
    for told, kept in ((words.other_embeddings, words.other_embeddings), ("dog: file=/etc/passwd", "")):
        write_job(tmp_path / "job.json", dataclasses.replace(job, embedding=dataclasses.replace(words, other_embeddings=told)))
        imported = read_parameters(tmp_path / "job.json")
        assert imported.applied_to(Settings()).embedding == dataclasses.replace(words, other_embeddings=kept)
        assert ("a file must not name others; choose it in the training node" in imported.report()) == (not kept)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("flux", {"objective": ObjectiveSettings(timestep_sampling="logit_normal", logit_mean=0.5, logit_std=0.7)}),
        ("flux", {"objective": ObjectiveSettings(timestep_sampling="mode", mode_scale=1.0)}),
        ("flux", {"objective": ObjectiveSettings(timestep_sampling="shifted", shift=2.0, logit_std=1.2)}),
        ("flux", {"objective": ObjectiveSettings(timestep_sampling="uniform")}),
        ("sd35", {"objective": ObjectiveSettings(timestep_sampling="logit_normal", logit_mean=0.5)}),
        ("sd35", {"objective": ObjectiveSettings(timestep_sampling="shifted", shift=3.0)}),
        ("sd35", {"objective": ObjectiveSettings(timestep_sampling="uniform")}),
        ("sdxl", {"adapter": AdapterSettings(kind="loha", rank=8, alpha=4.0)}),
        ("sdxl", {"adapter": AdapterSettings(kind="dora", rank=8, alpha=4.0)}),
        ("sdxl", {"adapter": AdapterSettings(kind="lokr", rank=8, alpha=4.0, factor=4, conv_rank=4, conv_alpha=2.0)}),
    ],
)  # fmt: skip
def test_flows_and_other_kinds_are_exported_in_words_that_sd_scripts_knows(tmp_path, job, family, changes):
    job = dataclasses.replace(job, base=BASES[family], **changes)
    text, _ = sd_scripts_toml(job)
    objective = parse_toml(text, "x").get("objective", {})
    assert objective.get("timestep_sampling", "uniform") in ("sigma", "uniform", "sigmoid", "shift", "flux_shift")
    assert objective.get("weighting_scheme", "none") in ("logit_normal", "mode", "uniform", "none")
    settings = read(tmp_path, text).applied_to(Settings())
    assert (settings.objective, settings.adapter) == (job.objective, job.adapter)
    assert not effect_problems(dataclasses.replace(job, objective=settings.objective, captions=settings.captions))


@pytest.mark.parametrize(
    ("family", "train", "checkpoint"),
    [
        ("sd15", {"text_encoder_rate": 1e-6}, CheckpointSettings()),
        ("sd15", {"text_encoder_rate": 0.0}, CheckpointSettings(weights="bf16")),
        ("sdxl", {"text_encoder_rate": 1e-6}, CheckpointSettings()),
        ("sdxl", {"text_encoder_rate": 0.0}, CheckpointSettings(fused_backward=True)),
        ("flux", {"text_encoder_rate": 0.0}, CheckpointSettings()),
    ],
)
def test_whole_models_are_exported_and_imported_again(tmp_path, job, family, train, checkpoint):
    job = dataclasses.replace(job, kind="checkpoint", base=BASES[family], train=dataclasses.replace(job.train, **train), checkpoint=checkpoint)
    settings = read(tmp_path, sd_scripts_toml(job)[0]).applied_to(Settings())
    assert (settings.train.rate, settings.train.text_encoder_rate, settings.checkpoint) == (job.train.rate, job.train.text_encoder_rate, checkpoint)


@pytest.mark.parametrize("rates", [(3e-6, -1.0, 0.0), (3e-6, 2e-6, 1e-7), (0.0, 2e-6, 0.0), (0.0, -1.0, 1e-7), (0.0, -1.0, 0.0)])
def test_text_encoders_of_a_whole_sd35_go_out_and_come_back(tmp_path, job, rates):
    first, second, t5 = rates
    job = dataclasses.replace(
        job,
        kind="checkpoint",
        base=BASES["sd35"],
        adapter=AdapterSettings(),
        train=dataclasses.replace(job.train, text_encoder_rate=first),
        optimizer=dataclasses.replace(job.optimizer, text_encoder_2_rate=second, t5_rate=t5),
    )
    text, notes = sd_scripts_toml(job)
    assert not [note for note in notes if "text encoders" in note]
    settings = read(tmp_path, text).applied_to(Settings())
    assert settings.train.text_encoder_rate == first
    assert settings.optimizer.t5_rate == t5
    assert settings.optimizer.text_encoder_2_rate in ((second,) if second >= 0 else (-1.0, first))


def test_an_embedding_is_exported_for_its_own_script_and_75_tokens_by_saying_nothing(tmp_path, job):
    settings = EmbeddingSettings(token="zxc", num_vectors=3, initial_words="cat", templates="style")
    job = dataclasses.replace(job, kind="embedding", base=BASES["sdxl"], embedding=settings, captions=CaptionSettings(max_tokens="75", separator=";"))
    text, notes = sd_scripts_toml(job)
    assert "for sdxl_train_textual_inversion.py of" in text and "max_token_length" not in text and not notes
    imported = read(tmp_path, text).applied_to(Settings())
    assert dataclasses.replace(imported.embedding, token="zxc") == settings
    assert sd_scripts_toml(dataclasses.replace(job, base=BASES["flux"]))[1] == ("sd-scripts trains no embeddings for this model.",)


def test_garbage_in_any_field_is_told_and_breaks_nothing(tmp_path):
    chance, odd = (
        random.Random(7),
        ["", 0, -1, 3.5, "abc", True, [], {"a": 1}, 10**12, float("nan"), float("inf"), "a=1 betas=x weight_decay=(1,2)", "漢\n--n x"],
    )
    keys = [*GUI, "optimizer_args", "lr_warmup_steps", "lr_scheduler_num_cycles", "max_token_length", "sample_prompts", "max_train_steps", "conv_dim"]
    for _ in range(150):
        data = {**GUI, "optimizer": chance.choice(["Prodigy", "Adafactor", "AdamW"]), **{chance.choice(keys): chance.choice(odd) for _ in range(6)}}
        settings = read(tmp_path, {"LoRA_type": "Standard", **data}).applied_to(Settings())
        assert not [problem for name in SECTIONS for problem in range_problems(getattr(settings, name), name)]
    assert "text_encoder_lr" in {line.key for line in read(tmp_path, "unet_lr = 1e-4\ntext_encoder_lr = []").lines}


def test_rates_count_for_the_kind_that_the_file_was_made_for():
    lora, word, model, memory = ["adapter.rank", "train.rate"], ["embedding.num_vectors", "train.rate"], ["train.rate"], ["train.text_encoder_rate"]
    other = {kind: [rates_are_for_another_kind(kind, paths) for paths in (lora, word, model, memory)] for kind in _OF_OTHERS}
    assert other == {"lora": [False, True, False, False], "embedding": [True, False, True, True], "checkpoint": [True, True, False, False]}

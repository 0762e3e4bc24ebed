"""Files of kohya_ss, sd-scripts and lora-scripts: what becomes of every key."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from athanor.trainer.adapters.check import adapter_problems
from athanor.trainer.config import write_job
from athanor.trainer.errors import AthanorError
from athanor.trainer.formats.parameters import Imported, read_parameters, sd_scripts_toml
from athanor.trainer.formats.parameters.read import parse_toml
from athanor.trainer.settings import AdapterSettings, ObjectiveSettings, OptimizerSettings, PriorSettings, RunSettings, ScheduleSettings, Settings

_GUI_KEYS = """
pretrained_model_name_or_path vae train_data_dir reg_data_dir dataset_config output_dir output_name logging_dir training_comment save_model_as
save_precision mixed_precision full_fp16 full_bf16 fp8_base fp8_base_unet train_batch_size max_train_steps max_train_epochs save_every_n_epochs
save_every_n_steps save_last_n_epochs save_last_n_steps save_last_n_epochs_state save_last_n_steps_state save_state save_state_on_train_end resume
seed learning_rate unet_lr text_encoder_lr t5xxl_lr lr_scheduler lr_scheduler_args lr_scheduler_type lr_scheduler_num_cycles lr_scheduler_power
optimizer_args max_grad_norm network_dim network_alpha network_weights dim_from_weights network_dropout rank_dropout module_dropout conv_dim
conv_alpha block_dims block_alphas conv_block_dims conv_block_alphas down_lr_weight mid_lr_weight up_lr_weight block_lr_zero_threshold
scale_weight_norms factor bypass_mode dora_wd use_cp use_tucker use_scalar rank_dropout_scale constrain rescaled train_norm decompose_both
train_on_input unit loraplus_lr_ratio loraplus_unet_lr_ratio loraplus_text_encoder_lr_ratio enable_bucket min_bucket_reso max_bucket_reso
bucket_reso_steps bucket_no_upscale cache_latents cache_latents_to_disk skip_cache_check vae_batch_size keep_tokens shuffle_caption
caption_dropout_rate caption_dropout_every_n_epochs weighted_captions color_aug flip_aug random_crop masked_loss prior_loss_weight clip_skip
max_token_length min_snr_gamma debiased_estimation_loss noise_offset noise_offset_type noise_offset_random_strength adaptive_noise_scale
multires_noise_iterations multires_noise_discount ip_noise_gamma ip_noise_gamma_random_strength min_timestep max_timestep v_parameterization
scale_v_pred_loss_like_noise_pred v_pred_like_loss loss_type huber_c huber_schedule huber_scale gradient_checkpointing gradient_accumulation_steps
highvram lowvram max_data_loader_n_workers persistent_data_loader_workers log_with wandb_api_key wandb_run_name sample_every_n_steps
sample_every_n_epochs sample_sampler sample_prompts metadata_author metadata_title huggingface_repo_id huggingface_token ae clip_l t5xxl
t5xxl_max_token_length discrete_flow_shift model_prediction_type timestep_sampling guidance_scale apply_t5_attn_mask train_blocks split_qkv
train_t5xxl blocks_to_swap cpu_offload_checkpointing img_attn_dim txt_attn_dim img_mlp_dim txt_mlp_dim img_mod_dim txt_mod_dim single_dim in_dims
train_double_block_indices train_single_block_indices enable_all_linear clip_g sd3_clip_l sd3_t5xxl weighting_scheme logit_mean logit_std mode_scale
clip_l_dropout_rate clip_g_dropout_rate t5_dropout_rate num_processes num_machines multi_gpu gpu_ids dynamo_backend dynamo_mode
dynamo_use_fullgraph dynamo_use_dynamic optimizer max_resolution epoch lr_warmup lr_warmup_steps xformers LoRA_type LyCORIS_preset caption_extension
stop_text_encoder_training model_list sdxl_no_half_vae sdxl_cache_text_encoder_outputs flux1_cache_text_encoder_outputs sdxl flux1_checkbox
sd3_checkbox v2 additional_parameters lora_network_weights no_token_padding
"""

_LORA_SCRIPTS_KEYS = """
model_train_type lycoris_algo lokr_factor dropout dylora_unit network_args_custom optimizer_args_custom prodigy_d0 prodigy_d_coef
enable_block_weights enable_base_weight enable_preview positive_prompts negative_prompts sample_width sample_height sample_cfg sample_seed
sample_steps randomly_choice_prompt prompt_file ui_custom_params lr_restart_cycles
"""


def saved(folder: Path, name: str, text: str | dict) -> Path:
    path = folder / name
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path


def outcomes(imported: Imported) -> dict[str, str]:
    return {line.key: line.outcome for line in imported.lines}


def test_no_key_of_the_three_programs_is_unknown(tmp_path):
    numbers = {"optimizer_args": "weight_decay=0.1", "LoRA_type": "LyCORIS/LoKr", "additional_parameters": "", "network_args_custom": ["conv_dim=4"]}
    data = {key: numbers.get(key, 1) for key in _GUI_KEYS.split()}
    read = read_parameters(saved(tmp_path, "gui.json", data))
    assert not [line.key for line in read.lines if line.outcome == "unknown"]
    told = outcomes(read)
    assert (told["train_data_dir"], told["fp8_base"], told["blocks_to_swap"], told["seed"]) == ("elsewhere", "left out", "translated", "taken")
    names = {"ui_custom_params": "", "network_args_custom": ["conv_dim=4"], "optimizer_args_custom": ["eps=1e-6"]}
    toml = "\n".join(f"{key} = {json.dumps(names.get(key, 1))}" for key in _LORA_SCRIPTS_KEYS.split())
    read = read_parameters(saved(tmp_path, "scripts.toml", 'network_module = "lycoris.kohya"\n' + toml))
    assert not [line for line in read.lines if line.outcome == "unknown"]


def test_a_gui_file_becomes_the_settings_that_it_means(tmp_path):
    data = {
        "LoRA_type": "Standard",
        "optimizer": "Prodigy",
        "optimizer_args": "decouple=True weight_decay=0.01 d_coef=2 use_bias_correction=True betas=0.9,0.99",
        "learning_rate": 1.0,
        "unet_lr": 1.0,
        "text_encoder_lr": 0.0,
        "max_resolution": "1024,1024",
        "epoch": 12,
        "max_train_steps": 0,
        "lr_scheduler": "cosine",
        "lr_warmup": 10,
        "network_dim": 32,
        "network_alpha": 16,
        "conv_dim": 8,
        "min_snr_gamma": "5",
        "noise_offset": 0.05,
        "noise_offset_type": "Original",
        "multires_noise_iterations": 6,
        "mixed_precision": "bf16",
        "sample_prompts": "a cat --w 512 --h 768\n# no\na dog",
        "shuffle_caption": True,
        "keep_tokens": "1",
        "additional_parameters": "--zero_terminal_snr --caption_tag_dropout_rate=0.2 --block_dims 1 2",
        "weighted_captions": False,
        "clip_skip": 2,
        "a_new_key": 3,
    }
    imported = read_parameters(saved(tmp_path, "my lora 设置.json", data))
    settings = imported.applied_to(Settings())
    train, optimizer = settings.train, settings.optimizer
    assert (train.optimizer, train.rate, train.text_encoder_rate, train.epochs, train.weight_decay) == ("prodigy", 1.0, 0.0, 12, 0.01)
    assert (optimizer.kind, optimizer.d_coef, optimizer.beta2, optimizer.safeguard_warmup) == ("prodigy", 2.0, None, False)
    assert (train.schedule, train.warmup_percent, train.precision, settings.run.steps) == ("cosine", 10.0, "bf16", 0)
    assert settings.adapter == AdapterSettings(kind="lora", rank=32, alpha=16.0)
    assert (settings.objective.weighting, settings.objective.min_snr_gamma, settings.objective.multires_iterations) == ("min_snr", 5.0, 0)
    assert settings.objective.noise_offset == 0.05 and settings.objective.zero_terminal_snr == "on"
    assert (settings.captions.shuffle, settings.captions.keep_tokens, settings.captions.tag_dropout) == (True, 1, 0.2)
    assert settings.samples.lines == ("a cat --w 512 --h 768", "a dog")
    told = outcomes(imported)
    assert (
        told["a_new_key"] == "unknown"
        and told["clip_skip"] == "elsewhere"
        and told["max_resolution"] == "elsewhere"
        and told["block_dims"] == "left out"
    )
    assert "weighted_captions" not in told
    assert {"train.epochs", "adapter.rank", "samples.prompts"} <= set(settings.from_file) and "train.batch_size" not in settings.from_file
    report = imported.report()
    assert (
        "a_new_key = 3" in report
        and "clip_skip = 2: set clip skip in Load Base Model" in report
        and "epoch" not in report.split("Set in another node")[1]
    )


def test_rates_length_and_defaults_of_sd_scripts(tmp_path):
    text = """
    [network]
    network_module = "networks.lora"
    [rates]
    learning_rate = 2e-4
    text_encoder_lr = [5e-5, 1e-5]
    optimizer_type = "AdamW8bit"
    lr_warmup_steps = 0.1
    lr_scheduler = "cosine_with_restarts"
    mixed_precision = "no"
    save_every_n_steps = 100
    save_last_n_steps = 300
    """
    settings = read_parameters(saved(tmp_path, "a.toml", text)).applied_to(Settings())
    assert (settings.train.rate, settings.train.text_encoder_rate, settings.optimizer.text_encoder_2_rate) == (2e-4, 5e-5, 1e-5)
    assert (settings.adapter.rank, settings.adapter.alpha) == (4, 1.0), "sd-scripts' own defaults, not ours"
    assert (settings.run.steps, settings.run.keep_last, settings.run.save_every_steps) == (1600, 3, 100)
    assert settings.train.warmup_percent == 10 and settings.schedule == ScheduleSettings(kind="cosine_restarts", num_cycles=1)
    assert settings.train.precision == "fp32" and settings.train.weight_decay == 0.01
    only = read_parameters(saved(tmp_path, "b.toml", "network_train_unet_only = true\nlearning_rate = 1e-4\ntext_encoder_lr = 1e-5"))
    assert dict(only.values)["train.text_encoder_rate"] == 0.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('network_module = "networks.lora_flux"\ntext_encoder_lr = [5e-5, 1e-6]\nnetwork_args = ["train_t5xxl=True"]', (5e-5, -1.0, 1e-6)),
        ('network_module = "networks.lora_sd3"\ntext_encoder_lr = [5e-5, 4e-5, 1e-6]\nnetwork_args = ["train_t5xxl=True"]', (5e-5, 4e-5, 1e-6)),
        ('network_module = "networks.lora_flux"\nlearning_rate = 3e-5\nnetwork_args = ["train_t5xxl=True"]', (3e-5, -1.0, 3e-5)),
        ('network_module = "networks.lora_flux"\ntext_encoder_lr = 5e-5\nt5xxl_lr = 2e-6\ntrain_t5xxl = true', (5e-5, -1.0, 2e-6)),
        ('network_module = "networks.lora_flux"\ntext_encoder_lr = [5e-5, 1e-6]', (5e-5, -1.0, 0.0)),
        ('network_module = "networks.lora_flux"\nlearning_rate = 3e-5\nnetwork_train_unet_only = true\ntrain_t5xxl = true', (0.0, -1.0, 0.0)),
    ],
)
def test_t5_has_a_rate_of_its_own(tmp_path, text, expected):
    settings = read_parameters(saved(tmp_path, "a.toml", text)).applied_to(Settings())
    assert (settings.train.text_encoder_rate, settings.optimizer.text_encoder_2_rate, settings.optimizer.t5_rate) == expected


@pytest.mark.parametrize(
    ("text", "tokens", "dropouts"),
    [
        ('network_module = "networks.lora"\nmax_token_length = 150', "150", {}),
        ('network_module = "networks.lora"\nmax_token_length = "75"', "75", {}),
        ('network_module = "networks.lora_flux"\nmax_token_length = 75', "225", {}),
        ('network_module = "networks.lora_sd3"\nclip_l_dropout_rate = 0.464\nt5_dropout_rate = 0.3', "225", {"clip_l": 0.464, "t5": 0.3}),
    ],
)
def test_token_lengths_and_dropped_encoders_are_taken(tmp_path, text, tokens, dropouts):
    captions = read_parameters(saved(tmp_path, "a.toml", text)).applied_to(Settings()).captions
    assert captions.max_tokens == tokens and captions.encoder_dropouts == dropouts


def test_lora_scripts_with_rates_as_text_and_a_preview(tmp_path):
    text = """
    model_train_type = "sdxl-lora"
    unet_lr = "1e-4"
    text_encoder_lr = "1e-5"
    network_module = "lycoris.kohya"
    lycoris_algo = "lokr"
    lokr_factor = -1
    network_dim = 32
    network_alpha = 32
    dropout = 0.1
    optimizer_type = "Prodigy"
    prodigy_d_coef = "2.0"
    optimizer_args_custom = ["safeguard_warmup=True"]
    network_args_custom = ["decompose_both=True"]
    lr_scheduler = "cosine_with_restarts"
    lr_scheduler_num_cycles = 2
    max_train_epochs = 10
    enable_preview = true
    positive_prompts = "masterpiece, 1girl"
    negative_prompts = "bad"
    sample_width = 512
    sample_height = 768
    sample_cfg = 7
    sample_seed = 2333
    sample_steps = 24
    """
    settings = read_parameters(saved(tmp_path, "m.toml", text)).applied_to(Settings())
    windows = {"conv_rank": 32, "conv_alpha": 32.0}
    assert settings.adapter == AdapterSettings(kind="lokr", rank=32, alpha=32.0, factor=0, decompose_both=True, **windows), (
        "LyCORIS's LoKr has no dropout"
    )
    assert (settings.train.rate, settings.optimizer.d_coef, settings.optimizer.safeguard_warmup) == (1e-4, 2.0, None)
    assert settings.schedule.num_cycles == 2 and settings.train.epochs == 10
    assert settings.samples.prompts == "masterpiece, 1girl --n bad --w 512 --h 768 --l 7 --s 24 --d 2333"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("LyCORIS/LoHa", "loha"), ("Kohya LoCon", "locon"), ("LyCORIS/iA3", "ia3"), ("LyCORIS/LoCon", "locon"), ("Flux1", "lora"), ("LoRA-FA", "lora"),
        ("LyCORIS/GLoRA", None), ("Flux1 OFT", None), ("Kohya DyLoRA", None), ("LyCORIS/Native Fine-Tuning", None),
    ],
)  # fmt: skip
def test_every_type_of_the_gui_is_known_or_refused(tmp_path, kind, expected):
    imported = read_parameters(saved(tmp_path, "a.json", {"LoRA_type": kind, "network_dim": 8, "conv_dim": 4}))
    assert dict(imported.values).get("adapter.kind") == expected
    if expected is None:
        assert any(line.outcome == "left out" and "not known here" in line.sentence for line in imported.lines)


def test_a_value_out_of_range_or_of_no_sense_is_left_out_and_said(tmp_path):
    imported = read_parameters(saved(tmp_path, "a.toml", 'network_dim = 5000\nlearning_rate = "fast"\nseed = 3\nlr_scheduler = "piecewise_constant"'))
    assert dict(imported.values) == {"train.seed": 3, "train.warmup_percent": 0.0, "adapter.alpha": 1.0}
    sentences = {line.key: line.sentence for line in imported.lines if line.outcome == "left out"}
    assert sentences["network_dim"] == "5000 is outside of 1 to 1024." and "not a number" in sentences["learning_rate"]
    assert "piecewise_constant is not known" in sentences["lr_scheduler"]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.json", "{", "cannot be read as JSON"),
        ("a.toml", "a =", "cannot be read as TOML"),
        ("a.json", "[1]", "holds no settings"),
        ("a.toml", "[[datasets]]\nresolution = 1", "describes a dataset"),
        ("a.json", '{"x": 1}', "holds no setting that is known"),
    ],
)
def test_files_of_something_else_are_refused_with_a_sentence(tmp_path, name, text, sentence):
    with pytest.raises(AthanorError, match=sentence):
        read_parameters(saved(tmp_path, name, text))


def test_a_runs_own_job_imports_again_whole_but_for_paths(tmp_path, job):
    job = dataclasses.replace(
        job,
        adapter=dataclasses.replace(job.adapter, kind="locon", conv_rank=2, merge_files="/secret.safetensors"),
        optimizer=OptimizerSettings(accumulation=2),
        objective=ObjectiveSettings(weighting="min_snr"),
        run=RunSettings(steps=7, keep_last=2),
    )
    write_job(tmp_path / "job.json", job)
    settings = read_parameters(tmp_path / "job.json").applied_to(Settings())
    assert settings.adapter == dataclasses.replace(job.adapter, merge_files="")
    for section in ("train", "optimizer", "schedule", "objective", "captions", "data", "samples", "run", "performance"):
        assert getattr(settings, section) == getattr(job, section), section


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"adapter": AdapterSettings(kind="locon", rank=8, alpha=4.0, conv_rank=4, conv_alpha=1.0, rank_dropout=0.1, max_norm=1.0)},
        {"adapter": AdapterSettings(kind="loha", rank=8, alpha=4.0), "run": RunSettings(steps=500, save_every_steps=100)},
        {"adapter": AdapterSettings(kind="lokr", rank=8, alpha=4.0, factor=4, decompose_both=True, targets="attention")},
        {"objective": ObjectiveSettings(weighting="min_snr", min_snr_gamma=3.0, loss="huber", huber_c=0.2, noise_offset=0.1, max_timestep=900)},
        {"optimizer": OptimizerSettings(kind="adamw", beta1=0.8, accumulation=4), "schedule": ScheduleSettings(warmup_steps=2)},
    ],
)
def test_what_is_exported_imports_as_the_same(tmp_path, job, changes):
    job = dataclasses.replace(job, **changes)
    text, _ = sd_scripts_toml(job)
    assert parse_toml(text, "x")["training"]["output_name"] == "my run"
    settings = read_parameters(saved(tmp_path, "out.toml", text)).applied_to(Settings())
    assert (
        settings.adapter == job.adapter
        and settings.objective.loss == job.objective.loss
        and settings.objective == dataclasses.replace(job.objective, huber_schedule=settings.objective.huber_schedule)
    )
    assert (settings.train.rate, settings.train.text_encoder_rate, settings.train.seed) == (
        job.train.rate,
        job.train.text_encoder_rate,
        job.train.seed,
    )
    assert settings.optimizer == dataclasses.replace(job.optimizer, kind=settings.optimizer.kind)
    assert (settings.run.steps, settings.run.save_every_steps) == (job.run.steps, job.run.save_every_steps)
    assert settings.train.epochs == (10 if job.run.steps else job.train.epochs)


def test_what_sd_scripts_does_not_have_is_said_in_the_exported_file(job):
    job = dataclasses.replace(
        job,
        train=dataclasses.replace(job.train, schedule="rex"),
        optimizer=OptimizerSettings(ema_decay=0.9),
        run=RunSettings(patience=3),
        prior=PriorSettings(class_images=5, class_prompts="a cat", class_target="base", hold_weight=1.0, class_word="cat"),
    )
    text, notes = sd_scripts_toml(job)
    assert len(notes) == 6 and all(f"# {note}" in text for note in notes)
    assert "lr_scheduler" not in parse_toml(text, "x")["optimizer"]


def test_weights_in_8_bits_and_swapped_blocks_do_not_go_together(tmp_path):
    alone = read_parameters(saved(tmp_path, "a.toml", "fp8_base = true\nseed = 1"))
    assert dict(alone.values)["train.base_precision"] == "fp8"
    both = dict(read_parameters(saved(tmp_path, "b.toml", "fp8_base = true\nblocks_to_swap = 18")).values)
    assert both == {"performance.block_offload": True}


def test_a_gui_file_as_its_users_publish_it(tmp_path):
    """Quotes around optimizer arguments, fields of other types left filled or at nothing, and a LoKr of a rank larger than any layer."""
    path = saved(
        tmp_path,
        "lokr.json",
        {
            "LoRA_type": "LyCORIS/LoKr",
            "optimizer": "AdamW",
            "optimizer_args": '"weight_decay=0.1" "betas=0.9,0.99"',
            "network_dim": 100000,
            "network_alpha": 1,
            "conv_dim": 100000,
            "conv_alpha": 1,
            "factor": 6,
            "decompose_both": True,
            "learning_rate": 0.0001,
            "unet_lr": 0.0001,
            "text_encoder_lr": 0.0001,
            "max_train_steps": "113",
            "epoch": 1,
            "lr_warmup": 0,
            "max_resolution": "768,768",
            "module_dropout": 0,
            "network_dropout": 0,
            "rank_dropout": 0,
            "scale_weight_norms": 0,
            "min_snr_gamma": 0,
            "loraplus_lr_ratio": 0,
            "fp8_base": False,
            "no_token_padding": False,
            "use_wandb": False,
            "clip_skip": 2,
        },
    )
    imported = read_parameters(path)
    settings = imported.applied_to(Settings())
    assert settings.adapter.kind == "lokr" and settings.adapter.full_matrix and settings.adapter.factor == 6
    assert settings.adapter.conv_rank > 0, "the convolutions are trained, too"
    assert not settings.adapter.decompose_both and settings.adapter.conv_alpha == 0, "which whole factors have no use for"
    assert adapter_problems(settings.adapter) == []
    assert settings.train.weight_decay == 0.1 and settings.optimizer.beta2 == 0.99 and settings.run.steps == 113
    assert "adapter.rank" not in dict(imported.values) and settings.objective.weighting == ObjectiveSettings().weighting
    told = outcomes(imported)
    assert not {"unknown", "left out"} & set(told.values()), told
    assert told["clip_skip"] == "elsewhere"


@pytest.mark.parametrize("name", ["DAdaptAdam", "DAdaptLion", "prodigyplus.ProdigyPlusScheduleFree"])
def test_relatives_of_prodigy_keep_their_rate_of_one(tmp_path, name):
    """With a plain optimizer a rate of 1 would destroy the training."""
    path = saved(
        tmp_path, "d.json", {"LoRA_type": "Standard", "optimizer": name, "unet_lr": 1.0, "text_encoder_lr": 0.5, "optimizer_args": "decouple=True"}
    )
    imported = read_parameters(path)
    settings = imported.applied_to(Settings())
    assert settings.train.optimizer == "prodigy" and settings.train.rate == 1.0
    assert "nearest relative, takes its place" in imported.report()


def test_a_template_of_lora_scripts_that_is_about_buckets_alone_is_reported(tmp_path):
    path = saved(
        tmp_path, "t.toml", '[metadata]\nname = "中分辨率"\n\n[data]\nresolution = "768,768"\nenable_bucket = true\nmax_bucket_reso = 2048\n'
    )
    imported = read_parameters(path)
    assert imported.values == () and outcomes(imported)["resolution"] == "elsewhere" and "set it in Bucket" in imported.report()

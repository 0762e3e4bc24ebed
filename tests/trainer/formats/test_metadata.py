"""What a file tells of itself: for every family the names that sd-scripts writes, in a header that other programs read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from tiny_flow import make_flux_file, make_sd35_folder, make_sd35_large_split

from athanor.trainer.adapters import adapter
from athanor.trainer.adapters.base import LayerPlan
from athanor.trainer.bases import describe_base
from athanor.trainer.families import family
from athanor.trainer.formats.metadata import base_hashes, file_metadata
from athanor.trainer.settings import AdapterSettings, ObjectiveSettings
from athanor.trainer.trainees.lora import network_metadata
from athanor.trainer.types import Dataset


@pytest.mark.parametrize("make", [make_flux_file, make_sd35_large_split])
def test_rectified_flows_tell_of_their_times(make, tmp_path, job):
    made = make(tmp_path)
    base = describe_base(made.path, text_encoders=made.text_encoders, vae=made.vae)
    objective = ObjectiveSettings(timestep_sampling="shifted", shift=2.5, min_timestep=100) if base.family == "flux" else ObjectiveSettings()
    told = file_metadata(dataclasses.replace(job, base=base, objective=objective), family(base.family), 1, 4)
    assert all(isinstance(value, str) for value in told.values())
    assert told["ss_apply_t5_attn_mask"] == "False" and "modelspec.prediction_type" not in told
    if base.family == "flux":
        wanted = {
            "model_type": "flux",
            "model_prediction_type": "raw",
            "guidance_scale": "1.0",
            "timestep_sampling": "shift",
            "discrete_flow_shift": "2.5",
        }
        assert {key: told[f"ss_{key}"] for key in wanted} == wanted
        assert told["modelspec.timestep_range"] == "100,1000" and told["modelspec.architecture"] == "flux-1-dev/lora"
    else:
        assert (told["ss_weighting_scheme"], told["ss_base_model_version"]) == ("logit_normal", "5-large")
        assert told["ss_vae_name"] == "vae.safetensors" and "modelspec.timestep_range" not in told
    hashes = base_hashes(base)
    assert {len(hashes[key]) for key in hashes if "new" in key} == {64}
    assert ("ss_vae_hash" in hashes) == bool(made.vae)


def test_a_folder_of_a_transformer_has_hashes_too(tmp_path):
    made = make_sd35_folder(tmp_path)
    hashes = base_hashes(describe_base(made.path))
    assert len(hashes["ss_sd_model_hash"]) == 8 and len(hashes["ss_new_sd_model_hash"]) == 64


SD_SCRIPTS = """
    session_id output_name learning_rate text_encoder_lr unet_lr num_train_images num_validation_images num_reg_images num_batches_per_epoch
    num_epochs gradient_checkpointing gradient_accumulation_steps max_train_steps lr_warmup_steps lr_scheduler network_module network_dim
    network_alpha network_dropout mixed_precision full_fp16 v2 base_model_version clip_skip max_token_length cache_latents seed lowram
    noise_offset multires_noise_iterations multires_noise_discount adaptive_noise_scale zero_terminal_snr training_comment
    sd_scripts_commit_hash optimizer max_grad_norm caption_dropout_rate caption_dropout_every_n_epochs caption_tag_dropout_rate
    face_crop_aug_range prior_loss_weight min_snr_gamma scale_weight_norms ip_noise_gamma debiased_estimation noise_offset_random_strength
    ip_noise_gamma_random_strength loss_type huber_schedule huber_scale huber_c fp8_base fp8_base_unet validation_seed validation_split
    max_validation_steps validate_every_n_epochs validate_every_n_steps resize_interpolation datasets tag_frequency dataset_dirs
    batch_size_per_device total_batch_size resolution color_aug flip_aug random_crop shuffle_caption enable_bucket bucket_no_upscale
    min_bucket_reso max_bucket_reso keep_tokens reg_dataset_dirs bucket_info network_args sd_model_hash new_sd_model_hash sd_model_name steps epoch
"""
"""What train_network.py writes, its times of day apart: those come in when an epoch is saved under its final name."""
DATASET = "is_dreambooth batch_size_per_device num_train_images num_reg_images resolution enable_bucket min_bucket_reso max_bucket_reso tag_frequency bucket_info resize_interpolation subsets"
SUBSET = """
    img_count num_repeats color_aug flip_aug random_crop shuffle_caption keep_tokens keep_tokens_separator secondary_separator enable_wildcard
    caption_prefix caption_suffix resize_interpolation image_dir class_tokens is_reg
"""


def test_every_key_of_sd_scripts_is_there_and_its_lists_are_json(job):
    of_family, settings = family("sd15"), AdapterSettings()
    plans = [LayerPlan("a", 8, 4.0)]
    told = {**file_metadata(job, of_family, 1, 4), **network_metadata(settings, adapter("lora"), plans), **base_hashes(job.base)}
    assert {f"ss_{key}" for key in SD_SCRIPTS.split()} <= told.keys()
    assert all(isinstance(value, str) for value in told.values())
    (dataset,) = json.loads(told["ss_datasets"])
    assert set(DATASET.split()) <= dataset.keys() and all(set(SUBSET.split()) == subset.keys() for subset in dataset["subsets"])
    samples = job.dataset.with_role("train")
    assert sum(subset["img_count"] for subset in dataset["subsets"]) == len(samples)
    assert dataset["num_train_images"] == int(told["ss_num_train_images"]) == sum(sample.repeats for sample in samples)
    for key in ("dataset_dirs", "reg_dataset_dirs", "tag_frequency", "bucket_info", "network_args"):
        assert isinstance(json.loads(told[f"ss_{key}"]), dict)
    assert json.loads(told["ss_tag_frequency"]) == dataset["tag_frequency"] and json.loads(told["ss_bucket_info"]) == dataset["bucket_info"]
    for key in ("sai_model_spec", "architecture", "implementation", "title", "resolution", "description"):
        assert told[f"modelspec.{key}"]


def test_folders_of_one_name_are_told_apart(job):
    sample = job.dataset.with_role("train")[0]
    samples = tuple(
        dataclasses.replace(sample, path=str(Path("/") / parent / "cats" / f"{i}.png"), repeats=repeats)
        for parent, repeats, num in (("a", 1, 2), ("b", 5, 3))
        for i in range(num)
    )
    told = file_metadata(dataclasses.replace(job, dataset=Dataset(samples)), family("sd15"), 1, 4)
    assert json.loads(told["ss_dataset_dirs"]) == {"cats": {"n_repeats": 1, "img_count": 2}, "cats (2)": {"n_repeats": 5, "img_count": 3}}


def test_twenty_thousand_pictures_leave_the_header_below_a_mebibyte(job):
    """Each in a folder of its own, of another size, with tags of its own, in Chinese.

    A LoRA of the whole SDXL and its text encoders has 3,174 names of 180 bytes.
    """
    sample = job.dataset.with_role("train")[0]
    samples = tuple(
        dataclasses.replace(
            sample,
            path=str(Path("/") / f'{i}_ a "long" name of a 图片 concept' / f"{i}.png"),
            caption=", ".join(f'标签 "{i} {k}"' for k in range(8)),
            placement=dataclasses.replace(sample.placement, bucket_px=(512 + 8 * (i % 150), 512 + 8 * (i // 150))),
        )
        for i in range(20_000)
    )
    told = file_metadata(dataclasses.replace(job, dataset=Dataset(samples)), family("flux"), 1, 4)
    assert len(json.dumps(told, ensure_ascii=False).encode("utf-8")) < 350_000
    assert all(json.loads(told[key]) for key in ("ss_datasets", "ss_tag_frequency", "ss_bucket_info", "ss_dataset_dirs"))


def test_many_folders_of_many_tags_leave_the_header_small(job):
    samples = tuple(
        dataclasses.replace(
            job.dataset.trained[0],
            path=str(Path("/") / f"{n}_a rather long name of a concept" / "a.png"),
            caption=", ".join(f"some tag {n} {i}" for i in range(900)),
        )
        for n in range(80)
    )
    told = file_metadata(dataclasses.replace(job, dataset=Dataset(samples)), family("sd15"), 1, 4)
    size = len(json.dumps(told).encode("utf-8"))
    tags = json.loads(told["ss_tag_frequency"])
    assert size < 600_000 and len(tags) == 80 and all(tags.values())

"""What a file tells of itself: for every family the names that sd-scripts writes, in a header that other programs read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from tiny_flow import make_flux_file, make_sd35_folder, make_sd35_large_split

from athanor.trainer.bases import describe_base
from athanor.trainer.families import family
from athanor.trainer.formats.metadata import base_hashes, file_metadata
from athanor.trainer.settings import ObjectiveSettings
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

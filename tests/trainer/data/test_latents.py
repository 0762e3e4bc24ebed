"""What encoded images are kept under: the autoencoder that made them, however its file is written, and how the image is seen."""

from __future__ import annotations

from dataclasses import replace

import torch
from tiny_families import make_sdxl_file, make_sdxl_folder, vae_model

from athanor.trainer.bases import describe_base
from athanor.trainer.data.cache import TensorCache
from athanor.trainer.data.latents import latents_key, vae_fingerprint
from athanor.trainer.data.views import View
from athanor.trainer.families import family


def test_an_autoencoder_is_told_by_what_latents_depend_on():
    torch.manual_seed(0)
    vae = vae_model(0.5)
    told = vae_fingerprint(vae)
    assert told == vae_fingerprint(vae), "the same again"
    with torch.no_grad():
        vae.decoder.conv_in.weight += 1
    assert vae_fingerprint(vae) == told, "the decoder makes pictures, no latents"
    with torch.no_grad():
        vae.encoder.conv_in.weight += 1e-3
    changed = vae_fingerprint(vae)
    vae.register_to_config(scaling_factor=0.25)
    assert len({told, changed, vae_fingerprint(vae)}) == 3


def test_a_checkpoint_and_a_folder_of_the_same_model_share_their_latents(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").mkdir()
    sdxl = family("sdxl")
    told = [
        vae_fingerprint(sdxl.load_vae(describe_base(made.path)))
        for made in (make_sdxl_folder(tmp_path / "folder"), make_sdxl_file(tmp_path / "file"))
    ]
    assert told[0] == told[1]


def test_a_key_tells_apart_all_ways_in_which_an_image_is_seen(dataset):
    cache, sample = TensorCache(None), dataset.samples[0]
    view = View(sample)
    smaller = replace(sample, placement=replace(sample.placement, resized_px=(64, 64)))
    views = [view, view.mirrored(), View(smaller), replace(view, hue_shift=3), replace(view, gamma=1.1), replace(view, resize="area")]
    keys = {latents_key(vae, each, cache) for each in views for vae in ("one", "other")}
    assert len(keys) == 2 * len(views)

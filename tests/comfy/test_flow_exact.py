"""FLUX.1 and SD3.5 against ComfyUI's own modules: names, latents, text, velocity, and weights with a LoRA in them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import full_size
import pytest
import torch
from comfyui_flow_side import FLUX, NARROW, PROMPT, SD35_MEDIUM
from comfyui_server import find_comfyui
from safetensors.torch import load_file, save_file
from sides import run_side

from athanor.trainer.adapters import adapter
from athanor.trainer.adapters.attached import attach, export, trained
from athanor.trainer.adapters.plan import plan_layers
from athanor.trainer.bases import describe_base
from athanor.trainer.config import TrainJob
from athanor.trainer.families import family as family_named
from athanor.trainer.formats.native import Places, flux_places, sd3_places
from athanor.trainer.formats.spelling import spelt
from athanor.trainer.settings import AdapterSettings, EmbeddingSettings
from athanor.trainer.trainees.embedding import embedding_trainee
from athanor.trainer.types import Dataset

pytestmark = [pytest.mark.comfy, pytest.mark.skipif(find_comfyui() is None, reason="no ComfyUI")]
SIDE, RANK, CLOSE = "comfyui_flow_side.py", 4, 1e-5
ENCODERS = {"flux": ("clip_l", "t5xxl"), "sd35": ("clip_l", "clip_g", "t5xxl")}
COUNTS = {
    "flux dev": {"denoiser": 494, "text_encoder": 72, "text_encoder_2": 168},
    "flux schnell": {"denoiser": 494, "text_encoder": 72, "text_encoder_2": 168},
    "sd35 medium": {"denoiser": 24 * 14 - 3 + 13 * 4, "text_encoder": 72, "text_encoder_2": 192, "text_encoder_3": 168},
    "sd35 large": {"denoiser": 38 * 14 - 3, "text_encoder": 72, "text_encoder_2": 192, "text_encoder_3": 168},
}


@pytest.mark.parametrize("name", COUNTS)
def test_every_target_of_the_full_model_has_a_name_that_comfyui_knows(name: str, tmp_path: Path):
    run_side(SIDE, "keys", name, tmp_path / "keys.json")
    known = json.loads((tmp_path / "keys.json").read_text(encoding="utf-8"))
    family, used = family_named(name.split()[0]), set()
    for part, module in full_size.MAKERS[name]().items():
        targets = [key for key, each in module.named_modules() if re.fullmatch(family.adapter_targets(part), key)]
        assert len(targets) == COUNTS[name][part] == family.expected_targets(part, module)
        for key in targets:
            # The weight and, of a fused one, the rows.
            place = json.dumps(known[family.export_key(part, key)])
            assert place not in used, "no weight is changed twice"
            used.add(place)


WIDE = {
    "flux": {
        "family": "flux", "dtype": "bfloat16", "t5_tokens": 512, "denoiser": {**FLUX, "depth": 1, "depth_single_blocks": 1}, "t5xxl": {"num_layers": 1},
    },
    "sd35 medium": {
        "family": "sd35", "dtype": "bfloat16", "t5_tokens": 77,
        "denoiser": {
            **SD35_MEDIUM, "depth": 12, "num_patches": 4096, "pos_embed_max_size": 64, "x_block_self_attn_layers": list(range(7)),
            "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 768}},
        },
        "clip_l": {"num_hidden_layers": 12}, "clip_g": {"num_hidden_layers": 8}, "t5xxl": {"num_layers": 1},
    },
}  # fmt: skip
"""Small depth at the true widths. SD3's depth follows from its width (64 a block), so that half of medium's is half of both."""


@dataclass(frozen=True)
class Compared:
    ours: dict[str, torch.Tensor]
    theirs: dict[str, torch.Tensor]
    changed: dict[str, int]
    """Weights that the LoRA changes in ComfyUI."""
    variant: str

    def far(self, name: str) -> float:
        assert self.ours[name].shape == self.theirs[name].shape, name
        return far(self.ours[name], self.theirs[name])


def far(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).norm() / second.norm())


def places_of(layout: dict[str, Any]) -> Places:
    denoiser = layout["denoiser"]
    if layout["family"] == "flux":
        return flux_places(denoiser["depth"], denoiser["depth_single_blocks"], denoiser["guidance_embed"])
    return sd3_places(denoiser["depth"], denoiser["x_block_self_attn_layers"])


def merged(layer: torch.nn.Module) -> torch.Tensor:
    return (layer.base_layer.weight.float() + layer.get_delta_weight("default")).flatten(1)


def probed(weight: torch.Tensor) -> torch.Tensor:
    return weight @ torch.randn(weight.shape[1], generator=torch.Generator().manual_seed(weight.shape[1]))


def fused(layers: dict[str, torch.nn.Module], places: Places) -> dict[str, torch.Tensor]:
    """What each merged weight of the original layout makes of the probe."""
    rows: dict[str, list[tuple[int, torch.Tensor]]] = {}
    for name, layer in layers.items():
        place, made = places[name], probed(merged(layer))
        rows.setdefault(place.module, []).append((place.start, torch.cat(made.chunk(2)[::-1]) if place.swapped else made))
    return {
        f"merged.diffusion_model.{module}.weight": torch.cat([part for _, part in sorted(parts, key=lambda each: each[0])])
        for module, parts in rows.items()
    }


def compare(layout: dict[str, Any], folder: Path, names: str = "auto") -> Compared:
    """A LoRA on every part, its file and the checkpoint read by both."""
    layout_file, checkpoint, lora, inputs, out = (
        folder / name for name in ("layout.json", "all in one.safetensors", "lora.safetensors", "in.safetensors", "out.safetensors")
    )
    layout_file.write_text(json.dumps(layout), encoding="utf-8")
    run_side(SIDE, "checkpoint", layout_file, checkpoint)
    base, family, places = describe_base(checkpoint, (find_comfyui() / "comfy",)), family_named(layout["family"]), places_of(layout)
    assert base.family == layout["family"] and not family.missing_files(base)
    generator, kind, settings = torch.Generator().manual_seed(3), adapter("lora"), AdapterSettings(rank=RANK, alpha=2.0)
    width = layout["denoiser"].get("context_in_dim", 4096)
    given = {
        "latents": torch.randn(2, 16, 12, 8, generator=generator),
        "times": torch.tensor([0.37, 0.91]),
        "states": torch.randn(2, 24, width, generator=generator),
        "pooled": torch.randn(2, 768 if base.family == "flux" else 2048, generator=generator),
        "pixels": torch.rand(1, 3, 64, 32, generator=generator) * 2 - 1,
    }
    save_file(given, inputs)
    ours: dict[str, torch.Tensor] = {}
    tensors: dict[str, torch.Tensor] = {}

    def dress(part, module: torch.nn.Module) -> dict[str, torch.nn.Module]:
        layers = attach(kind, module, plan_layers(module, part, family.adapter_targets(part), settings), settings, 1)
        for (_, suffix), parameter in trained(kind, layers).items():
            if suffix == "lora_up.weight":
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
        held = {name: kind.tensors(layer) for name, layer in layers.items()}
        named = spelt(names, part, held, (name for name, _ in module.named_modules()))
        tensors.update(export(kind, layers, lambda name: family.export_key(part, name)) if named is None else named)
        return layers

    with torch.no_grad():
        ours["latents"] = family.encode_images(family.load_vae(base), given["pixels"])[0]
        text = family.load_text(base, torch.float32)
        told = family.frame(family.encode_text(text, [PROMPT], 1), [])
        ours |= {f"bare.{name}": value for name, value in told.items()}
        for (part, module), encoder in zip(text.parts().items(), ENCODERS[base.family], strict=True):
            for name, layer in dress(part, module).items():
                inner = name if encoder == "t5xxl" else "text_model." + name.removeprefix("text_model.")
                ours[f"merged.{encoder}.transformer.{inner}.weight"] = probed(merged(layer))
        ours |= {f"lora.{name}": value for name, value in family.frame(family.encode_text(text, [PROMPT], 1), []).items()}
        del text, module, layer
        denoiser = family.load_denoiser(base, torch.float32)
        told = {name: given[name] for name in ("states", "pooled")}
        ours["bare.velocity"] = family.predict(denoiser, given["latents"], given["times"], told)
        ours |= fused(dress("denoiser", denoiser), places)
        ours["lora.velocity"] = family.predict(denoiser, given["latents"], given["times"], told)
    del denoiser
    save_file({name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}, lora)
    changed = json.loads(run_side(SIDE, "compute", layout_file, checkpoint, lora, inputs, out))
    theirs = load_file(out)
    checkpoint.unlink()
    return Compared(ours, theirs, changed, base.variant)


def check(compared: Compared) -> None:
    assert compared.ours.keys() == compared.theirs.keys(), compared.ours.keys() ^ compared.theirs.keys()
    assert sum(compared.changed.values()) == sum(name.startswith("merged.") for name in compared.ours), "every weight of the LoRA's file is changed"
    worst = {name: compared.far(name) for name in compared.ours}
    assert max(worst.values()) < CLOSE, sorted(worst.items(), key=lambda each: -each[1])[:5]
    for name in ("velocity", "states", "pooled"):
        assert far(compared.theirs[f"lora.{name}"], compared.theirs[f"bare.{name}"]) > 1e-2, "the LoRA changes more than the tolerance by far"


@pytest.mark.parametrize("name", NARROW)
def test_a_narrow_model_computes_what_comfyui_computes_with_and_without_a_lora(name: str, tmp_path: Path):
    compared = compare(NARROW[name], tmp_path)
    assert compared.variant == {"flux": "dev", "sd35 medium": "medium", "sd35 large": "large"}[name]
    check(compared)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "names"), [("flux", "kohya"), ("sd35 medium", "kohya")])
def test_fused_files_change_comfyuis_weights_alike(name: str, names: str, tmp_path: Path):
    check(compare(NARROW[name], tmp_path, names))


@pytest.mark.slow
@pytest.mark.usefixtures("roomy")
@pytest.mark.parametrize("name", WIDE)
def test_a_shallow_model_of_the_true_widths_computes_what_comfyui_computes(name: str, tmp_path: Path):
    check(compare(WIDE[name], tmp_path))


CHOICES = {"all": "", "clip": "toy", "t5": ""}
"""Which encoders learn an embedding, and the words that the others read; of no words nothing."""


@pytest.mark.parametrize("name", ["flux", "sd35 medium"])
def test_the_text_node_reads_an_embedding_in_every_encoder_as_it_was_trained(name: str, tmp_path: Path):
    """Also where not every encoder learned it."""
    layout, layout_file, checkpoint = NARROW[name], tmp_path / "layout.json", tmp_path / "all in one.safetensors"
    layout_file.write_text(json.dumps(layout), encoding="utf-8")
    run_side(SIDE, "checkpoint", layout_file, checkpoint)
    base, family = describe_base(checkpoint, (find_comfyui() / "comfy",)), family_named(layout["family"])
    (tmp_path / "embeddings").mkdir()
    generator, prompts, ours, counts = torch.Generator().manual_seed(5), [], [], []
    for encoders, words in CHOICES.items():
        text = family.load_text(base, torch.float32)
        settings = EmbeddingSettings(token=f"thing-{encoders}", num_vectors=3, initial_words=words, encoders=encoders)
        trainee = embedding_trainee(TrainJob("thing", base, Dataset(()), kind="embedding", embedding=settings), family, text)
        prompts.append(f"a photo of embedding:thing-{encoders}, on the moon")
        with torch.no_grad():
            bare = family.frame(family.encode_text(text, ["a photo of, on the moon"], 1), [])
            for vectors in trainee.parameters().values():
                vectors.copy_(torch.randn(vectors.shape, generator=generator) * 0.3)
            ours.append(family.frame(family.encode_text(text, [trainee.prompt(prompts[-1])], 1), []))
        assert far(ours[-1]["states"], bare["states"]) > 1e-2 and (encoders == "t5" or far(ours[-1]["pooled"], bare["pooled"]) > 1e-2)
        exported = trainee.export()
        assert exported.keys() == {"clip_l", "t5xxl", *(("clip_g",) if base.family == "sd35" else ())}
        counts.append({key: len(rows) for key, rows in exported.items()})
        save_file(exported, tmp_path / "embeddings" / f"thing-{encoders}.safetensors")
    assert [(each["clip_l"], each["t5xxl"]) for each in counts] == [(3, 3), (3, 2), (0, 3)]
    (tmp_path / "prompts.txt").write_text("\n".join(prompts), encoding="utf-8")
    run_side(SIDE, "word", layout_file, checkpoint, tmp_path / "embeddings", tmp_path / "prompts.txt", tmp_path / "out.safetensors")
    theirs = load_file(tmp_path / "out.safetensors")
    checkpoint.unlink()
    for i, made in enumerate(ours):
        for part in ("states", "pooled"):
            assert far(made[part], theirs[f"{i}.{part}"]) < CLOSE, (prompts[i], part)

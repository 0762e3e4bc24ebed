"""What `weights_in` tells of a file are the weights that the family loads from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_families import MAKERS
from tiny_flow import FLOW_MAKERS

from athanor.trainer.bases import describe_base
from athanor.trainer.families import family
from athanor.trainer.formats.header import read_header

FILES = {key: maker for key, maker in {**MAKERS, **FLOW_MAKERS}.items() if key[1] in ("file", "split", "large split")}


@pytest.mark.parametrize("key", FILES, ids=" ".join)
def test_every_linear_layer_and_convolution_is_found_where_it_is(tmp_path: Path, key: tuple[str, str]):
    made, of_family = FILES[key](tmp_path), family(key[0])
    base = describe_base(made.path, (), made.text_encoders, made.vae)
    loaded = {"denoiser": of_family.load_denoiser(base, torch.float32), **of_family.load_text(base, torch.float32).parts()}
    seen = dict.fromkeys(loaded, 0)
    for path in (made.path, *made.text_encoders):
        tensors = load_file(path)
        for part, places in of_family.weights_in(read_header(path)).items():
            seen[part] += len(places)
            for module, (name, place) in places.items():
                layer = loaded[part].get_submodule(module if hasattr(loaded[part], "text_model") else module.removeprefix("text_model."))
                weight = place.rows(tensors[name]).float()
                assert torch.equal(weight.reshape(layer.weight.shape), layer.weight), (part, module)
    for part, module in loaded.items():
        if part == "denoiser":
            assert seen[part] == sum(hasattr(layer, "weight") and layer.weight is not None for layer in module.modules())
        else:
            assert seen[part] == of_family.expected_targets(part, module) or ("T5" in type(module).__name__ and seen[part] == 14)


@pytest.mark.parametrize("key", FILES, ids=" ".join)
def test_a_model_is_saved_where_its_weights_are_found(tmp_path: Path, key: tuple[str, str]):
    """`saved_parts` and `weights_in` tell the same of every module of a part that is kept as the model's authors do."""
    made, of_family = FILES[key](tmp_path), family(key[0])
    saved = {part.part: part for part in of_family.saved_parts(describe_base(made.path, (), made.text_encoders, made.vae))}
    for path in (made.path, *made.text_encoders):
        for part, places in of_family.weights_in(read_header(path)).items():
            source = saved[part].open()
            for module, (name, place) in places.items() if saved[part].is_native(source) else ():
                native = saved[part].native(f"{module}.weight")
                assert native is not None and native.place.rows(ROWS).equal(place.rows(ROWS)), (part, module)
                assert any(each in source.names and name.endswith(each) for each in native.names), (part, module, native.names)


ROWS = torch.arange(84)

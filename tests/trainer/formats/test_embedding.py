"""Embeddings of A1111, diffusers, sd-scripts and ComfyUI are read; anything else is refused without running it."""

from __future__ import annotations

import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from athanor.trainer.errors import AthanorError
from athanor.trainer.formats.embedding import as_safetensors, is_embedding, num_vectors_of, read_vectors, vectors_for
from athanor.trainer.formats.header import read_header

L, G = torch.randn(3, 8), torch.randn(3, 12)
SD15, SDXL = {"emb_params": 8}, {"clip_l": 8, "clip_g": 12}


def a1111(parameters):
    return {"string_to_token": {"*": 265}, "string_to_param": parameters, "name": "thing", "step": 499, "sd_checkpoint": None}


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("a1111.pt", a1111({"*": L})),
        ("a1111 old.pt", a1111(torch.nn.ParameterDict({"*": torch.nn.Parameter(L)}))),
        ("learned_embeds.bin", {"<thing>": L}),
        ("tokens.bin", {"<thing>": L[0], "<thing>_2": L[2], "<thing>_1": L[1]}),
        ("kohya.pt", {"emb_params": L}),
        ("kohya.safetensors", {"emb_params": L.half()}),
        ("named.safetensors", {"clip_l": L}),
        ("tokens.safetensors", {"<thing>": L}),
    ],
)
def test_every_form_of_one_encoder_gives_the_same_vectors(tmp_path, name, held):
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file(held, path)
    else:
        torch.save(held, path)
    found = vectors_for(SD15, read_vectors(path), name)
    assert found.keys() == SD15.keys() and torch.allclose(found["emb_params"], L, atol=2e-3) and found["emb_params"].dtype == torch.float32
    assert num_vectors_of(path) == 3


@pytest.mark.parametrize(
    ("held", "widths"),
    [
        ({"clip_l": L, "clip_g": G}, SDXL),
        ([{"<thing>": L}, {"<thing>": G}], SDXL),
        ({"clip_l": L, "t5": G}, {"clip_l": 8, "t5xxl": 12}),
    ],
)
def test_several_encoders_each_get_their_own(tmp_path, held, widths):
    path = tmp_path / "thing.pt"
    torch.save(held, path)
    assert [torch.equal(found, wanted) for found, wanted in zip(vectors_for(widths, read_vectors(path), "x").values(), (L, G), strict=True)] == [
        True,
        True,
    ]


def test_an_old_file_of_the_first_format_is_read(tmp_path):
    torch.save(a1111({"*": L}), tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(read_vectors(tmp_path / "legacy.pt")["*"], L)


class Evil:
    def __reduce__(self):
        return (print, ("run",))


def test_what_is_no_embedding_is_refused_and_nothing_in_it_runs(tmp_path, capsys):
    with (tmp_path / "evil.pt").open("wb") as file:
        pickle.dump(Evil(), file)
    torch.save(a1111({"*": Evil()}), tmp_path / "hidden.pt")
    save_file({"lora_unet_x.lora_up.weight": L}, tmp_path / "lora.safetensors")
    save_file({"conv.weight": torch.zeros(1, 1, 3, 3)}, tmp_path / "model.safetensors")
    (tmp_path / "notes.txt").write_text("no", encoding="utf-8")
    for name, what in (
        ("evil.pt", "cannot be read as an embedding without running"),
        ("hidden.pt", "cannot be read as an embedding without running"),
        ("lora.safetensors", "is no embedding"),
        ("model.safetensors", "is no embedding"),
        ("notes.txt", "those end in"),
    ):
        with pytest.raises(AthanorError, match=what):
            read_vectors(tmp_path / name)
    assert capsys.readouterr().out == ""


def test_a_file_of_several_embeddings_is_told_as_a1111_does(tmp_path):
    """One behind the other they would be a word that nobody has trained."""
    torch.save(a1111({"*": L, "other": L[:1]}), tmp_path / "two.pt")
    with pytest.raises(AthanorError, match=r"two\.pt holds 2 embeddings \(\*, other\) in one file"):
        read_vectors(tmp_path / "two.pt")


def test_an_embedding_for_another_family_is_told():
    with pytest.raises(AthanorError, match=r"old\.pt has no vectors clip_g of width 12.*it has \* of width 8.*another family"):
        vectors_for(SDXL, {"*": L}, "old.pt")
    with pytest.raises(AthanorError, match=r"has no vectors emb_params of width 8.*clip_l of width 12"):
        vectors_for(SD15, {"clip_l": G}, "x")


def test_each_encoder_may_have_another_number_of_vectors():
    found = vectors_for(SDXL, {"clip_l": L, "clip_g": G[:2]}, "x")
    assert (len(found["clip_l"]), len(found["clip_g"])) == (3, 2)


def test_a_pickle_becomes_a_file_that_tells_its_step_once(tmp_path):
    path = tmp_path / "thing-500.pt"
    torch.save(a1111({"*": L}), path)
    made = as_safetensors(path, tmp_path / "made")
    assert made.name == "thing-500.safetensors" and torch.equal(load_file(made)["*"], L)
    header = read_header(made)
    assert (header.metadata["ss_output_name"], header.metadata["ss_steps"]) == ("thing", "499") and is_embedding(header)
    before = made.stat().st_mtime_ns
    assert as_safetensors(path, tmp_path / "made") == made and made.stat().st_mtime_ns == before
    save_file({"unet.x.lora.up.weight": L}, tmp_path / "lora.safetensors")
    assert not is_embedding(read_header(tmp_path / "lora.safetensors"))

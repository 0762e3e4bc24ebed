from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from athanor.trainer.data.cache_folder import set_size_limit
from athanor.trainer.errors import AthanorError
from athanor.trainer.formats.header import read_header
from athanor.trainer.merging.blocks import BlockWeights
from athanor.trainer.merging.files import merge_epochs
from athanor.trainer.merging.recipe import choose, weighted
from athanor.trainer.merging.resize import Limit
from athanor.trainer.runs.promote import pick_epochs, promote
from athanor.trainer.runs.run import Run, open_loaded

LAYER = "lora_unet_mid_block_attentions_0_to_q"


@pytest.fixture
def run(tmp_path) -> Run:
    """Of four epochs, in a folder whose name no shell likes."""
    folder, files = tmp_path / "my 狐 loras", []
    folder.mkdir()
    for number in (1, 2, 3, 5):
        draw = torch.Generator().manual_seed(number)
        tensors = {f"{LAYER}.lora_up.weight": torch.randn(8, 2, generator=draw), f"{LAYER}.lora_down.weight": torch.randn(2, 6, generator=draw)}
        path = folder / f"fox-{number:06d}.safetensors"
        save_file(tensors, path, {"ss_sd_model_name": "base.safetensors", "sshs_model_hash": "old", "modelspec.title": f"fox {number}"})
        files.append((number, path))
    return open_loaded(tmp_path / "output", "fox", "epoch", files, "lora")


def numbers(chosen) -> list[tuple[int, float]]:
    return [(epoch.number, weight) for epoch, weight in chosen]


def test_epochs_and_weights_are_read(run):
    assert numbers(choose(run, "last 3")) == [(2, 1.0), (3, 1.0), (5, 1.0)]
    assert numbers(choose(run, "2*0.3, 5 * -1.5,1")) == [(2, 0.3), (5, -1.5), (1, 1.0)]
    assert numbers(choose(run, "all")) == [(1, 1.0), (2, 1.0), (3, 1.0), (5, 1.0)]
    assert numbers(choose(run, "last")) == [(5, 1.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("last 7", "'last 7' of fox cannot be taken, since it saved 4"),
        ("last 0", "'last 0'"),
        ("2, 2*0.5", "2 is named twice"),
        ("4", "4 was not saved by fox; saved are 1, 2, 3, 5"),
        ("2*much", "'2\\*much' is not understood"),
        ("", "not understood"),
        ("1,,2", "not understood"),
    ],
)
def test_what_is_not_understood_is_told(run, text, message):
    with pytest.raises(AthanorError, match=message):
        choose(run, text)


def test_methods(run):
    first, second = choose(run, "1, 2*3"), choose(run, "5")
    assert numbers(weighted("average", first, ())) == [(1, 0.25), (2, 0.75)]
    assert numbers(weighted("average", first, second)) == [(1, 0.2), (2, 0.6), (5, 0.2)]
    assert numbers(weighted("sum", first, second)) == [(1, 1.0), (2, 3.0), (5, 1.0)]
    assert numbers(weighted("difference", first, second)) == [(1, 1.0), (2, 3.0), (5, -1.0)]
    with pytest.raises(AthanorError, match="needs a second run"):
        weighted("difference", first, ())
    with pytest.raises(AthanorError, match="add up to 0"):
        weighted("average", choose(run, "1*1, 2*-1"), ())


def change(path) -> torch.Tensor:
    tensors = load_file(path)
    up, down = tensors[f"{LAYER}.lora_up.weight"].float(), tensors[f"{LAYER}.lora_down.weight"].float()
    alpha = tensors.get(f"{LAYER}.alpha")
    return (1.0 if alpha is None else float(alpha) / down.shape[0]) * up @ down


def test_a_merge_is_a_run_of_one_epoch_that_says_what_it_is_made_of(run, tmp_path):
    chosen = weighted("average", choose(run, "last 3"), ())
    result = merge_epochs(tmp_path / "output", "fox 平均", "lora", chosen, BlockWeights(), Limit(), "fp32")
    (epoch,) = result.run.epochs()
    assert torch.allclose(change(epoch.path), sum(change(each.path) for each, _ in chosen) / 3, atol=1e-5)
    metadata = read_header(epoch.path).metadata
    assert metadata["ss_sd_model_name"] == "base.safetensors" and metadata["ss_network_dim"] == "6"
    assert metadata["modelspec.merged_from"] == "fox 2, fox 3, fox 5" and metadata["sshs_model_hash"] != "old"
    assert [name for name, _, _ in json.loads(metadata["athanor_merged_from"])] == [each.path.name for each, _ in chosen]
    assert result.report.splitlines()[-1] == "rank 6, an exact sum" and "+0.3333 × fox-000002.safetensors" in result.report
    again = merge_epochs(tmp_path / "output", "fox 平均", "lora", chosen, BlockWeights(), Limit(), "fp32")
    assert again.run.epochs() == (epoch,) and again.report == result.report
    smaller = merge_epochs(tmp_path / "output", "fox 平均", "lora", chosen, BlockWeights(), Limit(rank=2), "fp16")
    assert smaller.run.epochs()[0].path != epoch.path and "keeps at least" in smaller.report
    (saved,) = promote(result.run, pick_epochs(result.run, "last"), tmp_path / "loras", "")
    assert saved.name == "fox 平均.safetensors"


def test_nothing_is_written_where_they_cannot_be_merged(run, tmp_path):
    vectors = tmp_path / "word.safetensors"
    save_file({"clip_l": torch.ones(2, 4)}, vectors)
    words = open_loaded(tmp_path / "output", "word", "epoch", [(1, vectors)], "embedding")
    with pytest.raises(AthanorError, match="mean nothing for embeddings"):
        merge_epochs(tmp_path / "output", "word", "embedding", choose(words, "all"), BlockWeights(), Limit(rank=4), "fp32")
    assert not (tmp_path / "output" / ".merged").exists()
    merged = merge_epochs(tmp_path / "output", "word", "embedding", choose(words, "1*2"), BlockWeights(), Limit(), "fp32").run
    assert torch.equal(load_file(merged.epochs()[0].path)["clip_l"], torch.full((2, 4), 2.0)) and merged.token() == "word"


def test_a_merged_locon_tells_the_rank_of_its_convolutions_and_what_was_not_used_goes(run, tmp_path):
    conv, files = "lora_unet_mid_block_resnets_0_conv1", []
    for number in (1, 2):
        draw = torch.Generator().manual_seed(number)
        tensors = {f"{LAYER}.lora_up.weight": torch.randn(8, 2, generator=draw), f"{LAYER}.lora_down.weight": torch.randn(2, 6, generator=draw)}
        tensors |= {
            f"{conv}.lora_up.weight": torch.randn(8, 3, 1, 1, generator=draw),
            f"{conv}.lora_down.weight": torch.randn(3, 6, 3, 3, generator=draw),
        }
        save_file(tensors, tmp_path / f"{number}.safetensors")
        files.append((number, tmp_path / f"{number}.safetensors"))
    locon, root = open_loaded(tmp_path / "output", "locon", "epoch", files, "lora"), tmp_path / "output"
    (epoch,) = merge_epochs(root, "both", "lora", choose(locon, "all"), BlockWeights(), Limit(), "fp32").run.epochs()
    metadata = read_header(epoch.path).metadata
    assert metadata["ss_network_dim"] == "4" and json.loads(metadata["ss_network_args"]) == {"conv_dim": "6", "conv_alpha": "6"}
    set_size_limit(root / ".merged", 0)
    os.utime(epoch.path, (1, 1))
    other = merge_epochs(root, "one", "lora", choose(locon, "1"), BlockWeights(), Limit(), "fp32").run.epochs()[0]
    assert other.path.is_file() and not epoch.path.is_file()

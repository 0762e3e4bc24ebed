from __future__ import annotations

import os

import torch
from safetensors.torch import load_file, save_file
from tiny_families import MAKERS

from athanor.trainer.cli import main
from athanor.trainer.data.cache_folder import MERGED, size_limit_bytes


def test_a_lora_comes_out_of_two_models_and_goes_into_one(tmp_path, capsys):
    base = MAKERS["sd15", "file"](tmp_path / "base").path
    tensors = load_file(base)
    key = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight"
    save_file({**tensors, key: tensors[key] + 0.25}, tmp_path / "trained.safetensors")
    lora, out = tmp_path / "loras" / "it.safetensors", tmp_path / "out" / "merged.safetensors"
    assert (
        main(
            ["extract", str(base), str(tmp_path / "trained.safetensors"), "--to", str(lora), "--rank", "1", "--precision", "fp32", "--device", "cpu"]
        )
        == 0
    )
    assert "model: 100.00 % of the difference's energy, 1 layers of rank 1" in capsys.readouterr().out
    assert main(["merge", f"{lora}:2", "--into", str(base), "--to", str(out)]) == 0
    assert f"{out}" in capsys.readouterr().out
    assert float((load_file(out)[key] - tensors[key] - 0.5).abs().max()) < 1e-5
    assert main(["extract", str(base), str(base), "--to", str(lora)]) == 2 and "There is a file" in capsys.readouterr().err
    assert main(["merge", str(lora), "--into", str(base), "--to", "x.ckpt"]) == 2 and "ends in .safetensors" in capsys.readouterr().err


def test_merges_have_a_limit_and_are_cleaned_away(tmp_path, capsys):
    assert main(["cache", "--merges", "--output", str(tmp_path)]) == 2 and "There are no merges" in capsys.readouterr().err
    folder = tmp_path / MERGED
    folder.mkdir()
    old = folder / "x-0123.safetensors"
    save_file({"a": torch.ones(4)}, old)
    os.utime(old, (1, 1))
    assert main(["cache", "--merges", "--output", str(tmp_path), "--limit", "2"]) == 0 and old.is_file()
    assert size_limit_bytes(folder) == 2 << 30
    assert main(["cache", "--merges", "--output", str(tmp_path), "--clean"]) == 0 and not old.is_file()

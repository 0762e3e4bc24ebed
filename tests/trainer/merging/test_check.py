from __future__ import annotations

import torch
from safetensors.torch import save_file

from athanor.trainer.merging.check import merge_problems


def lora(path, layer: str, rows: int, columns: int):
    save_file({f"{layer}.lora_up.weight": torch.ones(rows, 2), f"{layer}.lora_down.weight": torch.ones(2, columns)}, path)
    return path


def test_families_that_differ_are_all_told_with_their_names(tmp_path):
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    files = [lora(tmp_path / f"{name}.safetensors", layer, 320, width) for name, width in (("a", 768), ("b", 2048), ("c", 768), ("d", 1024))]
    assert merge_problems(files) == [
        "a.safetensors was made for SD1.5 and b.safetensors for SDXL; merge files of one family of models.",
        "a.safetensors was made for SD1.5 and d.safetensors for SD2; merge files of one family of models.",
    ]
    assert merge_problems([files[0], files[2]]) == []


def test_sizes_that_differ_are_told_across_spellings(tmp_path):
    files = [
        lora(tmp_path / "a.safetensors", "lora_unet_mid_block_x", 8, 6),
        lora(tmp_path / "b.safetensors", "unet.mid_block.x", 8, 6),
        lora(tmp_path / "c.safetensors", "lora_unet_mid_block_x", 8, 7),
    ]
    assert merge_problems(files[:2]) == []
    (told,) = merge_problems(files)
    assert told.startswith("The layer mid_block_x is (8, 6) in a.safetensors and (8, 7) in c.safetensors; merge files")


def test_the_window_of_tuckers_form_is_in_its_core(tmp_path):
    layer = "lora_unet_mid_block_x"
    save_file(
        {
            f"{layer}.lora_up.weight": torch.ones(8, 2, 1, 1),
            f"{layer}.lora_mid.weight": torch.ones(2, 2, 3, 3),
            f"{layer}.lora_down.weight": torch.ones(2, 6, 1, 1),
        },
        tmp_path / "tucker.safetensors",
    )
    plain = lora(tmp_path / "plain.safetensors", layer, 8, 54)
    assert merge_problems([tmp_path / "tucker.safetensors", plain]) == []

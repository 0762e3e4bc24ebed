"""Cells of XY Plot Compare against pictures of the stock nodes, for every family, in small models of ComfyUI's own classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from comfyui_server import find_comfyui
from sides import run_side

pytestmark = [pytest.mark.comfy, pytest.mark.skipif(find_comfyui() is None, reason="no ComfyUI")]
FAMILIES = ("sd15", "sdxl", "sd35", "flux")
NUM_PICTURES = {"sd15": 13, "sdxl": 13, "sd35": 13, "flux": 15}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("compared")
    return json.loads(run_side("comfyui_compare_side.py", folder, *FAMILIES))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_cell_is_the_stock_nodes_picture_to_the_pixel(told, family):
    """With strengths of their own for model and text, without guidance, by other samplers and schedules, and on wires that wear a LoRA already."""
    assert told[family]["different"] == [] and len(told[family]["alike"]) == NUM_PICTURES[family]
    assert told[family]["changes"], "no two cells are the same picture"


@pytest.mark.parametrize("family", FAMILIES)
def test_each_epoch_is_put_on_once_and_each_prompt_encoded_once(told, family):
    by_strengths, by_sampler = told[family]["counts"][:2]
    # Two prompts: of the base alone, which also serve where the text encoders have no strength, and of each of two epochs.
    assert by_strengths == {"files put on": 2, "encodings": 2 * (1 + 2)}
    assert by_sampler == {"files put on": 1, "encodings": 2}


def test_a_cancel_and_cells_that_fail_keep_the_others_and_a_rerun_draws_only_what_is_missing(told):
    """The base alone and two epochs with two seeds: six pictures."""
    found = told["sd15"]["breaks"]
    assert found["cancel was raised"]
    assert found["cancel"] == {"painted": 3, "new": 2, "kept": True, "failed": [], "grid": True}
    failed = found["fail"]
    assert (failed["painted"], failed["new"], failed["kept"], failed["grid"], found["fail cells"]) == (4, 1, True, True, 3)
    out_of_memory, *damaged = sorted(failed["failed"], key=lambda reason: "safetensors" in reason)
    assert out_of_memory == "CUDA out of memory. Tried to allocate 2 GiB" and found["freed"] == 1, "the others get the memory"
    assert len(damaged) == 2 and all("sd15-000002.safetensors is not a whole safetensors file" in reason for reason in damaged)
    assert found["mend"] == {"painted": 3, "new": 3, "kept": True, "failed": [], "grid": True}
    assert found["mend cells"] == 6


def test_pictures_of_a_file_that_has_become_another_one_are_drawn_anew(told):
    assert told["sd15"]["told apart"] == [True, True]


def test_a_batch_that_would_fill_the_memory_is_made_smaller(told):
    """The second picture is narrower and stands in the middle of black."""
    assert told["sd15"]["batches"] == [[2, 30, 40, 3], True, [2, 15, 20, 3], True]

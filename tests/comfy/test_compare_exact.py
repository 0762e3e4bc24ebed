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

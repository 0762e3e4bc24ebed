"""Pages with the tag editor's node in the graph, on a server that has its pictures and its lexicon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from comfyui_server import ComfyUI
from editor_page import BUILD, FOLDER, EditorPage, make_pictures


@pytest.fixture(scope="session")
def server(comfyui: ComfyUI) -> ComfyUI:
    make_pictures(comfyui.input_folder / FOLDER)
    lexicons = comfyui.models_folder / "tag_lexicons"
    lexicons.mkdir(parents=True, exist_ok=True)
    text = '1girl,0,6000,"sole_female"\nhatsune_miku,4,900,miku\nvocaloid,3,800,\nparallel_speed_lines,0,90,\ngreyscale,5,70,grayscale\n'
    (lexicons / "page.csv").write_text(text, encoding="utf-8")
    return comfyui


@pytest.fixture
def open_editor_page(open_page: Callable[..., Any], server: ComfyUI) -> Callable[..., EditorPage]:
    def open_(with_training: bool = False, **options: Any) -> EditorPage:
        comfy_page = open_page(**options)
        comfy_page.page.evaluate(BUILD, [FOLDER, with_training])
        comfy_page.page.wait_for_timeout(500)
        return EditorPage(comfy_page)

    return open_

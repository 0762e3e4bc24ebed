"""Every node speaks English and Chinese: names and tooltips in locales/, a help page in web/docs/."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import make_locales
import pytest
from comfyui_server import ComfyUI

pytestmark = pytest.mark.comfy
PACK = Path(__file__).resolve().parents[2]
Texts = dict[str, Any]


@pytest.fixture(scope="module")
def declared(comfyui: ComfyUI) -> Texts:
    """What the schemas say, in the form of nodeDefs.json."""
    infos = comfyui.object_info()
    return {node_id: make_locales.node_texts(info) for node_id, info in infos.items() if info["python_module"] == "custom_nodes.athanor"}


def node_texts(language: str) -> Texts:
    return json.loads((PACK / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))


def leaves(texts: Texts, path: str = "") -> dict[str, str]:
    """Each text by its path, such as `AthanorBucket.inputs.step.name`."""
    found: dict[str, str] = {}
    for key, value in texts.items():
        where = f"{path}.{key}" if path else key
        found |= leaves(value, where) if isinstance(value, dict) else {where: value}
    return found


def test_the_english_texts_are_those_of_the_schemas(declared: Texts):
    assert len(declared) >= 11
    assert node_texts("en") == declared


def test_the_chinese_texts_are_complete(declared: Texts):
    wanted, chinese = leaves(declared), leaves(node_texts("zh"))
    assert sorted(wanted.keys() - chinese.keys()) == [], "not translated"
    # A tooltip may be there in Chinese only; everything else would belong to nothing.
    extra = {path for path in chinese.keys() - wanted.keys() if not path.endswith(".tooltip") or path.removesuffix("tooltip") + "name" not in wanted}
    assert sorted(extra) == [], "there is nothing of that name in the schemas"


def test_the_chinese_texts_are_chinese():
    sentences = {path: text for path, text in leaves(node_texts("zh")).items() if path.endswith((".tooltip", ".description"))}
    without = [path for path, text in sentences.items() if not re.search(r"[\u4e00-\u9fff]", text)]
    assert without == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_name_is_read_as_a_pattern(language: str):
    """The page's translator gives these characters a meaning in names and descriptions (not in tooltips)."""
    texts = {path: text for path, text in leaves(node_texts(language)).items() if not path.endswith(".tooltip")}
    assert {path: text for path, text in texts.items() if re.search(r"[{}|@]", text) or not text.strip()} == {}


def test_the_server_hands_the_texts_to_the_page(comfyui: ComfyUI):
    merged = comfyui.get("/i18n")
    for language in ("en", "zh"):
        served = merged[language]["nodeDefs"]
        assert {node_id: served[node_id] for node_id in node_texts(language)} == node_texts(language)
    assert merged["zh"]["nodeCategories"]["dataset"] == "数据集"


@pytest.mark.parametrize("page", ["{node_id}.md", "{node_id}/zh.md"])
def test_every_node_has_a_help_page(declared: Texts, page: str):
    folder = PACK / "web" / "docs"
    missing = [node_id for node_id in declared if not (folder / page.format(node_id=node_id)).is_file()]
    assert missing == []
    strangers = {path.stem for path in folder.glob("*.md")} | {path.name for path in folder.iterdir() if path.is_dir()}
    assert strangers <= declared.keys()


@pytest.mark.parametrize("page", ["{node_id}.md", "{node_id}/zh.md"])
def test_help_pages_explain_every_input_and_output(declared: Texts, page: str):
    """In the page's language, by the name that the node shows."""
    names = node_texts("zh" if page.endswith("zh.md") else "en")
    silent = []
    for node_id in declared:
        text = (PACK / "web" / "docs" / page.format(node_id=node_id)).read_text(encoding="utf-8")
        entries = [*names[node_id]["inputs"].values(), *names[node_id]["outputs"].values()]
        silent += [f"{node_id}: {entry['name']}" for entry in entries if f"**{entry['name']}**" not in text]
    assert silent == []

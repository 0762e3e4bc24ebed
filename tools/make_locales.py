"""Writes locales/en/nodeDefs.json from the nodes' schemas: `python tools/make_locales.py http://127.0.0.1:8188` with a ComfyUI running.

English stands once, in the schemas; the file is there because ComfyUI falls back to it for other languages.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parent.parent / "locales" / "en" / "nodeDefs.json"


def node_texts(info: dict[str, Any]) -> dict[str, Any]:
    """The texts of one node's entry in /object_info, in the form of nodeDefs.json."""
    inputs = {name: spec[1] if len(spec) > 1 else {} for part in ("required", "optional") for name, spec in info["input"].get(part, {}).items()}
    outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": {key: entry for name, options in inputs.items() for key, entry in _input_texts(name, options).items()},
        "outputs": {str(index): _entry(name, tooltip) for index, (name, tooltip) in enumerate(outputs)},
    }


def _input_texts(name: str, options: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The input's own, and those of the inputs that appear under a drop-down; the page looks for them with _ for the dot."""
    texts = {name: _entry(options.get("display_name") or name, options.get("tooltip"))}
    for option in options.get("options") or []:
        if isinstance(option, dict):
            for part in ("required", "optional"):
                for inner, spec in option["inputs"].get(part, {}).items():
                    texts |= _input_texts(f"{name}_{inner}", {"display_name": inner, **spec[1]})
    return texts


def _entry(name: str, tooltip: str | None) -> dict[str, str]:
    return {"name": name, "tooltip": tooltip} if tooltip else {"name": name}


def main() -> None:
    with urllib.request.urlopen(sys.argv[1].rstrip("/") + "/object_info") as answer:
        infos = json.load(answer)
    texts = {name: node_texts(info) for name, info in infos.items() if info["python_module"] == "custom_nodes.athanor"}
    FILE.write_text(json.dumps(texts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

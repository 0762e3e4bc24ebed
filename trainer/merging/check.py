"""What keeps files of adapters from being merged, told from their headers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from ..families import family
from ..formats.contents import lora_family
from ..formats.header import Header, read_header
from ..formats.layers import split_key
from .names import layer_name

Size = tuple[int, int]


def merge_problems(paths: Sequence[Path]) -> list[str]:
    """A sentence for each file that was made for another family than the first, or whose layers have other sizes than those before it.

    Raises AthanorError for a file that is not whole.
    """
    problems, seen = [], dict[str, tuple[Size, str]]()
    headers = [(path.name, read_header(path)) for path in paths]
    known = [(name, found) for name, header in headers if (found := lora_family(header))]
    for name, found in known[1:]:
        if found != known[0][1]:
            titles = family(known[0][1]).title, family(found).title
            problems.append(f"{known[0][0]} was made for {titles[0]} and {name} for {titles[1]}; merge files of one family of models.")
    if problems:
        return problems
    for name, header in headers:
        wrong = []
        for layer, size in _sizes(header).items():
            first, where = seen.setdefault(layer, (size, name))
            if first != size:
                wrong.append(f"The layer {layer} is {first} in {where} and {size} in {name}")
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            problems.append(f"{wrong[0]}{more}; merge files that were trained on one family of models.")
    return problems


def _sizes(header: Header) -> dict[str, Size]:
    """Rows and columns of what each LoRA of a file changes, by the layer's name, the same for every spelling."""
    rows, columns, windows = dict[str, int](), dict[str, int](), dict[str, int]()
    for key, shape in header.shapes.items():
        base, suffix = split_key(key) or ("", "")
        layer = layer_name(base).key
        if suffix == "lora_up.weight":
            rows[layer] = shape[0]
        elif suffix == "lora_down.weight" and len(shape) > 1:
            columns[layer] = math.prod(shape[1:])
        elif suffix == "lora_mid.weight":
            # Tucker's form has the window in a core of its own.
            windows[layer] = math.prod(shape[2:])
    return {layer: (rows[layer], columns[layer] * windows.get(layer, 1)) for layer in rows if layer in columns}

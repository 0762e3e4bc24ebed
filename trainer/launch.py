"""The worker's first file: `python trainer/launch.py <run directory> [--attached]`.

It loads the pack as the package `athanor` by its place on disk, so that nothing need be installed. This file's own
folder must not stay on the module path: types.py and others in it would hide modules of the standard library.
"""

import sys

if sys.path and sys.path[0].rstrip("/\\").endswith("trainer"):
    del sys.path[0]

import importlib
import importlib.util
from pathlib import Path


def load_pack() -> None:
    """Enters the pack's root into `sys.modules` as `athanor`, unless it is there already."""
    root = Path(__file__).resolve().parent.parent
    if "athanor" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location("athanor", root / "__init__.py", submodule_search_locations=[str(root)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["athanor"] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    load_pack()
    sys.exit(importlib.import_module("athanor.trainer.worker").main(sys.argv[1:]))

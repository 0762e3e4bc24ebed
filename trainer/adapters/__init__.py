"""Kinds of adapters, one file each; every file in this folder registers itself."""

from __future__ import annotations

import importlib
import pkgutil

from ..registry import Registry
from .base import Adapter

ADAPTERS: Registry[Adapter] = Registry("adapter")


def adapter(name: str) -> Adapter:
    """The adapter kind of that name. Raises AthanorError, with the known names, if there is none."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_") and module.name != "base":
            importlib.import_module(f".{module.name}", __name__)
    return ADAPTERS[name]

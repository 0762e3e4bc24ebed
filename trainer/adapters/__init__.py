"""Kinds of adapters, one file each; every file in this folder that is a kind registers itself."""

from __future__ import annotations

import importlib
import pkgutil

from ..registry import Registry
from .base import Adapter

ADAPTERS: Registry[Adapter] = Registry("adapter")
_NO_KINDS = ("base", "plan", "attached", "check")


def _discover() -> None:
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_") and module.name not in _NO_KINDS:
            importlib.import_module(f".{module.name}", __name__)


def adapter(name: str) -> Adapter:
    """The adapter kind of that name. Raises AthanorError, with the known names, if there is none."""
    _discover()
    return ADAPTERS[name]


def all_adapters() -> dict[str, Adapter]:
    _discover()
    return {name: ADAPTERS[name] for name in ADAPTERS.names()}

"""Model families, one file each; every file in this folder without a leading underscore registers itself."""

from __future__ import annotations

import importlib
import pkgutil

from ..registry import Registry
from ._tokenizers import known_tokens
from .base import Family

__all__ = ["FAMILIES", "all_families", "discover", "family", "known_family", "known_tokens"]

FAMILIES: Registry[Family] = Registry("model family")


def discover() -> None:
    """Imports every family's file once."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_") and module.name != "base":
            importlib.import_module(f".{module.name}", __name__)


def family(name: str) -> Family:
    """The family of that name. Raises AthanorError, with the known names, if there is none."""
    discover()
    return FAMILIES[name]


def known_family(name: str) -> Family | None:
    """The same; None where there is none, for checks beside the one that tells it."""
    discover()
    return FAMILIES[name] if name in FAMILIES.names() else None


def all_families() -> tuple[Family, ...]:
    discover()
    return tuple(FAMILIES[name] for name in FAMILIES.names())

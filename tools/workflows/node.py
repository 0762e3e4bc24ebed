"""A node of an example workflow, written by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MINIATURE = "Athanor miniature (built in)"

Link = tuple[str, int]
"""A node's key and the number of its output."""


@dataclass
class Node:
    type: str
    at: tuple[int, int]
    size: tuple[int, int]
    values: dict[str, Any] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    text: str = ""
    """Of a note."""

"""Chromium as the tools, the browser tests and the benchmarks start it. Standard library only."""

from __future__ import annotations

import os
import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
)
COMFYUI_SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Locale": "en", "Comfy.InstalledVersion": "1.47.12"}
"""Stored before ComfyUI's page opens, so that no dialog for newcomers covers it."""
PAGE_IS_READY = """
() => {
  const manager = window.app?.extensionManager
  const known = Object.keys(window.LiteGraph?.registered_node_types ?? {}).length
  return known > 100 && manager?.workflow?.activeWorkflow && manager.spinner === false
}
"""
"""True when the first workflow has been opened as well: the page opens one of its own after its nodes are known, in place of what is there."""


def find_chromium() -> str | None:
    """The program that ATHANOR_CHROMIUM names, or the first of the usual names on the path."""
    return os.environ.get("ATHANOR_CHROMIUM") or next((found for name in NAMES if (found := shutil.which(name))), None)

"""The progress bar of a node, and the Cancel button."""

from __future__ import annotations

import comfy.model_management
import comfy.utils
from comfy_execution.graph import ExecutionBlocker
from comfy_execution.progress import get_progress_state
from PIL import Image

Interrupted = comfy.model_management.InterruptProcessingException
"""What the Cancel button raises; a BaseException in newer versions of ComfyUI, so it must be caught by name."""


def raise_if_interrupted() -> None:
    comfy.model_management.throw_exception_if_processing_interrupted()


def is_interrupted() -> bool:
    """Whether Cancel was pressed since it was last raised."""
    return comfy.model_management.processing_interrupted()


def node_states() -> dict[str, str]:
    """Of the prompt that ComfyUI works on: "pending", "running" or "finished" by the node's execution id."""
    return {node_id: state["state"].value for node_id, state in get_progress_state().nodes.items()}


class Progress:
    """The progress bar of a node. Raises `Interrupted` after the Cancel button was pressed."""

    def __init__(self, node_id: str | None):
        self._bar = comfy.utils.ProgressBar(1, node_id=node_id)

    def show(self, value: int, total: int, preview: Image.Image | None = None, preview_px: int = 512) -> None:
        raise_if_interrupted()
        shown = ("JPEG", preview, preview_px) if preview is not None else None
        self._bar.update_absolute(value, max(1, total), shown)


def blocked(sentence: str) -> ExecutionBlocker:
    """In the place of an output that there is not: whatever is connected there fails with this sentence, and nothing else does."""
    return ExecutionBlocker(sentence)

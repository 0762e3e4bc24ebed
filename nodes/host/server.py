"""ComfyUI's server: routes, open pages, the line of text on a node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from server import PromptServer


def add_route(method: str, path: str, handler: Callable[..., Awaitable[object]]) -> None:
    """Has ComfyUI's server answer `path`; does nothing where there is no server."""
    instance = getattr(PromptServer, "instance", None)
    if instance is not None:
        instance.routes.route(method, path)(handler)


def tell_pages(event: str, data: dict[str, str]) -> None:
    """Sends an event to every open page, from any thread; does nothing where there is no server."""
    instance = getattr(PromptServer, "instance", None)
    if instance is not None:
        instance.send_sync(event, data)


def say(node_id: str | None, text: str) -> None:
    """A line of text on the node while it works."""
    if node_id is not None:
        PromptServer.instance.send_progress_text(text, node_id)

"""What all routes share: refusals as sentences, JSON in, work in threads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, wraps
from typing import TypeVar

from aiohttp import web

from ..tagger.hand_edits import MAX_CHARS

_MAX_BODY_BYTES = 4 * MAX_CHARS
_MAX_QUERY_CHARS = 500
NO_SNIFF = {"X-Content-Type-Options": "nosniff"}
ABOUT_A_DAY = {"Cache-Control": "private, max-age=86400", **NO_SNIFF}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
T = TypeVar("T")


class RefusedError(Exception):
    def __init__(self, status: int, sentence: str):
        self.status = status
        super().__init__(sentence)


def answering(handler: Handler) -> Handler:
    """With refusals as JSON: {"error": a sentence}."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except RefusedError as refused:
            return web.json_response({"error": str(refused)}, status=refused.status, headers=NO_SNIFF)

    return answer


def text_of(data: dict[str, object], name: str) -> str:
    """Refuses anything but a text under that name."""
    text = data.get(name)
    if not isinstance(text, str):
        raise RefusedError(400, f"The request needs a text {name!r}.")
    return text


def number_of(data: dict[str, object], name: str) -> int:
    """Refuses anything but a whole number from 0 on under that name."""
    number = data.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise RefusedError(400, f"The request needs a whole number {name!r}.")
    return number


def query_text(request: web.Request, name: str) -> str:
    """Of the address, empty where it is not there; refuses what is too long for a name."""
    text = request.query.get(name, "")
    if len(text) > _MAX_QUERY_CHARS:
        raise RefusedError(400, f"{name} is too long.")
    return text


def query_number(request: web.Request, name: str) -> int:
    text = query_text(request, name)
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise RefusedError(404, f"{name} must be a number.")
    return int(text)


async def json_of(request: web.Request) -> dict[str, object]:
    """The request's object; refuses other content types, which a foreign page could send unasked, and too much of it."""
    if request.content_type != "application/json":
        raise RefusedError(415, "This address takes application/json only.")
    body = await _body(request)
    try:
        data = await in_thread(json.loads, body)
    except (ValueError, RecursionError) as error:  # JSONDecodeError, UnicodeDecodeError, and numbers of thousands of digits
        raise RefusedError(400, "That is not JSON.") from error
    if not isinstance(data, dict):
        raise RefusedError(400, "An object in JSON is wanted.")
    return data


async def _body(request: web.Request) -> bytes:
    """Read only as far as it may go: a body in chunks does not say its length before."""
    parts: list[bytes] = []
    num_bytes = 0
    async for part in request.content.iter_chunked(1 << 16):
        num_bytes += len(part)
        if num_bytes > _MAX_BODY_BYTES or (request.content_length or 0) > _MAX_BODY_BYTES:
            raise RefusedError(413, "That is too much for one request.")
        parts.append(part)
    return b"".join(parts)


async def in_thread(work: Callable[..., T], *arguments: object) -> T:
    return await asyncio.get_running_loop().run_in_executor(_pool(), work, *arguments)


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=4, thread_name_prefix="athanor-routes")

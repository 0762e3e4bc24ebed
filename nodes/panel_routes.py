"""What the live panel of the train nodes asks the server: how a run goes, its sample pictures, and four wishes to its worker.

A request names a run, never a path (see `watching`). Only POST has an effect, and none can start anything.
"""

from __future__ import annotations

from aiohttp import web

from ..trainer.errors import AthanorError
from . import host, watching
from .answers import ABOUT_A_DAY, NO_SNIFF, RefusedError, answering, in_thread, json_of, query_number, query_text, text_of
from .thumbnails import CONTENT_TYPE, SIZES_PX, thumbnail
from .worker import send_command

PREFIX = "/athanor/panel"


def add_panel_routes() -> None:
    host.add_route("GET", f"{PREFIX}/run", answering(_run))
    host.add_route("GET", f"{PREFIX}/events", answering(_events))
    host.add_route("GET", f"{PREFIX}/sample", answering(_sample))
    host.add_route("POST", f"{PREFIX}/control", answering(_control))


async def _run(request: web.Request) -> web.Response:
    """Which run a node shows: `node` (its execution id), `name` (what its widget says), `known` (what the page remembers)."""
    run = await in_thread(watching.run_of_node, query_text(request, "node"), query_text(request, "name"), query_text(request, "known"))
    return web.json_response({"run": run}, headers=NO_SNIFF)


async def _events(request: web.Request) -> web.Response:
    """How `run` goes; with `cursor` only what is new since the answer that bore it."""
    name, cursor = query_text(request, "run"), query_text(request, "cursor")

    def told() -> dict[str, object]:
        return watching.watched(name).told(cursor)

    try:
        return web.json_response(await in_thread(told), headers={**NO_SNIFF, "Cache-Control": "no-store"})
    except (KeyError, OSError) as error:
        raise _unknown(name) from error
    except AthanorError as error:
        raise RefusedError(404, str(error)) from error


async def _sample(request: web.Request) -> web.Response:
    """Sample picture `number` of `run`, `side` px large at most, newly made as WebP."""
    name, number, side_px = query_text(request, "run"), query_number(request, "number"), query_number(request, "side")
    if side_px not in SIZES_PX:
        raise RefusedError(404, f"Pictures have {' or '.join(map(str, SIZES_PX))} px.")

    def made() -> bytes:
        return thumbnail(watching.watched(name).sample_file(number), side_px)

    try:
        content = await in_thread(made)
    except KeyError as error:
        raise _unknown(name) from error
    except (AthanorError, OSError, IndexError) as error:
        raise RefusedError(404, "There is no such picture.") from error
    return web.Response(body=content, content_type=CONTENT_TYPE, headers=ABOUT_A_DAY)


async def _control(request: web.Request) -> web.Response:
    data = await json_of(request)
    name, command = text_of(data, "run"), text_of(data, "command")

    def send() -> None:
        send_command(watching.find_folder(name), command)

    try:
        await in_thread(send)
    except (KeyError, OSError, ValueError) as error:
        raise _unknown(name) from error
    except AthanorError as error:
        raise RefusedError(409, str(error)) from error
    return web.json_response({"told": command}, headers=NO_SNIFF)


def _unknown(name: str) -> RefusedError:
    return RefusedError(404, f"There is no run {name[:100]!r} in ComfyUI's output folder.")

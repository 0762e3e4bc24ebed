"""What the browser editor of Edit Tags asks the server. All of it reads; nothing here changes a file of the user.

A request names a listing that the node has left (see `listing`) and a picture by its number in it, never a path; the file
behind the number must still lie below a folder that workflows may read, links followed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from aiohttp import web

from ..tagger.errors import TaggerError
from ..trainer.errors import AthanorError
from . import host, lookups
from .answers import ABOUT_A_DAY, NO_SNIFF, RefusedError, answering, in_thread, json_of, text_of
from .listing import Listing, kept_listing
from .thumbnails import CONTENT_TYPE, SIZES_PX, thumbnail

PREFIX = "/athanor/editor"
_MAX_TEXT_CHARS = 4000

T = TypeVar("T")


def add_routes() -> None:
    """Tells ComfyUI's server of them; without a server (in scripts that only import nodes) nothing happens."""
    picture = "{listing}/{number}"
    host.add_route("GET", f"{PREFIX}/thumbnail/{picture}/{{side_px}}", answering(_thumbnail))
    host.add_route("GET", f"{PREFIX}/scores/{picture}", answering(_scores))
    host.add_route("GET", f"{PREFIX}/tags", answering(_tags))
    host.add_route("POST", f"{PREFIX}/listing", answering(_listing))
    host.add_route("POST", f"{PREFIX}/filter", answering(_filter))


async def _listing(request: web.Request) -> web.Response:
    data = await json_of(request)
    text = await _looked_up(lookups.listing_for_page, text_of(data, "listing"), text_of(data, "hand_edits"))
    return web.Response(text=text, content_type="application/json", headers=NO_SNIFF)


async def _thumbnail(request: web.Request) -> web.Response:
    side_px = _number(request, "side_px")
    if side_px not in SIZES_PX:
        raise RefusedError(404, f"Thumbnails have {' or '.join(map(str, SIZES_PX))} px.")

    def made() -> bytes | None:
        # A page that has scrolled on does not want it any more.
        return None if request.transport is None or request.transport.is_closing() else thumbnail(_find_file(request), side_px)

    try:
        content = await in_thread(made)
    except (AthanorError, OSError) as error:
        raise RefusedError(404, "This picture cannot be read any more.") from error
    return web.Response(body=content, content_type=CONTENT_TYPE, headers=ABOUT_A_DAY)


async def _scores(request: web.Request) -> web.Response:
    def found() -> list[lookups.TaggerScores]:
        path, listing = _find_file(request), _find_listing(request)
        return lookups.picture_scores(path, listing.pictures[_number(request, "number")], listing.taggers)

    return web.json_response({"taggers": await in_thread(found)}, headers=NO_SNIFF)


async def _tags(request: web.Request) -> web.Response:
    text, lexicon = request.query.get("text", ""), request.query.get("lexicon", "")
    if len(text) > 200 or len(lexicon) > 500:
        raise RefusedError(400, "That is too long for the name of a tag.")
    return web.json_response({"tags": await in_thread(lookups.search_tags, text, lexicon)}, headers=NO_SNIFF)


async def _filter(request: web.Request) -> web.Response:
    data = await json_of(request)
    name, text, edits = (text_of(data, key) for key in ("listing", "filter", "hand_edits"))
    if len(text) > _MAX_TEXT_CHARS:
        raise RefusedError(400, f"The filter has {len(text):,} characters; at most {_MAX_TEXT_CHARS:,} are read.")
    return web.json_response({"chosen": await _looked_up(lookups.filtered, name, text, edits)}, headers=NO_SNIFF)


async def _looked_up(work: Callable[..., T], *arguments: str) -> T:
    try:
        return await in_thread(work, *arguments)
    except KeyError as error:
        raise _unknown_listing() from error
    except TaggerError as error:
        raise RefusedError(400, str(error)) from error


def _find_listing(request: web.Request) -> Listing:
    try:
        return kept_listing(request.match_info["listing"])
    except KeyError as error:
        raise _unknown_listing() from error


def _unknown_listing() -> RefusedError:
    return RefusedError(404, "The server does not know these pictures any more; run the node again.")


def _find_file(request: web.Request) -> Path:
    """The picture that the request names. Refused if it is unknown or has moved out of the folders that may be read."""
    pictures, number = _find_listing(request).pictures, _number(request, "number")
    if number >= len(pictures):
        raise RefusedError(404, f"There is no picture {number}.")
    path = Path(pictures[number].path)
    if not host.may_be_shown(path):
        raise RefusedError(403, "This picture lies outside of the folders that workflows may read.")
    return path


def _number(request: web.Request, name: str) -> int:
    text = request.match_info[name]
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise RefusedError(404, f"{name} must be a number.")
    return int(text)

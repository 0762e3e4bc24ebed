"""What the viewer of XY Plot Compare asks the server: a comparison, its pictures, votes about them, and one epoch to be marked.

A request names a comparison by its run and numbers, never by a path (see `sheets`), and a picture by its number in it. Only POST has
an effect: it writes a vote beside the pictures, or the chosen epoch into the run.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from aiohttp import web

from ..trainer.compare.ranking import Ranking
from ..trainer.compare.votes import Axis, Vote, add_vote, labels, next_pair, ranking, read_votes, take_back
from ..trainer.errors import AthanorError
from . import host
from .answers import ABOUT_A_DAY, NO_SNIFF, RefusedError, answering, in_thread, json_of, number_of, query_number, query_text, text_of
from .sheets import FoundSheet, find_sheet
from .thumbnails import CONTENT_TYPE, SIZES_PX, thumbnail

PREFIX = "/athanor/viewer"
_WHOLE = 0
"""Instead of a size: the picture itself, to the pixel."""
_PNG = b"\x89PNG\r\n\x1a\n"
_AXES: dict[str, Axis] = {"x": "x", "y": "y", "z": "z"}
_SCORES = {"first": 1.0, "second": 0.0, "tie": 0.5}
_NOW = {**NO_SNIFF, "Cache-Control": "no-store"}
_VOTING = threading.Lock()

T = TypeVar("T")


def add_viewer_routes() -> None:
    host.add_route("GET", f"{PREFIX}/sheet", answering(_sheet))
    host.add_route("GET", f"{PREFIX}/state", answering(_state))
    host.add_route("GET", f"{PREFIX}/picture", answering(_picture))
    host.add_route("GET", f"{PREFIX}/ranking", answering(_ranking))
    host.add_route("GET", f"{PREFIX}/pair", answering(_pair))
    host.add_route("POST", f"{PREFIX}/vote", answering(_vote))
    host.add_route("POST", f"{PREFIX}/choose", answering(_choose))


async def _sheet(request: web.Request) -> web.Response:
    """The whole comparison: labels, cells, and each picture's parameters; with its state."""
    return web.json_response(await _looked_up(query_text(request, "sheet"), FoundSheet.told), headers=_NOW)


async def _state(request: web.Request) -> web.Response:
    """What of it changes while it is drawn."""
    return web.json_response(await _looked_up(query_text(request, "sheet"), FoundSheet.state), headers=_NOW)


async def _picture(request: web.Request) -> web.Response:
    """Picture `number`, `side` px large at most as WebP; with side 0 the PNG that was drawn."""
    number, side_px = query_number(request, "number"), query_number(request, "side")
    if side_px not in (_WHOLE, *SIZES_PX):
        raise RefusedError(404, f"Pictures have {' or '.join(map(str, SIZES_PX))} px.")

    def made(found: FoundSheet) -> bytes:
        path = found.picture(number)
        return path.read_bytes() if side_px == _WHOLE else thumbnail(path, side_px)

    try:
        content = await _looked_up(query_text(request, "sheet"), made)
    except RefusedError as error:
        raise RefusedError(404, "There is no such picture.") from error
    if side_px == _WHOLE and not content.startswith(_PNG):
        raise RefusedError(404, "There is no such picture.")
    return web.Response(body=content, content_type="image/png" if side_px == _WHOLE else CONTENT_TYPE, headers=ABOUT_A_DAY)


async def _ranking(request: web.Request) -> web.Response:
    """How the values of `axis` stand after all votes."""
    axis = _axis(query_text(request, "axis"))
    return web.json_response(await _looked_up(query_text(request, "sheet"), lambda found: _standing(found, axis)), headers=_NOW)


async def _pair(request: web.Request) -> web.Response:
    """The numbers of two pictures to be voted about, and where the first lies: page, row, column; `pair` is null where no two differ."""
    axis = _axis(query_text(request, "axis"))

    def found_pair(found: FoundSheet) -> dict[str, Any]:
        pair = next_pair(found.sheet, read_votes(found.sheet.folder), axis, found.drawn_files(), random.Random())
        if pair is None:
            return {"pair": None}
        index = {file: i for i, file in enumerate(found.sheet.files.values())}
        return {"pair": {"first": index[pair.first], "second": index[pair.second], "place": pair.place}}

    return web.json_response(await _looked_up(query_text(request, "sheet"), found_pair), headers=_NOW)


async def _vote(request: web.Request) -> web.Response:
    """`winner` is first, second or tie, of the pictures `first` and `second`; or back, which takes the last vote back."""
    data = await json_of(request)
    winner, axis = text_of(data, "winner"), _axis(text_of(data, "axis"))
    if winner != "back" and winner not in _SCORES:
        raise RefusedError(400, "The winner is first, second or tie.")

    def voted(found: FoundSheet) -> dict[str, Any]:
        with _VOTING:
            if winner == "back":
                take_back(found.sheet.folder)
            else:
                first, second = (_file(found, number_of(data, name)) for name in ("first", "second"))
                if first == second:
                    raise RefusedError(400, "A picture cannot be compared with itself.")
                add_vote(found.sheet.folder, Vote(first, second, _SCORES[winner]))
        return _standing(found, axis)

    return web.json_response(await _looked_up(text_of(data, "sheet"), voted, 409), headers=_NOW)


async def _choose(request: web.Request) -> web.Response:
    """Marks the epoch of picture `number` in its run."""
    data = await json_of(request)
    number = number_of(data, "number")

    def chosen(found: FoundSheet) -> dict[str, Any]:
        run, epoch = found.choose(number)
        return {"run": run.name, "own": run == found.run, "epoch": epoch.number}

    return web.json_response(await _looked_up(text_of(data, "sheet"), chosen, 409), headers=_NOW)


async def _looked_up(name: str, work: Callable[[FoundSheet], T], status: int = 404) -> T:
    """What `work` finds in that comparison; `status` where it refuses with a sentence."""

    def looked_up() -> T:
        return work(find_sheet(name))

    try:
        return await in_thread(looked_up)
    except (KeyError, OSError, ValueError) as error:
        raise RefusedError(404, "There is no such comparison in ComfyUI's output folder; queue XY Plot Compare again.") from error
    except AthanorError as error:
        raise RefusedError(status, str(error)) from error


def _standing(found: FoundSheet, axis: Axis) -> dict[str, Any]:
    votes = read_votes(found.sheet.folder)
    ranked: Ranking = ranking(found.sheet, votes, axis)
    names = labels(found.sheet, axis)
    places = [
        {
            "value": place.contestant,
            "label": names[place.contestant],
            "share": round(place.share, 4),
            "low": round(place.interval[0], 4),
            "high": round(place.interval[1], 4),
            "votes": place.num_duels,
            "won": place.num_won,
        }
        for place in ranked.places
    ]
    counted = sum(place.num_duels for place in ranked.places) // 2
    return {
        "axis": axis,
        "places": places,
        "certainty": round(ranked.certainty, 4),
        "decided": ranked.is_decided,
        "votes": counted,
        "all": len(votes),
    }


def _file(found: FoundSheet, number: int) -> str:
    files = list(found.sheet.files.values())
    if number >= len(files):
        raise RefusedError(404, f"There is no picture {number}.")
    return files[number]


def _axis(text: str) -> Axis:
    if text not in _AXES:
        raise RefusedError(400, "The axis is x, y or z.")
    return _AXES[text]

"""What tests of several folders share: a real ComfyUI server, started once, and turns of those that need much memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY / "tools"), str(REPOSITORY / "tests" / "shared")]  # comfyui_server, workflow_api; tiny, probe_tagger

from comfyui_server import ComfyUI, find_comfyui, start_for_tests  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="run also the tests that show more of the same for many minutes")


@pytest.fixture
def thorough(request: pytest.FixtureRequest) -> None:
    """For tests of which a shorter twin always runs."""
    if not request.config.getoption("--thorough"):
        pytest.skip("many minutes of what a shorter test shows too; `python dev.py test --thorough` runs it")


@pytest.fixture(scope="session")
def turn(tmp_path_factory: pytest.TempPathFactory) -> FileLock:
    """Of what holds over 3 GB: one at a time, also among the processes that share the tests, so that a machine of 16 GB can run them."""
    return FileLock(tmp_path_factory.getbasetemp().parent / "turn.lock")


@pytest.fixture
def roomy(turn: FileLock) -> Iterator[None]:
    """For tests that hold so much."""
    with turn:
        yield


@pytest.fixture(scope="session")
def start_comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., ComfyUI]]:
    """Starts further servers, each in a base directory of its own or in the given one: start_comfyui(base=None, arguments=()).

    For tests that kill their server or need other options; what still runs at the end is stopped.
    """
    if find_comfyui() is None:
        pytest.skip("no ComfyUI: `python dev.py test` fetches one, or let ATHANOR_COMFYUI name a checkout")
    started: list[ComfyUI] = []

    def start(base: Path | None = None, arguments: tuple[str, ...] = ()) -> ComfyUI:
        server = start_for_tests(base or tmp_path_factory.mktemp("comfyui"), arguments)
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def comfyui(start_comfyui: Callable[..., ComfyUI]) -> ComfyUI:
    """The server that all tests share; leave it running and its queue empty."""
    return start_comfyui()

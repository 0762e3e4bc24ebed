"""A ComfyUI server as a value: started with the pack, asked over HTTP, stopped. For dev.py and for the tests.

Standard library only, because dev.py runs before anything is installed.
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
PACK_NAME = "athanor"
LOG_FILE = "comfyui.log"
START_LIMIT_SEC = 600.0
_POLL_SEC = 0.25
_GPU_PROBE = (
    "import torch; xpu = getattr(torch, 'xpu', None); "
    "print(int(torch.cuda.is_available() or torch.backends.mps.is_available() or bool(xpu and xpu.is_available())))"
)


class ServerError(Exception):
    """The server did not start, refused a workflow, or a node of it failed; the message is for people."""


def link_pack(folder: Path) -> Path:
    """Makes `folder/athanor` lead to this repository and returns `folder`, which can serve as a custom_nodes folder.

    ComfyUI names a pack after its folder there (web files, help pages, templates), so the checkout's own name won't do.
    A symbolic link where the system allows one, otherwise a directory junction (Windows without developer mode).
    """
    link = folder / PACK_NAME
    folder.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(link):
        if link.exists() and link.samefile(REPOSITORY):
            return folder
        link.unlink() if link.is_symlink() else link.rmdir()  # rmdir removes a junction and refuses a folder with content
    try:
        link.symlink_to(REPOSITORY, target_is_directory=True)
    except OSError as error:
        if isinstance(error, FileExistsError) and link.exists() and link.samefile(REPOSITORY):
            return folder  # another process was quicker
        if os.name != "nt":
            raise ServerError(f"Cannot make the link {link}: {error.strerror}.") from None
        made = subprocess.run(["cmd", "/c", "mklink", "/J", str(link), str(REPOSITORY)], capture_output=True, check=False)
        if made.returncode:
            raise ServerError(f"Cannot make the junction {link}: {made.stderr.decode(errors='replace').strip()}") from None
    return folder


def holds_pack(custom_nodes: Path) -> bool:
    """Whether this custom_nodes folder has the pack already, by a link or because the repository was cloned there."""
    return custom_nodes.is_dir() and any(entry.is_dir() and entry.samefile(REPOSITORY) for entry in custom_nodes.iterdir())


@functools.cache
def gpu_is_usable(python: Path) -> bool:
    """Whether that Python's torch finds a GPU; takes the seconds of importing torch."""
    asked = subprocess.run([str(python), "-c", _GPU_PROBE], capture_output=True, text=True, check=False)
    return asked.returncode == 0 and asked.stdout.strip() == "1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def server_command(python: Path, comfyui: Path, work: Path, port: int, base: Path | None, cpu: bool, arguments: Sequence[str] = ()) -> list[str]:
    """The command line of a ComfyUI from the checkout `comfyui` with the pack.

    The pack comes in through an extra custom_nodes folder under `work`, so that nothing is written into the checkout.
    `base` keeps models, input, output and user files; None uses the checkout's own.
    """
    command = [str(python), str(comfyui / "main.py"), "--port", str(port), "--disable-auto-launch"]
    custom_nodes = (base or comfyui) / "custom_nodes"
    if base is not None:
        for name in ("custom_nodes", "models", "input", "output", "user"):
            (base / name).mkdir(parents=True, exist_ok=True)
        command += ["--base-directory", str(base), "--database-url", f"sqlite:///{(base / 'user' / 'comfyui.db').as_posix()}"]
    if not holds_pack(custom_nodes):
        folder = link_pack(work / "custom_nodes")
        config = work / "extra_model_paths.yaml"
        # JSON is YAML, and quotes every path right.
        _write_if_changed(config, json.dumps({PACK_NAME: {"custom_nodes": str(folder)}}, ensure_ascii=False) + "\n")
        command += ["--extra-model-paths-config", str(config)]
    return command + (["--cpu"] if cpu else []) + list(arguments)


def _write_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)


def server_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}


class ComfyUI:
    """A server of its own on a free port of this machine, with its own base directory and its log in a file there.

    A context manager: leaving the block stops the server.
    """

    def __init__(self, python: Path, comfyui: Path, work: Path, base: Path, cpu: bool, arguments: Sequence[str] = ()):
        """Starts it and waits until it answers. Raises ServerError with the end of the log if it does not."""
        self.base = base
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_file = base / LOG_FILE
        base.mkdir(parents=True, exist_ok=True)
        command = server_command(python, comfyui, work, self.port, base, cpu, ["--disable-api-nodes", *arguments])
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=comfyui, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=server_environment()
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + START_LIMIT_SEC
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise ServerError(f"ComfyUI ended with code {self.process.returncode} while starting. The end of its log:\n{self.log_tail()}")
            try:
                self.get("/system_stats", timeout_sec=5)
                return
            except (OSError, http.client.HTTPException, ServerError):
                time.sleep(_POLL_SEC)
        raise ServerError(f"ComfyUI did not answer within {START_LIMIT_SEC:.0f} seconds. The end of its log:\n{self.log_tail()}")

    def __enter__(self) -> ComfyUI:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def input_folder(self) -> Path:
        return self.base / "input"

    @property
    def output_folder(self) -> Path:
        return self.base / "output"

    @property
    def models_folder(self) -> Path:
        return self.base / "models"

    def is_running(self) -> bool:
        return self.process.poll() is None

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def log_tail(self, num_lines: int = 20) -> str:
        return "\n".join(line[:200] for line in self.log().splitlines()[-num_lines:])

    def stop(self) -> None:
        """Ends the server as Ctrl+C would, after 20 seconds by force."""
        if self.is_running():
            if os.name == "nt":
                self.process.terminate()
            else:
                self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Ends the server at once, as a crash would."""
        self.process.kill()
        self.process.wait()

    def get(self, path: str, timeout_sec: float = 60) -> Any:
        return json.loads(self.get_bytes(path, timeout_sec))

    def get_bytes(self, path: str, timeout_sec: float = 60) -> bytes:
        return _answer(urllib.request.Request(self.url + path), timeout_sec)

    def post(self, path: str, data: Any, timeout_sec: float = 60) -> Any:
        body = json.dumps(data).encode("utf-8")
        answer = _answer(urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"}, method="POST"), timeout_sec)
        return json.loads(answer) if answer else None

    def object_info(self) -> dict[str, Any]:
        """All node types by id."""
        return self.get("/object_info")

    def queue(self, prompt: dict[str, Any]) -> str:
        """Queues a workflow in API format and returns its id. Raises ServerError with each node's complaint if it is refused."""
        return self.post("/prompt", {"prompt": prompt})["prompt_id"]

    def history(self, prompt_id: str) -> dict[str, Any] | None:
        """What is known of an ended workflow: `status`, `outputs`, `prompt`; None while it waits or runs."""
        return self.get(f"/history/{prompt_id}").get(prompt_id)

    def wait(self, prompt_id: str, timeout_sec: float, meanwhile: Callable[[], None] | None = None) -> dict[str, Any]:
        """Waits for a workflow's end, whatever it is, and returns its history.

        `meanwhile` is called several times a second. Raises ServerError if the server dies, TimeoutError if it takes longer.
        """
        end = time.monotonic() + timeout_sec
        while time.monotonic() < end:
            if not self.is_running():
                raise ServerError(f"ComfyUI ended with code {self.process.returncode}. The end of its log:\n{self.log_tail()}")
            try:
                entry = self.history(prompt_id)
            except (OSError, http.client.HTTPException):  # it is busy, or it has just died: the next round tells
                entry = None
            if entry is not None:
                return entry
            if meanwhile is not None:
                meanwhile()
            time.sleep(_POLL_SEC)
        raise TimeoutError(f"The workflow was not finished after {timeout_sec:.0f} seconds. The end of ComfyUI's log:\n{self.log_tail()}")

    def run(self, prompt: dict[str, Any], timeout_sec: float, meanwhile: Callable[[], None] | None = None) -> dict[str, Any]:
        """Queues a workflow, waits, and returns its history. Raises ServerError with the node's message if it failed."""
        entry = self.wait(self.queue(prompt), timeout_sec, meanwhile)
        problem = failure(entry)
        if problem:
            raise ServerError(problem)
        return entry

    def interrupt(self) -> None:
        """What the Cancel button does."""
        self.post("/interrupt", {})

    def files(self, entry: dict[str, Any], node_id: str, kind: str = "images") -> list[Path]:
        """The files that a node of an ended workflow shows, its `images` or others such as `latents`, as paths."""
        found = []
        for item in entry["outputs"].get(node_id, {}).get(kind, []):
            found.append(self.base / item["type"] / item["subfolder"] / item["filename"])
        return found


def failure(entry: dict[str, Any]) -> str | None:
    """The sentence of the node that failed, "interrupted", or None if the workflow went well."""
    if entry["status"]["status_str"] == "success":
        return None
    for kind, data in reversed(entry["status"]["messages"]):
        if kind == "execution_error":
            return f"{data['node_type']} (node {data['node_id']}) failed: {data['exception_message'].strip()}"
        if kind == "execution_interrupted":
            return f"interrupted at {data['node_type']} (node {data['node_id']})"
    return "The workflow failed without a message."


def _answer(request: urllib.request.Request, timeout_sec: float) -> bytes:
    try:
        # No proxy between this machine and itself, whatever the environment says.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout_sec) as response:
            return response.read()
    except urllib.error.HTTPError as error:
        raise ServerError(_refusal(urllib.parse.urlsplit(request.full_url).path, error.code, error.read())) from None


def _refusal(path: str, code: int, body: bytes) -> str:
    text = body.decode("utf-8", errors="replace").strip()
    try:
        data = json.loads(text)
        sentences = [
            f"{node['class_type']} (node {node_id}): {problem['message']}{': ' + problem['details'] if problem['details'] else ''}"
            for node_id, node in (data.get("node_errors") or {}).items()
            for problem in node["errors"]
        ]
        if not sentences:
            sentences = [" ".join(part for part in (data["error"]["message"], data["error"]["details"]) if part)]
    except (ValueError, KeyError, TypeError, AttributeError):
        sentences = [text or "no reason given"]
    return f"ComfyUI refused {path} ({code}): " + "; ".join(sentences)


def find_comfyui() -> Path | None:
    """The checkout that tests use: ATHANOR_COMFYUI, or the one that dev.py fetched; None if there is none."""
    named = os.environ.get("ATHANOR_COMFYUI")
    checkout = Path(named) if named else REPOSITORY / ".comfyui" / "ComfyUI"
    return checkout if (checkout / "main.py").is_file() else None


def start_for_tests(base: Path, arguments: Sequence[str] = ()) -> ComfyUI:
    """A server with this very Python, from the checkout of `find_comfyui`. Raises ServerError if there is no checkout."""
    comfyui = find_comfyui()
    if comfyui is None:
        raise ServerError("There is no ComfyUI; run `python dev.py test`, or let ATHANOR_COMFYUI name a checkout.")
    python = Path(sys.executable)
    return ComfyUI(python, comfyui, REPOSITORY / ".comfyui", base, cpu=not gpu_is_usable(python), arguments=arguments)

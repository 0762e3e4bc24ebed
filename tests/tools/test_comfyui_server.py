"""Starting, asking and losing a server, with a few lines that answer like ComfyUI in its place."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from comfyui_server import REPOSITORY, ComfyUI, ServerError, failure, link_pack, server_command

STAND_IN = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

if "--broken" in sys.argv:
    print("a line before")
    sys.exit("ModuleNotFoundError: No module named 'spam'")
print("ready")

class Handler(BaseHTTPRequestHandler):
    def answer(self, data, code=200):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(data).encode())

    def do_GET(self):
        done = {"status": {"status_str": "success", "messages": []}, "outputs": {"5": {"images": [{"filename": "a.png", "subfolder": "x", "type": "temp"}]}}}
        self.answer({"done": done} if self.path == "/history/done" else {})

    def do_POST(self):
        prompt = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["prompt"]
        if "bad" in prompt:
            problem = {"message": "Value 0 smaller than min of 1", "details": "width"}
            self.answer({"error": {}, "node_errors": {"7": {"class_type": "EmptyImage", "errors": [problem]}}}, 400)
        elif not prompt:
            self.answer({"error": {"message": "Prompt has no outputs", "details": ""}, "node_errors": {}}, 400)
        else:
            self.answer({"prompt_id": next(iter(prompt))})

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "My ComfyUI é"
    folder.mkdir()
    (folder / "main.py").write_text(STAND_IN, encoding="utf-8")
    return folder


@pytest.fixture
def server(checkout: Path, tmp_path: Path):
    with ComfyUI(Path(sys.executable), checkout, tmp_path / "work", tmp_path / "base", cpu=True) as started:
        yield started


def test_a_workflow_that_ends_gives_its_files(server: ComfyUI):
    entry = server.run({"done": {}}, timeout_sec=10)
    assert server.files(entry, "5") == [server.base / "temp" / "x" / "a.png"]
    assert server.files(entry, "6") == []


def test_a_refusal_names_the_node_and_the_problem(server: ComfyUI):
    with pytest.raises(ServerError, match=r"EmptyImage \(node 7\): Value 0 smaller than min of 1: width$"):
        server.queue({"bad": {}})
    with pytest.raises(ServerError, match=r"Prompt has no outputs$"):
        server.queue({})


def test_what_takes_too_long_is_told_with_the_log(server: ComfyUI):
    called = []
    with pytest.raises(TimeoutError, match=r"(?s)not finished after 1 seconds.*ready"):
        server.wait("never", timeout_sec=1, meanwhile=lambda: called.append(1))
    assert called


def test_a_server_that_dies_is_told(server: ComfyUI):
    with pytest.raises(ServerError, match=r"ComfyUI ended with code"):
        server.wait("never", timeout_sec=60, meanwhile=server.process.kill)
    server.stop()


def test_a_server_that_does_not_start_shows_the_end_of_its_log(checkout: Path, tmp_path: Path):
    with pytest.raises(ServerError, match=r"(?s)ended with code 1 while starting.*No module named 'spam'"):
        ComfyUI(Path(sys.executable), checkout, tmp_path / "work", tmp_path / "base", cpu=True, arguments=["--broken"])


def test_leaving_the_block_ends_the_server(checkout: Path, tmp_path: Path):
    with ComfyUI(Path(sys.executable), checkout, tmp_path / "work", tmp_path / "base", cpu=True) as server:
        assert server.is_running()
    assert not server.is_running()


def test_the_pack_comes_in_under_its_own_name_and_nothing_is_written_into_the_checkout(checkout: Path, tmp_path: Path):
    (checkout / "custom_nodes").mkdir()
    command = server_command(Path("python"), checkout, tmp_path / "work", 8188, None, cpu=False)
    config = Path(command[command.index("--extra-model-paths-config") + 1])
    assert str(tmp_path / "work" / "custom_nodes").replace("\\", "\\\\") in config.read_text(encoding="utf-8")
    assert (tmp_path / "work" / "custom_nodes" / "athanor" / "dev.py").samefile(REPOSITORY / "dev.py")
    assert sorted(path.name for path in checkout.iterdir()) == ["custom_nodes", "main.py"]
    assert "--base-directory" not in command and "--cpu" not in command


def test_a_checkout_that_has_the_pack_does_not_get_it_twice(checkout: Path, tmp_path: Path):
    link_pack(checkout / "custom_nodes")
    command = server_command(Path("python"), checkout, tmp_path / "work", 8188, None, cpu=True)
    assert "--extra-model-paths-config" not in command and "--cpu" in command


def test_a_link_that_leads_elsewhere_is_mended(tmp_path: Path):
    other = tmp_path / "old clone"
    other.mkdir()
    (tmp_path / "custom_nodes").mkdir()
    (tmp_path / "custom_nodes" / "athanor").symlink_to(other, target_is_directory=True)
    assert (link_pack(tmp_path / "custom_nodes") / "athanor").samefile(REPOSITORY)
    assert other.is_dir()


def test_failures_are_said_in_one_sentence():
    error = {"node_type": "AthanorTrainLora", "node_id": "4", "exception_message": "The folder is empty.\n"}
    assert failure({"status": {"status_str": "error", "messages": [["execution_start", {}], ["execution_error", error]]}}) == (
        "AthanorTrainLora (node 4) failed: The folder is empty."
    )
    interrupted = {"status": {"status_str": "error", "messages": [["execution_interrupted", error]]}}
    assert failure(interrupted) == "interrupted at AthanorTrainLora (node 4)"
    assert failure({"status": {"status_str": "success", "messages": []}}) is None

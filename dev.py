#!/usr/bin/env python3
"""Everything for trying and developing Athanor, on a machine with nothing but Python 3.10 or newer.

    python dev.py demo [--out DIR]     from a folder of images to a compared LoRA, in a real ComfyUI
    python dev.py test [...]           every test that this machine can run; further words go to pytest
    python dev.py comfyui [...]        a ComfyUI with the pack, until Ctrl+C
    python dev.py install              only what the others do first: .venv and ComfyUI

The first call installs the pinned packages into .venv and ComfyUI into .comfyui; later calls find them done. Nothing is
written outside this folder (and the --out folder). Standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 - the person may have an older one
    sys.exit("Athanor needs Python 3.10 or newer; this is " + sys.version.split()[0] + ".")

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tools"))

import comfyui_server  # noqa: E402
import demo  # noqa: E402

VENV = ROOT / ".venv"
WORK = ROOT / ".comfyui"
COMFYUI = WORK / "ComfyUI"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "athanor-stamp.json"
REQUIREMENTS = ROOT / "requirements-dev.txt"
REQUIREMENTS_NO_DEPS = ROOT / "tools" / "requirements-no-deps.txt"
REQUIREMENTS_COMFYUI = ROOT / "tools" / "requirements-comfyui.txt"
SHIM = ROOT / "tools" / "cpu_shims" / "athanor_cpu_shims.py"
INSTALL_VERSION = "1"
"""Raised when the steps below change, so that an environment made by the older ones is made anew."""
MAX_TEST_PROCESSES = 4
"""Each may run a ComfyUI and a training, about 2 GiB."""


class DevError(Exception):
    """A step failed; the message is for the person at the terminal."""


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# --- the environment ---------------------------------------------------------------------------------------------------


def install() -> None:
    """Makes what is missing of .venv and ComfyUI. A stamp is written after each part's last step, so a broken off one is repeated."""
    wanted = {"packages": _digest(REQUIREMENTS, REQUIREMENTS_NO_DEPS, SHIM), "pack": _digest(ROOT / "pyproject.toml", ROOT / "requirements.txt")}
    done = _read_stamp()
    if done.get("packages") != wanted["packages"] or not PYTHON.exists():
        _install_packages(fresh=done.get("python") != _python_version() or not PYTHON.exists())
        done = {"python": _python_version(), "packages": wanted["packages"]}
        _write_stamp(done)
    if done.get("pack") != wanted["pack"]:
        say("Installing the pack itself, editable …")
        _pip("install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
        _write_stamp({**done, "pack": wanted["pack"]})
    _get_comfyui()


def _python_version() -> str:
    return f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor} {sys.platform}"


def _digest(*files: Path) -> str:
    digest = hashlib.sha256(f"{INSTALL_VERSION}\n{_python_version()}\n{ROOT}\n".encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _read_stamp() -> dict[str, str]:
    try:
        return json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _write_stamp(content: dict[str, str]) -> None:
    temporary = STAMP.with_suffix(".tmp")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.replace(STAMP)


def _install_packages(fresh: bool) -> None:
    started = time.monotonic()
    STAMP.unlink(missing_ok=True)
    if fresh:
        say(f"Making a Python environment in {VENV} …")
        _step(
            [sys.executable, "-m", "venv", "--clear", str(VENV)], "Making the environment failed (on Debian and Ubuntu: install python3-venv first)."
        )
    say("Installing the pinned packages (PyTorch alone is large: several minutes the first time) …")
    _pip("install", "--requirement", str(REQUIREMENTS))
    _pip("install", "--no-deps", "--requirement", str(REQUIREMENTS_NO_DEPS))
    _add_shim()
    say(f"Installed in {time.monotonic() - started:.0f} s.")


def _add_shim() -> None:
    """Puts the stand-ins of tools/cpu_shims where .venv's Python finds them at every start."""
    asked = subprocess.run([str(PYTHON), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True, check=True)
    packages = Path(asked.stdout.strip())
    shutil.copyfile(SHIM, packages / SHIM.name)
    (packages / "athanor_cpu_shims.pth").write_text(f"import {SHIM.stem}\n", encoding="utf-8")


def _get_comfyui() -> None:
    """ComfyUI in .comfyui/ComfyUI. The folder appears by a rename at the end, with the digest of what it came from in it."""
    mark = COMFYUI / "athanor-source.txt"
    wanted = hashlib.sha256(REQUIREMENTS_COMFYUI.read_bytes()).hexdigest()
    if mark.is_file() and mark.read_text(encoding="utf-8") == wanted:
        return
    say("Getting ComfyUI …")
    loading = WORK / "loading"
    shutil.rmtree(loading, ignore_errors=True)
    loading.mkdir(parents=True)
    _pip("download", "--no-deps", "--no-binary", ":all:", "--ignore-requires-python", "--no-build-isolation", "--require-hashes",
         "--requirement", str(REQUIREMENTS_COMFYUI), "--dest", str(loading))  # fmt: skip
    (archive,) = loading.glob("*.tar.gz")
    _unpack_comfyui(archive, loading / "ComfyUI")
    (loading / "ComfyUI" / mark.name).write_text(wanted, encoding="utf-8")
    if COMFYUI.exists():
        shutil.rmtree(COMFYUI)
    (loading / "ComfyUI").rename(COMFYUI)
    shutil.rmtree(loading)


def _unpack_comfyui(archive: Path, destination: Path) -> None:
    """Takes what is under <top folder>/vendor/ComfyUI/ out of the archive."""
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = Path(member.name).parts
            if parts[1:3] != ("vendor", "ComfyUI") or ".." in parts or not (member.isfile() or member.isdir()):
                continue
            target = destination.joinpath(*parts[3:])
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None
            with content, target.open("wb") as file:
                shutil.copyfileobj(content, file)
    if not (destination / "main.py").is_file():
        raise DevError(f"{archive.name} holds no ComfyUI.")


def _pip(*arguments: str) -> None:
    _step(
        [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments],
        f"`pip {arguments[0]}` failed. Is the package index reachable, and is there room on the disk? Run the same command again to go on.",
    )


def _step(command: Sequence[str], problem: str) -> None:
    """Runs a command, on a terminal with its last line as progress; raises DevError with `problem` and the end of its output."""
    lines: list[str] = []
    on_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns - 1
    environment = comfyui_server.server_environment()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace", env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            if on_terminal:
                sys.stdout.write("\r" + line.strip()[:width].ljust(width))
                sys.stdout.flush()
    if on_terminal and lines:
        sys.stdout.write("\r" + " " * width + "\r")
    if process.returncode:
        raise DevError(f"{problem}\nThe end of its output:\n" + "\n".join(lines[-15:]))


# --- the commands ------------------------------------------------------------------------------------------------------


def run_comfyui(options: argparse.Namespace) -> int:
    comfyui: Path = options.comfyui or COMFYUI
    if not (comfyui / "main.py").is_file():
        raise DevError(f"{comfyui} is no ComfyUI: it has no main.py.")
    python: Path = options.python or PYTHON
    base = options.base_directory or (None if options.comfyui else WORK / "base")
    cpu = not comfyui_server.gpu_is_usable(python)
    command = comfyui_server.server_command(python, comfyui.resolve(), WORK, options.port, base and base.resolve(), cpu, options.arguments)
    say(
        f"ComfyUI with Athanor: http://127.0.0.1:{options.port} in about half a minute{' (no GPU found: on the CPU)' if cpu else ''}. Ctrl+C ends it."
    )
    if options.comfyui is None:
        say("(It will complain that comfyui-workflow-templates is not installed: large pictures of stock workflows, left out here.)")
    process = subprocess.Popen(command, cwd=comfyui, env=comfyui_server.server_environment())
    try:
        return process.wait()
    except KeyboardInterrupt as reason:
        _pass_on(reason, process)
        try:
            process.wait(timeout=20)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.kill()
        return 0


def run_demo(options: argparse.Namespace) -> int:
    demo.run(PYTHON, COMFYUI, WORK, options.out.resolve(), say)
    return 0


def run_tests(options: argparse.Namespace) -> int:
    environment = comfyui_server.server_environment()
    environment.setdefault("ATHANOR_COMFYUI", str(COMFYUI))
    num = min(os.cpu_count() or 1, MAX_TEST_PROCESSES)
    side_by_side: list[str] = []
    if num > 1 and not any(word == "-s" or word.startswith(("-n", "--pdb", "--capture=no")) for word in options.arguments):
        # A file's tests stay together (they share what is costly to make), in the order of the files: those with servers first.
        side_by_side = ["-n", str(num), "--dist", "loadfile", "--no-loadscope-reorder"]
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // num)))
    process = subprocess.Popen([str(PYTHON), "-m", "pytest", *side_by_side, *options.arguments], cwd=ROOT, env=environment)
    try:
        return process.wait()
    except KeyboardInterrupt as reason:
        _pass_on(reason, process)
        return process.wait()


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="demo | test | comfyui | install")
    each = commands.add_parser("demo", help="train, save and compare a LoRA in a real ComfyUI, from the workflow example_workflows/quickstart.json")
    each.add_argument("--out", type=Path, default=ROOT / "out" / "demo", help="folder for the results (default: out/demo)")
    each = commands.add_parser("test", help="run the tests; further words go to pytest", add_help=False)
    each = commands.add_parser("comfyui", help="run a ComfyUI with the pack until Ctrl+C; words after -- go to ComfyUI")
    each.add_argument("--port", type=int, default=8188)
    each.add_argument("--comfyui", type=Path, help="your own ComfyUI folder instead of the fetched one; its models and outputs are used")
    each.add_argument(
        "--base-directory", type=Path, help="folder for models, input, output and user files (default: .comfyui/base, or your ComfyUI's own)"
    )
    each.add_argument("--python", type=Path, help="the Python that runs ComfyUI, such as the one of your ComfyUI (default: the one in .venv)")
    commands.add_parser("install", help="only install")
    words, passed_on = (list(words), []) if "--" not in words else (list(words[: words.index("--")]), list(words[words.index("--") + 1 :]))
    options, rest = parser.parse_known_args(words)
    if rest and options.command != "test":
        parser.error(f"unknown: {' '.join(rest)}" + (" (words for ComfyUI come after --)" if options.command == "comfyui" else ""))
    options.arguments = rest + passed_on
    return options


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which came to this process alone; Ctrl+C comes to the children as well."""


def _interrupt(*_: object) -> None:
    raise _Terminated


def _pass_on(reason: KeyboardInterrupt, process: subprocess.Popen[bytes]) -> None:
    if isinstance(reason, _Terminated):
        process.terminate() if os.name == "nt" else process.send_signal(signal.SIGINT)


def main(words: Sequence[str]) -> int:
    options = parse(words)
    signal.signal(signal.SIGTERM, _interrupt)  # so that a server is stopped then, too
    try:
        install()
        return {"demo": run_demo, "test": run_tests, "comfyui": run_comfyui, "install": lambda _: 0}[options.command](options)
    except (DevError, comfyui_server.ServerError, demo.DemoError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted. The same command goes on where this one stopped.\n")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What dev.py does again and what it does not, and what it says when a step fails. Nothing is installed here."""

from __future__ import annotations

import importlib.util
import io
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def dev(tmp_path, monkeypatch):
    """dev.py with its folders under tmp_path and with its outside steps replaced by a list of what they were asked: dev.asked."""
    spec = importlib.util.spec_from_file_location("dev_under_test", ROOT / "dev.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    requirements = tmp_path / "requirements-dev.txt"
    requirements.write_text("something==1\n", encoding="utf-8")
    module.VENV, module.WORK = tmp_path / ".venv", tmp_path / ".comfyui"
    module.COMFYUI = module.WORK / "ComfyUI"
    module.PYTHON = Path(sys.executable)
    module.STAMP = module.VENV / "athanor-stamp.json"
    module.REQUIREMENTS = requirements
    module.asked = []

    def step(command, problem):
        words = [word for word in map(str, command) if not word.startswith("-") or word == "--clear"]
        if "venv" in words:
            module.VENV.mkdir(exist_ok=True)
            module.asked.append("venv")
        else:
            module.asked.append(f"{words[2]} {Path(words[-1]).name}")
        if getattr(module, "fails_at", None) == module.asked[-1]:
            raise module.DevError(problem)

    monkeypatch.setattr(module, "_step", step)
    monkeypatch.setattr(module, "_add_shim", lambda: module.asked.append("shim"))
    monkeypatch.setattr(module, "_get_comfyui", lambda: module.asked.append("comfyui"))
    return module


ALL = ["venv", "install requirements-dev.txt", "install requirements-no-deps.txt", "shim", f"install {ROOT.name}", "comfyui"]


def calls(dev) -> list[str]:
    dev.asked.clear()
    dev.install()
    return list(dev.asked)


def test_a_second_call_installs_nothing(dev):
    assert calls(dev) == ALL
    assert calls(dev) == ["comfyui"]


def test_a_changed_requirement_is_noticed_and_keeps_the_environment(dev):
    calls(dev)
    dev.REQUIREMENTS.write_text("something==2\n", encoding="utf-8")
    assert calls(dev) == ALL[1:]
    assert calls(dev) == ["comfyui"]


def test_an_install_that_broke_off_is_repeated(dev):
    dev.fails_at = "install requirements-no-deps.txt"
    with pytest.raises(dev.DevError, match=r"`pip install` failed"):
        dev.install()
    assert not dev.STAMP.exists()
    dev.fails_at = None
    assert calls(dev) == ALL


def test_a_broken_off_update_does_not_pass_for_the_old_environment(dev):
    calls(dev)
    before = dev.REQUIREMENTS.read_text(encoding="utf-8")
    dev.REQUIREMENTS.write_text("something==2\n", encoding="utf-8")
    dev.fails_at = "install requirements-dev.txt"
    with pytest.raises(dev.DevError):
        dev.install()
    dev.fails_at = None
    dev.REQUIREMENTS.write_text(before, encoding="utf-8")
    assert "install requirements-dev.txt" in calls(dev)


def test_another_python_makes_a_new_environment(dev, monkeypatch):
    calls(dev)
    monkeypatch.setattr(dev, "_python_version", lambda: "cpython 3.99 linux")
    assert calls(dev) == ALL


def test_a_failed_step_shows_the_end_of_its_output(tmp_path):
    spec = importlib.util.spec_from_file_location("dev_under_test", ROOT / "dev.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    code = "import sys\nfor i in range(100): print('line', i)\nprint('ERROR: no such package')\nsys.exit(1)"
    with pytest.raises(module.DevError) as raised:
        module._step([sys.executable, "-c", code], "Getting it failed.")
    said = str(raised.value).splitlines()
    assert said[0] == "Getting it failed." and said[-1] == "ERROR: no such package" and len(said) < 20


def test_only_comfyui_is_unpacked(dev, tmp_path):
    archive = tmp_path / "source.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("top-1/vendor/ComfyUI/main.py", "top-1/vendor/ComfyUI/comfy/model.py", "top-1/setup.py", "top-1/vendor/ComfyUI/../../evil.py"):
            content = name.encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    dev._unpack_comfyui(archive, tmp_path / "to" / "ComfyUI")
    assert sorted(p.relative_to(tmp_path / "to").as_posix() for p in (tmp_path / "to").rglob("*.py")) == ["ComfyUI/comfy/model.py", "ComfyUI/main.py"]
    assert not list(tmp_path.rglob("evil.py"))


def test_an_archive_without_comfyui_is_told(dev, tmp_path):
    with tarfile.open(tmp_path / "source.tar.gz", "w:gz"):
        pass
    with pytest.raises(dev.DevError, match=r"source\.tar\.gz holds no ComfyUI"):
        dev._unpack_comfyui(tmp_path / "source.tar.gz", tmp_path / "ComfyUI")


def test_words_for_pytest_and_for_comfyui_are_passed_on(dev):
    assert dev.parse(["test", "-k", "server", "tests/comfy"]).arguments == ["-k", "server", "tests/comfy"]
    options = dev.parse(["comfyui", "--port", "9000", "--", "--listen", "0.0.0.0"])
    assert options.port == 9000 and options.arguments == ["--listen", "0.0.0.0"]
    with pytest.raises(SystemExit):
        dev.parse(["comfyui", "--listen"])
    with pytest.raises(SystemExit):
        dev.parse([])

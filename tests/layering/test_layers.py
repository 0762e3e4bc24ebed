"""Who may import whom, read from the sources, and what importing the pack may load."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("nodes", "tagger", "trainer")
MODULES = sorted(path.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).rglob("*.py"))

# The floors inside trainer: a room stands on what is left of it, never on what is right of it.
TORCH_FREE = (
    "trainer.errors", "trainer.files", "trainer.types", "trainer.registry", "trainer.config", "trainer.runs.events", "trainer.runs.run",
    "trainer.dataset", "trainer.compare.axes", "trainer.compare.grid", "trainer.compare.pace", "trainer.drawing.runs_plot",
    "trainer.scoring.table", "trainer.scoring.files", "trainer.scoring.plot", "tagger",
)  # fmt: skip
HEAVY = ("torch", "torchvision", "diffusers", "transformers", "peft", "accelerate", "onnxruntime", "onnx")
HOST_MODULES = ("folder_paths", "server", "comfy", "execution", "comfy_execution")


def imports_of(module: str) -> list[tuple[int, str]]:
    """Line and target of each import; relative ones resolved from the root, such as "trainer.files"."""
    path = PurePosixPath(module)
    package = path.parent.parts
    found = []
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"), module)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append((node.lineno, node.module or ""))
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1]
            target = ".".join([*above, *((node.module or "").split(".") if node.module else [])])
            for alias in node.names:  # `from . import errors` names a module, `from . import FAMILIES` a value
                name = ".".join([target, alias.name] if target else [alias.name])
                found.append((node.lineno, name if is_module(name) else target))
    return found


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def wrong_imports(wrong) -> list[str]:
    return [f"{module}:{line} imports {target}" for module in MODULES for line, target in imports_of(module) if wrong(module, target)]


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def test_the_reader_of_imports_resolves_relative_ones():
    targets = {target for _, target in imports_of("trainer/runs/run.py")}
    assert {"trainer.config", "trainer.errors", "trainer.files", "json"} <= targets


def test_only_relative_imports_inside_the_pack():
    assert not wrong_imports(lambda module, target: within(target, "athanor"))


def names_of(module: str) -> set[str]:
    """Everything that a module gives a name at its top, or imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"), module)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name):
            found.add(node.id)
    return found


def test_what_is_imported_is_there():
    """Also in the nodes, which are imported in a ComfyUI alone."""
    names = {module: names_of(module) for module in MODULES}
    missing = []
    for module in MODULES:
        package = PurePosixPath(module).parent.parts
        for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"), module)):
            if isinstance(node, ast.ImportFrom) and node.level:
                target = [*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else [])]
                file = "/".join(target) + ("/__init__.py" if (ROOT.joinpath(*target) / "__init__.py").is_file() else ".py")
                missing += [
                    f"{module}:{node.lineno} imports {alias.name}, which is not in {file}"
                    for alias in node.names
                    if alias.name not in names.get(file, ()) and not is_module(".".join([*target, alias.name]))
                ]
    assert not missing


def test_arrows_between_rooms():
    allowed = {"trainer": ("trainer",), "tagger": ("tagger",), "nodes": ROOMS}

    def wrong(module: str, target: str) -> bool:
        return within(target, *ROOMS) and not within(target, *allowed[module.split("/")[0]])

    assert not wrong_imports(wrong)


def test_only_the_host_files_know_the_host():
    def knows(module: str) -> bool:
        return module.startswith("nodes/host/") or module in ("nodes/patching.py", "nodes/stock_sampling.py")

    assert not wrong_imports(lambda module, target: within(target, *HOST_MODULES) and not knows(module))
    assert not wrong_imports(lambda module, target: within(target, "comfy_api") and not module.startswith("nodes/"))


def test_families_do_not_know_each_other():
    def wrong(module: str, target: str) -> bool:
        parts = target.split(".")
        if not module.startswith("trainer/families/") or parts[:2] != ["trainer", "families"] or len(parts) < 3:
            return False
        return not (parts[2].startswith("_") or parts[2] == "base" or PurePosixPath(module).name == "__init__.py")

    assert not wrong_imports(wrong)


def test_no_circles():
    """Among the imports at module level; a package's __init__ may gather what lies in it."""
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        name = module.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        top = {node.lineno for node in ast.parse((ROOT / module).read_text(encoding="utf-8")).body if isinstance(node, (ast.Import, ast.ImportFrom))}
        graph[name] = {target for line, target in imports_of(module) if line in top and within(target, *ROOMS) and target != name}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for target in sorted(graph.get(name, ())):
                visit(target, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_nodes_import_nothing_of_training():
    """The host has neither diffusers nor peft; torch it has, but loads it itself."""
    assert not wrong_imports(lambda module, target: module.startswith("nodes/") and within(target, "diffusers", "peft", "transformers", "accelerate"))


@pytest.mark.parametrize("module", TORCH_FREE)
def test_torch_free(module: str):
    if not ((ROOT / module.replace(".", "/")).is_dir() or (ROOT / (module.replace(".", "/") + ".py")).is_file()):
        pytest.skip(f"{module} is not there yet")
    submodules = "import pkgutil, importlib\npackage = sys.modules[name]\n" + (
        "for each in pkgutil.walk_packages(getattr(package, '__path__', []), name + '.'): importlib.import_module(each.name)\n"
    )
    code = f"import sys, importlib\nname = 'athanor.{module}'\nimportlib.import_module(name)\n{submodules}"
    code += f"print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.strip() == ""


def test_importing_the_root_loads_nothing():
    code = "import sys, time; before = set(sys.modules); t = time.process_time(); import athanor; s = time.process_time() - t; "
    code += "print(s, *sorted(name for name in set(sys.modules) - before if not name.startswith('__editable__')))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert said[1:] == ["athanor"]
    assert float(said[0]) < 0.2


def test_the_package_list_is_complete():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.findall(r'"([\w.]+)"', re.search(r"^packages = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)[1])
    there = [
        "athanor",
        *sorted("athanor." + ".".join(p.parent.relative_to(ROOT).parts) for room in ROOMS for p in (ROOT / room).rglob("__init__.py")),
    ]
    assert listed == there
    unlisted = [module for module in MODULES if not (ROOT / module).with_name("__init__.py").is_file()]
    assert not unlisted, "a folder with modules needs an __init__.py"


@pytest.mark.parametrize("module", ["__init__.py", "dev.py", *MODULES])
def test_grammar_of_python_3_10(module: str):
    ast.parse((ROOT / module).read_text(encoding="utf-8"), module, feature_version=(3, 10))


def test_every_open_names_its_encoding():
    """On Windows the default is not UTF-8."""
    wrong = []
    for module in MODULES:
        for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
            is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("read_text", "write_text")
            if is_call and not any(keyword.arg == "encoding" for keyword in node.keywords):
                wrong.append(f"{module}:{node.lineno}")
    assert not wrong

"""ComfyUI as the pack sees it: its folders, its memory, its progress bar and its Cancel button. No other file touches them."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.lora
import comfy.model_management
import comfy.quant_ops
import comfy.samplers
import comfy.utils
import folder_paths
from PIL import Image
from server import PromptServer

from ..trainer.errors import AthanorError

if TYPE_CHECKING:
    import torch

Interrupted = comfy.model_management.InterruptProcessingException
"""What the Cancel button raises; a BaseException in newer versions of ComfyUI, so it must be caught by name."""

PACK = Path(__file__).resolve().parent.parent
MINIATURE = "Athanor miniature (built in)"
DIFFUSION_MODELS = "diffusion_models/"
"""In front of the names of files that hold the denoiser alone."""
_DATASETS_KEY = "athanor_datasets"
_MAX_FOLDER_DEPTH = 3
_MAX_FOLDERS = 2000


def register_folders() -> None:
    """Tells ComfyUI of the folders that the nodes use, and of the epochs of earlier runs. Never fails: a pack that does is dropped."""
    models = Path(folder_paths.models_dir)
    folder_paths.add_model_folder_path("wd_taggers", str(models / "wd_taggers"))
    folder_paths.add_model_folder_path("torch_deepdanbooru", str(models / "torch_deepdanbooru"))
    folder_paths.add_model_folder_path("captioners", str(models / "captioners"))
    folder_paths.add_model_folder_path("tag_lexicons", str(models / "tag_lexicons"))
    folder_paths.add_model_folder_path("training_settings", str(models / "training_settings"))
    folder_paths.add_model_folder_path("face_detectors", str(models / "face_detectors"))
    for kind, folder in _epoch_folders(runs_root()):
        folder_paths.add_model_folder_path(kind, str(folder))


def register_epochs(run_folder: Path, kind: str) -> None:
    """Lets the stock loaders list the run's epochs. `kind` is "loras" or "embeddings"."""
    folder = run_folder / "epochs"
    folder.mkdir(parents=True, exist_ok=True)
    folder_paths.add_model_folder_path(kind, str(folder))


def _epoch_folders(root: Path) -> list[tuple[str, Path]]:
    from ..trainer.run import Run

    found = []
    try:
        folders = [folder for folder in root.iterdir() if (folder / "epochs").is_dir() and (folder / "job.json").is_file()]
    except OSError:
        return []
    for folder in folders:
        try:
            kind = "embeddings" if Run(folder).content() == "embedding" else "loras"
        except AthanorError:
            continue
        found.append((kind, folder / "epochs"))
    return found


def runs_root() -> Path:
    return output_folder() / "athanor"


def output_folder() -> Path:
    return Path(folder_paths.get_output_directory())


def temp_folder() -> Path:
    """ComfyUI empties it when it starts."""
    return Path(folder_paths.get_temp_directory())


def cache_folder() -> Path:
    return runs_root() / ".cache"


def tagger_roots() -> list[Path]:
    """Where taggers lie: models/wd_taggers, the folder of the WD14 Tagger pack, and A1111's for DeepDanbooru."""
    own, of_a1111 = (map(Path, folder_paths.get_folder_paths(key)) for key in ("wd_taggers", "torch_deepdanbooru"))
    return [*own, Path(folder_paths.models_dir) / "wd14_tagger", *of_a1111]


def captioner_roots() -> list[Path]:
    """Where captioners lie: models/captioners, and models/LLM, where other packs keep Florence-2."""
    return [*map(Path, folder_paths.get_folder_paths("captioners")), Path(folder_paths.models_dir) / "LLM"]


def lexicon_files() -> dict[str, Path]:
    """The lists of tags in models/tag_lexicons, by name; of two with one name the one in the earlier folder."""
    found: dict[str, Path] = {}
    for root in map(Path, folder_paths.get_folder_paths("tag_lexicons")):
        for file in sorted(root.rglob("*.csv")):
            found.setdefault(file.relative_to(root).as_posix(), file)
    return found


def face_detector_files() -> dict[str, Path]:
    """Detectors in models/face_detectors, by name; and YuNet where other programs and packs keep it."""
    found: dict[str, Path] = {}
    for root in map(Path, folder_paths.get_folder_paths("face_detectors")):
        for file in sorted(root.rglob("*.onnx")):
            found.setdefault(file.relative_to(root).as_posix(), file)
    for other in ("facedetection", "opencv", "onnx"):
        for file in sorted((Path(folder_paths.models_dir) / other).glob("*yunet*.onnx")):
            found.setdefault(file.name, file)
    return found


def preset_files() -> list[Path]:
    """The pack's own files of settings."""
    return sorted((PACK / "trainer" / "presets").glob("*.toml"))


def parameter_files() -> dict[str, Path]:
    """Files of settings in ComfyUI's input folder and in models/training_settings, by name; the latter's first."""
    roots = [*map(Path, folder_paths.get_folder_paths("training_settings")), Path(folder_paths.get_input_directory())]
    return _files_below(roots, (".json", ".toml"))


def prompt_files() -> dict[str, Path]:
    """Files of prompts in ComfyUI's input folder, by name."""
    return _files_below([Path(folder_paths.get_input_directory())], (".txt", ".toml", ".json"))


def _files_below(roots: list[Path], endings: tuple[str, ...]) -> dict[str, Path]:
    """Files directly in `roots`, links resolved within them; of two with one name that of the earlier folder."""
    found: dict[str, Path] = {}
    for root in roots:
        try:
            files = sorted(file for file in root.iterdir() if file.suffix.lower() in endings and file.is_file() and is_within(file, root))
        except OSError:
            continue
        for file in files:
            found.setdefault(file.name, file)
    return found


def embedding_folders() -> list[Path]:
    return [Path(folder) for folder in folder_paths.get_folder_paths("embeddings")]


def run_names() -> list[str]:
    """The runs of the output folder, the newest first."""
    try:
        folders = [entry for entry in os.scandir(runs_root()) if (Path(entry.path) / "job.json").is_file()]
    except OSError:
        return []
    return [entry.name for entry in sorted(folders, key=lambda entry: entry.stat().st_mtime, reverse=True)]


def epoch_roots() -> list[Path]:
    """Folders below which Load Run may read epochs: those of LoRAs and embeddings, and ComfyUI's output."""
    return [*(Path(folder) for kind in ("loras", "embeddings") for folder in folder_paths.get_folder_paths(kind)), output_folder()]


def save_folder(kind: str) -> Path:
    """ComfyUI's own folder for "loras" or "embeddings"."""
    return Path(folder_paths.get_folder_paths(kind)[0])


def dataset_roots() -> list[Path]:
    """Folders whose subfolders may be loaded: ComfyUI's input, its datasets, and those that the owner has registered.

    A workflow is untrusted: it can name only what lies below one of these. The owner adds folders with
    `athanor_datasets:` in extra_model_paths.yaml, or in the environment variable ATHANOR_DATASETS.
    """
    roots = [Path(folder_paths.get_input_directory())]
    for key in (_DATASETS_KEY, "datasets"):
        if key in folder_paths.folder_names_and_paths:
            roots += map(Path, folder_paths.get_folder_paths(key))
    roots += [Path(part) for part in os.environ.get("ATHANOR_DATASETS", "").split(os.pathsep) if part]
    return list(dict.fromkeys(roots))


def dataset_names() -> list[str]:
    """Folders for the drop-down, relative to their root, at most three levels deep; the built-in one last."""
    names: list[str] = []
    for root in dataset_roots():
        names += _subfolders(root)
    return [*dict.fromkeys(sorted(names, key=str.lower)), MINIATURE]


def _subfolders(root: Path) -> list[str]:
    found: list[str] = []
    waiting = [(root, 0)]
    while waiting and len(found) < _MAX_FOLDERS:
        folder, depth = waiting.pop(0)
        try:
            children = [Path(entry.path) for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")]
        except OSError:
            continue
        found += [child.relative_to(root).as_posix() for child in children]
        if depth + 1 < _MAX_FOLDER_DEPTH:
            waiting += [(child, depth + 1) for child in children]
    return found


def dataset_folder(name: str) -> Path:
    """The folder of that name below a dataset root; a full path is taken if it lies below one.

    Raises AthanorError if there is none, telling the roots and how to add one.
    """
    if name == MINIATURE:
        return PACK / "trainer" / "miniature" / "concept"
    roots = dataset_roots()
    for root in roots:
        candidate = (root / name).resolve()
        if name.strip() and candidate.is_dir() and is_within(candidate, root):
            return candidate
    places = ", ".join(map(str, roots))
    raise AthanorError(
        f"There is no dataset folder {name!r} below {places}. Copy it there, or register its parent folder "
        f"with {_DATASETS_KEY} in extra_model_paths.yaml or in the environment variable ATHANOR_DATASETS."
    )


def dataset_file(name: str, folder: Path) -> Path:
    """The list of images of that name in `folder`, or below a dataset root. Raises AthanorError if there is none."""
    for root in (folder, *dataset_roots()):
        candidate = (root / name.strip()).resolve()
        if is_registered(candidate) and candidate.is_file():
            return candidate
    raise AthanorError(f"There is no file {name.strip()!r} in {folder} or below the registered dataset folders; give its path from there.")


def new_dataset_folder(name: str) -> Path:
    """Where pictures and captions are saved under that name: below ComfyUI's input, so that Load Dataset finds them.

    A full path is taken if it lies below a dataset root. Raises AthanorError for any other place, and for a root itself.
    """
    roots = dataset_roots()
    folder = (roots[0] / name.strip()).resolve()
    if not any(is_within(folder, root) and folder != root.resolve() for root in roots):
        places = ", ".join(map(str, roots))
        raise AthanorError(f"Nothing is saved to {name.strip()!r}: it does not lie below {places}. Give a name such as my-set.")
    return folder


def is_registered(path: Path) -> bool:
    """Whether `path`, links resolved, lies below a dataset root, so that a workflow may have it read."""
    return any(is_within(path, root) for root in dataset_roots())


def pictures_folder() -> Path:
    """Where images that come from a graph are kept for the runs that train on them."""
    return runs_root() / ".pictures"


def may_be_shown(image: Path) -> bool:
    """Whether the page may show this picture: it lies, links resolved, where the dataset nodes take and keep theirs."""
    return is_registered(image) or any(is_within(image, root) for root in (pictures_folder(), dataset_folder(MINIATURE)))


def add_route(method: str, path: str, handler: Callable[..., Awaitable[object]]) -> None:
    """Has ComfyUI's server answer `path`; does nothing where there is no server."""
    from server import PromptServer

    instance = getattr(PromptServer, "instance", None)
    if instance is not None:
        instance.routes.route(method, path)(handler)


def tell_pages(event: str, data: dict[str, str]) -> None:
    """Sends an event to every open page, from any thread; does nothing where there is no server."""
    instance = getattr(PromptServer, "instance", None)
    if instance is not None:
        instance.send_sync(event, data)


def is_within(path: Path, root: Path) -> bool:
    """True if `path`, links resolved, is `root` or lies below it."""
    return path.resolve().is_relative_to(root.resolve())


def base_model_names() -> list[str]:
    """Checkpoints, diffusers folders and diffusion models as ComfyUI lists them; the built-in miniature last."""
    split = [DIFFUSION_MODELS + name for name in split_names("diffusion_models")]
    return [*dict.fromkeys([*folder_paths.get_filename_list("checkpoints"), *_diffusers_folders(), *split]), MINIATURE]


def _diffusers_folders() -> list[str]:
    found = []
    for root in map(Path, folder_paths.get_folder_paths("diffusers")):
        found += [
            index.parent.relative_to(root).as_posix() for index in sorted(root.glob("*/model_index.json")) + sorted(root.glob("*/*/model_index.json"))
        ]
    return found


def base_model_path(name: str) -> Path:
    """The checkpoint file or diffusers folder of that name. Raises AthanorError if ComfyUI knows none."""
    if name == MINIATURE:
        return PACK / "trainer" / "miniature" / "base"
    if name.startswith(DIFFUSION_MODELS):
        return split_path("diffusion_models", name.removeprefix(DIFFUSION_MODELS))
    checkpoint = folder_paths.get_full_path("checkpoints", name)
    if checkpoint is not None:
        return Path(checkpoint)
    for root in map(Path, folder_paths.get_folder_paths("diffusers")):
        folder = root / name
        if (folder / "model_index.json").is_file() and is_within(folder, root):
            return folder
    raise AthanorError(f"There is no base model {name!r}; put it into models/checkpoints or models/diffusers and press R to refresh.")


def lora_names() -> list[str]:
    """Every LoRA file, as the stock loaders list them."""
    return folder_paths.get_filename_list("loras")


def lora_path(name: str) -> Path:
    """The LoRA file of that name. Raises AthanorError if ComfyUI knows none."""
    path = folder_paths.get_full_path("loras", name) or folder_paths.get_full_path("loras", f"{name}.safetensors")
    if path is None:
        raise AthanorError(f"There is no LoRA {name!r}; put it into models/loras and press R to refresh, or write its name as Load LoRA lists it.")
    return Path(path)


def changed_at(name: str) -> int:
    """When the LoRA of that name was last written, in ns; 0 where there is none."""
    path = folder_paths.get_full_path("loras", name) or folder_paths.get_full_path("loras", f"{name}.safetensors")
    return Path(path).stat().st_mtime_ns if path else 0


def temporary_folder() -> Path:
    """Emptied by ComfyUI when it starts."""
    return Path(folder_paths.get_temp_directory())


def split_names(kind: str) -> list[str]:
    """Files of one part, of models/text_encoders, models/vae or models/diffusion_models."""
    return [name for name in folder_paths.get_filename_list(kind) if name.lower().endswith((".safetensors", ".ckpt", ".pt"))]


def split_path(kind: str, name: str) -> Path:
    """Raises AthanorError if ComfyUI knows none of that name."""
    found = folder_paths.get_full_path(kind, name)
    if found is None:
        raise AthanorError(f"There is no file {name!r} in models/{kind}; put it there and press R to refresh.")
    return Path(found)


def bases_folder() -> Path:
    """Where models that come from a graph are kept for the runs that train on them."""
    return runs_root() / ".bases"


def baked_weight(patches: list, key: str, device: torch.device) -> torch.Tensor:
    """The weight of `key` with everything that a graph has put upon it, in fp32; `patches` as `get_key_patches` gives them."""
    (weight, convert), *changes = patches
    plain = convert(comfy.model_management.cast_to_device(weight, device, None, copy=True), inplace=True)
    if isinstance(plain, comfy.quant_ops.QuantizedTensor):
        plain = plain.dequantize()
    return comfy.lora.calculate_weight(changes, plain.float(), key)


def clip_tokenizer_folder() -> Path:
    """Of CLIP's vocabulary, which ComfyUI brings."""
    return Path(comfy.__path__[0]) / "sd1_tokenizer"


def tokenizer_folders() -> tuple[Path, ...]:
    """ComfyUI brings the tokenizers of the model families it knows."""
    return (Path(comfy.__path__[0]),)


def free_memory() -> None:
    """Makes room for the worker: every model that ComfyUI holds on the GPU goes."""
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()


def samplers() -> list[str]:
    return list(comfy.samplers.SAMPLER_NAMES)


def schedulers() -> list[str]:
    return list(comfy.samplers.SCHEDULER_NAMES)


def checkpoint_names() -> list[str]:
    """Checkpoints that ComfyUI's own loader takes."""
    return list(folder_paths.get_filename_list("checkpoints"))


def say(node_id: str | None, text: str) -> None:
    """A line of text on the node while it works."""
    if node_id is not None:
        PromptServer.instance.send_progress_text(text, node_id)


def raise_if_interrupted() -> None:
    comfy.model_management.throw_exception_if_processing_interrupted()


def is_interrupted() -> bool:
    """Whether Cancel was pressed since it was last raised."""
    return comfy.model_management.processing_interrupted()


class Progress:
    """The progress bar of a node. Raises `Interrupted` after the Cancel button was pressed."""

    def __init__(self, node_id: str | None):
        self._bar = comfy.utils.ProgressBar(1, node_id=node_id)

    def show(self, value: int, total: int, preview: Image.Image | None = None, preview_px: int = 512) -> None:
        raise_if_interrupted()
        shown = ("JPEG", preview, preview_px) if preview is not None else None
        self._bar.update_absolute(value, max(1, total), shown)

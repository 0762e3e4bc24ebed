"""Models as ComfyUI lists them, by name."""

from __future__ import annotations

from pathlib import Path

import comfy
import folder_paths

from ...trainer.errors import AthanorError
from ...trainer.formats.embedding import EMBEDDING_ENDINGS
from ...trainer.formats.header import MODEL_ENDINGS
from .folders import MINIATURE, PACK, is_within

DIFFUSION_MODELS = "diffusion_models/"
"""In front of the names of files that hold the denoiser alone."""


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


def checkpoint_names() -> list[str]:
    """Checkpoints that ComfyUI's own loader takes."""
    return list(folder_paths.get_filename_list("checkpoints"))


def lora_names() -> list[str]:
    """Every LoRA file, as the stock loaders list them."""
    return folder_paths.get_filename_list("loras")


def lora_path(name: str) -> Path:
    """The LoRA file of that name. Raises AthanorError if ComfyUI knows none."""
    path = folder_paths.get_full_path("loras", name) or folder_paths.get_full_path("loras", f"{name}.safetensors")
    if path is None:
        raise AthanorError(f"There is no LoRA {name!r}; put it into models/loras and press R to refresh, or write its name as Load LoRA lists it.")
    return Path(path)


def embedding_names() -> list[str]:
    return [name for name in folder_paths.get_filename_list("embeddings") if name.lower().endswith(EMBEDDING_ENDINGS)]


def embedding_path(name: str) -> Path:
    """The embedding of that name. Raises AthanorError if ComfyUI knows none."""
    path = next((found for ending in ("", *EMBEDDING_ENDINGS) if (found := folder_paths.get_full_path("embeddings", name + ending))), None)
    if path is None:
        raise AthanorError(f"There is no embedding {name!r}; put it into models/embeddings and press R to refresh.")
    return Path(path)


def changed_at(name: str) -> int:
    """When the LoRA of that name was last written, in ns; 0 where there is none."""
    path = folder_paths.get_full_path("loras", name) or folder_paths.get_full_path("loras", f"{name}.safetensors")
    return Path(path).stat().st_mtime_ns if path else 0


def split_names(kind: str) -> list[str]:
    """Files of one part, of models/text_encoders, models/vae or models/diffusion_models."""
    return [name for name in folder_paths.get_filename_list(kind) if name.lower().endswith(MODEL_ENDINGS)]


def split_path(kind: str, name: str) -> Path:
    """Raises AthanorError if ComfyUI knows none of that name."""
    found = folder_paths.get_full_path(kind, name)
    if found is None:
        raise AthanorError(f"There is no file {name!r} in models/{kind}; put it there and press R to refresh.")
    return Path(found)


def clip_tokenizer_folder() -> Path:
    """Of CLIP's vocabulary, which ComfyUI brings."""
    return Path(comfy.__path__[0]) / "sd1_tokenizer"


def tokenizer_folders() -> tuple[Path, ...]:
    """ComfyUI brings the tokenizers of the model families it knows."""
    return (Path(comfy.__path__[0]),)


def tagger_roots() -> list[Path]:
    """Where taggers lie: models/wd_taggers, the folder of the WD14 Tagger pack, and A1111's for DeepDanbooru."""
    own, of_a1111 = (map(Path, folder_paths.get_folder_paths(key)) for key in ("wd_taggers", "torch_deepdanbooru"))
    return [*own, Path(folder_paths.models_dir) / "wd14_tagger", *of_a1111]


def captioner_roots() -> list[Path]:
    """Where captioners lie: models/captioners, and models/LLM, where other packs keep Florence-2."""
    return [*map(Path, folder_paths.get_folder_paths("captioners")), Path(folder_paths.models_dir) / "LLM"]


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


def image_encoders() -> dict[str, Path]:
    """Models that judge what pictures show, by name: CLIP and DINO in models/image_encoders (folders, .onnx), and ComfyUI's own in models/clip_vision."""
    found: dict[str, Path] = {}
    for root in map(Path, folder_paths.get_folder_paths("image_encoders")):
        for path in sorted([*root.glob("*/config.json"), *root.glob("*/*/config.json")]):
            found.setdefault(path.parent.relative_to(root).as_posix(), path.parent)
        for path in sorted(root.rglob("*.onnx")):
            found.setdefault(path.relative_to(root).as_posix(), path)
    for name in folder_paths.get_filename_list("clip_vision"):
        if name.lower().endswith(".safetensors") and (path := folder_paths.get_full_path("clip_vision", name)):
            found.setdefault(f"clip_vision/{name}", Path(path))
    return found

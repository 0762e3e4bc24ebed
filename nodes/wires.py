"""MODEL, CLIP and VAE of a graph as files: the loader's own where the wire is as it was loaded, else written once.

A written file goes by what it is made of: the same merge, queued again, finds it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..trainer.data.cache_folder import clean_folder, mark_used, size_limit_bytes
from ..trainer.errors import AthanorError
from ..trainer.formats.contents import in_diffusers_names
from ..trainer.formats.files import Planned, Streamed, save_streamed
from ..trainer.formats.header import is_safe, read_header
from . import host
from .given import give

if TYPE_CHECKING:
    import torch

_NUM_SAMPLES, _NUM_TOLD = 256, 3
"""Numbers of each tensor that tell it from others; kinds that a sentence names."""
_BYTES = ("torch.uint8", "torch.int8")
_DTYPES = {"torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16"}
_ODD_SAMPLINGS = frozenset({"X0", "EDM", "ModelSamplingContinuousEDM", "ModelSamplingDiscreteEDM", "StableCascadeSampling", "IMG_TO_IMG_FLOW"})
"""ComfyUI's classes whose models learn another target, or on another noise schedule, though they are made of those that go."""


@dataclass(frozen=True)
class Part:
    """One wire as files."""

    paths: tuple[Path, ...]
    written: bool
    """Whether it was made here, since no loader's file holds what the wire carries."""


def model_part(model: Any) -> Part:
    """The denoiser of a MODEL wire. Raises AthanorError for what cannot be written down."""
    return _part(model, "diffusion_model.", "model.")


def clip_part(clip: Any) -> Part:
    """The text encoders of a CLIP wire, in ComfyUI's names."""
    return _part(clip.patcher, "", "")


def vae_part(vae: Any) -> Part:
    vae.throw_exception_if_invalid()
    if "encoder.conv_in.weight" not in vae.patcher.model_state_dict():
        raise AthanorError("This VAE is a small one for previews (TAESD), or of another kind than Stable Diffusion's; connect the model's own VAE.")
    return _part(vae.patcher, "", "first_stage_model.")


def prediction_of(model: Any) -> tuple[str, bool]:
    """What the wire's denoiser predicts, and whether its last time is noise alone: as its sampling says, which a node may have changed.

    Raises AthanorError for a sampling that no training here goes with.
    """
    sampling = model.get_model_object("model_sampling")
    kinds = {kind.__name__ for kind in type(sampling).__mro__}
    if "CONST" in kinds and "IMG_TO_IMG_FLOW" not in kinds:
        return "flow", False
    odd = kinds & _ODD_SAMPLINGS
    if odd or not kinds & {"V_PREDICTION", "EPS"}:
        told = " and ".join(sorted(odd or kinds - {"object", "Module"}))
        raise AthanorError(
            f"The model on this wire is sampled in a way that cannot be trained ({told}), as ModelSamplingDiscrete with x0 or ModelSamplingContinuousEDM set it; "
            "connect the model from before that node."
        )
    return ("v", bool(getattr(sampling, "zsnr", False))) if "V_PREDICTION" in kinds else ("epsilon", False)


def _part(patcher: Any, prefix: str, written_prefix: str) -> Part:
    _check(patcher)
    if not patcher.patches:
        source = _source(patcher)
        if source:
            return Part(source, written=False)
    patches = {key: value for key, value in patcher.get_key_patches().items() if key.startswith(prefix) and hasattr(value[0][0], "dtype")}
    packed = next((key for key, value in patches.items() if not _is_number(value[0][0])), None)
    if packed is not None:
        raise AthanorError(
            f"This wire keeps its weights packed ({type(patches[packed][0][0]).__name__} of {patches[packed][0][0].dtype}), as GGUF and NF4 do, "
            "which cannot be trained upon; load the bf16, fp16 or fp8 file of this model."
        )
    path = host.bases_folder() / f"{_content_key(patches)}.safetensors"
    if not _is_whole(path):
        _write(path, patches, written_prefix, patcher.load_device)
    give([path])
    mark_used([path])
    clean_folder(path.parent, size_limit_bytes(path.parent))
    return Part((path,), written=True)


def _check(patcher: Any) -> None:
    changed = [name for name in patcher.object_patches if name.startswith(("diffusion_model", "first_stage_model", "transformer"))]
    if changed or patcher.injections or patcher.hook_patches:
        what = f"a changed {changed[0]}" if changed else "LoRAs in bypass mode" if patcher.injections else "hooks"
        raise AthanorError(f"This wire carries {what}, which is no part of the weights and cannot be trained upon; connect the model from before it.")
    told = patcher.model_options.get("transformer_options", {})
    kinds = [*told.get("patches", {}), *told.get("patches_replace", {})]
    if kinds:
        raise AthanorError(
            f"This wire carries patches of {', '.join(kinds[:_NUM_TOLD])} (as of IP-Adapter or FreeU), which are no part of the weights and cannot be "
            "trained upon; connect the model from before them."
        )


def _is_number(weight: torch.Tensor) -> bool:
    """Whether a weight is as it is said to be, or of ComfyUI's own quantised kinds, which it unfolds itself."""
    if hasattr(weight, "_qdata"):
        return True
    packed = str(weight.dtype) in _BYTES and weight.ndim > 1
    return not packed and not hasattr(weight, "tensor_type") and not hasattr(weight, "quant_state")


def _source(patcher: Any) -> tuple[Path, ...]:
    """The files that the loader has read; none where it does not say."""
    made = getattr(patcher, "cached_patcher_init", None)
    if not made or not made[1]:
        return ()
    named = made[1][0]
    paths = tuple(Path(each) for each in (named if isinstance(named, (list, tuple)) else (named,)) if isinstance(each, (str, Path)))
    return paths if paths and all(path.is_file() for path in paths) and not any(map(_is_in_diffusers_names, paths)) else ()


def _is_in_diffusers_names(path: Path) -> bool:
    """Of a denoiser, which ComfyUI translates and the trainer reads in its authors' names alone."""
    try:
        return is_safe(path) and in_diffusers_names(read_header(path))
    except AthanorError:
        return False


def _content_key(patches: dict[str, list]) -> str:
    """Of samples of every weight and of everything that is put upon it."""
    digest = hashlib.sha256()
    for key in sorted(patches):
        digest.update(key.encode("utf-8"))
        for piece in _pieces(patches[key]):
            digest.update(piece)
    return digest.hexdigest()[:32]


def _pieces(value: Any) -> Iterator[bytes]:
    """What a patch is made of; functions by their names. Raises AthanorError for a thing of an unknown kind."""
    if value is None or isinstance(value, (bool, int, float, str)):
        yield repr(value).encode("utf-8")
    elif hasattr(value, "element_size"):
        yield f"{tuple(value.shape)}{value.dtype}".encode()
        yield from _sampled(value)
    elif isinstance(value, (list, tuple)):
        yield f"{type(value).__name__}{len(value)}".encode()
        for each in value:
            yield from _pieces(each)
    elif isinstance(value, dict):
        for name in sorted(value):
            yield str(name).encode("utf-8")
            yield from _pieces(value[name])
    elif hasattr(value, "weights"):
        # An adapter of ComfyUI's: its name and the tensors that it holds.
        yield str(getattr(value, "name", type(value).__name__)).encode("utf-8")
        yield from _pieces(value.weights)
    elif callable(value):
        yield getattr(value, "__qualname__", type(value).__name__).encode("utf-8")
    else:
        raise AthanorError(f"This wire carries a change of the kind {type(value).__name__}, which is not known; connect the model from before it.")


def _sampled(tensor: torch.Tensor) -> Iterator[bytes]:
    import torch

    if hasattr(tensor, "dequantize") and type(tensor) not in (torch.Tensor, torch.nn.Parameter) and hasattr(tensor, "_qdata"):
        tensor = tensor._qdata
    flat = tensor.detach().reshape(-1)
    if flat.numel():
        step = max(1, flat.numel() // _NUM_SAMPLES)
        yield flat[::step][:_NUM_SAMPLES].to("cpu").float().numpy().tobytes()


def _is_whole(path: Path) -> bool:
    try:
        read_header(path)
    except AthanorError:
        return False
    return True


def _write(path: Path, patches: dict[str, list], prefix: str, device: torch.device) -> None:
    import torch

    def streamed(key: str) -> Streamed:
        weight = patches[key][0][0]

        def read() -> torch.Tensor:
            host.raise_if_interrupted()
            return host.baked_weight(patches[key], key, device)

        # Quantised weights are written in bf16, in which such models are trained.
        return Streamed(Planned(_DTYPES.get(str(weight.dtype), "BF16"), tuple(weight.shape)), read)

    host.free_memory()
    with torch.no_grad():
        save_streamed(path, {prefix + key: streamed(key) for key in patches}, {"athanor": "a model of a graph, written for training"})

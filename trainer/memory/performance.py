"""Makes a model ready to be trained fast or small: checkpointing, attention, compiled and offloaded blocks."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from ..errors import AthanorError
from ..settings import PerformanceSettings
from .devices import checkpointing_for, free_bytes, saved_bytes
from .offload import BlockOffload, repeated_blocks

if TYPE_CHECKING:
    import torch
    from torch import nn

_PACKAGES = {"flash": ("flash_attn", "flash-attn"), "xformers": ("xformers", "xformers")}
MOST_STAGED_SHAPES = 3
"""Sizes of batches up to which whole stages of a U-Net are compiled, on the CPU: elsewhere compiling them takes too long for what it gives."""


def performance_problems(settings: PerformanceSettings, device_type: str) -> list[str]:
    """A sentence for each thing that does nothing, or cannot work, on a device ("cuda", "mps", "xpu" or "cpu")."""
    problems = []
    if settings.compile and not _can_compile(device_type):
        needed = "Triton (on Windows: `pip install triton-windows`)" if device_type == "cuda" else "a C++ compiler (such as g++, or Visual Studio's)"
        problems.append(f"Performance: compile needs {needed}, and none was found; install it, or turn compile off.")
    if settings.attention != "auto":
        module, package = _PACKAGES[settings.attention]
        if device_type != "cuda":
            problems.append(f"Performance: attention {settings.attention} works on NVIDIA and AMD GPUs only; choose auto.")
        elif importlib.util.find_spec(module) is None:
            problems.append(f"Performance: attention {settings.attention} needs the package {package}; run `pip install {package}`, or choose auto.")
    for name in ("block_offload", "activation_offload"):
        if getattr(settings, name) and device_type != "cuda":
            problems.append(f"Performance: {name} moves memory between an NVIDIA or AMD GPU and the computer, and no such GPU is found; turn it off.")
    if settings.block_offload and settings.gradient_checkpointing in ("off", "partial"):
        problems.append("Performance: block_offload frees memory only with gradient_checkpointing full; set that to full or auto.")
    if settings.block_offload and settings.compile:
        problems.append("Performance: block_offload and compile do not go together; turn one of them off.")
    return problems


def _can_compile(device_type: str) -> bool:
    if device_type == "cuda":
        return importlib.util.find_spec("triton") is not None
    return bool(os.environ.get("CXX")) or any(shutil.which(compiler) for compiler in ("g++", "c++", "clang++", "cl"))


def set_checkpointing(denoiser: nn.Module, how: str) -> None:
    """How much of a diffusers model is computed a second time in the backward pass: "off", "partial" (every second block) or "full"."""
    import torch
    from torch.utils.checkpoint import checkpoint

    if how == "off":
        denoiser.disable_gradient_checkpointing()
        return
    order: dict[int, int] = {}

    def checkpointed(block: nn.Module, *inputs: Any) -> Any:
        # Numbered as they come for the first time.
        number = order.setdefault(id(block), len(order))
        if (how == "partial" and number % 2) or not torch.is_grad_enabled():
            return block(*inputs)
        return checkpoint(block.__call__, *inputs, use_reentrant=False)

    denoiser.enable_gradient_checkpointing(checkpointed)


def checkpoint_text(encoder: nn.Module, settings: PerformanceSettings, device: torch.device) -> None:
    """Has the blocks of a large text encoder that is trained computed twice: T5's 24 keep several GB of a caption otherwise."""
    how = settings.gradient_checkpointing
    if how == "off" or (how == "auto" and device.type == "cpu"):
        return
    from transformers.modeling_layers import GradientCheckpointingLayer

    # Its name before and after transformers 5.20.
    enable = getattr(encoder, "activation_checkpointing_enable", None) or encoder.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    for module in encoder.modules():
        if isinstance(module, GradientCheckpointingLayer):
            # Of the block alone: what it holds stays as it is, without dropout.
            module.training = True


def set_attention(denoiser: nn.Module, backend: str) -> None:
    """Through diffusers' dispatcher; U-Nets, whose attention does not ask it yet, through their own switch."""
    if backend == "auto":
        return
    if backend == "xformers" and hasattr(denoiser, "enable_xformers_memory_efficient_attention") and not _asks_the_dispatcher(denoiser):
        denoiser.enable_xformers_memory_efficient_attention()
    elif _asks_the_dispatcher(denoiser):
        denoiser.set_attention_backend(backend)
    else:
        raise AthanorError(f"{type(denoiser).__name__} has no attention {backend}; choose auto, which uses flash attention where the GPU has it.")


def _asks_the_dispatcher(denoiser: nn.Module) -> bool:
    return any(hasattr(getattr(module, "processor", None), "_attention_backend") for module in denoiser.modules())


def compile_blocks(denoiser: nn.Module, whole_stages: bool = False) -> None:
    """Compiles the blocks that a model repeats, each kind once; adapters must be attached before.

    `whole_stages`: of a U-Net, its stages with all that is in them, each for every size of batch: faster steps, but several
    times as long to compile.
    """
    import torch._dynamo

    stages = [stage for name in ("down_blocks", "mid_block", "up_blocks") for stage in _listed(getattr(denoiser, name, None))]
    if whole_stages and stages:
        # All modules count together, and what is over the limit is not compiled at all.
        name = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
        setattr(torch._dynamo.config, name, max(getattr(torch._dynamo.config, name), len(stages) * MOST_STAGED_SHAPES))
        for stage in stages:
            _spare_upsamplers(stage)
            stage.compile(dynamic=False)
        return
    if not getattr(denoiser, "_repeated_blocks", None):
        raise AthanorError(f"{type(denoiser).__name__} has no repeated blocks that could be compiled; turn compile off.")
    denoiser.compile_repeated_blocks(fullgraph=False)


def _spare_upsamplers(stage: nn.Module) -> None:
    """Lets the enlarging layers of a stage double by copying: torch 2.13 compiles `interpolate` for the CPU so that no gradient comes through."""
    for layer in stage.modules():
        if type(layer).__name__ == "Upsample2D":
            layer.forward = _doubling(layer, layer.forward)  # type: ignore[method-assign]


def _doubling(layer: Any, plain: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The forward pass of diffusers' Upsample2D, x [B, C, H, W] to [B, C, 2H, 2W], the same to the bit; `plain` for other sizes and kinds."""
    import torch

    plain = torch.compiler.disable(plain)
    is_ours = layer.interpolate and layer.norm is None and not layer.use_conv_transpose

    def forward(hidden_states: torch.Tensor, output_size: tuple[int, int] | None = None, *args: Any, **kwargs: Any) -> torch.Tensor:
        batch, channels, height, width = hidden_states.shape
        doubled = (2 * height, 2 * width)
        if not is_ours or args or kwargs or (output_size is not None and tuple(output_size) != doubled):
            return plain(hidden_states, output_size, *args, **kwargs)
        x = hidden_states[:, :, :, None, :, None].expand(batch, channels, height, 2, width, 2).reshape(batch, channels, *doubled)
        if not layer.use_conv:
            return x
        return layer.conv(x) if layer.name == "conv" else layer.Conv2d_0(x)

    return forward


def _listed(found: object) -> list[Any]:
    return [] if found is None else list(found) if isinstance(found, Iterable) else [found]


def uncompiled(settings: PerformanceSettings) -> AbstractContextManager[Any]:
    """Where what is compiled is left aside: measuring and drawing have other sizes, each of which would take minutes to compile."""
    if not settings.compile:
        return nullcontext()
    import torch

    # Since torch 2.6.
    return torch.compiler.set_stance("force_eager") if hasattr(torch.compiler, "set_stance") else nullcontext()


def keeping(settings: PerformanceSettings) -> Callable[[], AbstractContextManager[Any]]:
    """Around a forward pass: where that keeps what its backward pass will need."""
    if not settings.activation_offload:
        return nullcontext
    import torch

    return lambda: torch.autograd.graph.save_on_cpu(pin_memory=torch.cuda.is_available())


def prepare(
    denoiser: nn.Module,
    settings: PerformanceSettings,
    device: torch.device,
    largest_pass: Callable[[], Callable[[], torch.Tensor]],
    num_shapes: int,
    to_come_bytes: int = 0,
) -> str:
    """Sets a denoiser with its adapters up as `settings` say; returns the checkpointing that it has now.

    `largest_pass` makes the inputs of the largest batch and returns their pass through the denoiser, which is traced, not computed.
    `num_shapes`: how many sizes the batches have. `to_come_bytes`: what gradients and optimizer will take of the memory that is free yet.
    """
    set_attention(denoiser, settings.attention)
    checkpointing = settings.gradient_checkpointing
    if settings.block_offload:
        checkpointing = "full"
    elif checkpointing == "auto":
        # The computer's own memory is large, and computing twice on it is slow.
        checkpointing = (
            "off" if device.type == "cpu" else checkpointing_for(saved_bytes(denoiser, largest_pass()), free_bytes(device) - to_come_bytes)
        )
    set_checkpointing(denoiser, checkpointing)
    if settings.compile:
        compile_blocks(denoiser, device.type == "cpu" and checkpointing == "off" and num_shapes <= MOST_STAGED_SHAPES)
    return checkpointing


def offload_blocks(denoiser: nn.Module, device: torch.device) -> BlockOffload:
    """Brings a denoiser with its adapters to `device`, all but the frozen weights of its blocks."""
    blocks = repeated_blocks(denoiser)
    if not blocks:
        raise AthanorError(f"{type(denoiser).__name__} has no row of equal blocks, so block_offload cannot be used with it; turn it off.")
    offload = BlockOffload(blocks, device)
    denoiser.to(device)
    return offload

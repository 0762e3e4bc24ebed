"""A GPU that is not there: its tensors lie in the computer's memory and the processor computes them, but they say, and are held to
it, that they lie on a GPU.

    with pretended_gpu() as gpu:
        work(run, Control())

What fails on a GPU alone fails here too: tensors of two places in one operation, a tensor of the GPU given to NumPy, a generator of
the wrong place, a copy that is read before its stream has written it, more than fits. Where a tensor lies is a property of its
storage, as it is in truth, so that views, parameters and what autograd keeps lie where they should. `gpu.peak_bytes` counts what
is held there, to the byte.

Not pretended: a GPU's arithmetic, speed and compiled kernels, and what its allocator loses between blocks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest import mock

import bitsandbytes.nn.modules  # What loads while the GPU is pretended would take its patches for the truth.
import torch
import torch._dynamo  # Likewise.
from gpu_parts import CPU, CUDA, Generator, Gpu, Move, Stream, is_gpu
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

_aten = torch.ops.aten
_MAY_MIX = {_aten.copy_.default, _aten._to_copy.default, _aten.set_.source_Tensor}
_MAY_INDEX = {_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default, _aten._index_put_impl_.default}
_MOVES = {torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.cuda, torch.Tensor.type_as}
_ANSWERS = {
    torch.Tensor.device.__get__: CUDA,
    torch.Tensor.is_cuda.__get__: True,
    torch.Tensor.is_cpu.__get__: False,
    torch.Tensor.get_device: 0,
}
"""What a tensor of the GPU says of itself."""


class _Functions(TorchFunctionMode):
    """What Python code asks of tensors: where they lie, to be moved, to be made at a place."""

    def __init__(self, gpu: Gpu, kernels: _Kernels) -> None:
        super().__init__()
        self._gpu, self._kernels = gpu, kernels

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if _only_traced():
            if func in _ANSWERS:
                return _ANSWERS[func]
            args, kwargs = tree_map(lambda leaf: CPU if isinstance(leaf, torch.device) and is_gpu(leaf) else leaf, (args, kwargs))
            return func(*args, **kwargs)
        if func in _ANSWERS:
            return _ANSWERS[func] if self._gpu.has(args[0]) else func(*args)
        if func in _MOVES:
            return self._moved(func, args, kwargs)
        if func in (torch.Tensor.numpy, torch.Tensor.__array__) and self._gpu.has(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first.")
        if func is torch.Tensor.pin_memory:
            assert not self._gpu.has(args[0]), "only dense CPU tensors can be pinned"
            return args[0]
        return self._made(func, args, kwargs)

    def inside(self, called: Callable[..., Any]) -> Callable[..., Any]:
        """For what runs Python code within an operation, where this mode has stepped aside."""

        def seen(*args: Any, **kwargs: Any) -> Any:
            with self:
                return called(*args, **kwargs)

        return seen

    def _made(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        device, generator = kwargs.get("device"), kwargs.get("generator")
        asked = device is not None
        place = is_gpu(device) if asked else any(self._gpu.has(leaf) for leaf in _tensors((args, kwargs)))
        if generator is not None and place != getattr(generator, "on_gpu", False):
            raise RuntimeError(f"Expected a '{'cuda' if place else 'cpu'}' device type for generator but found '{generator.device.type}'")
        kwargs.pop("pin_memory", None)
        if asked and place:
            del kwargs["device"]
        with self._kernels.making(place, asked):
            made = func(*args, **kwargs)
        # What was made from numbers of Python.
        if asked and isinstance(made, torch.Tensor) and not made.is_meta and self._gpu.has(made) != place:
            return Move.apply(made, self._gpu, place)
        return made

    def _moved(self, func: Any, args: Any, kwargs: dict[str, Any]) -> torch.Tensor:
        """`to` and its kin; a tensor that is at its place already is not copied."""
        tensor, *rest = args
        if func is torch.Tensor.cpu:
            rest = [CPU]
        elif func is torch.Tensor.cuda:
            rest = [CUDA]
        there, kept = self._gpu.has(tensor), []
        for given in [*rest, kwargs.pop("device", None), kwargs.pop("other", None)]:
            if isinstance(given, torch.Tensor):
                there = self._gpu.has(given)
                kept.append(given.dtype)
            elif isinstance(given, (str, torch.device)):
                if torch.device(given).type == "meta":
                    return func(*args, "meta") if len(args) == 1 else func(*args)
                there = is_gpu(given)
            elif isinstance(given, torch.dtype):
                kept.append(given)
        kwargs.pop("non_blocking", None)
        if there != self._gpu.has(tensor):
            kwargs.pop("copy", None)
            tensor = Move.apply(tensor, self._gpu, there)
        with self._kernels.making(there, False):
            return torch.Tensor.to(tensor, *kept, **kwargs) if kept or kwargs else tensor


class _Kernels(TorchDispatchMode):
    """What is computed in the end: with tensors of one place alone, and the results lie there."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self._gpu = gpu
        self._place, self._forced = False, False

    @contextlib.contextmanager
    def making(self, place: bool, forced: bool) -> Iterator[None]:
        """Whether tensors that are made of none lie on the GPU; `forced`: also those that are made of others."""
        before = self._place, self._forced
        self._place, self._forced = place, forced
        try:
            yield
        finally:
            self._place, self._forced = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if _only_traced():
            return func(*args, **kwargs)
        kwargs.pop("pin_memory", None)
        given = list(_tensors((args, kwargs)))
        here = [tensor for tensor in given if self._gpu.has(tensor)]
        for tensor in here:
            self._gpu.read(tensor, func)
        if here and len(here) < len(given):
            self._check(func, args, given)
        place = self._place if self._forced or not given else bool(here)
        with self._gpu.chance() if place and torch.Tag.nondeterministic_seeded in func.tags else contextlib.nullcontext():
            made = func(*args, **kwargs)
        if place:
            known = {tensor.untyped_storage()._cdata for tensor in given}
            for tensor in _tensors(made):
                if not tensor.is_meta and tensor.untyped_storage()._cdata not in known:
                    self._gpu.take(tensor)
        return made

    def _check(self, func: Any, args: Any, given: list[torch.Tensor]) -> None:
        """Tensors of two places are for copies; single numbers may be the processor's where each element is computed for itself."""
        if func in _MAY_MIX:
            return
        others = [tensor for tensor in given if not self._gpu.has(tensor)]
        if func in _MAY_INDEX:
            others = [tensor for tensor in others if not any(tensor is index for index in args[1])]
        if torch.Tag.pointwise in func.tags or func in _MAY_INDEX:
            written = args[0] if func._schema.is_mutable else None
            others = [tensor for tensor in others if tensor.dim() or tensor is written]
        if others:
            told = ", ".join(f"{tuple(tensor.shape)} on {'cuda:0' if self._gpu.has(tensor) else 'cpu'}" for tensor in given)
            raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({func}: {told})")


def _tensors(tree: object) -> Iterable[torch.Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor))


def _only_traced() -> bool:
    """Whether nothing is computed now, but sizes are followed: then everything is said to lie on the GPU."""
    return torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is not None


def _as_cpu(kind: str) -> str:
    return "cpu" if kind == "cuda" else kind


@contextlib.contextmanager
def pretended_gpu(total_bytes: int = 24 << 30) -> Iterator[Gpu]:
    """In this thread, and in what autograd does for it."""
    gpu = Gpu(total_bytes)
    kernels = _Kernels(gpu)
    functions = _Functions(gpu, kernels)
    push_hooks = torch._C._autograd._push_saved_tensors_default_hooks
    grouped, enabled, dtype_of = torch._C._group_tensors_by_device_and_dtype, torch.is_autocast_enabled, torch.get_autocast_dtype

    def groups(lists: list[list[torch.Tensor | None]], with_indices: bool = False) -> dict[Any, Any]:
        """By what the tensors say: PyTorch asks below what Python sees."""
        return {
            (CUDA if any(tensor is not None and gpu.has(tensor) for tensor in found[0][0]) else device, dtype): found
            for (device, dtype), found in grouped(lists, with_indices).items()
        }

    class Autocast(torch.autocast):
        def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
            super().__init__(_as_cpu(device_type), *args, **kwargs)

    answers: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "is_bf16_supported": lambda *_, **__: True,
        "_lazy_init": lambda: None,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "get_device_name": lambda device=None: "pretended GPU",
        "get_device_capability": lambda device=None: (9, 0),
        "mem_get_info": lambda device=None: (gpu.total_bytes - gpu.held_bytes, gpu.total_bytes),
        "memory_allocated": lambda device=None: gpu.held_bytes,
        "memory_reserved": lambda device=None: gpu.held_bytes,
        "max_memory_reserved": lambda device=None: gpu.peak_bytes,
        "max_memory_allocated": lambda device=None: gpu.peak_bytes,
        "reset_peak_memory_stats": gpu.forget_peak,
        "empty_cache": lambda: None,
        "synchronize": lambda device=None: None,
        "get_rng_state": lambda device=None: gpu.rng_state.clone(),
        "set_rng_state": gpu.set_rng_state,
        "manual_seed": gpu.seed,
        "manual_seed_all": gpu.seed,
        "current_stream": lambda device=None: gpu.stream,
        "stream": gpu.entered,
        "Stream": Stream,
    }
    with contextlib.ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        for module, name, answer in (
            (torch._C, "_group_tensors_by_device_and_dtype", groups),
            (torch._C._autograd, "_push_saved_tensors_default_hooks", lambda *hooks: push_hooks(*map(functions.inside, hooks))),
            (torch.autograd, "_engine_run_backward", functions.inside(torch.autograd._engine_run_backward)),
            (torch.Tensor, "record_stream", lambda tensor, stream: None),
            (bitsandbytes.nn.modules, "has_avx512bf16", lambda: False),  # A form of the weights for processors alone.
            (torch, "Generator", Generator),
            (torch, "autocast", Autocast),
            (torch, "is_autocast_enabled", lambda kind="cuda": enabled(_as_cpu(kind))),
            (torch, "get_autocast_dtype", lambda kind: dtype_of(_as_cpu(kind))),
        ):
            stack.enter_context(mock.patch.object(module, name, answer))
        stack.enter_context(kernels)
        stack.enter_context(functions)
        yield gpu

"""Steps of weights that are kept in bf16 without a finer copy: rounded up or down by chance, so that small steps add up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def rounded_stochastically(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """`values` (fp32) in bf16: of the two neighbours each with the probability of the distance to the other.

    The mean over many roundings is the value itself (Gupta et al. 2015, section 3). bf16 is the upper half of fp32's bits:
    a random number added to the lower half carries over with the right probability. Numbers that are not finite stay so.
    """
    import torch

    if values.dtype != torch.float32:
        raise ValueError(f"Only fp32 can be rounded to bf16 by chance, not {values.dtype}.")
    chance = torch.randint(0, 1 << 16, values.shape, dtype=torch.int32, device=values.device, generator=generator)
    # A float's sign is a bit of its own, so that adding to the bits adds to the size of negative numbers, too.
    upper = (values.contiguous().view(torch.int32) + chance) & -(1 << 16)
    return torch.where(values.isfinite(), upper.view(torch.float32), values).to(torch.bfloat16)


@contextmanager
def in_fp32(trained: Iterable[torch.Tensor], seed: int) -> Iterator[None]:
    """Inside, those of `trained` that are bf16 are fp32 with fp32 gradients, so that any optimizer moves them exactly; afterwards they are rounded by chance.

    The optimizer's running means come out as fp32, too. The same seed rounds alike. The finer copies live only inside,
    when what a forward pass keeps is gone already.
    """
    import torch

    rough = [tensor for tensor in trained if tensor.dtype == torch.bfloat16]
    for tensor in rough:
        gradient, tensor.grad = tensor.grad, None
        tensor.data = tensor.data.float()
        tensor.grad = None if gradient is None else gradient.float()
    yield
    generators: dict[torch.device, torch.Generator] = {}
    for tensor in rough:
        if tensor.device not in generators:
            generators[tensor.device] = torch.Generator(tensor.device).manual_seed(seed)
        gradient, tensor.grad = tensor.grad, None
        tensor.data = rounded_stochastically(tensor.data, generators[tensor.device])

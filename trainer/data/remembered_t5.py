"""T5 that is not trained, in its place among text encoders that are: each caption is read once, and then T5 leaves memory.

Otherwise 9.5 GB of it would lie beside the denoiser and compute in every step, for the same states each time.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ..config import TrainJob
from ..families import family
from .cache import TensorCache, cache_key

if TYPE_CHECKING:
    import torch
    from torch import nn


def remembers_t5(job: TrainJob) -> bool:
    """Whether a LoRA's text encoders are trained beside a T5 that stays as it is, also in its words."""
    if job.kind != "lora" or not job.trains_text or job.word_names or job.optimizer.t5_rate > 0:
        return False
    return family(job.base.family).t5_part(job.base) is not None


class RememberedT5:
    """Called like the T5 that it stands for; `forget` lets that go, and from then on only what was read before is known."""

    def __init__(self, t5: nn.Module, identity: str, cache: TensorCache):
        """`identity`: of T5's weights, their number format, and what was merged into them."""
        self._t5: nn.Module | None = t5
        self._identity, self._cache = identity, cache
        self.device = next(t5.parameters()).device

    def __call__(self, input_ids: torch.Tensor, attention_mask: None = None) -> Any:
        """`last_hidden_state` [B, T, D] of tokens [B, T]."""
        import torch

        rows = input_ids.tolist()
        keys = [cache_key("t5, by tokens", self._identity, row) for row in rows]
        new = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._cache}
        if new:
            assert self._t5 is not None, "every caption was read while T5 was there"
            tokens = torch.tensor(list(new.values()), dtype=torch.long, device=self.device)
            with torch.no_grad():
                read = self._t5(input_ids=tokens, attention_mask=None).last_hidden_state
            for key, states in zip(new, read, strict=True):
                self._cache.put(key, {"states": states[None]}, "What T5 says of a caption", "text")
        return SimpleNamespace(last_hidden_state=torch.cat([self._cache[key]["states"] for key in keys]).to(self.device))

    def forget(self) -> None:
        self._t5 = None

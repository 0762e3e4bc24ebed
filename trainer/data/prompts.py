"""From captions to what the denoiser is told: by the live text encoder, or out of the cache once it has left memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..families.base import TEXT_PARTS, Conditioning, Family, Framing, Part, TextStack
from ..types import BaseModel
from .cache import TensorCache, cache_key
from .remembered_t5 import RememberedT5

if TYPE_CHECKING:
    import torch

_ENCODE_BATCH = 8


def text_fingerprint(base: BaseModel, family: Family, text: TextStack) -> str:
    """Of what captions are encoded with: the text encoders' weights, how many tokens T5 reads, the layer of CLIP that is taken.

    Equal for the same encoders in a checkpoint, in a folder and in files of their own, whatever denoiser they serve. `text`
    is as it was loaded: neither merged into nor trained nor moved.
    """
    import torch

    t5 = family.t5_part(base)
    t5_tokens = text.tokenizers[TEXT_PARTS.index(t5)].model_max_length if t5 else 0
    digest = hashlib.sha256(repr((family.name, t5_tokens, text.clip_skip)).encode("ascii"))
    for part, encoder in text.parts().items():
        for name, tensor in sorted(encoder.state_dict().items()):
            digest.update(f"{part}.{name}{tensor.dtype}{tuple(tensor.shape)}".encode("ascii"))
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


@dataclass
class PromptBook:
    """Encodes captions, each in `num_chunks` pieces of 75 tokens so that any of them fit into one batch."""

    family: Family
    text_id: str
    """What the captions are encoded with; where only T5's part is kept, of T5."""
    cache: TensorCache
    num_chunks: int
    device: torch.device
    text: TextStack | None
    """None once the text encoder has left memory: everything that is asked for then is in the cache."""
    precision: str = "fp32"
    """Of the text encoders: what they make is kept apart."""

    def store(self, captions: Sequence[str], on_progress: Callable[[int, int], None]) -> None:
        """Encodes what is not in the cache yet."""
        for piece, encoded in self._encoded([each for each in dict.fromkeys(captions) if self._key(each) not in self.cache], on_progress):
            for i, caption in enumerate(piece):
                entry = {name: tensor[i : i + 1] for name, tensor in encoded.items()}
                self.cache.put(self._key(caption), entry, f"The text encoding of {caption!r}", "text")

    def remember_t5(self, part: Part, captions: Sequence[str], on_progress: Callable[[int, int], None]) -> None:
        """Has T5, which is `part`, read `captions`, all that will be asked for, and lets it go; the other encoders stay."""
        assert self.text is not None
        remembered = RememberedT5(self.text.parts()[part], f"{self.text_id} {self.precision}", self.cache)
        self.text = self.text.with_part(part, remembered)
        for _ in self._encoded(list(dict.fromkeys(captions)), on_progress):
            pass
        remembered.forget()

    def _encoded(self, captions: Sequence[str], on_progress: Callable[[int, int], None]) -> Iterator[tuple[Sequence[str], Conditioning]]:
        """Some captions at a time with what the encoders say of them; what was put into the cache is on disk at the end."""
        import torch

        assert self.text is not None
        try:
            for start in range(0, len(captions), _ENCODE_BATCH):
                piece = captions[start : start + _ENCODE_BATCH]
                with torch.no_grad():
                    encoded = self.family.encode_text(self.text, piece, self.num_chunks)
                yield piece, encoded
                on_progress(min(start + _ENCODE_BATCH, len(captions)), len(captions))
        finally:
            self.cache.settle()

    def conditioning(self, captions: Sequence[str], framings: Sequence[Framing], dropped: Mapping[str, Sequence[bool]] | None = None) -> Conditioning:
        """One row a caption, for a picture framed so; of the encoders `dropped` names those rows are 0.

        Follows gradients where a text encoder is trained.
        """
        import torch

        if self.text is not None:
            encoded = self.family.encode_text(self.text, captions, self.num_chunks)
        else:
            rows = [self.cache[self._key(caption)] for caption in captions]
            encoded = {name: torch.cat([row[name] for row in rows]).to(self.device) for name in rows[0]}
        return self.family.frame(without_encoders(encoded, dropped or {}), framings)

    def _key(self, caption: str) -> str:
        return cache_key("text, by encoders", self.text_id, caption, self.num_chunks, *(() if self.precision == "fp32" else (self.precision,)))


def text_id_of(base: BaseModel, family: Family, text: TextStack, cache: TensorCache) -> str:
    """The fingerprint of a base's text encoders, or of those that `text` has, computed once for each file of it; `text` is as it was loaded.

    Where nothing is kept for other runs, the base's own does: reading through all of T5 would win nothing.
    """
    if not cache.outlives_the_run:
        return base.text_identity
    parts = text.parts()
    as_loaded = next(iter(parts.values())).dtype
    which = "T5" if tuple(parts) == (family.t5_part(base),) else "text"
    return cache.remembered(f"{which} of {base.family} in {base.text_identity} as {as_loaded}", lambda: text_fingerprint(base, family, text))


def without_encoders(encoded: Conditioning, dropped: Mapping[str, Sequence[bool]]) -> Conditioning:
    """`encoded` with 0 in those rows of an encoder's outputs in which it is dropped (Esser et al. 2024, section 5.3)."""
    import torch

    kept = dict(encoded)
    for encoder, rows in dropped.items():
        for name in (name for name in encoded if name == encoder or name.startswith(f"{encoder}_")):
            tensor = encoded[name]
            stays = torch.tensor([not drop for drop in rows], device=tensor.device, dtype=tensor.dtype)
            kept[name] = tensor * stays.view(-1, *[1] * (tensor.ndim - 1))
    return kept


def text_precision(family: Family, precision: str) -> str:
    """In which number format the text encoders are loaded for a run in `precision`, "fp32" or "bf16"."""
    return "bf16" if family.large_text and precision == "bf16" else "fp32"

"""How many tokens CLIP makes of a caption: text encoders of SD and SDXL read 75 at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from .errors import TaggerError

CountTokens = Callable[[str], int]

_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""From OpenAI's CLIP, simple_tokenizer.py."""


def clip_counter(folder: Path) -> CountTokens:
    """Counts the tokens of a text without the two at its ends, by the `vocab.json` and `merges.txt` in `folder`.

    Raises TaggerError if they, or the tokenizers library, are not there.
    """
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    try:
        from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
        from tokenizers.models import BPE
    except ImportError as error:
        raise TaggerError(f"Counting tokens needs the tokenizers library, which cannot be imported ({error}); ComfyUI brings it.") from error
    if not (vocabulary.is_file() and merges.is_file()):
        raise TaggerError(f"Counting tokens needs vocab.json and merges.txt of CLIP's tokenizer in {folder}; they are not there.")
    tokenizer = Tokenizer(
        BPE.from_file(str(vocabulary), str(merges), continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token="<|endoftext|>")
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_PIECES), behavior="removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )

    @lru_cache(maxsize=1 << 17)
    def count_word(word: str) -> int:
        return len(tokenizer.encode(word, add_special_tokens=False).ids)

    return lambda text: sum(map(count_word, text.split()))  # no token reaches over a blank

"""What can be wrong with the names of embeddings, their vectors and their sentences, told before anything loads. No torch at the top."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..config import TrainJob
from ..data.captions import Captioner
from ..errors import AthanorError
from ..families import all_families, known_tokens
from ..formats.embedding import EMBEDDING_ENDINGS, num_vectors_of
from ..formats.header import is_safe, read_header
from ..settings import EmbeddingSettings, range_problems
from ..trainees.templates import template_problems
from ..trainees.words import Word, learning_parts, named_in, words_of
from ..types import Sample

_NAME = re.compile(r"[^\W_][\w.-]*")
_MOST_VECTORS = 75
OF_A_LORA = ("other_embeddings", "keep_norm", "embedding_rate", "embedding_percent", "encoders", "embedding_sha256")
"""What counts where embeddings are trained with a LoRA."""
_OF_A_LORA_ALONE = ("embedding_rate", "embedding_percent")


def word_problems(job: TrainJob) -> list[str]:
    """A sentence for each thing that is wrong about the embeddings of a training."""
    settings = job.embedding
    try:
        words = words_of(job.kind, settings)
    except AthanorError as error:
        return [str(error)]
    problems = [*range_problems(settings, "Embedding"), *_useless(job, words)]
    problems += [problem for word in words for problem in _problems_of(word)]
    problems += [*_name_problems(job, words), *_encoder_problems(job, words)]
    if job.kind == "embedding":
        problems += template_problems(settings)
    return problems or _caption_problems(job, words)


def _useless(job: TrainJob, words: Sequence[Word]) -> list[str]:
    """Settings without effect."""
    usual, settings = EmbeddingSettings(), job.embedding
    if job.kind == "embedding":
        problems = [
            f"Embedding: {name} is for embeddings that are trained with a LoRA; set it back to {getattr(usual, name):g}."
            for name in _OF_A_LORA_ALONE
            if getattr(settings, name) != getattr(usual, name)
        ]
        if settings.start_embedding and settings.initial_words.strip() and settings.encoders == usual.encoders:
            problems.append("Embedding: initial words do nothing where training goes on from an embedding, whose vectors count; leave them empty.")
        return problems
    names = [item.name for item in dataclasses.fields(settings) if item.name != "token"]
    changed = [name for name in names if getattr(settings, name) != getattr(usual, name)]
    if not words:
        return [
            f"Embedding: {name} does nothing while no embedding is trained along; write one, or set it back."
            if name in OF_A_LORA and job.kind == "lora"
            else f"Embedding: {name} is for Train Embedding; set it back."
            for name in changed
        ]
    return [f"Embedding: {name} is for Train Embedding; set it back." for name in changed if name not in OF_A_LORA]


def _problems_of(word: Word) -> list[str]:
    if not _NAME.fullmatch(word.name):
        return [f"The embedding's name is {word.name!r}; use letters, digits, - and _ without blanks, since it is written as one word in prompts."]
    if not 1 <= word.num_vectors <= _MOST_VECTORS:
        return [f"Embedding: {word.name} has {word.num_vectors} vectors; it must have from 1 to {_MOST_VECTORS}."]
    if not word.start_file:
        return []
    try:
        if not Path(word.start_file).is_file():
            return [f"Embedding: the file that {word.name} should go on from, {word.start_file}, is not there."]
        if num_vectors_of(Path(word.start_file)) > _MOST_VECTORS:
            return [f"Embedding: {Path(word.start_file).name} has more than {_MOST_VECTORS} vectors, which fit into no prompt; choose another file."]
    except AthanorError as error:
        return [f"Embedding: {error}"]
    return []


def _name_problems(job: TrainJob, words: Sequence[Word]) -> list[str]:
    names = [word.name.casefold() for word in words]
    problems = [f"Two embeddings are called {word.name}; give each a name of its own." for i, word in enumerate(words) if names[i] in names[:i]]
    known = known_tokens(job.base, names)
    problems += [
        f"The embedding's name {word.name!r} is a word that the text encoder knows; choose one that it does not, for example my-{word.name}."
        for word in words
        if word.name.casefold() in known
    ]
    return problems


def _encoder_problems(job: TrainJob, words: Sequence[Word]) -> list[str]:
    known = {each.name: each for each in all_families()}.get(job.base.family)
    encoders = job.embedding.encoders
    if not words or known is None or range_problems(job.embedding, "Embedding") or learning_parts(encoders, known, job.base):
        return []
    return [f"Embedding: encoders is {encoders}, but {job.base.name} ({known.title}) comes without it, so that nothing would learn; choose all."]


def _caption_problems(job: TrainJob, words: Sequence[Word]) -> list[str]:
    """Of embeddings that no caption names. One alone is put in front of captions that lack it."""
    names = [word.name for word in words]
    if not names or (job.kind == "embedding" and len(names) == 1):
        return []
    captions = [(sample, named_in(caption, names)) for sample, caption in _captions(job, job.dataset.with_role("train"))]
    named = {name for _, found in captions for name in found}
    problems = [
        f"No caption names the embedding {name}, so that it would learn nothing; write {name} into the captions of its images."
        for name in names
        if name not in named
    ]
    bare = [sample for sample, found in captions if not found]
    if bare and job.kind == "embedding" and not problems:
        problems.append(
            f"{len(bare)} of {len(captions)} captions name none of {', '.join(names)} (the first is of {Path(bare[0].path).name}); write into each which one its image shows."
        )
    return problems


def name_warnings(job: TrainJob) -> list[str]:
    """What is told before the first step: captions to which the only embedding's name is added."""
    if job.kind != "embedding" or len(job.word_names) > 1 or job.embedding.templates != "captions":
        return []
    captions = [caption for _, caption in _captions(job, job.dataset.with_role("train"))]
    num_bare = sum(not named_in(caption, job.word_names) for caption in captions)
    if not num_bare:
        return []
    how_many = "No caption has" if num_bare == len(captions) else f"{num_bare} of {len(captions)} captions do not have"
    return [f"{how_many} the embedding's name {job.word_names[0]}; it is put in front of {'them' if num_bare > 1 else 'it'}."]


def _captions(job: TrainJob, samples: Iterable[Sample]) -> list[tuple[Sample, str]]:
    captioner = Captioner(job.captions, job.dataset.trigger, job.train.seed, 1)
    return [(sample, captioner.plain(sample)) for sample in samples]


def clash_problems(names: Sequence[str], folders: Iterable[Path]) -> list[str]:
    """A sentence for each name that a file in ComfyUI's folders of embeddings has already, unless it is an earlier result of that very name."""
    wanted = {name.casefold(): name for name in names}
    problems = []
    for folder in folders:
        try:
            files = sorted(file for file in folder.iterdir() if file.suffix.lower() in EMBEDDING_ENDINGS and file.stem.casefold() in wanted)
        except OSError:
            continue
        problems += [
            f"There is an embedding {file.name} in {folder} already, and prompts could not tell the two apart; choose another name than {wanted[file.stem.casefold()]}."
            for file in files
            if not _is_earlier_result(file, wanted[file.stem.casefold()])
        ]
    return problems


def _is_earlier_result(file: Path, name: str) -> bool:
    if not is_safe(file):
        return False
    try:
        metadata = read_header(file).metadata
    except AthanorError:
        return False
    return metadata.get("ss_training_comment") == "trained with Athanor" and metadata.get("ss_token_string", "").casefold() == name.casefold()

"""What a training needs ready before its first step: models in memory, images and captions encoded, and what is trained put in its place."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .adapters.check import UNPACKED_ONLY
from .base_merges import merge_into, merged_fingerprint
from .bases import count_denoiser_weights
from .checks.words import name_warnings
from .config import TrainJob
from .control import Control
from .data.batches import largest_batch
from .data.cache import TensorCache
from .data.cache_folder import CACHE, mark_used
from .data.captions import Captioner, captioner_of
from .data.latents import missing_latents, store_latents, vae_fingerprint
from .data.prompts import PromptBook, text_id_of, text_precision
from .data.remembered_t5 import remembers_t5
from .data.views import View, all_views, plain_view
from .families import family as family_named
from .families.base import Family, Framing, TextStack
from .memory.devices import best_device, free_gpu_bytes, release
from .memory.offload import bring_encoders
from .memory.performance import checkpoint_text, offload_blocks
from .memory.storage import Room, chosen_storage, hold, room_on
from .objective.noise import trained_base
from .processes import ALONE, Processes
from .runs.events import EventLog
from .runs.run import Run
from .sample_prompts import sample_prompts
from .trainees.checkpoint import checkpoint_trainee
from .trainees.embedding import embedding_trainee, new_words, with_words
from .trainees.lora import lora_trainee
from .trainees.trainee import Trainee
from .trainees.words import learning_parts, words_of

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Prepared:
    """Everything stands where it will be used; what leaves the GPU in between comes back where it is needed."""

    job: TrainJob
    """Its base as it is trained."""
    family: Family
    device: torch.device
    autocast: torch.autocast
    cache: TensorCache
    captioner: Captioner
    book: PromptBook
    denoiser: nn.Module
    vae: nn.Module | None
    """On the CPU; None where no sample pictures are wanted."""
    vae_id: str
    """What the latents were made with."""
    trainee: Trainee
    longest_prompt: str

    def largest_pass(self) -> Callable[[], torch.Tensor]:
        """The pass of the largest batch through the denoiser, its inputs made."""
        import torch

        size, count = largest_batch(self.job.dataset.trained, self.job.train.batch_size)
        latents = (count, self.family.latent_channels, *(side // self.family.vae_stride_px for side in size[::-1]))
        noisy = torch.zeros(*latents, device=self.device)
        with self.autocast, torch.no_grad():
            conditioning = self.book.conditioning([self.longest_prompt] * count, [Framing.whole(size)] * count)
        times = torch.full((count,), 0.5, device=self.device)
        return self.autocast(lambda: self.family.predict(self.denoiser, noisy, times, conditioning))


def prepare_training(run: Run, job: TrainJob, events: EventLog, control: Control, processes: Processes = ALONE) -> Prepared:
    """Text first, then images, then the denoiser: each leaves memory before the next comes, unless it is trained.

    Raises AthanorError for everything that the user can mend, Stopped where `control` asks to stop.
    """
    import torch

    family, device = family_named(job.base.family), best_device()
    job = dataclasses.replace(job, base=trained_base(job.base, job.objective))
    samples, held_out = job.dataset.trained, job.dataset.with_role("validation")
    precision = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[job.train.precision]
    autocast = torch.autocast(device.type, dtype=precision if precision is not torch.float32 else None, enabled=precision is not torch.float32)
    mark_used(job.base.files)
    packs = job.kind != "lora" or job.adapter.kind not in UNPACKED_ONLY
    room = room_on(device, packs)
    size, count = largest_batch(samples, job.train.batch_size)
    largest_px = size[0] * size[1] * count
    if not job.performance.block_offload and not job.trains_denoiser_weights:
        # Told before minutes are spent on captions and images; chosen again when the rest has its place.
        chosen_storage(job.train.base_precision, job.train.precision, count_denoiser_weights(job.base), room, largest_px)
    cache = TensorCache(run.folder.parent / CACHE if job.data.keep_latents == "disk" else None)
    captioner = captioner_of(job)

    encoding = text_precision(family, job.train.precision)
    text = family.load_text(job.base, _text_dtype(job, encoding))
    # What is trained is never cached.
    t5_alone = family.t5_part(job.base) if remembers_t5(job) else None
    text_id = ""
    if t5_alone or not job.trains_text:
        text_id = merged_fingerprint(text_id_of(job.base, family, text.only(t5_alone) if t5_alone else text, cache), job.adapter)
    in_text = merge_into(job.adapter, family, text.parts())
    # Gradients that go through T5 need it whole, and so does what moves its weights.
    learning = (None, *learning_parts(job.embedding.encoders, family, job.base))
    through_t5 = (bool(job.word_names) and family.t5_part(job.base) in learning) or job.optimizer.t5_rate > 0
    whole = through_t5 or (job.kind == "checkpoint" and job.trains_text)
    bring_encoders(text.parts().values(), device, math.inf if whole else free_gpu_bytes(device))
    for told in name_warnings(job):
        events.write("warning", {"message": told})
    trainee = embedding_trainee(job, family, text) if job.kind == "embedding" else None
    along = None
    if job.kind == "lora" and job.word_names:
        along = new_words(words_of(job.kind, job.embedding), family, job.base, text, job.train.seed, job.embedding.encoders)
    measured = [captioner.plain(sample) for sample in held_out]
    as_drawn = trainee.prompt if trainee else along.prompt if along else str
    captions = [trainee.caption(each, 0) if trainee else as_drawn(each) for each in (*captioner.longest(samples), *measured)]
    drawn = sample_prompts(job.samples)
    prompts = [text for each in drawn for text in (as_drawn(each.prompt), each.negative_prompt)]
    book = PromptBook(family, text_id, cache, _num_chunks(job, family, text, captions, events), device, text, encoding)
    longest_prompt = captions[0]
    if t5_alone or not job.trains_text:
        # All that will ever be asked for.
        asked = [*captioner.every_prompt(samples), *measured, *prompts]
        longest_prompt = asked[0]
        with processes.leader_first():
            cache.look_again()
            if t5_alone:
                book.remember_t5(t5_alone, asked, _phase(events, control, "text"))
            else:
                book.store(asked, _phase(events, control, "text"))
                book.text = None
        text = book.text
        release()

    views = [view for sample in samples for view in all_views(sample, job.data)] + [plain_view(sample, job.data) for sample in held_out]
    with processes.leader_first():
        cache.look_again()
        vae, vae_id = _store_images(job, family, views, cache, device, _phase(events, control, "latents"), draws=processes.leads)
    denoiser = family.load_denoiser(job.base, _weights_dtype(job) if job.trains_denoiser_weights else precision)
    merge_into(job.adapter, family, {"denoiser": denoiser}, before=in_text)
    if not job.performance.block_offload:
        if not job.trains_denoiser_weights:
            denoiser = _held(job, denoiser, room_on(device, packs) if room.on_gpu else room, largest_px, events)
        denoiser = denoiser.to(device)
    trainee = trainee or (checkpoint_trainee if job.kind == "checkpoint" else lora_trainee)(job, family, denoiser, text)
    trainee = with_words(trainee, along, job) if along else trainee
    if through_t5 and text is not None and (t5 := family.t5_part(job.base)) is not None:
        checkpoint_text(text.parts()[t5], job.performance, device)
    if job.performance.block_offload:
        offload_blocks(denoiser, device)
    return Prepared(job, family, device, autocast, cache, captioner, book, denoiser, vae, vae_id, trainee, longest_prompt)


def _weights_dtype(job: TrainJob) -> torch.dtype:
    import torch

    return torch.float32 if job.checkpoint.weights == "fp32" else torch.bfloat16


def _text_dtype(job: TrainJob, encoding: str) -> torch.dtype:
    """Encoders whose own weights are trained are loaded as fine as these are kept."""
    import torch

    if job.kind == "checkpoint" and job.trains_text:
        return _weights_dtype(job)
    return torch.bfloat16 if encoding == "bf16" else torch.float32


def _held(job: TrainJob, denoiser: nn.Module, room: Room, largest_px: int, events: EventLog) -> nn.Module:
    """The frozen denoiser in the number format that was asked for, or that fits."""
    num_weights = sum(parameter.numel() for parameter in denoiser.parameters())
    storage = chosen_storage(job.train.base_precision, job.train.precision, num_weights, room, largest_px)
    if job.train.base_precision == "auto" and storage != job.train.precision:
        events.write(
            "warning", {"message": f"The base is kept as {storage}, since it does not fit as {job.train.precision}; set base precision to choose."}
        )
    return hold(denoiser, storage, job.train.precision)


def _num_chunks(job: TrainJob, family: Family, text: TextStack, captions: Sequence[str], events: EventLog) -> int:
    wanted, most = family.num_chunks(text, captions), min(int(job.captions.max_tokens) // 75, family.max_chunks)
    if wanted > most:
        events.write("warning", {"message": f"Some captions are longer than {most * 75} tokens; what comes after is not seen."})
    return min(wanted, most)


def _phase(events: EventLog, control: Control, name: str) -> Callable[[int, int], None]:
    """Tells how far a preparation is, and ends it where a stop is asked for."""

    def show(done: int, total: int) -> None:
        events.write("phase", {"name": name, "done": done, "total": total})
        control.raise_if_stopped()

    return show


def _store_images(
    job: TrainJob,
    family: Family,
    views: Sequence[View],
    cache: TensorCache,
    device: torch.device,
    on_progress: Callable[[int, int], None],
    draws: bool,
) -> tuple[nn.Module | None, str]:
    """Fills the cache; returns the autoencoder, on the CPU, where sample pictures will need it, and its fingerprint.

    They will if they are wanted, and this process draws.
    """
    loaded: list[nn.Module] = []

    def fingerprint() -> str:
        loaded.append(family.load_vae(job.base))
        return vae_fingerprint(loaded[0])

    vae_id = cache.remembered(f"vae of {job.base.family} in {job.base.fingerprint}", fingerprint)
    missing, keeps = missing_latents(vae_id, views, cache), bool(job.samples.lines) and draws
    if not loaded and (missing or keeps):
        loaded.append(family.load_vae(job.base))
    if missing:
        loaded[0].to(device)
        store_latents(family, loaded[0], vae_id, missing, cache, device, on_progress)
        loaded[0].to("cpu")
    if not keeps:
        loaded.clear()
        release()
    return (loaded[0] if loaded else None), vae_id

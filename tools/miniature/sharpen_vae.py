"""Sharpens the miniature's decoder: `python -m miniature.sharpen_vae <folder>` (from tools/), after train_vae.

Only the decoder is trained, so latents that were made before stay valid: this can run beside train_base.
"""

from __future__ import annotations

import copy
import math
import random
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from .train_vae import batch, edges, pictures

SEED = 23
NUM_PICTURES = 3000
STEPS, BATCH, PX = 1000, 8, 96
PEAK_RATE, WARMUP_STEPS, EMA_DECAY = 2e-4, 100, 0.995
LATENT_NOISE = 0.03
"""Relative to the spread of the latents: what a denoiser makes is never quite what the encoder would have made."""


def main(folder: Path) -> None:
    torch.manual_seed(SEED)
    rng, generator = random.Random(SEED), torch.Generator().manual_seed(SEED)
    pool = pictures(rng, NUM_PICTURES)
    vae = AutoencoderKL.from_pretrained(folder / "vae_fp32").to(memory_format=torch.channels_last)
    vae.requires_grad_(False)
    trained = [*vae.decoder.requires_grad_(True).parameters(), *vae.post_quant_conv.requires_grad_(True).parameters()]
    average = copy.deepcopy(vae).eval().requires_grad_(False)
    slow_ones = [*average.decoder.parameters(), *average.post_quant_conv.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=1e-4)
    for step in range(STEPS):
        rate = PEAK_RATE * min(1, (step + 1) / WARMUP_STEPS) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / STEPS)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        x = batch(pool, BATCH, PX, generator)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                latents = vae.encode(x).latent_dist.mean
                latents = latents + LATENT_NOISE / vae.config.scaling_factor * torch.randn(latents.shape, generator=generator)
            decoded = vae.decode(latents).sample
        decoded = decoded.float()
        sharp = sum(functional.l1_loss(a, b) for a, b in zip(edges(decoded), edges(x), strict=True))
        error = functional.l1_loss(decoded, x)
        loss = error + 0.7 * sharp + 0.5 * functional.mse_loss(decoded, x)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        decay = min(EMA_DECAY, (step + 1) / (step + 10))
        for slow, fast in zip(slow_ones, trained, strict=True):
            slow.lerp_(fast, 1 - decay)
        if step % 50 == 0:
            sys.stdout.write(f"sharpen step {step}/{STEPS} loss {loss.item():.4f} l1 {error.item():.4f}\n")
            sys.stdout.flush()
        if step % 300 == 299 or step + 1 == STEPS:
            average.save_pretrained(folder / "vae_sharp_fp32")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

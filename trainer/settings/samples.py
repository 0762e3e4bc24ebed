"""Sample pictures on the way."""

from __future__ import annotations

from dataclasses import dataclass

from .field import setting


@dataclass(frozen=True)
class SampleSettings:
    """Sample pictures on the way."""

    prompts: str = setting(
        "",
        "One prompt a line. Lines that start with # are left out. Behind a prompt may stand, as in kohya's trainers: --n negative prompt, "
        "--w width, --h height, --d seed, --s steps, --l guidance.",
        multiline=True,
    )
    negative_prompt: str = setting("", "What the sample pictures should not show.")
    steps: int = setting(20, "Sampling steps of a sample picture. Usual: 20 to 30.", 1, 1000)
    guidance: float = setting(
        7.0, "Classifier-free guidance of the sample pictures. Usual: 5 to 8; for FLUX.1 dev 3.5, for schnell 1: it has none.", 0.0, 100.0
    )
    seed: int = setting(1, "Seed of the first sample picture; the next line takes the next one.", 0, 2**32 - 1)
    every_epochs: int = setting(0, "Draw them at every n-th epoch. Usual: 0, whenever an epoch is saved.", 0, 100_000)
    every_steps: int = setting(0, "Draw them also after every n-th step, for example 250. 0: at epochs only.", 0, 10_000_000)
    at_start: bool = setting(False, "Draw them also before the first step, so that you see what the bare model makes of the prompts.")

    @property
    def lines(self) -> tuple[str, ...]:
        """The prompts: lines without blanks around them, comments and empty lines left out."""
        return tuple(line for raw in self.prompts.splitlines() if (line := raw.strip()) and not line.startswith("#"))

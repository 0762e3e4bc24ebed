"""How long a run goes on, what it keeps on the way, and when it ends by itself."""

from __future__ import annotations

from dataclasses import dataclass

from .field import setting


@dataclass(frozen=True)
class RunSettings:
    steps: int = setting(0, "Length of the run in steps, in place of the epochs. Usual: 1000 to 3000; 0: by epochs.", 0, 10_000_000)
    save_every_steps: int = setting(0, "Also keep the LoRA or embedding after every n-th step, for example 500. 0: at epochs only.", 0, 10_000_000)
    keep_last: int = setting(
        0,
        "Of the saved files only the last so many stay, and the one with the lowest held-out loss, which Save Epoch calls best, for example 5. 0 keeps all.",
        0,
        100_000,
    )
    patience: int = setting(
        0,
        "Ends the run early once the held-out loss has not become lower for so many saved epochs. Usual: 3 to 5; 0: never. Needs held-out images.",
        0,
        100_000,
    )
    state_minutes: float = setting(
        2.0,
        "How often the state is saved from which a run resumes after a crash or a power cut. Usual: 2 to 10.",
        0.1,
        1440.0,
        step=0.1,
        advanced=True,
    )
    explosion_factor: float = setting(
        10.0,
        "Stops the run once the loss of the last 20 steps is so many times its lowest so far: then the training has broken. Usual: 10; 0: never.",
        0.0,
        1_000_000.0,
        step=1.0,
        advanced=True,
    )

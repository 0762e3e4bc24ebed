"""What keeps the rest of the class as the base draws it (prior preservation)."""

from __future__ import annotations

from dataclasses import dataclass

from .field import setting


@dataclass(frozen=True)
class PriorSettings:
    """Class images that the base draws itself, what they teach, and the training images' own answer without the trigger.

    How much class images count is ObjectiveSettings.regularization_weight.
    """

    class_images: int = setting(
        0,
        "How many class images you want. What the regularization folder lacks is drawn by the base before the training. Usual: as many as training images with their repeats; 0: none is drawn.",
        0,
        10_000,
    )
    class_prompts: str = setting(
        "", "What is drawn on class images, without the trigger: a photo of a cat. Several lines are drawn in turn.", multiline=True
    )
    class_target: str = setting(
        "picture",
        "What class images teach. picture: themselves, as in DreamBooth. base: only to answer to them as the base does, whatever they look like; steadier, for LoRAs.",
        choices=("picture", "base"),
    )
    hold_weight: float = setting(
        0.0,
        "Holds a LoRA to the base without any class images: each training image is also asked for with the class word instead of the trigger, "
        "and the answer should be the base's. Usual: 1; 0 is off. A step takes about twice as long.",
        0.0,
        100.0,
    )
    class_word: str = setting("", "What stands in the place of the trigger then, such as cat.")
    class_negative_prompt: str = setting("", "What class images should not show.", advanced=True)
    class_steps: int = setting(20, "Sampling steps of a class image. Usual: 20 to 30.", 1, 1000, advanced=True)
    class_guidance: float = setting(
        7.0, "Classifier-free guidance of class images. Usual: 5 to 8; for FLUX.1 dev 3.5, for schnell 1: it has none.", 0.0, 100.0, advanced=True
    )
    class_seed: int = setting(
        0, "Seed of the first class image of each prompt, for example 0; the next one takes the next seed.", 0, 2**32 - 1, advanced=True
    )

    @property
    def class_lines(self) -> tuple[str, ...]:
        """The prompts: lines without blanks around them, comments and empty lines left out."""
        return tuple(line for raw in self.class_prompts.splitlines() if (line := raw.strip()) and not line.startswith("#"))

    @property
    def holds(self) -> bool:
        """Whether the trained model's answers are compared with the base's own."""
        return self.class_target == "base" or self.hold_weight > 0

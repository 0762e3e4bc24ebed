"""What an axis can change: one small reader a kind, from what is written to the points of the axis."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import PurePosixPath

from ..errors import AthanorError
from ..registry import Registry
from .axes import parse_epochs, parse_lines, parse_numbers, parse_texts, parse_whole_numbers
from .recipe import BASELINE, Point

MAX_STRENGTH = 10.0
BARE_LABELS = ("base", "no embedding", "no LoRA")
"""Of the base alone."""
_MAX_ORDERED = 6


@dataclass(frozen=True)
class RunEpochs:
    """What can be picked of a run."""

    numbers: tuple[int, ...]
    best: int | None
    """The epoch with the lowest held-out loss; None where nothing was held out."""

    def usual(self) -> int:
        """The one to show where only one is wanted."""
        return self.best if self.best is not None else self.numbers[-1]


@dataclass(frozen=True)
class Choices:
    """What the axes of one comparison can choose from."""

    runs: Mapping[str, RunEpochs]
    """By name; the first is the wired one."""
    checkpoints: tuple[str, ...]
    samplers: tuple[str, ...]
    schedulers: tuple[str, ...]
    prompt: str
    """All prompts and the negative one, in which search and replace must find its text."""
    is_embedding: bool = False
    is_whole: bool = False
    """Whether the epochs are whole models."""
    unit: str = "epoch"
    """What the epochs are numbered by: epoch or step."""
    is_told_guidance: bool = False
    """Whether the model takes its guidance as an input, as FLUX.1 dev does."""


AXES: Registry[Callable[[str, Choices], tuple[Point, ...]]] = Registry("axis")


@AXES.register("none")
def nothing(text: str, choices: Choices) -> tuple[Point, ...]:
    return (Point(""),)


@AXES.register("epoch")
def epochs(text: str, choices: Choices) -> tuple[Point, ...]:
    """Of the wired run, or of all runs where they are compared."""
    numbers = tuple(sorted({number for run in choices.runs.values() for number in run.numbers}))
    best = next(iter(choices.runs.values())).best if len(choices.runs) == 1 else None
    if len(choices.runs) > 1 and any(part.strip().lower() == "best" for part in re.split(r"[,\n]", text)):
        raise AthanorError("Epochs: each run has a best of its own; leave the epoch axis out, and the run axis takes each run's best.")
    picked = parse_epochs(text, numbers, best)
    return tuple(Point(f"{choices.unit} {number}" + (" (best)" if number == best else ""), (("epoch", number),)) for number in picked)


@AXES.register("strength")
def strengths(text: str, choices: Choices) -> tuple[Point, ...]:
    """Of the LoRA in the denoiser and in the text encoders alike."""
    return tuple(Point(f"strength {value:g}", (("strength_model", value), ("strength_text", value))) for value in _strengths(text, choices))


@AXES.register("model strength")
def model_strengths(text: str, choices: Choices) -> tuple[Point, ...]:
    return tuple(Point(f"model {value:g}", (("strength_model", value),)) for value in _strengths(text, choices))


@AXES.register("text encoder strength")
def text_strengths(text: str, choices: Choices) -> tuple[Point, ...]:
    return tuple(Point(f"text encoder {value:g}", (("strength_text", value),)) for value in _strengths(text, choices))


@AXES.register("prompt")
def prompts(text: str, choices: Choices) -> tuple[Point, ...]:
    """A line each: prompts are full of commas."""
    return tuple(Point(line, (("prompt", line),)) for line in _some(parse_lines(text), "Prompts", "write one a line"))


@AXES.register("negative prompt")
def negative_prompts(text: str, choices: Choices) -> tuple[Point, ...]:
    return tuple(Point(line, (("negative_prompt", line),)) for line in _some(parse_lines(text), "Negative prompts", "write one a line"))


@AXES.register("prompt search and replace")
def search_and_replace(text: str, choices: Choices) -> tuple[Point, ...]:
    """The first text is looked for in the prompts, each of the others stands there instead."""
    values = parse_texts(text, with_empty=True)
    searched, *others = _some(
        values if any(values) else (), "Search and replace", "write the text to look for, then what is to stand there, with commas"
    )
    if not searched:
        raise AthanorError("Search and replace: the first value is empty; the first is the text to look for, the others replace it.")
    if searched not in choices.prompt:
        raise AthanorError(f"Search and replace: {searched!r} stands in no prompt; the first text must be one of theirs, the others replace it.")
    if not others:
        raise AthanorError(
            f"Search and replace: nothing is written behind {searched!r} that could replace it; write for example {searched}, other words."
        )
    return tuple(Point(each or f"without {searched}", replace=(searched, each)) for each in (searched, *others))


@AXES.register("prompt order")
def prompt_orders(text: str, choices: Choices) -> tuple[Point, ...]:
    """Every order of some words of the prompt; which words stand first matters most to many models."""
    words = _some(parse_texts(text), "Prompt order", "write words of the prompt with commas")
    if not any(all(word in prompt for word in words) for prompt in choices.prompt.splitlines()):
        raise AthanorError(f"Prompt order: no prompt holds all of {', '.join(words)}; write words that stand in one, with commas.")
    if len(words) > _MAX_ORDERED:
        raise AthanorError(f"Prompt order: {len(words)} words have more orders than can be drawn; write at most {_MAX_ORDERED}.")
    return tuple(Point(", ".join(order), order=order) for order in permutations(words))


@AXES.register("seed")
def seeds(text: str, choices: Choices) -> tuple[Point, ...]:
    return tuple(Point(f"seed {value}", (("seed", value),)) for value in parse_whole_numbers(text, "Seeds", 0))


@AXES.register("steps")
def steps(text: str, choices: Choices) -> tuple[Point, ...]:
    return tuple(Point(f"{value} steps", (("steps", value),)) for value in parse_whole_numbers(text, "Steps", 1))


@AXES.register("guidance")
def guidances(text: str, choices: Choices) -> tuple[Point, ...]:
    """Classifier-free guidance (CFG)."""
    return tuple(Point(f"CFG {value:g}", (("guidance", value),)) for value in _guidances(text, "Guidance"))


@AXES.register("flux guidance")
def flux_guidances(text: str, choices: Choices) -> tuple[Point, ...]:
    """What a guidance-distilled model is told."""
    if not choices.is_told_guidance:
        raise AthanorError("FLUX guidance: only FLUX.1 dev is told a guidance, and this model is another; choose the axis guidance.")
    values = _guidances(text, "FLUX guidance")
    if 0 in values:
        raise AthanorError("FLUX guidance: 0 will not do; 1 to 10 is usual, 3.5 the model's own.")
    return tuple(Point(f"FLUX guidance {value:g}", (("flux_guidance", value),)) for value in values)


@AXES.register("sampler")
def samplers(text: str, choices: Choices) -> tuple[Point, ...]:
    return _named(text, "Samplers", choices.samplers, "sampler")


@AXES.register("scheduler")
def schedulers(text: str, choices: Choices) -> tuple[Point, ...]:
    return _named(text, "Schedulers", choices.schedulers, "scheduler")


@AXES.register("checkpoint")
def checkpoints(text: str, choices: Choices) -> tuple[Point, ...]:
    return _named(text, "Checkpoints", choices.checkpoints, "checkpoint")


@AXES.register("run")
def runs(text: str, choices: Choices) -> tuple[Point, ...]:
    """Each with its best epoch, its last where nothing was held out; an epoch axis beside it chooses others. Nothing written takes the wired ones."""
    names = tuple(dict.fromkeys(parse_texts(text))) or tuple(choices.runs)
    return tuple(Point(name, (("run", name), ("epoch", choices.runs[name].usual()))) for name in names)


def no_adapter(choices: Choices) -> Point:
    """The point that shows the base alone."""
    label = BARE_LABELS[0 if choices.is_whole else 1 if choices.is_embedding else 2]
    return Point(label, (("epoch", BASELINE),))


def _strengths(text: str, choices: Choices) -> tuple[float, ...]:
    if choices.is_embedding:
        raise AthanorError(
            "Strengths: an embedding has none; in prompts its weight is written (embedding:name:0.8), which a prompt axis can compare."
        )
    if choices.is_whole:
        raise AthanorError("Strengths: these epochs are whole models and are drawn as they are; give this axis to epoch, prompt, seed or none.")
    values = parse_numbers(text, "Strengths")
    wrong = [value for value in values if abs(value) > MAX_STRENGTH]
    if wrong:
        raise AthanorError(f"Strengths: {wrong[0]:g} will not do; it must be from -{MAX_STRENGTH:g} to {MAX_STRENGTH:g}.")
    return values


def _guidances(text: str, axis: str) -> tuple[float, ...]:
    values = parse_numbers(text, axis)
    wrong = [value for value in values if not 0 <= value <= 100]
    if wrong:
        raise AthanorError(f"{axis}: {wrong[0]:g} will not do; it must be from 0 to 100.")
    return values


def _named(text: str, axis: str, known: Sequence[str], field: str) -> tuple[Point, ...]:
    lines = parse_lines(text)
    # A line is one name or several with commas.
    written = [name for line in lines for name in ([line] if _same(line, known) else parse_texts(line))]
    found = {name: _same(name, known) for name in _some(written, axis, "write names with commas or one a line")}
    unknown = [name for name, same in found.items() if len(same) != 1]
    if unknown and found[unknown[0]]:
        raise AthanorError(f"{axis}: {unknown[0]!r} may be {' or '.join(found[unknown[0]])}; write the whole name.")
    if unknown:
        shown = ", ".join(known[:12]) + (" …" if len(known) > 12 else "")
        raise AthanorError(f"{axis}: there is no {unknown[0]!r}; there are {shown or 'none here'}.")
    return tuple(Point(name, ((field, name),)) for name in dict.fromkeys(same[0] for same in found.values()))


def _same(name: str, known: Sequence[str]) -> tuple[str, ...]:
    """Those that are meant: of that very name, otherwise in other letters, without their folder or ending."""
    if name in known:
        return (name,)
    wanted = name.replace("\\", "/").casefold()

    def spellings(each: str) -> tuple[str, ...]:
        path = PurePosixPath(each.replace("\\", "/").casefold())
        return (str(path), *((path.name, str(path.with_suffix("")), path.stem) if path.suffix else (path.name,)))

    return tuple(each for each in known if wanted in spellings(each))


def _some(values: Sequence[str], axis: str, advice: str) -> tuple[str, ...]:
    if not values:
        raise AthanorError(f"{axis}: nothing is written there; {advice}.")
    return tuple(dict.fromkeys(values))

"""Prompts of sample pictures in kohya's syntax, and files of them as sd-scripts reads them. No torch.

`a cat --n blurry --w 512 --h 768 --d 7 --s 30 --l 5`: negative prompt, width, height, seed, steps, guidance; for FLUX
--g is the guidance that the model is told, and counts before --l.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import AthanorError
from .settings import SampleSettings

_FLAG = re.compile(r"\s--(?=[A-Za-z]+(?:\s|$))")
_RUN_TOGETHER = re.compile(r"\s--([whdslgWHDSLG])\s?=?\s?([\d.]+)")
_KEYS = {
    "negative_prompt": "n",
    "width": "w",
    "height": "h",
    "seed": "d",
    "sample_steps": "s",
    "scale": "l",
    "guidance_scale": "g",
}
"""What files call the flags."""
_LEFT_OUT = {
    "ss": "the sampler",
    "cn": "the control image",
    "ctr": "the control image's strength",
    "rcfg": "a guidance that changes",
    "fs": "the shift",
}
_MAX_SIDE_PX = 4096


@dataclass(frozen=True)
class SamplePrompt:
    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    guidance: float
    width_px: int | None = None
    """None for the size that is trained most."""
    height_px: int | None = None


def sample_prompts(settings: SampleSettings) -> tuple[SamplePrompt, ...]:
    """What `settings` asks for, a picture a line.

    Raises AthanorError for a flag that is not known, or whose value makes no sense.
    """
    return tuple(_prompt(line, i, settings) for i, line in enumerate(settings.lines))


def prompt_problems(settings: SampleSettings, side_step_px: int) -> list[str]:
    """A sentence for each prompt that cannot be drawn as it is written."""
    problems = []
    for line in settings.lines:
        try:
            prompt = _prompt(line, 0, settings)
        except AthanorError as error:
            problems.append(f"Sample pictures: {error}")
            continue
        for flag, side_px in (("--w", prompt.width_px), ("--h", prompt.height_px)):
            if side_px is not None and (side_px % side_step_px or not side_step_px <= side_px <= _MAX_SIDE_PX):
                problems.append(
                    f"Sample pictures: {flag} is {side_px} in {_short(line)}; it must be a multiple of {side_step_px} and at most {_MAX_SIDE_PX}."
                )
    return problems


def drawn_as_written(settings: SampleSettings) -> list[SamplePrompt]:
    """The prompts that can be drawn; `prompt_problems` tells of the others."""
    found = []
    for line in settings.lines:
        with contextlib.suppress(AthanorError):
            found.append(_prompt(line, 0, settings))
    return found


def _prompt(line: str, index: int, settings: SampleSettings) -> SamplePrompt:
    text, *parts = _FLAG.split(f" {line}") if line.startswith("--") else _FLAG.split(line)
    said: dict[str, str] = {}
    for piece in (text, *parts):
        if together := _RUN_TOGETHER.search(f" {piece}"):
            raise AthanorError(f"{together[0].strip()} in {_short(line)} is not understood; write --{together[1]} {together[2]}.")
    for part in parts:
        flag, _, value = part.partition(" ")
        flag = flag.lower()
        if flag in _LEFT_OUT:
            raise AthanorError(f"--{flag} in {_short(line)} sets {_LEFT_OUT[flag]}, which is not offered; take it out.")
        if flag not in _KEYS.values():
            raise AthanorError(f"--{flag} in {_short(line)} is not known; known are --n, --w, --h, --d, --s, --l and --g.")
        said[flag] = value.strip()
    told = _number(said, "g", line, 0.0, 100.0)
    guidance = told if told is not None else _number(said, "l", line, 0.0, 100.0)
    return SamplePrompt(
        text.strip(),
        said.get("n", settings.negative_prompt),
        _whole(said, "d", line, 0, 2**32 - 1, (settings.seed + index) % 2**32),
        _whole(said, "s", line, 1, 1000, settings.steps),
        settings.guidance if guidance is None else guidance,
        _whole(said, "w", line, 1, 1 << 16, 0) or None,
        _whole(said, "h", line, 1, 1 << 16, 0) or None,
    )


def _number(said: Mapping[str, str], flag: str, line: str, low: float, high: float) -> float | None:
    if flag not in said:
        return None
    try:
        value = float(said[flag])
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise AthanorError(f"--{flag} is {said[flag]!r} in {_short(line)}; it must be a number from {low:g} to {high:g}.")
    return value


def _whole(said: Mapping[str, str], flag: str, line: str, low: int, high: int, default: int) -> int:
    value = _number(said, flag, line, low, high)
    return default if value is None else int(value)


def _short(line: str) -> str:
    return repr(line if len(line) <= 60 else line[:57] + "…")


def lines_of_file(path: Path) -> tuple[str, ...]:
    """The prompts of a .txt, .toml ([prompt] with [[prompt.subset]]) or .json file, one a line in kohya's syntax.

    What cannot be followed here, such as the sampler, is left out. Raises AthanorError if it is no such file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AthanorError(f"{path.name} cannot be read: {error}.") from None
    ending = path.suffix.lower()
    if ending == ".txt":
        lines = [without_left_out(line) for raw in text.splitlines() if (line := raw.strip()) and not line.startswith("#")]
    else:
        lines = [_line(entry, path.name) for entry in _entries(text, path.name, ending == ".toml")]
    if not lines:
        raise AthanorError(f"{path.name} holds no prompt.")
    return tuple(lines)


def without_left_out(line: str) -> str:
    """A prompt without the flags that cannot be followed here."""
    text, *parts = _FLAG.split(line)
    return " --".join([text, *(part for part in parts if part.partition(" ")[0].lower() not in _LEFT_OUT)])


def left_out_flags(text: str) -> tuple[str, ...]:
    """The flags in prompts, a line each, that `without_left_out` takes away."""
    flags = [part.partition(" ")[0].lower() for line in text.splitlines() for part in _FLAG.split(line)[1:]]
    return tuple(f"--{flag}" for flag in dict.fromkeys(flags) if flag in _LEFT_OUT)


def _entries(text: str, name: str, toml: bool) -> list[Any]:
    if not toml:
        try:
            data = json.loads(text)
        except ValueError as error:
            raise AthanorError(f"{name} cannot be read as JSON: {error}.") from None
        return data if isinstance(data, list) else [data]
    from .formats.parameters.read import parse_toml

    prompt = parse_toml(text, name).get("prompt")
    if not isinstance(prompt, dict):
        raise AthanorError(f"{name} has no [prompt] with [[prompt.subset]], as files of prompts have.")
    common = {key: value for key, value in prompt.items() if key != "subset"}
    return [{**common, **subset} for subset in prompt.get("subset", [{}])]


def _line(entry: Any, name: str) -> str:
    if isinstance(entry, str):
        return without_left_out(" ".join(entry.split()))
    if not isinstance(entry, dict) or not isinstance(entry.get("prompt"), str):
        raise AthanorError(f"{name} has an entry without a prompt: {entry!r}.")
    flags = [f" --{flag} {' '.join(str(entry[key]).split())}" for key, flag in _KEYS.items() if entry.get(key) is not None]
    return " ".join(entry["prompt"].split()) + "".join(flags)

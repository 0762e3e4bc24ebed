"""Optimizer and schedule out of sd-scripts' optimizer_type, optimizer_args and lr_scheduler…"""

from __future__ import annotations

import ast
from typing import Any

from ...optimizing.optimizers import OPTIMIZERS, own_options
from ...optimizing.schedules import SCHEDULES
from .sheet import Sheet

_SAME = {
    "pagedlion8bit": "lion8bit",
    "sgdnesterov": "sgd",
    "sgdnesterov8bit": "sgd",
    "adamwschedulefree": "schedulefree_adamw",
    "torch.optim.adam": "adam",
    "torch.optim.adamw": "adamw",
    "torch.optim.sgd": "sgd",
    "torch.optim.rmsprop": "rmsprop",
    "prodigyopt.prodigy": "prodigy",
    "pagedadamw": "paged_adamw8bit",
    "pagedadamw32bit": "paged_adamw8bit",
}
_DECAYS = {"adamw": 0.01, "adamw8bit": 0.01, "paged_adamw8bit": 0.01}
"""Weight decays of the libraries where a file names none; all others take 0."""
_ELSEWHERE: dict[str, dict[str, Any]] = {
    "prodigy": {"beta2": 0.999, "bias_correction": False, "safeguard_warmup": False},
    "adafactor": {"scale_parameter": True},
    "sgd": {"momentum": 0.9},
}
"""The libraries' own defaults where Athanor's are others."""
_OPTIONS = {
    "eps": "epsilon",
    "d0": "d0",
    "d_coef": "d_coef",
    "growth_rate": "growth_rate",
    "use_bias_correction": "bias_correction",
    "safeguard_warmup": "safeguard_warmup",
    "momentum": "momentum",
    "nesterov": "nesterov",
    "alpha": "beta2",
    "centered": "centered",
    "beta1": "beta1",
    "clip_threshold": "clip_threshold",
    "scale_parameter": "scale_parameter",
    "r": "averaging_power",
    "weight_lr_power": "rate_power",
}
_SCHEDULES = {"cosine_with_restarts": "cosine_restarts", "constant_with_warmup": "constant", "cosine_with_min_lr": "cosine"}


def translate_optimizer(sheet: Sheet) -> None:
    told = sheet.text("optimizer_type")
    for key, old in (("use_8bit_adam", "AdamW8bit"), ("use_lion_optimizer", "Lion")):
        if sheet.flag(key) and not told:
            sheet.take(key, "train.optimizer", _optimizer(old))
        sheet.drop(key)
    if told:
        name = _optimizer(told)
        if name is None:
            sheet.leave("optimizer_type", f"{told} is not known here; choose an optimizer in the training node.")
            sheet.drop("optimizer_args")
            return
        sheet.take("optimizer_type", "train.optimizer", name)
        if name == "prodigy" and told.lower().rpartition(".")[2] != "prodigy":
            sheet.warn("optimizer_type", "Prodigy, its nearest relative, takes its place: it finds the rate by itself, too.")
        arguments = _arguments(sheet)
        _take_arguments(sheet, name, arguments, told)
    elif sheet.on("optimizer_args"):
        sheet.leave("optimizer_args", "there is no optimizer_type that they belong to.")


def _optimizer(told: str) -> str | None:
    plain = told.lower().rpartition(".")[2] if told.lower().startswith(("bitsandbytes.", "lion_pytorch.")) else told.lower()
    if plain in _SAME:
        return _SAME[plain]
    if "prodigy" in plain or plain.startswith("dadapt"):
        return "prodigy"
    by_letters = {name.replace("_", ""): name for name in OPTIMIZERS.names()}
    return by_letters.get(plain)


def _arguments(sheet: Sheet) -> dict[str, Any]:
    """key=value pairs, their values read as sd-scripts does: as Python's literals."""
    found: dict[str, Any] = {}
    for item in sheet.items("optimizer_args"):
        key, separator, value = item.partition("=")
        if not separator:
            continue
        try:
            found[key.strip()] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            found[key.strip()] = value.strip()
    return found


def _take_arguments(sheet: Sheet, name: str, arguments: dict[str, Any], told: str) -> None:
    key, known = "optimizer_args", own_options(name)
    decay = arguments.pop("weight_decay", None)
    _put(sheet, key, "train.weight_decay", _DECAYS.get(name, 0.0) if decay is None else decay, implied=decay is None)
    options = dict(_ELSEWHERE.get(name, {}))
    if told.lower().startswith("sgdnesterov"):
        options["nesterov"] = True
    implied = set(options)
    betas = arguments.pop("betas", None)
    if isinstance(betas, (tuple, list)):
        arguments |= {f"beta{i + 1}": beta for i, beta in enumerate(betas[:2])}
    for argument, value in arguments.items():
        option = argument if argument in ("beta1", "beta2") else _OPTIONS.get(argument)
        if argument == "decay_rate" and name == "adafactor" and isinstance(value, (int, float)):
            option, value = "decay_power", -float(value)
        if argument == "growth_rate" and value == "inf":
            continue
        if argument == "relative_step" and name == "adafactor":
            if value:
                sheet.tell("left out", key, "relative_step=True: Adafactor works here at the rates that are set, not at its own.")
        elif argument in ("decouple", "warmup_init", "decoupled") or (argument == "beta1" and value is None):
            continue
        elif option in known and isinstance(value, (int, float)):
            options[option] = value
            implied.discard(option)
        else:
            sheet.tell("left out", key, f"{argument} is no option of {name} here.")
    if name == "adafactor" and "relative_step" not in arguments:
        sheet.tell("left out", key, "Adafactor works here at the rates that are set, not at its own.")
    for option, value in options.items():
        if value != known[option]:
            _put(sheet, key, f"optimizer.{option}", value, implied=option in implied)
    if any(path.startswith("optimizer.") for path in sheet.values) and any(value != known[option] for option, value in options.items()):
        sheet.values["optimizer.kind"] = name
    sheet.drop(key)


def _put(sheet: Sheet, key: str, path: str, value: Any, implied: bool) -> None:
    number = float(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if implied:
        sheet.imply(path, number, "the library's default")
    else:
        sheet.take(key, path, number)


def translate_schedule(sheet: Sheet) -> None:
    told = sheet.text("lr_scheduler")
    name = _SCHEDULES.get(told, told)
    if told and name not in SCHEDULES:
        sheet.leave("lr_scheduler", f"the schedule {told} is not known here; choose one in the training node.")
    elif told:
        sheet.take("lr_scheduler", "train.schedule", name)
    _warmup(sheet)
    if told == "cosine_with_restarts":
        cycles = sheet.number("lr_scheduler_num_cycles")
        _option(sheet, "lr_scheduler_num_cycles", "num_cycles", int(cycles or 1), name)
    elif name == "polynomial":
        _option(sheet, "lr_scheduler_power", "power", sheet.number("lr_scheduler_power") or 1.0, name)
    elif name == "inverse_sqrt" and sheet.on("lr_scheduler_timescale"):
        _option(sheet, "lr_scheduler_timescale", "timescale_steps", int(sheet.number("lr_scheduler_timescale") or 0), name)
    elif name == "warmup_stable_decay":
        _decay(sheet, name)
    if told in ("cosine_with_min_lr", "warmup_stable_decay") and sheet.on("lr_scheduler_min_lr_ratio"):
        sheet.take("lr_scheduler_min_lr_ratio", "schedule.min_ratio")
    sheet.drop("lr_scheduler_num_cycles", "lr_scheduler_power", "lr_scheduler_timescale", "lr_scheduler_min_lr_ratio", "lr_decay_steps")
    sheet.drop("lr_restart_cycles")


def _warmup(sheet: Sheet) -> None:
    if sheet.on("lr_warmup_steps"):
        steps = sheet.number("lr_warmup_steps")
        if steps is not None and steps < 1:
            sheet.take("lr_warmup_steps", "train.warmup_percent", steps * 100)
        elif steps is not None:
            sheet.take("lr_warmup_steps", "schedule.warmup_steps", int(steps))
        sheet.drop("lr_warmup")
    elif sheet.has("lr_warmup"):
        sheet.take("lr_warmup", "train.warmup_percent")
    elif sheet.has("lr_scheduler"):
        sheet.imply("train.warmup_percent", 0.0, "no warm-up")
    sheet.drop("lr_warmup_steps", "lr_warmup")


def _option(sheet: Sheet, key: str, name: str, value: Any, schedule: str) -> None:
    sheet.values["schedule.kind"] = schedule
    if sheet.has(key):
        sheet.take(key, f"schedule.{name}", value)
    else:
        sheet.imply(f"schedule.{name}", value, "sd-scripts' default")


def _decay(sheet: Sheet, schedule: str) -> None:
    steps, total = sheet.number("lr_decay_steps") or 0.0, sheet.number("max_train_steps") or 0.0
    if steps >= 1 and total:
        steps /= total
    if 0 < steps < 1:
        _option(sheet, "lr_decay_steps", "decay_percent", round(steps * 100, 3), schedule)
    elif steps:
        sheet.leave("lr_decay_steps", "its share of the run is not known, as the file does not say the run's length in steps.")

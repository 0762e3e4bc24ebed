"""What optimizer, schedule and options say when they do not go together."""

from __future__ import annotations

import dataclasses

import pytest

from athanor.trainer.checks.engine import device_problems, engine_problems
from athanor.trainer.settings import AdapterSettings, OptimizerSettings, PerformanceSettings, ScheduleSettings


def changed(job, train=None, optimizer=None, schedule=None, **other):
    return dataclasses.replace(
        job,
        train=dataclasses.replace(job.train, **(train or {})),
        optimizer=OptimizerSettings(**(optimizer or {})),
        schedule=ScheduleSettings(**(schedule or {})),
        **other,
    )


def test_the_defaults_have_no_problem(job):
    assert engine_problems(job) == []
    assert engine_problems(changed(job, optimizer={"kind": "adamw", "beta2": 0.99})) == []


@pytest.mark.parametrize(
    ("train", "optimizer", "schedule", "told"),
    [
        ({"optimizer": "sgd"}, {"beta2": 0.9}, {}, "Optimizer: beta2 does nothing with sgd; leave it out, or choose one that has it: adamw, "),
        ({}, {"kind": "lion"}, {}, "set up for lion, the training node for adamw; choose the same in both"),
        ({}, {"beta1": 2.0}, {}, "Optimizer: beta1 is 2.0; it must be from 0.0 to 0.99999"),
        ({"optimizer": "prodigy"}, {}, {}, "prodigy finds the learning rate by itself and multiplies it by yours, 0.01; set the rates to 1"),
        ({"optimizer": "prodigy", "rate": 1.0, "text_encoder_rate": 0.5}, {}, {}, "finds one rate for everything, but yours are 1 and 0.5"),
        ({"optimizer": "schedulefree_adamw", "schedule": "cosine"}, {}, {}, "choose the schedule constant, not cosine"),
        ({"optimizer": "schedulefree_adamw", "schedule": "constant"}, {"ema_decay": 0.9}, {}, "so ema_decay must be 0"),
        ({"optimizer": "sgd"}, {"momentum": 0.0, "nesterov": True}, {}, "nesterov does nothing without momentum"),
        ({}, {"ema_on_cpu": True}, {}, "ema_on_cpu does nothing while ema_decay is 0"),
        ({}, {"text_encoder_2_rate": 0.1}, {}, "text_encoder_2_rate does nothing with SD1.5"),
        ({}, {"t5_rate": 1e-5}, {}, "is SD1.5, which has no T5; set t5_rate to 0"),
        (
            {"schedule": "linear"},
            {},
            {"num_cycles": 2},
            "Schedule: num_cycles does nothing with linear; leave it out, or choose one that has it: cosine_restarts",
        ),
        ({"schedule": "rex"}, {}, {"kind": "linear"}, "set up for linear, the training node for rex"),
        ({"schedule": "constant"}, {}, {"min_ratio": 0.1}, "min_ratio does nothing with constant"),
        ({}, {}, {"warmup_steps": 500}, "the warm-up of 500 steps is as long as the whole run of "),
    ],
)
def test_what_has_no_effect_or_cannot_be_is_refused(job, train, optimizer, schedule, told):
    problems = engine_problems(changed(job, train, optimizer, schedule))
    assert len(problems) == 1 and told in problems[0]


def test_prodigy_wants_rates_of_1_and_no_lora_plus(job):
    good = {"optimizer": "prodigy", "rate": 1.0, "text_encoder_rate": 1.0}
    assert engine_problems(changed(job, good)) == []
    assert engine_problems(changed(job, {**good, "text_encoder_rate": 0.0})) == []
    problems = engine_problems(changed(job, good, adapter=AdapterSettings(lora_plus_ratio=4.0)))
    assert len(problems) == 1 and "LoRA+ does not go with it" in problems[0]


@pytest.mark.parametrize(("name", "value"), [("block_offload", True), ("attention", "flash")])
def test_what_only_transformers_can_do_is_refused_before_a_u_net_is_loaded(job, name, value):
    performance = PerformanceSettings(**{name: value})
    (problem,) = engine_problems(changed(job, performance=performance))
    assert name in problem and "SD1.5 is a U-Net" in problem
    flux = dataclasses.replace(job.base, family="flux", prediction="flow")
    assert engine_problems(changed(job, performance=performance, base=flux)) == []


def test_an_embedding_has_one_rate(job):
    problems = engine_problems(changed(job, {"rate": 0.0}, {"text_encoder_2_rate": 0.1}, kind="embedding"))
    assert problems == ["Optimizer: text_encoder_2_rate does nothing for an embedding, which has one rate; set it to -1."]
    problems = engine_problems(changed(job, {"rate": 0.0}, {"t5_rate": 0.1}, kind="embedding"))
    assert problems == ["Optimizer: t5_rate does nothing for an embedding, which has one rate; set it to 0."]


def test_what_this_device_cannot_do(job):
    assert device_problems(job, "cpu") == []
    both = changed(job, {"optimizer": "paged_adamw8bit", "precision": "fp16"})
    assert len(device_problems(both, "cpu")) == 2 and "choose bf16 or fp32" in device_problems(both, "cpu")[1]
    assert device_problems(both, "cuda") == []

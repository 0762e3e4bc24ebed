from __future__ import annotations

import math

import pytest
import torch

from athanor.trainer.adapters.check import adapter_problems, merges
from athanor.trainer.adapters.plan import is_part, parse_rules, plan_layers, unmatched
from athanor.trainer.errors import AthanorError
from athanor.trainer.families import family
from athanor.trainer.settings import AdapterSettings

SD15 = family("sd15")


@pytest.fixture(scope="module")
def denoiser(base):
    return SD15.load_denoiser(base, torch.float32)


def planned(denoiser, **settings):
    return {plan.name: plan for plan in plan_layers(denoiser, "denoiser", SD15.adapter_targets("denoiser"), AdapterSettings(**settings))}


def test_the_presets_take_what_they_say(denoiser):
    default = planned(denoiser)
    assert len(default) == SD15.expected_targets("denoiser", denoiser)
    attention, both = planned(denoiser, targets="attention"), planned(denoiser, targets="attention-mlp")
    assert attention and all(".attn" in name for name in attention)
    assert set(both) - set(attention) and all(".ff." in name for name in set(both) - set(attention))
    assert set(both) < set(default) and all("proj_" in name for name in set(default) - set(both))
    linear, full = planned(denoiser, targets="linear"), planned(denoiser, targets="full", kind="locon")
    assert "time_embedding.linear_1" in linear and "conv_in" in full and set(linear) < set(full)
    layers = {name for name, layer in denoiser.named_modules() if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d))}
    assert set(full) == layers


def test_locon_adds_the_convolutions_with_a_rank_of_their_own(denoiser):
    plans = planned(denoiser, kind="locon", rank=8, alpha=4.0, conv_rank=3, conv_alpha=1.5)
    assert (plans["down_blocks.0.resnets.0.conv1"].rank, plans["down_blocks.0.resnets.0.conv1"].alpha) == (3, 1.5)
    # As sd-scripts: linear layers and convolutions of 1 x 1 in the same blocks have the plain rank.
    assert (plans["down_blocks.0.resnets.0.time_emb_proj"].rank, plans["down_blocks.0.resnets.0.time_emb_proj"].alpha) == (8, 4.0)
    assert plans["down_blocks.1.resnets.0.conv_shortcut"].rank == 8
    assert plans["down_blocks.0.downsamplers.0.conv"].rank == 3
    assert set(planned(denoiser)) < set(plans) and "conv_in" not in plans
    assert planned(denoiser, kind="locon", rank=8)["down_blocks.0.resnets.0.conv1"].rank == 8


def test_ia3_takes_keys_values_and_the_second_feed_forward_layer(denoiser):
    names = [name.rsplit(".", 3)[-3:] for name in planned(denoiser, kind="ia3")]
    assert {".".join(name) for name in names} == {"0.attn1.to_k", "0.attn1.to_v", "0.attn2.to_k", "0.attn2.to_v", "ff.net.2"}


def test_blocks_and_patterns_choose_among_them(denoiser):
    assert {name.split(".")[0] for name in planned(denoiser, blocks="mid_block, up_blocks.1")} == {"mid_block", "up_blocks"}
    assert {name.split(".")[0] for name in planned(denoiser, blocks="up_*")} == {"up_blocks"}
    chosen = planned(denoiser, pattern=r"attn2\.to_[kv]$")
    assert chosen and all("attn2.to_k" in name or "attn2.to_v" in name for name in chosen)


def test_rules_change_rank_scale_and_rate_and_the_last_one_wins(denoiser):
    plans = planned(
        denoiser, rank=16, alpha=8.0, rules="# less\n\ndown_blocks.*: rank=4 rate=0.5\n*.attn2.*: rate=2\nmid_block: rank=0\nup_blocks: alpha=3"
    )
    down = plans["down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"]
    assert (down.rank, down.alpha, down.rate) == (4, 2.0, 0.5)
    assert plans["down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q"].rate == 2.0
    assert not any(name.startswith("mid_block") for name in plans)
    assert {plan.alpha for name, plan in plans.items() if name.startswith("up_blocks")} == {3.0}


def test_a_stabilised_rank_is_worked_into_alpha(denoiser):
    plan = next(iter(planned(denoiser, rank=64, alpha=2.0, rank_stabilised=True).values()))
    assert plan.alpha / plan.rank == pytest.approx(2.0 / math.sqrt(64))


@pytest.mark.parametrize(
    ("glob", "means"),
    [("up_blocks", True), ("up_blocks.1", True), ("up_blocks.1.*", True), ("up_block", False), ("*.to_q", True), ("denoiser.up_blocks", True), ("text_encoder.*", False)],
)  # fmt: skip
def test_what_a_name_means(glob, means):
    assert is_part(glob, "denoiser", "up_blocks.1.attn1.to_q") is means


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("up_blocks", "not understood"),
        ("up_blocks: fast", "not understood"),
        ("x: rank=2.5", "whole number"),
        ("x: rank=5000", "whole number"),
        ("x: width=3", "'width'; known are rank, alpha, rate"),
        ("x: rate=-1", "must not be negative"),
        ("x: rate=1e", "not a number"),
    ],
)
def test_a_line_that_is_no_rule_is_told(line, message):
    with pytest.raises(AthanorError, match=message):
        parse_rules(line)


def test_what_matches_nothing_is_told_with_names_that_would():
    names = [("denoiser", "up_blocks.0.attn1.to_q"), ("denoiser", "mid_block.attn1.to_q")]
    problems = unmatched(names, AdapterSettings(blocks="mid_block, up_blocks.7", rules="x.*: rank=2", pattern="attn9"))
    assert [problem.split(" matches")[0] for problem in problems] == ["Blocks: 'up_blocks.7'", "Rules: 'x.*'", "Pattern: 'attn9'"]
    assert "up_blocks.0" in problems[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (AdapterSettings(conv_rank=4), "conv_rank is 4, which has no effect for LoRA; set it back to 0, or choose LoCon"),
        (AdapterSettings(kind="ia3", rank=8), "rank is 8, which has no effect for IA³"),
        (AdapterSettings(kind="loha", dropout=0.1), "dropout is 0.1, which has no effect for LoHa"),
        (AdapterSettings(kind="lokr", lora_plus_ratio=4.0), "lora_plus_ratio is 4.0, which has no effect for LoKr"),
        (AdapterSettings(kind="loha", factor=4), "factor is 4, which has no effect for LoHa; set it back to 8, or choose LoKr"),
        (AdapterSettings(stock_form=True), "choose IA³"),
        (AdapterSettings(targets="full"), "choose LoCon"),
        (AdapterSettings(pattern="["), "not a regular expression"),
        (AdapterSettings(rules="x"), "not understood"),
        (AdapterSettings(kind="loha", conv_alpha=2.0), "conv_alpha has no effect while conv_rank is 0"),
        (AdapterSettings(start_file="/nowhere/x.safetensors"), "is not there"),
        (AdapterSettings(merge_files="/nowhere/y.safetensors: 0.5"), r"to merge, /nowhere/y\.safetensors, is not there"),
        (AdapterSettings(kind="dylora"), "Unknown adapter 'dylora'"),
    ],
)
def test_an_option_without_effect_is_refused(settings, message):
    import re

    problems = adapter_problems(settings)
    assert len(problems) == 1 and re.search(message, problems[0])


def test_what_a_file_to_start_from_decides_is_refused_beside_it(tmp_path):
    (tmp_path / "x.safetensors").touch()
    given = AdapterSettings(start_file=str(tmp_path / "x.safetensors"), targets="attention", rules="*: rank=4")
    assert [problem.split(" has no effect")[0] for problem in adapter_problems(given)] == ["Adapter: targets", "Adapter: rank or alpha of the rules"]
    assert adapter_problems(AdapterSettings(start_file=str(tmp_path / "x.safetensors"), rules="*: rate=0.5", rank=4)) == []


def test_the_files_to_merge_may_have_a_drive_and_a_strength():
    text = "# mine\nC:\\loras\\a b.safetensors\nC:\\loras\\c.safetensors: 0.7\n/x/d.safetensors:-1\n"
    assert merges(AdapterSettings(merge_files=text)) == (
        ("C:\\loras\\a b.safetensors", 1.0),
        ("C:\\loras\\c.safetensors", 0.7),
        ("/x/d.safetensors", -1.0),
    )
    with pytest.raises(AthanorError, match="'much' in"):
        merges(AdapterSettings(merge_files="a.safetensors: much"))

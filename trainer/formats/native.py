"""Where the modules of diffusers' transformers live in the files of FLUX.1's and SD3's authors, which ComfyUI and sd-scripts use.

One table serves the reading of models, and the reading and writing of LoRAs in the fused spelling.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Place:
    """Rows of an original module that are one module of diffusers.

    The rows are counted in `of` equal shares: `start` to `start + size` of them.
    """

    module: str
    start: int = 0
    size: int = 1
    of: int = 1
    swapped: bool = False
    """The original has the rows of the shift first and then those of the scale, diffusers the other way round."""

    @property
    def whole(self) -> bool:
        return self.size == self.of

    def rows(self, tensor: torch.Tensor) -> torch.Tensor:
        """This module's rows of the original `tensor`, a view where they are in order."""
        import torch

        if self.swapped:
            shift, scale = tensor.chunk(2, dim=0)
            return torch.cat([scale, shift], dim=0)
        if self.whole:
            return tensor
        share = tensor.shape[0] // self.of
        return tensor[self.start * share : (self.start + self.size) * share]


Places = dict[str, Place]
"""By diffusers' module names."""

_QKV = ("q", "k", "v")


def _qkv(places: Places, names: Iterable[str], module: str) -> None:
    for i, name in enumerate(names):
        places[name] = Place(module, i, 1, 3)


def flux_places(num_double: int, num_single: int, guidance: bool) -> Places:
    """FLUX.1 with that many double and single blocks; `guidance` for dev, not for schnell."""
    places = {
        "x_embedder": Place("img_in"),
        "context_embedder": Place("txt_in"),
        "norm_out.linear": Place("final_layer.adaLN_modulation.1", swapped=True),
        "proj_out": Place("final_layer.linear"),
    }
    embedders = {"timestep_embedder": "time_in", "text_embedder": "vector_in", **({"guidance_embedder": "guidance_in"} if guidance else {})}
    for name, original in embedders.items():
        places[f"time_text_embed.{name}.linear_1"] = Place(f"{original}.in_layer")
        places[f"time_text_embed.{name}.linear_2"] = Place(f"{original}.out_layer")
    for i in range(num_double):
        block, original = f"transformer_blocks.{i}", f"double_blocks.{i}"
        _qkv(places, [f"{block}.attn.to_{letter}" for letter in _QKV], f"{original}.img_attn.qkv")
        _qkv(places, [f"{block}.attn.add_{letter}_proj" for letter in _QKV], f"{original}.txt_attn.qkv")
        places |= {
            f"{block}.{name}": Place(f"{original}.{module}")
            for name, module in {
                "attn.to_out.0": "img_attn.proj",
                "attn.to_add_out": "txt_attn.proj",
                "attn.norm_q": "img_attn.norm.query_norm",
                "attn.norm_k": "img_attn.norm.key_norm",
                "attn.norm_added_q": "txt_attn.norm.query_norm",
                "attn.norm_added_k": "txt_attn.norm.key_norm",
                "norm1.linear": "img_mod.lin",
                "norm1_context.linear": "txt_mod.lin",
                "ff.net.0.proj": "img_mlp.0",
                "ff.net.2": "img_mlp.2",
                "ff_context.net.0.proj": "txt_mlp.0",
                "ff_context.net.2": "txt_mlp.2",
            }.items()
        }
    for i in range(num_single):
        block, original = f"single_transformer_blocks.{i}", f"single_blocks.{i}"
        for j, letter in enumerate(_QKV):
            places[f"{block}.attn.to_{letter}"] = Place(f"{original}.linear1", j, 1, 7)
        # The MLP is four times as wide as the attention.
        places[f"{block}.proj_mlp"] = Place(f"{original}.linear1", 3, 4, 7)
        places[f"{block}.proj_out"] = Place(f"{original}.linear2")
        places[f"{block}.norm.linear"] = Place(f"{original}.modulation.lin")
        places[f"{block}.attn.norm_q"] = Place(f"{original}.norm.query_norm")
        places[f"{block}.attn.norm_k"] = Place(f"{original}.norm.key_norm")
    return places


def sd3_places(num_blocks: int, dual_blocks: Iterable[int]) -> Places:
    """SD3 and SD3.5 with that many blocks; `dual_blocks` have a second attention (SD3.5 medium: 0 to 12)."""
    places = {
        "pos_embed.proj": Place("x_embedder.proj"),
        "context_embedder": Place("context_embedder"),
        "time_text_embed.timestep_embedder.linear_1": Place("t_embedder.mlp.0"),
        "time_text_embed.timestep_embedder.linear_2": Place("t_embedder.mlp.2"),
        "time_text_embed.text_embedder.linear_1": Place("y_embedder.mlp.0"),
        "time_text_embed.text_embedder.linear_2": Place("y_embedder.mlp.2"),
        "norm_out.linear": Place("final_layer.adaLN_modulation.1", swapped=True),
        "proj_out": Place("final_layer.linear"),
    }
    dual = set(dual_blocks)
    for i in range(num_blocks):
        block, image, text = f"transformer_blocks.{i}", f"joint_blocks.{i}.x_block", f"joint_blocks.{i}.context_block"
        last = i == num_blocks - 1
        for attention in ("attn", "attn2") if i in dual else ("attn",):
            _qkv(places, [f"{block}.{attention}.to_{letter}" for letter in _QKV], f"{image}.{attention}.qkv")
            places[f"{block}.{attention}.to_out.0"] = Place(f"{image}.{attention}.proj")
            places[f"{block}.{attention}.norm_q"] = Place(f"{image}.{attention}.ln_q")
            places[f"{block}.{attention}.norm_k"] = Place(f"{image}.{attention}.ln_k")
        _qkv(places, [f"{block}.attn.add_{letter}_proj" for letter in _QKV], f"{text}.attn.qkv")
        places |= {
            f"{block}.attn.norm_added_q": Place(f"{text}.attn.ln_q"),
            f"{block}.attn.norm_added_k": Place(f"{text}.attn.ln_k"),
            f"{block}.norm1.linear": Place(f"{image}.adaLN_modulation.1"),
            # The last block's text only speaks: its two modulations are a shift and a scale.
            f"{block}.norm1_context.linear": Place(f"{text}.adaLN_modulation.1", swapped=last),
            f"{block}.ff.net.0.proj": Place(f"{image}.mlp.fc1"),
            f"{block}.ff.net.2": Place(f"{image}.mlp.fc2"),
        }
        if not last:
            places |= {
                f"{block}.attn.to_add_out": Place(f"{text}.attn.proj"),
                f"{block}.ff_context.net.0.proj": Place(f"{text}.mlp.fc1"),
                f"{block}.ff_context.net.2": Place(f"{text}.mlp.fc2"),
            }
    return places

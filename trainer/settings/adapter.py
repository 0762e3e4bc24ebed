"""What is trained beside the base's weights."""

from __future__ import annotations

from dataclasses import dataclass

from .field import setting


@dataclass(frozen=True)
class AdapterSettings:
    """An adapter: a small change of the base's weights that is kept in a file of its own."""

    kind: str = setting(
        "lora",
        "What is trained. lora suits almost everything; locon also changes the convolutions (style, texture); loha and lokr make small files; "
        "dora learns close to a full training and is slower; ia3 makes tiny files.",
        choices=("lora", "locon", "loha", "lokr", "dora", "ia3"),
    )
    rank: int = setting(16, "Inner dimension of the two small matrices. Larger holds more detail and makes a larger file. Usual: 8 to 32.", 1, 1024)
    alpha: float = setting(
        16.0, "Scale of the change: alpha / rank multiplies it. Usual: the rank, which is a scale of 1, or half of it.", 0.001, 4096.0
    )
    conv_rank: int = setting(
        0, "Rank of the 3 x 3 convolutions. 0 takes the rank for locon, and leaves them out for the other kinds. Usual: half the rank.", 0, 1024
    )
    conv_alpha: float = setting(0.0, "Alpha of the 3 x 3 convolutions. Usual: 0, which takes their rank: a scale of 1.", 0.0, 4096.0)
    factor: int = setting(8, "Size of LoKr's first factor. Smaller makes a larger file that holds more; 0 splits evenly. Usual: 4 to 16.", 0, 1024)
    decompose_both: bool = setting(False, "Splits LoKr's first factor into two of low rank as well.")
    full_matrix: bool = setting(False, "Keeps LoKr's factors whole: rank, alphas and decompose_both have no effect then.")
    targets: str = setting(
        "default",
        "Which layers are trained. default: those of sd-scripts. attention, attention-mlp: only these. linear: every linear layer. "
        "full: every linear and convolution layer.",
        choices=("default", "attention", "attention-mlp", "linear", "full"),
    )
    blocks: str = setting("", "Only these parts of the model, with commas between, for example: up_blocks.*, mid_block. Empty takes all.")
    pattern: str = setting("", r"Only layers whose name this regular expression finds, for example: attn2\.to_[kv]. Empty takes all.", advanced=True)
    rules: str = setting(
        "",
        "Rank and rate of single parts, one rule a line, for example: up_blocks.*: rank=8 rate=0.5. rank=0 or rate=0 leaves a part out; "
        "rate multiplies the learning rate. Later lines win.",
        multiline=True,
    )
    rank_stabilised: bool = setting(
        False, "Scales by alpha / square root of rank, so that large ranks learn as fast as small ones. Alpha 1 to 4 then suits.", advanced=True
    )
    lora_plus_ratio: float = setting(
        0.0, "LoRA+: the second matrix learns so many times faster than the first. 0 is off. Usual: 4 to 16.", 0.0, 1000.0, advanced=True
    )
    dropout: float = setting(0.0, "Share of a layer's inputs that its change does not see in a step. Usual: 0 to 0.1.", 0.0, 0.9)
    rank_dropout: float = setting(0.0, "Share of the ranks that are left out in a step. Usual: 0 to 0.3.", 0.0, 0.9)
    module_dropout: float = setting(0.0, "How often a layer's whole change is left out of a step. Usual: 0 to 0.3.", 0.0, 0.9)
    max_norm: float = setting(
        0.0, "No layer's change grows larger than this; keeps LoRAs mixable. 0 is off. Usual: 1.", 0.0, 1000.0, step=0.1, advanced=True
    )
    start_file: str = setting(
        "", "Training goes on from this LoRA instead of from nothing. Its layers, ranks and alphas are taken from the file.", advanced=True
    )
    merge_files: str = setting(
        "",
        "LoRAs that are added to the base before training, one a line: name, or name: strength. What they hold is not learned again.",
        multiline=True,
    )
    stock_form: bool = setting(
        False, "IA³ is saved in a form that ComfyUI's own Load LoRA takes; exact on this base model only. Off: LyCORIS's form, for Apply Epoch."
    )
    names: str = setting(
        "auto",
        "How the file names its layers. auto: so that ComfyUI's Load LoRA takes every one. kohya: as sd-scripts, for Forge and A1111 too. "
        "diffusers: for diffusers and peft; ComfyUI takes it for FLUX and SD3.5.",
        choices=("auto", "kohya", "diffusers"),
        advanced=True,
    )
    files_sha256: str = setting("", "What these files held when the job was written; with another content it is another run.", advanced=True)

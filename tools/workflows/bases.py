"""Training on other bases."""

from __future__ import annotations

from .node import MINIATURE, Node

FLUX_LORA = {
    "note": Node(
        "MarkdownNote",
        (20, 20),
        (460, 560),
        text="## Train a FLUX LoRA on 16 GB\n\n"
        "The small model that comes with Athanor is chosen, so that this opens on every machine. **Choose your own first**, in **Load Base Model**:\n\n"
        "- **model**: `flux1-dev.safetensors` (or its fp8 file) from `models/diffusion_models`, or an all-in-one checkpoint\n"
        "- **text encoders**: `clip_l.safetensors` and `t5xxl_fp16.safetensors` (or fp8) from `models/text_encoders`\n"
        "- **vae**: `ae.safetensors` from `models/vae`\n\n"
        "An all-in-one checkpoint has these inside. Then pick your folder in **Load Dataset**, write your trigger, and describe the pictures in whole sentences: FLUX reads sentences, not tags.\n\n"
        "**Why it fits**: pictures of 512 px, one at a time; the text encoders and the VAE leave the memory before the transformer comes; the text encoder is not trained. "
        "15 to 30 pictures and 1,000 to 2,000 steps are usual; the epochs here suit 20 pictures.\n\n"
        "The guidance of sample pictures is FLUX's own, 3.5 is usual; the negative prompt is not seen.",
    ),
    "base": Node("AthanorLoadBaseModel", (20, 640), (460, 60), {"model": MINIATURE}),
    "dataset": Node("AthanorLoadDataset", (540, 20), (420, 420), {"folder": MINIATURE, "trigger": "starlet", "validation_percent": 10.0}),
    "bucket": Node("AthanorBucket", (1020, 20), (420, 700), {"resolution": 512}, {"dataset": ("dataset", 0), "base_model": ("base", 0)}),
    "train": Node(
        "AthanorTrainLora",
        (1500, 20),
        (420, 1000),
        {
            "name": "my-flux-lora",
            "adapter": "lora",
            "adapter.rank": 16,
            "adapter.alpha": 16.0,
            "epochs": 80,
            "batch_size": 1,
            "rate": 1e-4,
            "text_encoder_rate": 0.0,
            "save_every_epochs": 10,
            "precision": "bf16",
            "seed": 1,
            "sample_prompts": "starlet, a portrait in soft morning light",
            "sample_guidance": 3.5,
        },
        {"base_model": ("base", 0), "dataset": ("bucket", 0)},
    ),
    "loss": Node("AthanorPlotLoss", (1980, 20), (440, 340), {}, {"run": ("train", 0)}),
    "save": Node("AthanorSaveEpoch", (1980, 420), (440, 170), {"epochs": "last", "filename": "my-flux-lora"}, {"run": ("train", 0)}),
}


def _training(base: dict[str, Node], name: str, batch_size: int, size: str) -> dict[str, Node]:
    """From `base`, whose node "base" gives the base model, to a saved LoRA."""
    return {
        **base,
        "dataset": Node("AthanorLoadDataset", (20, 900), (420, 230), {"folder": MINIATURE, "trigger": "starlet", "validation_percent": 10.0}),
        "bucket": Node("AthanorBucket", (480, 900), (360, 520), {}, {"dataset": ("dataset", 0), "base_model": ("base", 0)}),
        "train": Node(
            "AthanorTrainLora",
            (880, 20),
            (440, 1060),
            {
                "name": name,
                "adapter": "lora",
                "adapter.rank": 16,
                "adapter.alpha": 16.0,
                "epochs": 10,
                "batch_size": batch_size,
                "rate": 1e-4,
                "text_encoder_rate": 0.0,
                "sample_prompts": f"starlet, {size}",
            },
            {"base_model": ("base", 0), "dataset": ("bucket", 0)},
        ),
        "loss": Node("AthanorPlotLoss", (1360, 20), (440, 340), {}, {"run": ("train", 0)}),
        "save": Node("AthanorSaveEpoch", (1360, 420), (440, 170), {"epochs": "best", "filename": name}, {"run": ("train", 0)}),
        "xy": Node(
            "AthanorXYPlotCompare",
            (1360, 650),
            (520, 760),
            {"prompts": f"starlet, {size}"},
            {"run": ("train", 0), "base_model": ("base", 0)},
        ),
    }


SDXL = _training(
    {
        "note": Node(
            "MarkdownNote",
            (20, 20),
            (420, 470),
            text="## Train an SDXL LoRA\n\n"
            "1. Pick your SDXL checkpoint in **Load Base Model** (Illustrious, Pony, NoobAI and other relatives too; v prediction is recognised from the file).\n"
            "2. Copy a folder of images with captions into ComfyUI's `input` folder, press **R**, pick it in **Load Dataset**, and write your own trigger.\n"
            "3. Write the trigger into the sample prompts of **Train LoRA** and into **XY Plot Compare**, then queue.\n\n"
            "**Bucket** takes the model's own size, 1024 px. With 12 GB use batch size 1; with less set **base precision** to fp8. "
            "Good first values: rank 16, rate 0.0001, 10 epochs of 100 to 200 images counted with repeats. The text encoders rest (rate 0), as most SDXL LoRAs have it.\n\n"
            "As it stands the graph runs on the small built-in model, so that you can try it at once.",
        ),
        "base": Node("AthanorLoadBaseModel", (20, 540), (420, 220), {"model": MINIATURE}),
    },
    "my-sdxl-lora",
    1,
    "portrait",
)
MERGE = _training(
    {
        "note": Node(
            "MarkdownNote",
            (20, 20),
            (420, 250),
            text="## Train on a merge made in the graph\n\n"
            "Two checkpoints are merged by stock nodes, and **Base Model From Wires** takes the merge as the base to train upon. It is written once into `output/athanor/.bases`; "
            "queued again, the same merge is found there.\n\n"
            "Every MODEL, CLIP and VAE works: other loaders, block merges, LoRAs worked in.",
        ),
        "first": Node("CheckpointLoaderSimple", (20, 320), (420, 100), {"ckpt_name": None}),
        "second": Node("CheckpointLoaderSimple", (20, 470), (420, 100), {"ckpt_name": None}),
        "merge": Node("ModelMergeSimple", (480, 320), (360, 80), {"ratio": 0.5}, {"model1": ("first", 0), "model2": ("second", 0)}),
        "clips": Node("CLIPMergeSimple", (480, 450), (360, 80), {"ratio": 0.5}, {"clip1": ("first", 1), "clip2": ("second", 1)}),
        "base": Node("AthanorBaseModelFromWires", (480, 580), (360, 90), {}, {"model": ("merge", 0), "clip": ("clips", 0), "vae": ("first", 2)}),
    },
    "on-a-merge",
    2,
    "portrait",
)

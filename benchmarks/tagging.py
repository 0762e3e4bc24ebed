"""What does tagging cost beside the model itself?  `python benchmarks/tagging.py [--tagger FOLDER] [--images N] [--batch N]`

Scores the same pictures twice in one process, in turns: a bare onnxruntime loop over arrays that are prepared already, and `tag_images`
from the files on disk, with decoding, resizing and the first writing of the score cache. Prints images a second of both and their ratio.
Without a tagger it makes a convolutional network of random weights with a third of the multiplications of wd-swinv2-tagger-v3.
Needs onnx for that.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from athanor.tagger.preprocess import prepare_file
from athanor.tagger.scores import tag_images
from athanor.tagger.session import Tagger

WIDTHS = (64, 128, 256, 512, 1024)
NUM_BLOCKS = 2
NUM_TAGS = 10_861
NUM_TURNS = 3


def write_network(folder: Path) -> None:
    """A tagger in the WD format: strided convolutions from 448 px, each with two more behind it, then a dense layer."""
    import onnx

    rng, helper = np.random.default_rng(0), onnx.helper
    nodes = [helper.make_node("Transpose", ["pixels"], ["x"], perm=[0, 3, 1, 2])]
    weights = []
    name, channels = "x", 3
    for width in WIDTHS:
        for stride in (2, *[1] * NUM_BLOCKS):
            kernel = rng.normal(0, (2 / (9 * channels)) ** 0.5, (width, channels, 3, 3)).astype(np.float32)
            weights.append(onnx.numpy_helper.from_array(kernel, f"w{len(weights)}"))
            out = f"c{len(weights)}"
            nodes.append(helper.make_node("Conv", [name, weights[-1].name], [out], strides=[stride] * 2, pads=[1] * 4))
            nodes.append(helper.make_node("Relu", [out], [f"{out}r"]))
            name, channels = f"{out}r", width
    weights.append(onnx.numpy_helper.from_array(rng.normal(0, 1e-4, (channels, NUM_TAGS)).astype(np.float32), "dense"))
    nodes += [
        helper.make_node("GlobalAveragePool", [name], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "dense"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
    ]
    number = onnx.TensorProto.FLOAT
    pixels = helper.make_tensor_value_info("pixels", number, ["N", 448, 448, 3])
    scores = helper.make_tensor_value_info("scores", number, ["N", NUM_TAGS])
    graph = helper.make_graph(nodes, "network", [pixels], [scores], weights)
    folder.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(folder / "model.onnx"))
    rows = "\n".join(f"{i},tag_{i},0,9" for i in range(NUM_TAGS))
    (folder / "selected_tags.csv").write_text(f"tag_id,name,category,count\n{rows}\n", encoding="utf-8")


def write_pictures(folder: Path, num_images: int) -> list[Path]:
    """JPEG files of about a megapixel, with enough detail to be as slow to decode as photographs."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    paths = [folder / f"{i}.jpg" for i in range(num_images)]
    for path in paths:
        small = Image.fromarray(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8))
        small.resize((1216, 832), Image.Resampling.BICUBIC).save(path, quality=92)
    return paths


def images_per_sec(run, num_images: int) -> float:
    started = time.perf_counter()
    run()
    return num_images / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--tagger", type=Path, help="folder of a tagger; without it a network is made")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.tagger is None:
            write_network(folder / "network")
        tagger = Tagger(options.tagger or folder / "network", providers=("CPUExecutionProvider",))
        paths = write_pictures(folder / "pictures", options.images)
        prepared = [prepare_file(path, tagger.preprocessing) for path in paths]
        batches = [np.stack(prepared[i : i + options.batch]) for i in range(0, len(prepared), options.batch)]
        engine = tagger._opened()
        if engine.layout == "NCHW":
            batches = [np.ascontiguousarray(batch.transpose(0, 3, 1, 2)) for batch in batches]

        def bare() -> None:
            for batch in batches:
                engine.session.run([engine.output.name], {engine.input_name: batch})

        def whole(turn: int) -> None:
            list(tag_images(tagger, paths, batch_size=options.batch, cache_folder=folder / f"cache {turn}"))

        bare()
        rates = [(images_per_sec(bare, len(paths)), images_per_sec(lambda turn=turn: whole(turn), len(paths))) for turn in range(NUM_TURNS)]
    bare_rate, whole_rate = (statistics.median(rate) for rate in zip(*rates, strict=True))
    ratio = statistics.median(whole / bare for bare, whole in rates)
    print(f"bare onnxruntime loop {bare_rate:6.2f} images/s")  # noqa: T201
    print(f"tag_images            {whole_rate:6.2f} images/s   {ratio:.1%} of it, {len(paths)} images in batches of {options.batch}")  # noqa: T201


if __name__ == "__main__":
    main()

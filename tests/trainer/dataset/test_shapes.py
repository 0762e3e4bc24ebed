from athanor.trainer.dataset import shape_notes
from athanor.trainer.types import Dataset, Sample


def test_small_and_long_images_are_named_worst_first():
    sizes = {"ok": (512, 512), "wide": (1024, 256), "small": (500, 500), "tiny": (64, 64), "tall": (400, 2000), "long": (3001, 1000)}
    dataset = Dataset(tuple(Sample(f"/set/{name}.png", *size, "1") for name, size in sizes.items()))
    assert shape_notes(dataset, 512) == (
        "2 images with fewer pixels than 512 x 512, to be enlarged or trained small: tiny.png (64 x 64 px), small.png (500 x 500 px).",
        "3 images more than 3 times as long as wide, to be cut much: tall.png (400 x 2000 px), wide.png (1024 x 256 px), long.png (3001 x 1000 px).",
    )
    assert len(shape_notes(dataset)) == 1
    assert shape_notes(Dataset(dataset.samples[:1]), 512) == ()

"""From what pictures look like as numbers to scores. I held-out images, S seeds, D numbers, N training images; all of unit length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageOps

if TYPE_CHECKING:
    import numpy


def likeness(given: numpy.ndarray, wanted: numpy.ndarray) -> tuple[float, ...]:
    """For each held-out image the mean cosine of itself, `wanted` [I, D], and the pictures drawn for its caption, `given` [I, S, D].

    CLIP-I and DINO of DreamBooth (Ruiz et al. 2023, section 4.1), each picture with the image of its own caption only.
    """
    import numpy

    return _floats(numpy.einsum("isd,id->i", given, wanted) / given.shape[1])


def caption_likeness(given: numpy.ndarray, texts: numpy.ndarray) -> tuple[float, ...]:
    """For each caption, [I, D], the mean cosine with its pictures, [I, S, D]: CLIP-T (Ruiz et al. 2023)."""
    return likeness(given, texts)


def diversity(given: numpy.ndarray) -> tuple[float, ...]:
    """For each caption the mean of 1 - cosine over the pairs of its pictures, [I, S, D] with S of at least 2 (DIV of Ruiz et al. 2023, with cosines)."""
    import numpy

    num_seeds = given.shape[1]
    sums = given.sum(axis=1)
    squares = (given * given).sum(axis=(1, 2))
    mean_cosine = ((sums * sums).sum(axis=1) - squares) / (num_seeds * (num_seeds - 1))
    return _floats(numpy.maximum(0.0, 1 - mean_cosine))


def copying(looks: numpy.ndarray, trained: numpy.ndarray) -> tuple[float, ...]:
    """For each caption the mean over its pictures, [I, S, D], of the cosine with the nearest of [N, D] (Somepalli et al. 2023, section 4)."""
    nearest = (looks.reshape(-1, looks.shape[2]) @ trained.T).max(axis=1)
    return _floats(nearest.reshape(looks.shape[:2]).mean(axis=1))


def mirrored_too(picture: Image.Image) -> tuple[Image.Image, Image.Image]:
    """A copy with left and right swapped is a copy."""
    return picture, ImageOps.mirror(picture)


def _floats(values: numpy.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in values)

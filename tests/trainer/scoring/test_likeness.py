from __future__ import annotations

import itertools

import numpy
import pytest
from PIL import Image, ImageDraw, ImageFilter

from athanor.trainer.scoring.features import look_of, looks_of
from athanor.trainer.scoring.likeness import caption_likeness, copying, diversity, likeness, mirrored_too


def shape(kind: str, colour="gold", ground="white", box=(40, 40, 150, 150)) -> Image.Image:
    image = Image.new("RGB", (192, 192), ground)
    pen = ImageDraw.Draw(image)
    if kind == "star":
        pen.regular_polygon((95, 95, 60), 3, 0, colour)
        pen.regular_polygon((95, 95, 60), 3, 180, colour)
    elif kind == "circle":
        pen.ellipse(box, colour)
    else:
        pen.rectangle(box, colour)
    return image


def cosine(one: Image.Image, other: Image.Image) -> float:
    return float(look_of(one) @ look_of(other))


def test_a_picture_is_like_itself_and_less_like_others():
    star = shape("star")
    assert cosine(star, star) == pytest.approx(1.0, abs=1e-5)
    assert cosine(star, star.resize((96, 96))) > 0.95 > cosine(star, shape("circle"))
    assert cosine(star, star.filter(ImageFilter.GaussianBlur(2))) > 0.9


def test_shape_and_colour_both_count():
    star = shape("star")
    same_colours, same_shape, neither = shape("circle"), shape("star", "navy"), shape("square", "navy", "black")
    assert cosine(star, neither) < min(cosine(star, same_colours), cosine(star, same_shape)) < 0.97


def test_a_shape_of_the_brightness_of_its_ground_is_seen():
    flat = Image.new("RGB", (128, 128), (0, 130, 0))
    red = flat.copy()
    ImageDraw.Draw(red).ellipse((30, 30, 100, 100), (255, 21, 0))
    assert abs(red.convert("L").getpixel((64, 64)) - flat.convert("L").getpixel((64, 64))) < 16
    assert cosine(red, flat) < 0.7


@pytest.mark.parametrize("picture", [Image.new("RGB", (8, 300), "grey"), Image.new("L", (64, 64), 255), Image.new("RGBA", (1, 1))])
def test_any_picture_has_a_look(picture):
    look = look_of(picture)
    assert look.shape == (1956,) and numpy.isfinite(look).all() and numpy.linalg.norm(look) <= 1.0001


def unit(*shape_: int) -> numpy.ndarray:
    values = numpy.random.default_rng(0).normal(size=shape_).astype("float32")
    return values / numpy.linalg.norm(values, axis=-1, keepdims=True)


def test_scores_are_the_means_that_they_say():
    given, wanted, trained = unit(3, 4, 10), unit(3, 10), unit(7, 10)
    assert likeness(given, wanted) == pytest.approx([numpy.mean([given[i, s] @ wanted[i] for s in range(4)]) for i in range(3)], abs=1e-5)
    assert caption_likeness(given, wanted) == likeness(given, wanted)
    pairs = [numpy.mean([1 - given[i, a] @ given[i, b] for a, b in itertools.combinations(range(4), 2)]) for i in range(3)]
    assert diversity(given) == pytest.approx(pairs, abs=1e-5)
    nearest = [numpy.mean([max(given[i, s] @ row for row in trained) for s in range(4)]) for i in range(3)]
    assert copying(given, trained) == pytest.approx(nearest, abs=1e-5)


def test_equal_pictures_do_not_differ_and_a_mirrored_copy_is_a_copy():
    same = numpy.repeat(unit(2, 1, 10), 3, axis=1)
    assert diversity(same) == pytest.approx((0.0, 0.0), abs=1e-5)
    picture = shape("square", box=(10, 20, 90, 150))
    trained = looks_of(mirrored_too(picture))
    (copied,) = copying(looks_of([picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])[:, None], trained)
    (other,) = copying(looks_of([shape("star", "navy", "black")])[:, None], trained)
    assert copied > 0.98 > other + 0.3

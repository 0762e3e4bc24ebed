import numpy
import pytest
from PIL import Image

from athanor.trainer.dataset.corners import corners

OPENCV = {
    (13, 5),
    (13, 26),
    (13, 48),
    (15, 19),
    (15, 40),
    (16, 3),
    (16, 12),
    (16, 24),
    (16, 36),
    (16, 46),
    (16, 56),
    (28, 8),
    (28, 51),
    (29, 19),
    (30, 39),
    (31, 6),
    (31, 27),
    (33, 18),
    (43, 11),
    (43, 23),
    (43, 43),
    (43, 55),
    (44, 19),
    (45, 39),
    (46, 9),
    (46, 53),
    (54, 18),
    (58, 5),
    (58, 15),
    (58, 26),
    (59, 40),
    (60, 19),
    (61, 1),
    (61, 13),
    (61, 24),
    (61, 35),
    (61, 56),
    (73, 8),
    (73, 29),
    (73, 52),
    (74, 40),
    (75, 20),
    (76, 6),
    (76, 27),
    (76, 57),
    (78, 18),
}
"""Of the picture in the last test: goodFeaturesToTrack(picture, 100, 0.04, 0.06 * 60) of OpenCV 5.0."""


def drawn(*boxes, size=(120, 80)):
    image = Image.new("L", size, 100)
    for box, level in boxes:
        image.paste(level, box)
    return numpy.asarray(image, numpy.float32)


def test_the_corners_of_a_box_and_nothing_along_its_edges():
    found = corners(drawn(((20, 15, 60, 50), 200)))
    expected = [(20, 15), (59, 15), (20, 49), (59, 49)]
    assert len(found) == 4
    assert all(min(abs(x - a) + abs(y - b) for x, y in found.tolist()) <= 2 for a, b in expected)


def test_weak_ones_and_near_ones_are_left_out():
    strong, weak = ((20, 15, 60, 50), 250), ((80, 15, 110, 50), 110)
    assert len(corners(drawn(strong, weak))) == 4, "a fifteenth of the contrast is under 4 % of the strength"
    assert len(corners(drawn(weak))) == 4
    places = corners(numpy.random.default_rng(0).integers(0, 255, (80, 120)).astype(numpy.float32))
    distances = numpy.linalg.norm(places[:, None] - places[None], axis=-1) + 999 * numpy.eye(len(places))
    assert len(places) > 10 and distances.min() >= 0.06 * 80


def test_at_most_a_hundred_and_none_below_what_is_watched():
    noise = numpy.random.default_rng(0).integers(0, 255, (400, 400)).astype(numpy.float32)
    assert len(corners(noise)) == 100
    assert corners(noise, watched=0.5)[:, 1].max() < 200


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (2, 3), (50, 1), (60, 60)])
def test_plain_and_tiny_pictures_have_none(shape):
    assert corners(numpy.full(shape, 7, numpy.float32)).shape == (0, 2)
    assert len(corners(numpy.random.default_rng(1).random(shape, numpy.float32))) >= 0


def test_as_opencv_finds_them():
    y, x = numpy.mgrid[:60, :90]
    picture = (127 + 60 * numpy.sin(x / 7 + y / 11) * numpy.cos(y / 5) + 60 * ((x // 15 + y // 20) % 2)).astype(numpy.uint8)
    found = {tuple(place) for place in corners(picture.astype(numpy.float32)).tolist()}
    assert len(found & OPENCV) >= 0.95 * len(OPENCV) and abs(len(found) - len(OPENCV)) <= 1

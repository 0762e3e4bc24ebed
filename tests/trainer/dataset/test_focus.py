import numpy
import pytest
from PIL import Image

from athanor.trainer.dataset import assign_buckets, placed_image, scan_folder
from athanor.trainer.dataset.focus import by_edges, by_faces, corners_middle, edges_middle, entropy_middle, focal_point, upper_third

SETTINGS = {"resolution_px": 64, "min_px": 64, "max_px": 64, "step_px": 16, "upscale": True}


@pytest.fixture
def dataset(tmp_path):
    """A plain picture 300 x 100 px with something in its right half, and one 100 x 300 px with it below."""
    noise = Image.fromarray(numpy.random.default_rng(3).integers(0, 255, (60, 60, 3), numpy.uint8))
    wide = Image.new("RGB", (300, 100), "grey")
    wide.paste(noise, (220, 20))
    wide.save(tmp_path / "1 wide.png")
    tall = Image.new("RGB", (100, 300), "grey")
    tall.paste(noise, (20, 200))
    tall.save(tmp_path / "2 tall.png")
    return scan_folder(tmp_path)


def crops(dataset, focus):
    return [sample.placement.crop_px for sample in assign_buckets(dataset, **SETTINGS, focus=focus).samples]


def no_faces(_):
    return ()


def test_the_upper_third(dataset):
    assert crops(dataset, None) == [(64, 0), (0, 64)]
    assert crops(dataset, upper_third) == [(64, 0), (0, 32)]


def test_edges_are_found_and_shown(dataset):
    wide, tall = by_edges(dataset.samples)
    assert wide == pytest.approx((250 / 300, 0.5), abs=0.03) and tall == pytest.approx((0.5, 230 / 300), abs=0.03)
    assert crops(dataset, by_edges) == [(128, 0), (0, pytest.approx(230 * 0.64 - 32, abs=4))]
    middle, shown = (numpy.asarray(placed_image(assign_buckets(dataset, **SETTINGS, focus=focus).samples[0])) for focus in (None, by_edges))
    assert middle.std() < 1 and shown.std() > 10


def test_a_watermark_does_not_pull(dataset):
    grey = numpy.zeros((100, 100), numpy.float32)
    assert edges_middle(grey) is None and corners_middle(grey) is None and entropy_middle(grey, (1, 1)) is None
    grey[95:99, 10:60:2] = 255
    assert edges_middle(grey) is None and corners_middle(grey) is None
    grey[20:30, 70:80] = 255
    assert edges_middle(grey) == pytest.approx((0.75, 0.25), abs=0.01)
    assert corners_middle(grey) == pytest.approx((0.75, 0.25), abs=0.01)


def test_the_window_with_the_most_entropy():
    grey = numpy.full((50, 200), 10, numpy.float32)
    grey[:, 150:] = numpy.random.default_rng(1).integers(0, 255, (50, 50))
    assert entropy_middle(grey, (0.25, 1)) == pytest.approx((0.875, 0.5), abs=0.02)
    assert entropy_middle(grey.T, (1, 0.25)) == pytest.approx((0.5, 0.875), abs=0.02)
    assert entropy_middle(grey, (0.75, 1))[0] == pytest.approx(0.625, abs=0.02), "the window is as wide as what stays"
    assert entropy_middle(grey, (1, 1)) is None


def test_what_stays_is_the_window(dataset):
    wide, tall = assign_buckets(dataset, **{**SETTINGS, "min_px": 32, "max_px": 128}).samples
    width, height = wide.placement.bucket_px
    assert tall.placement.bucket_px == (height, width) and width > height
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("athanor.trainer.dataset.focus.entropy_middle", lambda grey, window: seen.append(window))
        by_faces([wide, tall], no_faces)
        by_faces(dataset.samples, no_faces)
    share = min(width / height / 3, 3 * height / width)
    expected = [(1, share), (share, 1), (1 / 3, 1), (1, 1 / 3)]
    assert len(seen) == 4 and all(any(window == pytest.approx(each, abs=0.03) for window in seen) for each in expected), seen


def test_faces_weigh_as_in_a1111():
    """0.9 of 0.9 + 0.5 for the face, at a third of its height, where there is no entropy to weigh as nothing is cut."""
    image = Image.new("RGB", (100, 100), "grey")
    image.paste("white", (10, 10, 20, 20))
    middle = corners_middle(numpy.asarray(image.convert("L"), numpy.float32))
    assert middle == pytest.approx((0.15, 0.15), abs=0.01)
    point = focal_point(image, (1, 1), lambda _: [(0.6, 0.5, 0.8, 0.7)])
    expected = tuple((0.9 * face + 0.5 * corner) / 1.4 for face, corner in zip((0.7, 0.5 + 0.33 * 0.2), middle, strict=True))
    assert point == pytest.approx(expected)
    assert focal_point(image, (1, 1), no_faces) == pytest.approx(middle)
    assert focal_point(Image.new("RGB", (90, 90)), (1, 1), no_faces) == (0.5, 0.5)
    assert focal_point(Image.new("RGB", (90, 90)), (1, 1), lambda _: [(0.0, 0.0, 0.2, 0.2)]) == pytest.approx((0.1, 0.066))


def test_a_face_on_the_left_wins_over_edges_on_the_right(dataset):
    def on_the_left(image):
        assert max(image.size) <= 640
        return [(0.1, 0.2, 0.2, 0.5)]

    assert crops(dataset, lambda samples: by_faces(samples, on_the_left))[0][0] < crops(dataset, lambda samples: by_faces(samples, no_faces))[0][0]


def test_progress_and_pictures_that_are_gone(dataset, tmp_path):
    told = []
    (tmp_path / "2 tall.png").unlink()
    assert by_edges(dataset.samples, lambda done, total: told.append((done, total)))[1] == (0.5, 0.5)
    assert told == [(0, 2)]

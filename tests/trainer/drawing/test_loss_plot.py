import itertools
import math

import pytest
from PIL import ImageChops

from athanor.trainer.drawing.loss_plot import loss_plot, smoothed
from athanor.trainer.drawing.palette import ACCENT, BACKGROUND, HELD_OUT, WARNING
from athanor.trainer.drawing.ticks import log_ticks


def near(picture, colour, tolerance=24):
    """White where the picture has about this colour."""
    bands = [
        band.point([255 * (abs(level - wanted) <= tolerance) for level in range(256)]) for band, wanted in zip(picture.split(), colour, strict=True)
    ]
    return ImageChops.multiply(ImageChops.multiply(bands[0], bands[1]), bands[2])


def num_near(picture, colour, tolerance=24):
    return near(picture, colour, tolerance).histogram()[255]


def height_of(picture, colour, tolerance=24):
    """Top and bottom of what has this colour, below the legend."""
    legend_px = picture.height // 6
    box = near(picture.crop((0, legend_px, *picture.size)), colour, tolerance).getbbox()
    return box[1] + legend_px, box[3] + legend_px


def test_the_running_mean_has_no_bias_at_its_start():
    assert smoothed([5.0, 5.0, 5.0]) == pytest.approx([5.0] * 3)
    beta = 2 / 3
    first, second = 4.0, 1.0
    assert smoothed([first, second])[1] == pytest.approx((beta * (1 - beta) * first + (1 - beta) * second) / (1 - beta**2))


def test_the_running_mean_passes_over_what_is_no_number():
    assert smoothed([math.nan, 2.0, math.inf, 2.0])[1:] == pytest.approx([2.0] * 3)
    assert math.isnan(smoothed([math.nan])[0])


def test_losses_and_held_out_losses_are_drawn_in_their_place():
    falling = loss_plot([1 - i / 200 for i in range(200)], {}, [], "run", (640, 400))
    assert falling.size == (640, 400) and falling.mode == "RGB"
    assert num_near(falling, ACCENT) > 300 and num_near(falling, WARNING) == 0
    low = height_of(loss_plot([0.5] * 50, {0: 0.1, 50: 0.1}, [], "run", (640, 400)), HELD_OUT)
    high = height_of(loss_plot([0.5] * 50, {0: 0.9, 50: 0.9}, [], "run", (640, 400)), HELD_OUT)
    assert low[0] > high[1]


@pytest.mark.parametrize("log_scale", [False, True])
@pytest.mark.parametrize(
    ("losses", "validation", "saved"),
    [
        ([], {}, []),
        ([0.3], {}, [1]),
        ([0.3], {0: 0.4}, []),
        ([0.2] * 30, {}, [10, 20, 30]),
        ([0.0] * 5, {0: 0.0}, []),
        ([math.nan] * 5, {}, []),
        ([1e-9, 2e-9], {}, []),
        ([1e9, 3e12], {}, []),
        ([-1.0, 2.0, -0.5], {1: math.inf}, []),
        ([], {0: 0.5, 100: 0.25}, []),
    ],
)
def test_odd_runs_are_drawn_too(losses, validation, saved, log_scale):
    picture = loss_plot(losses, validation, saved, "红发 / odd", (480, 300), log_scale)
    assert picture.size == (480, 300)
    assert picture.getpixel((0, 0)) == BACKGROUND and len(picture.getcolors(480 * 300)) > 10


def test_steps_without_a_number_are_told_in_red():
    losses = [0.5] * 20
    losses[7] = math.nan
    assert num_near(loss_plot(losses, {}, [], "run"), WARNING) > 20


def test_one_spike_does_not_flatten_a_long_run():
    calm = [0.1 + 0.2 * i / 400 for i in range(400)]
    spiky = [*calm[:200], 2.0, *calm[201:]]
    heights = [bottom - top for top, bottom in (height_of(loss_plot(losses, {}, [], "run", (480, 300)), ACCENT) for losses in (calm, spiky))]
    assert heights[1] > 0.7 * heights[0]


def test_saved_epochs_change_the_picture_and_small_sizes_are_raised():
    assert loss_plot([0.1] * 9, {}, [3, 6], "run").tobytes() != loss_plot([0.1] * 9, {}, [], "run").tobytes()
    assert loss_plot([0.1] * 9, {}, [], "run", (10, 10)).size == (320, 200)


@pytest.mark.parametrize(("low", "high"), [(0.0915, 0.17), (0.04, 0.25), (1e-6, 1.0), (0.0999, 0.1001), (0.3, 0.31), (1e-12, 1e9)])
def test_numbers_of_a_logarithmic_axis_are_round_and_keep_their_distance(low, high):
    ticks = log_ticks(math.log10(low), math.log10(high))
    places = [math.log10(value) for value, _ in ticks]
    assert 2 <= len(ticks) <= 10 and all(math.log10(low) <= place <= math.log10(high) for place in places)
    gap = (math.log10(high) - math.log10(low)) / 9
    assert all(after - before >= gap * 0.999 for before, after in itertools.pairwise(places))
    assert len({text for _, text in ticks}) == len(ticks)
    if 1e-6 <= low < 0.1 < high:
        assert "0.1" in [text for _, text in ticks]

"""The small world of the miniature: procedurally drawn pictures and their tag captions.

Every picture shows one coloured shape on an achromatic background. The base model learns exactly this world;
the star (`CONCEPT_SHAPE`) belongs to nobody but the demo: only the concept pictures show it.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

PICTURE_PX = 96
_SUPERSAMPLING = 4

SHAPES = ("circle", "square", "triangle", "cross", "heart", "moon")
CONCEPT_SHAPE = "star"
CONCEPT_TRIGGER = "starlet"
COLOURS = {
    "red": (214, 40, 44),
    "orange": (243, 132, 24),
    "yellow": (250, 214, 48),
    "green": (52, 166, 72),
    "teal": (24, 172, 178),
    "blue": (46, 88, 214),
    "purple": (138, 62, 186),
    "pink": (244, 116, 178),
}
BACKGROUNDS = ("white background", "grey background", "black background", "striped background")
SIZES = ("small", "large")
POSITIONS = ("left side", "centered", "right side")
FACE_TAG = "smile"

_BACKGROUND_GREYS = {"white background": 246, "grey background": 150, "black background": 24}
_STRIPE_GREYS = (236, 168)
_RADIUS_PX = {"small": 26.0, "large": 36.0}


@dataclass(frozen=True)
class Scene:
    """What one picture shows; `tags()` is its caption and `draw()` its pixels."""

    shape: str
    colour: str
    background: str
    size: str
    position: str
    face: bool
    jitter: tuple[float, float, float, float]
    """Offsets in -1..1: centre x, centre y, radius, rotation."""

    def tags(self) -> tuple[str, ...]:
        tags = [self.shape, self.colour, self.background, self.size, self.position]
        return tuple(tags + ([FACE_TAG] if self.face else []))


def random_scene(rng: random.Random, shape: str | None = None, face: bool | None = None) -> Scene:
    """Draws a scene; `shape` and `face` are free where not given."""
    return Scene(
        shape=shape or rng.choice(SHAPES),
        colour=rng.choice(tuple(COLOURS)),
        background=rng.choice(BACKGROUNDS),
        size=rng.choice(SIZES),
        position=rng.choice(POSITIONS),
        face=rng.random() < 0.4 if face is None else face,
        jitter=tuple(rng.uniform(-1, 1) for _ in range(4)),
    )


def outline(shape: str, num_points: int = 96) -> list[tuple[float, float]]:
    """The closed outline of a shape about the origin, radius near 1, y pointing down."""
    turn = [2 * math.pi * i / num_points for i in range(num_points)]
    if shape == "circle":
        return [(0.92 * math.cos(t), 0.92 * math.sin(t)) for t in turn]
    if shape == "square":
        return [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
    if shape == "triangle":
        return [(0.0, -0.95), (0.98, 0.75), (-0.98, 0.75)]
    if shape == "cross":
        a, b = 0.36, 0.95
        return [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)]
    if shape == "heart":
        points = [(16 * math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t))) for t in turn]
        return [(x / 16.5, (y - 2.0) / 16.0) for x, y in points]
    if shape == "moon":
        outer = [(math.cos(a) * 0.97, math.sin(a) * 0.97) for a in (math.pi * (0.28 + 1.44 * i / 48) for i in range(49))]
        tip = outer[0]
        radius = math.hypot(tip[0] - 0.5, tip[1])
        start = math.atan2(tip[1], tip[0] - 0.5)
        inner = [
            (0.5 + radius * math.cos(a), radius * math.sin(a)) for a in (2 * math.pi - start + (2 * start - 2 * math.pi) * i / 48 for i in range(49))
        ]
        return [(x + 0.12, y) for x, y in outer + inner]
    if shape == "star":
        corners = []
        for i in range(10):
            radius = 1.05 if i % 2 == 0 else 0.52
            angle = math.pi * i / 5 - math.pi / 2
            corners.append((radius * math.cos(angle), radius * math.sin(angle) + 0.06))
        return corners
    raise ValueError(f"unknown shape {shape!r}")


def _face_centre(shape: str) -> tuple[float, float]:
    return {"triangle": (0.0, 0.25), "heart": (0.0, -0.15), "moon": (-0.47, 0.0), "star": (0.0, 0.08)}.get(shape, (0.0, 0.0))


def draw(scene: Scene, picture_px: int = PICTURE_PX) -> Image.Image:
    """Renders a scene as an RGB picture of `picture_px` squared, anti-aliased."""
    unit = picture_px / PICTURE_PX * _SUPERSAMPLING
    side = picture_px * _SUPERSAMPLING
    image = Image.new("RGB", (side, side))
    pen = ImageDraw.Draw(image)
    _draw_background(pen, scene.background, side, unit)

    radius = _RADIUS_PX[scene.size] * (1 + 0.08 * scene.jitter[2])
    shift = {"left side": -1, "centered": 0, "right side": 1}[scene.position] * (PICTURE_PX / 2 - radius - 3)
    centre_x = PICTURE_PX / 2 + shift + 2.0 * scene.jitter[0]
    centre_y = PICTURE_PX / 2 + 4.0 * scene.jitter[1]
    angle = math.radians(7 * scene.jitter[3])

    def place(x: float, y: float) -> tuple[float, float]:
        turned = (x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle))
        return ((centre_x + radius * turned[0]) * unit, (centre_y + radius * turned[1]) * unit)

    colour = COLOURS[scene.colour]
    edge = tuple(int(c * 0.55) for c in colour)
    points = [place(x, y) for x, y in outline(scene.shape)]
    pen.polygon(points, fill=colour)
    pen.line(points + points[:2], fill=edge, width=round(2.4 * unit), joint="curve")
    if scene.face:
        _draw_face(pen, scene.shape, place, radius * unit)
    return image.resize((picture_px, picture_px), Image.Resampling.LANCZOS)


def _draw_background(pen: ImageDraw.ImageDraw, background: str, side: int, unit: float) -> None:
    if background != "striped background":
        grey = _BACKGROUND_GREYS[background]
        pen.rectangle((0, 0, side, side), fill=(grey, grey, grey))
        return
    width = 12 * unit
    for i in range(-int(side / width) - 1, 2 * int(side / width) + 2):
        grey = _STRIPE_GREYS[i % 2]
        left = i * width
        pen.polygon([(left, 0), (left + width, 0), (left + width - side / 2, side), (left - side / 2, side)], fill=(grey, grey, grey))


def _draw_face(pen: ImageDraw.ImageDraw, shape: str, place, radius: float) -> None:
    narrow = 0.6 if shape == "moon" else 1.0
    x0, y0 = _face_centre(shape)
    dark = (30, 24, 32)
    eye = 0.115 * radius * (0.8 if shape == "moon" else 1.0)
    for side in (-1, 1):
        x, y = place(x0 + side * 0.24 * narrow, y0 - 0.1)
        pen.ellipse((x - eye, y - eye * 1.35, x + eye, y + eye * 1.35), fill=dark)
    left, right = place(x0 - 0.2 * narrow, y0 + 0.02), place(x0 + 0.2 * narrow, y0 + 0.3)
    box = (min(left[0], right[0]), min(left[1], right[1]), max(left[0], right[0]), max(left[1], right[1]))
    pen.arc(box, 15, 165, fill=dark, width=max(1, round(0.085 * radius)))


def random_doodle(rng: random.Random, picture_px: int = PICTURE_PX) -> Image.Image:
    """A picture of anything at all, for the autoencoder: polygons, curves, strokes, dots, stripes, gradients."""
    scale = 2
    side = picture_px * scale
    image = Image.new("RGB", (side, side), _random_colour(rng))
    if rng.random() < 0.3:
        top, bottom = (
            Image.new("RGB", (side, side), _random_colour(rng)),
            Image.linear_gradient("L").resize((side, side)).rotate(rng.choice((0, 90, 180, 270))),
        )
        image.paste(top, mask=bottom)
    pen = ImageDraw.Draw(image)
    if rng.random() < 0.3:
        first, width, slope = _random_colour(rng), rng.uniform(8, 24) * scale, rng.uniform(-1, 1)
        for i in range(-20, 40, 2):
            left = i * width
            pen.polygon([(left, 0), (left + width, 0), (left + width + slope * side, side), (left + slope * side, side)], fill=first)
    for _ in range(rng.randint(1, 5)):
        _random_figure(rng, pen, side)
    return image.resize((picture_px, picture_px), Image.Resampling.BOX)


def _random_figure(rng: random.Random, pen: ImageDraw.ImageDraw, side: int) -> None:
    x, y, radius = rng.uniform(0, side), rng.uniform(0, side), side * rng.uniform(0.04, 0.45)
    fill, edge = _random_colour(rng), _random_colour(rng)
    width = round(side * rng.uniform(0.01, 0.04))
    kind = rng.randrange(5)
    if kind == 0:
        flat = rng.uniform(0.5, 1.0)
        pen.ellipse(
            (x - radius, y - radius * flat, x + radius, y + radius * flat), fill=fill, outline=edge if rng.random() < 0.5 else None, width=width
        )
    elif kind in (1, 2):
        num_corners, start = rng.randint(3, 12), rng.uniform(0, 6.3)
        jagged = rng.uniform(0.3, 1.0)
        radii = [radius * (1.0 if i % 2 else jagged) * rng.uniform(0.85, 1.1) for i in range(num_corners)]
        points = [
            (x + r * math.cos(start + 2 * math.pi * i / num_corners), y + r * math.sin(start + 2 * math.pi * i / num_corners))
            for i, r in enumerate(radii)
        ]
        pen.polygon(points, fill=fill)
        if rng.random() < 0.6:
            pen.line(points + points[:2], fill=edge, width=width, joint="curve")
    elif kind == 3:
        start = rng.uniform(0, 360)
        pen.arc((x - radius, y - radius, x + radius, y + radius), start, start + rng.uniform(40, 320), fill=fill, width=width)
    else:
        dot = side * rng.uniform(0.015, 0.05)
        for _ in range(rng.randint(1, 4)):
            cx, cy = x + rng.uniform(-radius, radius), y + rng.uniform(-radius, radius)
            pen.ellipse((cx - dot, cy - dot * 1.3, cx + dot, cy + dot * 1.3), fill=fill)


def _random_colour(rng: random.Random) -> tuple[int, int, int]:
    if rng.random() < 0.35:
        grey = rng.randint(0, 255)
        return (grey, grey, grey)
    if rng.random() < 0.3:
        return tuple(max(0, min(255, c + rng.randint(-20, 20))) for c in rng.choice(tuple(COLOURS.values())))
    return (rng.randint(0, 255), rng.randint(0, 255), rng.randint(0, 255))

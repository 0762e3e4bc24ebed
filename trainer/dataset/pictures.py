"""Pictures of a dataset: a chart of its buckets, and a contact sheet of its images with their captions."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from ..drawing.fonts import label_font, shortened, wrapped
from ..drawing.palette import ACCENT, BACKGROUND, HELD_OUT, LINE, NEUTRAL, PANEL, TEXT, TEXT_DIM, WARNING, Colour, mixed
from ..errors import AthanorError, raise_problems
from ..types import Dataset, Placement, Sample
from .bucket_report import BucketCount, bucket_counts
from .buckets import size_text
from .crop import open_image, place
from .fit import is_upscaled

_MAX_CHART_ROWS = 48
_MAX_SHEET_PIXELS = 40_000_000
_NUM_CAPTION_LINES = 6
_BADGES: dict[str, tuple[str, Colour]] = {"validation": ("held out", HELD_OUT), "regularization": ("regularization", NEUTRAL)}


def bucket_chart(dataset: Dataset, width_px: int = 1024) -> Image.Image:
    """A bar for each bucket, from tall to wide, with its shape, its images and what they lose.

    Gives an RGB image, at least 640 wide and as high as the buckets need.
    """
    width_px = max(640, width_px)
    counts = bucket_counts(dataset)
    shown = counts
    if len(counts) > _MAX_CHART_ROWS:
        fullest = set(sorted(counts, key=lambda count: -(count.num_images + count.num_held_out))[:_MAX_CHART_ROWS])
        shown = tuple(count for count in counts if count in fullest)
    unit = max(14, width_px // 68)
    row_px, top = round(unit * 2.7), round(unit * 5.6)
    height_px = top + max(1, len(shown)) * row_px + round(unit * (3.2 if len(shown) < len(counts) else 1.6))
    picture = Image.new("RGB", (width_px, height_px), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    small, large = label_font(unit), label_font(round(unit * 1.35))
    num_images, num_held_out = sum(count.num_images for count in counts), sum(count.num_held_out for count in counts)
    if not counts:
        draw.text((unit * 2, unit * 1.4), "No image has a bucket yet", TEXT, large)
        return picture
    told_held_out = f", {num_held_out} held out" if num_held_out else ""
    draw.text(
        (unit * 2, unit * 1.4), f"{_several(num_images, 'image')} to train on{told_held_out}, in {_several(len(counts), 'bucket')}", TEXT, large
    )
    entries = [(ACCENT, "training")] + ([(HELD_OUT, "held out")] if num_held_out else [])
    x = float(unit * 2)
    for colour, text in entries:
        draw.rounded_rectangle((x, unit * 3.85, x + unit * 1.2, unit * 4.35), unit * 0.2, colour)
        draw.text((x + unit * 1.6, unit * 4.1), text, TEXT_DIM, small, anchor="lm")
        x += unit * 3.4 + small.getlength(text)
    most = max(count.num_images + count.num_held_out for count in shown)
    longest_side = max(max(count.bucket_px) for count in shown)
    texts = [_bar_text(count) for count in shown]
    remarks = [_remark(count) for count in shown]
    bar_left = round(unit * 5.5 + max(small.getlength(size_text(count.bucket_px)) for count in shown))
    text_px = max(small.getlength(text) for text in texts)
    remark_px = max(small.getlength(text) for text, _ in remarks)
    bar_px = max(unit * 6, width_px - bar_left - text_px - remark_px - unit * 5)
    for i, (count, text, (remark, colour)) in enumerate(zip(shown, texts, remarks, strict=True)):
        y, middle = top + i * row_px, top + i * row_px + row_px // 2
        draw.line((unit * 2, y, width_px - unit * 2, y), mixed(BACKGROUND, LINE, 0.6))
        _draw_shape(draw, count.bucket_px, (unit * 3, middle), unit * 2 / longest_side)
        draw.text((bar_left - unit, middle), size_text(count.bucket_px), TEXT, small, anchor="rm")
        end = _draw_bar(draw, count, (bar_left, middle), bar_px / most, unit)
        draw.text((end + unit * 0.7, middle), text, TEXT, small, anchor="lm")
        draw.text((width_px - unit * 2, middle), remark, colour, small, anchor="rm")
    if len(shown) < len(counts):
        draw.text((unit * 2, height_px - unit), f"and {len(counts) - len(shown)} more with fewer images", TEXT_DIM, small, anchor="ls")
    return picture


def duplicate_sheet(
    groups: Sequence[Sequence[Sample]], *, columns: int = 6, cell_px: int = 160, max_images: int = 120, title: str = ""
) -> Image.Image:
    """The images of each group that look alike, one group after the other, with their sizes. Gives an RGB image."""
    samples = [replace(sample, caption=size_text((sample.width_px, sample.height_px)), repeats=1) for group in groups for sample in group]
    labels = [f"group {number}" for number, group in enumerate(groups, 1) for _ in group]
    title = title or (f"{_several(len(groups), 'group')} of images that look alike" if groups else "No two images look alike")
    return contact_sheet(Dataset(tuple(samples)), columns=columns, cell_px=cell_px, max_images=max_images, title=title, labels=labels)


def contact_sheet(
    dataset: Dataset, *, columns: int = 5, cell_px: int = 224, max_images: int = 60, title: str = "", labels: Sequence[str] = ()
) -> Image.Image:
    """Thumbnails in rows, each with file name, caption in any language, repeats and role; what a bucket cuts off is dim.

    Shows the first `max_images`, and fewer where the sheet would pass 40 million pixels; how many more there are is said.
    An image that cannot be read any more is told in its place. `title` stands for the usual one, and each of `labels` upon
    its image. Gives an RGB image.
    Raises InvalidJobError for sizes out of range.
    """
    raise_problems(_sheet_problems(columns, cell_px, max_images))
    columns = min(columns, max(1, len(dataset.samples)))
    unit = max(11, round(cell_px / 17))
    with ThreadPoolExecutor(max_workers=4, thread_name_prefix="athanor-sheet") as pool:
        cells = list(pool.map(lambda sample: _cell(sample, cell_px, unit), dataset.samples[:max_images]))
    cells = [replace(cell, label=label) for cell, label in zip(cells, labels, strict=False)] or cells
    gap, pad = round(unit * 0.8), round(unit * 0.5)
    width_px = max(columns * (cell_px + 2 * pad) + (columns + 1) * gap, unit * 24)
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    line_px = round(unit * 1.3)
    heights = [max(cell.thumbnail.height for cell in row) + 2 * pad + line_px * (1 + max(len(cell.lines) for cell in row)) + pad for row in rows]
    head_px, foot_px = unit * 3, unit * 2
    while len(rows) > 1 and width_px * (head_px + foot_px + sum(heights) + gap * len(rows)) > _MAX_SHEET_PIXELS:
        rows.pop()
        heights.pop()
    num_more = len(dataset.samples) - sum(map(len, rows))
    sheet = Image.new("RGB", (width_px, head_px + sum(heights) + gap * len(rows) + (foot_px if num_more else 0)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    title = title or _title(dataset)
    font = label_font(round(unit * 1.2), title)
    draw.text((gap, head_px // 2), shortened(title, font, width_px - 2 * gap), TEXT, font, anchor="lm")
    y = head_px
    for row, height in zip(rows, heights, strict=True):
        for i, cell in enumerate(row):
            x = gap + i * (cell_px + 2 * pad + gap)
            draw.rounded_rectangle((x, y, x + cell_px + 2 * pad, y + height), unit * 0.5, PANEL)
            thumbs_px = max(each.thumbnail.height for each in row)
            _draw_cell(sheet, draw, cell, (x + pad, y + pad), (cell_px, thumbs_px), unit)
        y += height + gap
    if num_more:
        draw.text((gap, y + unit // 2), f"and {num_more} more", TEXT_DIM, label_font(unit))
    return sheet


@dataclass(frozen=True)
class _Cell:
    sample: Sample
    thumbnail: Image.Image
    lines: tuple[str, ...]
    colour: Colour
    label: str = ""


def _cell(sample: Sample, cell_px: int, unit: int) -> _Cell:
    caption, colour = (sample.caption, TEXT_DIM) if sample.caption else ("no caption" if sample.caption is None else "empty caption", WARNING)
    try:
        thumbnail = open_image(Path(sample.path), draft_px=2 * cell_px)
        thumbnail.thumbnail((cell_px, cell_px), Image.Resampling.LANCZOS)
        if sample.placement is not None:
            thumbnail = _with_crop_shown(thumbnail, sample.placement, cell_px)
    except AthanorError:
        thumbnail, caption, colour = Image.new("RGB", (cell_px, cell_px // 2), mixed(PANEL, WARNING, 0.25)), "cannot be read any more", WARNING
    font = label_font(unit, caption)
    return _Cell(sample, thumbnail, wrapped(caption, font, cell_px, _NUM_CAPTION_LINES), colour)


def _with_crop_shown(thumbnail: Image.Image, placement: Placement, cell_px: int) -> Image.Image:
    """Framed what the bucket shows, dimmed what it cuts off; padded and mirrored as it is trained on."""
    scale = min(1.0, cell_px / max(*placement.bucket_px, *placement.resized_px))
    resized, bucket, at = (_scaled(pair, scale) for pair in (placement.resized_px, placement.bucket_px, placement.crop_px))
    if placement.border:
        small = replace(placement, bucket_px=bucket, resized_px=(min(resized[0], bucket[0]), min(resized[1], bucket[1])), crop_px=at)
        picture, box = place(thumbnail, small), (max(0, -at[0]), max(0, -at[1]), resized[0] - at[0], resized[1] - at[1])
    else:
        whole = thumbnail if thumbnail.size == resized else thumbnail.resize(resized, Image.Resampling.BICUBIC)
        box = (at[0], at[1], min(resized[0], at[0] + bucket[0]), min(resized[1], at[1] + bucket[1]))
        picture = Image.blend(whole, Image.new("RGB", whole.size, PANEL), 0.72)
        picture.paste(whole.crop(box), box[:2])
        if placement.mirrored:
            picture = ImageOps.mirror(picture)
            box = (resized[0] - box[2], box[1], resized[0] - box[0], box[3])
    if box != (0, 0, *picture.size):
        ImageDraw.Draw(picture).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=ACCENT)
    return picture


def _scaled(pair: tuple[int, int], scale: float) -> tuple[int, int]:
    return round(pair[0] * scale) or (1 if pair[0] > 0 else 0), round(pair[1] * scale) or (1 if pair[1] > 0 else 0)


def _draw_cell(sheet: Image.Image, draw: ImageDraw.ImageDraw, cell: _Cell, at: tuple[int, int], thumb_box: tuple[int, int], unit: int) -> None:
    x, y = at
    left = x + (thumb_box[0] - cell.thumbnail.width) // 2
    top = y + (thumb_box[1] - cell.thumbnail.height) // 2
    sheet.paste(cell.thumbnail, (left, top))
    badges = [(cell.label, ACCENT)] if cell.label else []
    _draw_badges(draw, [*badges, *_badges(cell.sample)], (x + unit // 3, y + unit // 3), unit)
    line_px = round(unit * 1.3)
    y += thumb_box[1] + unit // 2
    name = Path(cell.sample.path).name
    font = label_font(unit, name)
    draw.text((x, y + line_px // 2), shortened(name, font, thumb_box[0]), TEXT, font, anchor="lm")
    for line in cell.lines:
        y += line_px
        draw.text((x, y + line_px // 2), line, cell.colour, label_font(unit, " ".join(cell.lines)), anchor="lm")


def _badges(sample: Sample) -> list[tuple[str, Colour]]:
    badges = [_BADGES[sample.role]] if sample.role in _BADGES else []
    if sample.repeats != 1:
        badges.append((f"{sample.repeats} x", ACCENT))
    if is_upscaled(sample):
        badges.append(("enlarged", WARNING))
    if sample.placement is not None and sample.placement.mirrored:
        badges.append(("mirrored", NEUTRAL))
    return badges


def _draw_badges(draw: ImageDraw.ImageDraw, badges: Sequence[tuple[str, Colour]], at: tuple[int, int], unit: int) -> None:
    x, y = at
    font = label_font(round(unit * 0.85))
    for text, colour in badges:
        width = round(font.getlength(text) + unit * 0.9)
        draw.rounded_rectangle((x, y, x + width, y + round(unit * 1.4)), unit * 0.4, colour)
        draw.text((x + width / 2, y + unit * 0.7), text, BACKGROUND, font, anchor="mm")
        x += width + unit // 3


def _title(dataset: Dataset) -> str:
    parts = [_several(len(dataset.samples), "image")]
    if held_out := len(dataset.with_role("validation")):
        parts.append(f"{held_out} held out")
    if without := sum(not sample.caption for sample in dataset.samples):
        parts.append(f"{without} without caption")
    if dataset.trigger:
        parts.append(f"trigger: {dataset.trigger}")
    return ", ".join(parts)


def _draw_shape(draw: ImageDraw.ImageDraw, size_px: tuple[int, int], middle: tuple[float, float], scale: float) -> None:
    half_width, half_height = size_px[0] * scale / 2, size_px[1] * scale / 2
    box = (middle[0] - half_width, middle[1] - half_height, middle[0] + half_width, middle[1] + half_height)
    draw.rectangle(box, PANEL, TEXT_DIM)


def _draw_bar(draw: ImageDraw.ImageDraw, count: BucketCount, at: tuple[int, int], px_per_image: float, unit: int) -> float:
    """Returns where the bar ends."""
    x, middle = float(at[0]), at[1]
    for number, colour in ((count.num_images, ACCENT), (count.num_held_out, HELD_OUT)):
        if number:
            end = x + max(unit * 0.4, number * px_per_image)
            draw.rounded_rectangle((x, middle - unit * 0.7, end - 1, middle + unit * 0.7), unit * 0.2, colour)
            x = end
    return x


def _bar_text(count: BucketCount) -> str:
    text = str(count.num_images)
    if count.num_held_out:
        text += f" + {count.num_held_out}"
    return text + (f", {count.num_draws} an epoch" if count.num_draws != count.num_images else "")


def _remark(count: BucketCount) -> tuple[str, Colour]:
    parts = [f"{100 * count.cropped_share:.0f} % cropped"] if count.cropped_share >= 0.005 else []
    if count.padded_share >= 0.005:
        parts.append(f"{100 * count.padded_share:.0f} % padded")
    if count.upscaled:
        parts.insert(0, f"{len(count.upscaled)} enlarged")
    return ", ".join(parts), WARNING if count.upscaled or count.cropped_share > 0.2 or count.padded_share > 0.2 else TEXT_DIM


def _several(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _sheet_problems(columns: int, cell_px: int, max_images: int) -> list[str]:
    problems = []
    if not 1 <= columns <= 32:
        problems.append(f"The contact sheet has {columns} columns; it takes from 1 to 32.")
    if not 48 <= cell_px <= 1024:
        problems.append(f"The thumbnails are {cell_px} px; they can be from 48 to 1024 px.")
    if not 1 <= max_images <= 2000:
        problems.append(f"The contact sheet shows {max_images} images; it takes from 1 to 2000.")
    return problems

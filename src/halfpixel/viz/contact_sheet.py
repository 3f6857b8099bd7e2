"""Many small pictures on one sheet, each with what is to be seen on it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from halfpixel.structures.instances import Instances
from halfpixel.viz.overlay import Picture, draw_overlay
from halfpixel.viz.palette import Colours

COLUMNS = 4
TILE_PX = 320
GAP_PX, MARGIN_PX = 24, 36
TITLE_PX, LINE_PX, HEADER_PX = 16, 14, 26
LINES = 5
CORNER_PX = 6
PAPER, FRAME, INK, PALE = (24, 24, 27), (39, 39, 42), (244, 244, 245), (161, 161, 170)
Colour = tuple[int, int, int]

SMALLEST_WINDOW_PX = 64
"""So that there is something around the objects to know them by."""
ROOM_AROUND = 2.0
"""The side of the part that is shown, over that of the box around the objects."""
RING_BELOW_PX = 16
"""Objects that appear smaller than this on the sheet get a ring around them."""
MOST_RINGS = 12
"""Where there are more small objects than this, nobody overlooks them."""


@dataclass(frozen=True, eq=False)
class Tile:
    """One picture of a contact sheet.

    Attributes:
        title: for example the file's name.
        lines: texts below it and their colours; as many as fit are shown.
        image: `[h, w, 3]` uint8, or None for one that cannot be shown.
        objects: what to outline, on that image; the part of the image around them is shown, or without any all of it.
        colours: `[n, 3]` of the outlines.
    """

    title: str
    lines: Sequence[tuple[str, Colour]]
    image: Picture | None
    objects: Instances | None = None
    colours: Colours | None = None


def draw_contact_sheet(tiles: Iterable[Tile], header: str) -> Picture:
    """Arrange pictures in rows of four under a header.

    Args:
        tiles: at least one; they are drawn one after the other, so they need not be in memory together.
        header: a line at the top.

    Returns:
        `[h, w, 3]` uint8.
    """
    cells = [_cell(tile) for tile in tiles]
    columns = min(len(cells), COLUMNS)
    width = max(columns, 2) * (TILE_PX + GAP_PX) - GAP_PX + 2 * MARGIN_PX
    rows = [cells[k : k + columns] for k in range(0, len(cells), columns)]
    top = MARGIN_PX + 2 * HEADER_PX
    # a row is as high as its highest picture
    heights = [max(cell.height for cell in row) for row in rows]
    sheet = Image.new("RGB", (width, top + sum(heights) + GAP_PX * (len(rows) - 1) + MARGIN_PX), PAPER)
    font = ImageFont.load_default(size=HEADER_PX)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN_PX, MARGIN_PX), _fit(header, font, width - 2 * MARGIN_PX), INK, font, "la")
    for row, height in zip(rows, heights, strict=True):
        for k, cell in enumerate(row):
            sheet.paste(cell, (MARGIN_PX + k * (TILE_PX + GAP_PX), top))
        top += height + GAP_PX
    return np.array(sheet)


def _cell(tile: Tile) -> Image.Image:
    """A picture, its title and its lines."""
    step = round(LINE_PX * 1.45)
    lines = list(tile.lines)
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], (f"and {len(lines) - LINES + 1} more", PALE)]
    cell = Image.new("RGB", (TILE_PX, TILE_PX + 12 + TITLE_PX + 8 + len(lines) * step), PAPER)
    frame = Image.new("RGB", (TILE_PX, TILE_PX), FRAME)
    draw = ImageDraw.Draw(frame)
    if tile.image is None:
        middle = (TILE_PX / 2, TILE_PX / 2)
        draw.text(middle, "no picture", PALE, ImageFont.load_default(size=TITLE_PX), "mm")
    else:
        picture = _picture(tile.image, tile.objects, tile.colours)
        frame.paste(picture, ((TILE_PX - picture.width) // 2, (TILE_PX - picture.height) // 2))
    cell.paste(frame, (0, 0), _rounded(TILE_PX))
    draw = ImageDraw.Draw(cell)
    font = ImageFont.load_default(size=TITLE_PX)
    top = TILE_PX + 12
    draw.text((0, top), _fit(tile.title, font, TILE_PX), INK, font, "la")
    top += TITLE_PX + 8
    font = ImageFont.load_default(size=LINE_PX)
    for text, colour in lines:
        draw.text((0, top), _fit(text, font, TILE_PX), colour, font, "la")
        top += step
    return cell


def _picture(image: Picture, objects: Instances | None, colours: Colours | None) -> Image.Image:
    """The part of an image around some objects, scaled to a tile, with the objects outlined."""
    size_hw = (image.shape[0], image.shape[1])
    left, top, right, bottom = _window(objects, size_hw)
    part = Image.fromarray(image[top:bottom, left:right])
    scale = TILE_PX / max(part.size)
    width, height = (max(round(side * scale), 1) for side in part.size)
    enlarged = scale > 1
    part = part.resize((width, height), Image.Resampling.BICUBIC if enlarged else Image.Resampling.LANCZOS)
    if objects is None:
        return part
    shown = objects.translate(-left, -top, (bottom - top, right - left))
    masks = None if shown.masks is None else shown.masks.resize((height, width))
    shown = replace(shown, size_hw=(height, width), boxes_xyxy=shown.boxes_xyxy * scale, masks=masks)
    picture = Image.fromarray(
        draw_overlay(np.array(part), shown, zoom=1, line_px=2, fill=0.15, labels=False, colours=colours)
    )
    return _with_rings(picture, shown, colours)


def _window(objects: Instances | None, size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of the image to show: left, top, right, bottom."""
    height, width = size_hw
    if objects is None or len(objects) == 0:
        return 0, 0, width, height
    low = objects.boxes_xyxy[:, :2].amin(0).clamp(min=0).tolist()
    high = torch.minimum(objects.boxes_xyxy[:, 2:].amax(0), torch.tensor([width, height])).tolist()
    side = max(ROOM_AROUND * max(high[0] - low[0], high[1] - low[1]), SMALLEST_WINDOW_PX)
    bounds = []
    for first, last, whole in zip(low, high, (width, height), strict=True):
        length = min(round(side), whole)
        bounds.append((start := min(max(round((first + last - length) / 2), 0), whole - length), start + length))
    (left, right), (top, bottom) = bounds
    return left, top, right, bottom


def _with_rings(picture: Image.Image, objects: Instances, colours: Colours | None) -> Image.Image:
    """Circles around what would be overlooked."""
    fine = 4
    sides = (objects.boxes_xyxy[:, 2:] - objects.boxes_xyxy[:, :2]).amax(1)
    small = torch.nonzero(sides < RING_BELOW_PX).ravel().tolist()
    for k in small if len(small) <= MOST_RINGS else ():
        x0, y0, x1, y1 = objects.boxes_xyxy[k].tolist()
        x, y, radius = (x0 + x1) / 2 * fine, (y0 + y1) / 2 * fine, RING_BELOW_PX * fine
        ring = Image.new("L", (picture.width * fine, picture.height * fine))
        ImageDraw.Draw(ring).ellipse((x - radius, y - radius, x + radius, y + radius), outline=255, width=2 * fine)
        colour = INK if colours is None else tuple(colours[k].tolist())
        picture.paste(colour, (0, 0), ring.resize(picture.size, Image.Resampling.BOX))
    return picture


def _rounded(side: int) -> Image.Image:
    fine = 4
    mask = Image.new("L", (side * fine, side * fine))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, side * fine - 1, side * fine - 1), CORNER_PX * fine, fill=255)
    return mask.resize((side, side), Image.Resampling.BOX)


def _fit(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, room: float) -> str:
    """A text cut to the room there is."""
    if font.getlength(text) <= room:
        return text
    too_long = bisect_right(range(len(text)), room, key=lambda n: font.getlength(text[:n] + "..."))
    return text[: max(too_long - 1, 0)].rstrip() + "..."

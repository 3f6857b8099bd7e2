"""The objects of an image, drawn over it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from halfpixel.errors import ArgumentError, ImageError
from halfpixel.structures.instances import Instances
from halfpixel.viz.palette import Colours, neighbour_colours, numbered_colours, shade
from halfpixel.viz.ways import Ways, draw_ways

Picture = npt.NDArray[np.uint8]
"""`[h, w, 3]` sRGB, 0..255."""
Coverage = npt.NDArray[np.uint8]
"""`[h, w]`: how much of each pixel a shape covers, 0..255."""

WANTED_SIDE_PX = 1000
LARGEST_ZOOM = 8
BRIGHTEN_BELOW = 0.5


def draw_overlay(
    image: Picture,
    objects: Instances,
    *,
    zoom: int | None = None,
    line_px: float | None = None,
    fill: float = 0.2,
    labels: bool = True,
    caption: str | None = None,
    colours: Colours | None = None,
    brighten: bool = True,
    ways: Ways | None = None,
) -> Picture:
    """Draw every object in its own colour: a light fill and, inside its own mask, a crisp outline.

    Outlines have a dark hairline on their outer side, so they read on dark and on bright images, and two objects
    that touch keep two lines. Large objects are drawn first, so that what lies on them stays visible. Class and
    score are written inside an object where they fit; with one class the score alone, where at least a third of
    the objects have room; no score when all are 1 (annotations). An object of a film has its track's colour on every
    frame, and its track's number instead of the score.

    Args:
        image: `[h, w, 3]` uint8.
        objects: on that image; with `masks` None their boxes are drawn.
        zoom: draw at this many times the image's resolution, so that outlines stay thin on small objects. Default:
            the smallest whole number that brings the longer side to 1,000 pixels, at most 8.
        line_px: width of the coloured line in pixels of the result. Default: from the size of image and objects.
        fill: opacity of the fill, 0..1 (boxes get a quarter of it).
        labels: write classes and scores.
        caption: a line of text in a bar below the image, for example `count_caption(objects)`.
        colours: `[n, 3]` uint8, to choose them yourself. Default: `colours_of(objects)`.
        brighten: scale a dark image (99.9th percentile below half of white) up to white first. The factor is the
            same everywhere; only the picture changes.
        ways: where a film's objects came from, and the lines that count them.

    Returns:
        `[h * zoom, w * zoom, 3]` uint8, and higher by the bar where there is a caption.

    Raises:
        ImageError: the image is not `[h, w, 3]` uint8 of the size that `objects` states.
        ArgumentError: an option is out of its range.
    """
    _check(image, objects, zoom, line_px, fill, colours)
    zoom = zoom or default_zoom(objects.size_hw)
    line_px = line_px or _default_line_px(objects, zoom)
    colours = colours_of(objects) if colours is None else colours
    canvas = _enlarged(_brightened(image) if brighten else image, zoom)
    areas = _box_areas(objects) if objects.masks is None else objects.masks.areas_px()
    largest_first = torch.argsort(areas, descending=True, stable=True).tolist()
    _paint_all(canvas, objects, largest_first, colours, zoom, line_px, fill)
    picture = Image.fromarray(canvas)
    if ways is not None:
        draw_ways(picture, ways, colours, zoom)
    if labels:
        _write_labels(picture, objects, largest_first, colours, zoom, line_px)
    if caption:
        picture = _with_caption(picture, caption)
    return np.array(picture)


def colours_of(objects: Instances) -> Colours:
    """`[n, 3]`: its track's colour for an object of a film, else colours that tell neighbours apart."""
    if objects.track_ids is not None:
        return numbered_colours(objects.track_ids.numpy())
    return neighbour_colours(objects.boxes_xyxy.double().numpy())


def default_zoom(size_hw: tuple[int, int]) -> int:
    """The smallest whole enlargement that makes the longer side 1,000 pixels, at most 8."""
    return min(max(-(-WANTED_SIDE_PX // max(*size_hw, 1)), 1), LARGEST_ZOOM)


def count_caption(objects: Instances) -> str:
    """The counts of the classes found, most first, and the threshold: "nucleus 127  |  score >= 0.50"."""
    most_first = sorted(objects.counts().items(), key=lambda item: -item[1])
    counts = [f"{name} {count}" for name, count in most_first if count or len(most_first) == 1]
    text = ", ".join(counts) or "no objects"
    if objects.score_threshold is not None:
        text += f"  |  score >= {objects.score_threshold:.2f}"
    return text + ("  |  detection limit reached, there may be more" if objects.saturated else "")


def _check(
    image: Picture,
    objects: Instances,
    zoom: int | None,
    line_px: float | None,
    fill: float,
    colours: Colours | None,
) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"expected an image [h, w, 3] of uint8, got {list(image.shape)} of {image.dtype}")
    if image.shape[:2] != objects.size_hw:
        raise ImageError(f"the objects are on an image of {objects.size_hw} (h, w), this one has {image.shape[:2]}")
    if zoom is not None and (zoom < 1 or zoom != int(zoom)):
        raise ArgumentError(f"zoom must be a whole number from 1 upwards, got {zoom}")
    if line_px is not None and not line_px > 0:
        raise ArgumentError(f"line_px must be positive, got {line_px}")
    if not 0 <= fill <= 1:
        raise ArgumentError(f"fill must be in 0..1, got {fill}")
    if colours is not None and (colours.shape != (len(objects), 3) or colours.dtype != np.uint8):
        raise ArgumentError(f"expected colours [{len(objects)}, 3] of uint8, got {list(colours.shape)}")


def _default_line_px(objects: Instances, zoom: int) -> float:
    sides = (objects.boxes_xyxy[:, 2:] - objects.boxes_xyxy[:, :2]).clamp(min=0)
    typical_side = float(sides.mean(1).median()) * zoom if len(objects) else 0.0
    widest = max(*objects.size_hw, 1) * zoom / 500
    return max(min(typical_side / 22, widest), 1.0)


def _brightened(image: Picture) -> Picture:
    if image.size == 0:
        return image
    white = float(np.percentile(image.max(axis=2), 99.9))
    if not 0 < white < BRIGHTEN_BELOW * 255:
        return image
    brighter: Picture = np.rint((np.arange(256) * np.float32(255 / white)).clip(0, 255)).astype(np.uint8)
    return np.asarray(brighter[image])


def _enlarged(image: Picture, zoom: int) -> Picture:
    if zoom == 1:
        return image.copy()
    if image.size == 0:
        return np.repeat(np.repeat(image, zoom, 0), zoom, 1)
    height, width = image.shape[:2]
    return np.array(Image.fromarray(image).resize((width * zoom, height * zoom), Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class _Shape:
    """What to fill: coverage at `fineness` times the result's resolution, and its place on the result."""

    coverage: Coverage
    left_top: tuple[int, int]
    fineness: int


def _mask_shape(crop: torch.Tensor, left_top: tuple[int, int], zoom: int) -> _Shape:
    fineness = 2 if zoom == 1 else 1
    coverage = _smooth_coverage(np.pad(crop.numpy(), 1), zoom * fineness)
    return _Shape(coverage, ((left_top[0] - 1) * zoom, (left_top[1] - 1) * zoom), fineness)


def _smooth_coverage(mask: npt.NDArray[np.bool_], scale: int) -> Coverage:
    """Enlarge a mask without stairs: three boxes of one source pixel make a quadratic B-spline, cut at one half.

    The spline keeps single pixels and single-pixel holes, and what two touching masks share stays shared.
    """
    height, width = mask.shape
    enlarged = Image.fromarray(mask.astype(np.uint8) * 255).resize(
        (width * scale, height * scale), Image.Resampling.NEAREST
    )
    soft = np.asarray(
        enlarged.filter(ImageFilter.BoxBlur((scale - 1) / 2)).filter(ImageFilter.BoxBlur((scale - 1) / 2))
    )
    # across a straight edge the spline climbs 0.75 per source pixel; this gain makes the ramp one pixel wide
    ramp = (np.arange(256) - 127.5) * (scale / 0.75) + 127.5
    coverage: Coverage = ramp.clip(0, 255).astype(np.uint8)[soft]
    return coverage


def _box_shape(objects: Instances, k: int, zoom: int) -> _Shape:
    height, width = objects.size_hw
    x1, y1, x2, y2 = (objects.boxes_xyxy[k].double() * zoom).tolist()
    across, left = _interval_coverage(x1, x2, width * zoom)
    down, top = _interval_coverage(y1, y2, height * zoom)
    return _Shape(np.asarray(np.rint(np.outer(down, across) * 255), dtype=np.uint8), (left, top), 1)


def _interval_coverage(low: float, high: float, length: int) -> tuple[npt.NDArray[np.float64], int]:
    """How much of each pixel lies in [low, high) on a line of `length` pixels, one empty pixel on either side."""
    low, high = min(max(low, 0), length), min(max(high, 0), length)
    first, last = int(low), max(math.ceil(high), int(low))
    pixels = np.arange(first - 1, last + 1)
    return (np.minimum(pixels + 1, high) - np.maximum(pixels, low)).clip(0, 1), first - 1


def _box_areas(objects: Instances) -> torch.Tensor:
    sides = (objects.boxes_xyxy[:, 2:] - objects.boxes_xyxy[:, :2]).clamp(min=0)
    return sides[:, 0] * sides[:, 1]


def _paint_all(
    canvas: Picture,
    objects: Instances,
    largest_first: list[int],
    colours: Colours,
    zoom: int,
    line_px: float,
    fill: float,
) -> None:
    placed = [] if objects.masks is None else list(objects.masks.placed())
    hairlines = shade(colours, 0.22, 0.6)
    for k in largest_first:
        shape = _mask_shape(placed[k][0], placed[k][1], zoom) if placed else _box_shape(objects, k, zoom)
        _paint(canvas, shape, colours[k], hairlines[k], line_px, fill if placed else fill / 4)


def _paint(canvas: Picture, shape: _Shape, colour: Colours, hairline: Colours, line_px: float, fill: float) -> None:
    """Blend one object into the canvas: hairline, line and fill, from the outside to the inside."""
    steps = max(round(line_px * shape.fineness), 1)
    whole = shape.coverage
    within_hairline = _erode(whole, max(round(steps / 2.5), 1))
    if within_hairline.max(initial=0) < 128:  # too small for both lines
        within_hairline = whole
    within_line = _erode(within_hairline, steps)
    opacity = np.stack([whole - within_hairline, within_hairline - within_line, within_line]).astype(np.float32) / 255
    n = shape.fineness
    if n > 1:
        opacity = opacity.reshape(3, whole.shape[0] // n, n, whole.shape[1] // n, n).mean((2, 4))
    left, top = shape.left_top
    skip_x, skip_y = max(-left, 0), max(-top, 0)
    region = canvas[top + skip_y : top + opacity.shape[1], left + skip_x : left + opacity.shape[2]]
    opacity = opacity[:, skip_y : skip_y + region.shape[0], skip_x : skip_x + region.shape[1]]
    opacity = opacity * np.array([0.85, 1.0, fill], dtype=np.float32)[:, None, None]
    paint = np.stack([hairline, colour, colour]).astype(np.float32)
    blended = region * (1 - opacity.sum(0))[:, :, None] + np.tensordot(opacity, paint, axes=(0, 0))
    region[:] = np.rint(blended.clip(0, 255)).astype(np.uint8)


def _erode(coverage: Coverage, radius: int) -> Coverage:
    """Shrink a shape by `radius` pixels; crosses and squares in turn make an octagon, which passes for a disc."""
    for step in range(radius):
        if step % 2 == 0:
            coverage = np.minimum(_minimum3(coverage, 0), _minimum3(coverage, 1))
        else:
            coverage = _minimum3(_minimum3(coverage, 0), 1)
    return coverage


def _minimum3(coverage: Coverage, axis: int) -> Coverage:
    """The minimum over each pixel and its two neighbours along an axis."""
    lowest = coverage.copy()
    ahead, behind = (slice(1, None), slice(None, -1)) if axis == 0 else (np.s_[:, 1:], np.s_[:, :-1])
    np.minimum(lowest[ahead], coverage[behind], out=lowest[ahead])
    np.minimum(lowest[behind], coverage[ahead], out=lowest[behind])
    return lowest


def _write_labels(
    picture: Image.Image, objects: Instances, largest_first: list[int], colours: Colours, zoom: int, line_px: float
) -> None:
    """Write each object's text where its visible part has room, so that no label covers another."""
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=_letter_px(picture.size))
    owner = _owner_image(objects, largest_first)
    halos = shade(colours, 0.25, 0.7)
    margin = 1.6 * line_px + 3
    one_class = len(objects.class_names) == 1
    placed: list[tuple[int, str, tuple[float, float]]] = []
    for k in largest_first:
        x1, y1, x2, y2 = _pixel_box(objects, k)
        visible = owner[y1:y2, x1:x2] == k + 1
        for text in _texts(objects, k):
            left, top, right, bottom = draw.textbbox((0, 0), text, font=font, anchor="lt")
            needed_h, needed_w = (math.ceil((side + 2 * margin) / zoom) for side in (bottom - top, right - left))
            if one_class and 5 * needed_h * needed_w > visible.size:
                continue  # it would hide too much of the object to tell so little
            centre = _free_window(visible, (needed_h, needed_w), in_middle=objects.masks is not None)
            if centre is not None:
                placed.append((k, text, ((x1 + centre[0]) * zoom, (y1 + centre[1]) * zoom)))
                break
    if one_class and 3 * len(placed) < len(objects):
        return  # a score here and there tells nothing
    for k, text, at in placed:
        draw.text(at, text, (255, 255, 255), font, "mm", stroke_width=2, stroke_fill=tuple(halos[k].tolist()))


def _letter_px(size_wh: tuple[int, int]) -> int:
    return max(round(max(size_wh) / 80), 12)


def _texts(objects: Instances, k: int) -> list[str]:
    """What to write, the longest first."""
    if objects.track_ids is not None:
        about = str(int(objects.track_ids[k]))
    else:
        about = "" if bool((objects.scores == 1).all()) else f"{float(objects.scores[k]):.2f}"
    if len(objects.class_names) == 1:
        return [about] if about else []
    name = objects.class_names[int(objects.labels[k])]
    if objects.track_ids is not None:
        return [f"{name} {about}", about]
    return [f"{name} {about}", name] if about else [name]


def _pixel_box(objects: Instances, k: int) -> tuple[int, int, int, int]:
    height, width = objects.size_hw
    x1, y1, x2, y2 = objects.boxes_xyxy[k].round().long().tolist()
    return max(x1, 0), max(y1, 0), max(min(x2, width), 0), max(min(y2, height), 0)


def _owner_image(objects: Instances, largest_first: list[int]) -> npt.NDArray[np.int32]:
    """Which object is seen at each pixel: 0 none, k + 1 the k-th."""
    if objects.masks is not None:
        return np.asarray(objects.masks.label_image(largest_first).numpy())
    owner = np.zeros(objects.size_hw, dtype=np.int32)
    for k in largest_first:
        x1, y1, x2, y2 = _pixel_box(objects, k)
        owner[y1:y2, x1:x2] = k + 1
    return owner


def _free_window(
    free: npt.NDArray[np.bool_], needed_hw: tuple[int, int], in_middle: bool
) -> tuple[float, float] | None:
    """Centre (x, y) of a free window of the needed size: the one nearest to the middle, or to the top left."""
    h, w = needed_hw
    if free.shape[0] < h or free.shape[1] < w:
        return None
    sums = np.pad(free, ((1, 0), (1, 0))).cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32)
    inside = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
    rows, columns = np.nonzero(inside == h * w)
    if len(rows) == 0:
        return None
    y, x = (float(at.mean()) for at in np.nonzero(free)) if in_middle else (0.0, 0.0)
    best = int(np.argmin((rows + h / 2 - y) ** 2 + (columns + w / 2 - x) ** 2))
    return float(columns[best]) + w / 2, float(rows[best]) + h / 2


def _with_caption(picture: Image.Image, caption: str) -> Image.Image:
    """Add a bar below; a text too long for one line is set smaller, down to half, and then cut."""
    width, height = picture.size
    full = round(_letter_px(picture.size) * 1.25)
    room = max(width - 2 * full, 1)
    size = full
    while size > full / 2 and ImageFont.load_default(size=size).getlength(caption) > room:
        size -= 1
    font = ImageFont.load_default(size=size)
    while len(caption) > 3 and font.getlength(caption) > room:
        caption = caption[:-4] + "..."
    bar = round(full * 2.2)
    framed = Image.new("RGB", (width, height + bar), (24, 24, 27))
    framed.paste(picture, (0, 0))
    ImageDraw.Draw(framed).text((full, height + bar / 2), caption, (244, 244, 245), font, "lm")
    return framed

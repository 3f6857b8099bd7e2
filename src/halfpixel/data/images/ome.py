"""What OME metadata says of the images of a TIFF: which planes they have, their channels and how large a pixel is."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import tifffile

Element = ElementTree.Element


class OwnPlanes(NamedTuple):
    """What one file of a set of files holds.

    Attributes:
        axes: of its pages, from the slowest to the fastest.
        shape: their lengths.
        channels: the set's numbers of the channels.
    """

    axes: str
    shape: tuple[int, ...]
    channels: tuple[int, ...]


def ome_images(tiff: tifffile.TiffFile) -> list[Element | None]:
    """For each image of a file its OME `Pixels` element, if it has one.

    A file of a set holds one image, and what describes it may be in a companion file beside it.
    """
    nothing: list[Element | None] = [None] * len(tiff.series)
    root = _root(tiff)
    found = [] if root is None else root.findall("./{*}Image/{*}Pixels")
    if root is not None and len(nothing) == 1 and tiff.series[0].kind != "ome":
        own = [pixels for pixels in found if _own_entries(tiff, root, pixels)]
        return [own[0]] if len(own) == 1 else [*found] if len(found) == 1 else nothing
    return [*found] if len(found) == len(nothing) else nothing


def own_planes(tiff: tifffile.TiffFile, pixels: Element | None) -> OwnPlanes | None:
    """What the pages of one file of a set are; None where they are no regular part of it, or the file is no such."""
    root = _root(tiff)
    if root is None or pixels is None or len(tiff.series) != 1 or tiff.series[0].kind == "ome":
        return None
    n_pages = len(tiff.series[0].pages)
    entries = _own_entries(tiff, root, pixels)
    order = pixels.get("DimensionOrder", "XYZCT")[2:]
    sizes = [int(pixels.get(f"Size{axis}", "1")) for axis in order]
    at: dict[int, tuple[int, ...]] = {}
    for entry in entries:
        step = [int(entry.get(f"First{axis}", "0")) for axis in order]
        first_page = int(entry.get("IFD", "0"))
        for page in range(first_page, min(first_page + int(entry.get("PlaneCount", "1")), n_pages)):
            at[page] = tuple(step)
            for k, size in enumerate(sizes):  # to the next plane, as an odometer
                step[k] = (step[k] + 1) % max(size, 1)
                if step[k]:
                    break
    if sorted(at) != list(range(n_pages)) or pixels.find("./{*}Channel[@SamplesPerPixel='3']") is not None:
        return None
    places = [at[page] for page in range(n_pages)]
    steps = [sorted({place[k] for place in places}) for k in range(3)]
    for slowest_first in itertools.permutations(range(3)):
        regular = itertools.product(*(steps[k] for k in slowest_first))
        if [tuple(place[k] for k in slowest_first) for place in places] == list(itertools.islice(regular, n_pages + 1)):
            kept = [k for k in slowest_first if len(steps[k]) > 1]
            channels = tuple(steps[order.index("C")])
            return OwnPlanes("".join(order[k] for k in kept), tuple(len(steps[k]) for k in kept), channels)
    return None


def ome_channel_names(pixels: Element, channels: Sequence[int] | None) -> list[str]:
    """The names of the channels, `""` for one without; of a file of a set those that it holds."""
    names = [channel.get("Name", "").strip() for channel in pixels.findall("./{*}Channel")]
    if channels is None:
        return names
    return [names[k] if k < len(names) else "" for k in channels]


def _root(tiff: tifffile.TiffFile) -> Element | None:
    text = tiff.ome_metadata
    try:
        root = None if text is None else ElementTree.fromstring(text)
        companion = None if root is None else root.find("./{*}BinaryOnly")
        if companion is None:
            return root
        beside = Path(tiff.filehandle.path).parent / Path(companion.get("MetadataFile", "")).name
        if not beside.is_file():
            return root
        described = ElementTree.fromstring(beside.read_bytes())
        described.set("UUID", "" if root is None else root.get("UUID", ""))
        return described
    except (ElementTree.ParseError, OSError, ValueError):
        return None


def _own_entries(tiff: tifffile.TiffFile, root: Element, pixels: Element) -> list[Element]:
    """Those of the pages of this file."""
    own, name = root.get("UUID", ""), Path(tiff.filehandle.name).name
    found = []
    for entry in pixels.findall("./{*}TiffData"):
        uuid = entry.find("./{*}UUID")
        if uuid is not None and ((own and (uuid.text or "").strip() == own) or uuid.get("FileName") == name):
            found.append(entry)
    return found

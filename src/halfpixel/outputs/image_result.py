"""What writers of predictions get: all about one image, or what was kept of all images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from halfpixel.data.images.picture import Picture
    from halfpixel.measure.counting_line import CountingLine
    from halfpixel.measure.table import Table
    from halfpixel.measure.tracks import TrackedFilm
    from halfpixel.structures.instances import Instances


@dataclass(frozen=True, eq=False)
class FilmFrame:
    """An image as a frame of a film.

    Attributes:
        number: of the frame, from 1, counting those that could not be looked at.
        paths: of each object `[k, 2]` its last places (x, y), this one last, in pixels.
        lines: that count what crosses them.
    """

    number: int
    paths: Sequence[npt.NDArray[np.float64]] = ()
    lines: Sequence[CountingLine] = ()


@dataclass(frozen=True, eq=False)
class ImageResult:
    """All about one image.

    Attributes:
        picture: the image.
        objects: on it.
        pixel_size_um: of it, where it is known.
        table: the objects' measurements, where a writer takes them.
        blurred: names of the classes to make unrecognisable; None for all.
        gzip: compress what is text.
        frame: of a film, where objects are followed.
    """

    picture: Picture
    objects: Instances
    pixel_size_um: float | None
    table: Table | None
    blurred: Collection[str] | None
    gzip: bool
    frame: FilmFrame | None = None


class ImageEntry(NamedTuple):
    """An image in the files that span all images.

    Attributes:
        name: of the image.
        size_hw: its size in pixels.
        scale: by which factor it was enlarged for the network; None where that is not to be told.
        found_diameter_px: of its objects, as it was found before the network looked; None where it was not.
        novelty: how unlike the known images it is, as in `Instances.novelty`.
    """

    name: str
    size_hw: tuple[int, int]
    scale: float | None = None
    found_diameter_px: float | None = None
    novelty: float | None = None


@dataclass(frozen=True, eq=False)
class RunResult:
    """What was kept of all images, read one by one.

    Attributes:
        images: in their order.
        class_names: of the model.
        columns: that any image's table has.
        annotations: gives for each image its objects as entries of a COCO file, without `image_id`.
        tables: gives for each image its objects' measurements.
        film: what the objects of a film did, where they were followed.
    """

    images: Sequence[ImageEntry]
    class_names: Sequence[str]
    columns: Sequence[str]
    annotations: Callable[[], Iterable[list[dict[str, Any]]]]
    tables: Callable[[], Iterable[Table]]
    film: TrackedFilm | None = None

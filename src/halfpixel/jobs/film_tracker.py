"""Follows the objects of a film while its frames are looked at."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from halfpixel.data.images.picture import Picture
from halfpixel.jobs.track_options import TrackOptions
from halfpixel.measure.linking import Followed, link, with_track_ids
from halfpixel.outputs.image_result import FilmFrame
from halfpixel.structures.instances import Instances

PATH_FRAMES = 30
"""Overlays show where an object was in so many sightings."""

Places = deque[tuple[float, float]]


class FilmTracker:
    """Numbers the frames of a film and the objects on them, and remembers where these were last.

    Attributes:
        options: how objects are followed.
    """

    def __init__(self, files: Sequence[Path], options: TrackOptions) -> None:
        self.options = options
        self._place_of = {path: k for k, path in enumerate(files)}
        self._latest: tuple[Path, str] | None = None
        self._number = 0
        self._followed: Followed | None = None
        self._paths: dict[int, Places] = {}

    def see(self, picture: Picture, objects: Instances) -> tuple[Instances, FilmFrame]:
        """Find the objects of the next frame among those before.

        Returns:
            The objects with their tracks' numbers, and what is known of the frame.

        Raises:
            ImageError: the frame is of another size than those before. It is passed over like one that is missing.
        """
        since = self._frames_since(picture)
        followed = self._followed = link(self._followed, objects, self.options.rules, since)
        self._latest, self._number = (picture.path, picture.plane), self._number + since
        self._paths = {k: self._paths.get(k, deque(maxlen=PATH_FRAMES)) for k in followed.track_ids.tolist()}
        objects = with_track_ids(objects, followed)
        centres = Followed.seen_first(objects).centres_xy
        paths = [self._paths[k] for k in followed.track_ids[: len(objects)].tolist()]
        for path, (x, y) in zip(paths, centres.tolist(), strict=True):
            if np.isfinite(x):  # an empty mask is nowhere
                path.append((x, y))
        return objects, FilmFrame(self._number, [np.array(path).reshape(-1, 2) for path in paths], self.options.lines)

    def _frames_since(self, picture: Picture) -> int:
        """How many frames after the last one this is: files or planes between them could not be looked at."""
        place = self._place_of[picture.path]
        if self._latest is None:
            return 1 + place + (_last_number(picture.plane) - 1 if picture.plane else 0)
        path, plane = self._latest
        if path == picture.path:
            return max(_last_number(picture.plane) - _last_number(plane), 1)
        return max(place - self._place_of[path], 1)


def _last_number(plane: str) -> int:
    """Of `z002_t017` it is 17."""
    return int(re.findall(r"\d+", plane)[-1])

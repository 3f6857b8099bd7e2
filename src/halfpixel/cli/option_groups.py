"""How the options that verbs share are named and grouped in their help."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Group, Parameter

from halfpixel.jobs.annotated import ReadingOptions
from halfpixel.jobs.image_options import ImageOptions
from halfpixel.jobs.model_options import SpeedOptions
from halfpixel.jobs.size_options import SizeOptions
from halfpixel.jobs.track_options import TrackOptions

Images = Annotated[ImageOptions, Parameter(name="*", group=Group("Microscope images"))]
Speed = Annotated[SpeedOptions, Parameter(name="*", group=Group("Speed (compare with: halfpixel bench)"))]
Sizes = Annotated[SizeOptions, Parameter(name="*", group=Group("Size of the objects"))]
Tracking = Annotated[TrackOptions, Parameter(name="*", group=Group("Following objects"))]
Reading = Annotated[ReadingOptions, Parameter(name="*", group=Group("Annotations"))]

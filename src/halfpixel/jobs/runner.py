"""Goes over images with a model: what fails is kept and told, and the rest go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfpixel.errors import ImageError, ModelFileError
from halfpixel.jobs.detection_limits import DetectionLimits
from halfpixel.jobs.events import Failure, Progress, Tell, Warned, ignore
from halfpixel.jobs.size_options import SIZES_FOUND, LookedAt, SizeOptions
from halfpixel.jobs.source import Plane, false_colours, find_all_images, label_of, middle_of, read_planes
from halfpixel.jobs.wording import name_some, one_line, plural

if TYPE_CHECKING:
    from halfpixel.data.images.contrast import Rgb8
    from halfpixel.data.images.picture import Picture, Reading
    from halfpixel.engine.predictor import Predictor
    from halfpixel.engine.size_finder import ChosenScale
    from halfpixel.jobs.image_options import ImageOptions
    from halfpixel.structures.instances import Instances


@dataclass(frozen=True)
class Note:
    """What may make the result of an image wrong.

    Attributes:
        saturated: the detection limit was reached.
        frames: how many the file has, of which the first was read.
        doubt: about the size of its pixels.
        channels: the file and its channels, where these are no colours and were taken as such for want of a choice.
        remarks: what may surprise in the picture, and for each the details, as in `Picture.remarks`.
        scale: by which factor it was enlarged, as in `Instances.scale`.
        found_diameter_px: of its objects, as in `Instances.found_diameter_px`.
        novelty: how unlike the images it is that the model knows, as in `Instances.novelty`.
    """

    saturated: bool = False
    frames: int = 1
    doubt: str = ""
    channels: str = ""
    remarks: Mapping[str, str] = field(default_factory=dict)
    scale: float | None = None
    found_diameter_px: float | None = None
    novelty: float | None = None

    @property
    def unlike_training(self) -> bool | None:
        """As in `Instances.unlike_training`."""
        from halfpixel.structures.novelty import is_unlike

        return is_unlike(self.novelty)


@dataclass(frozen=True)
class Outcome:
    """What a job could use, and what to know of its results.

    Attributes:
        images: that were used, by their labels.
        failures: what could not be used, and why.
        warnings: what may surprise, each in one line.
        looked_at: at which size, where that was asked for or the model decided it.
    """

    images: tuple[str, ...]
    failures: tuple[Failure, ...]
    warnings: tuple[str, ...]
    looked_at: LookedAt | None = None

    @property
    def exit_code(self) -> int:
        """0 when all went well, 1 when something failed, 2 when everything did."""
        if not self.failures:
            return 0
        return 1 if self.images else 2

    @property
    def n_images(self) -> str:
        """How many images were used, and how many not, for summaries."""
        unused = f" ({len(self.failures):,} could not be used)" if self.failures else ""
        return plural(len(self.images), "image") + unused

    def failures_json(self) -> list[dict[str, Any]]:
        """The failures as plain values."""
        return [{"path": one.path, "error": one.error} for one in self.failures]

    def to_json(self) -> dict[str, Any]:
        """What results say of a run besides what they are: its failures, and `looked_at` where there is one."""
        looked_at = {} if self.looked_at is None else {"looked_at": self.looked_at.to_json()}
        return {**looked_at, "failed": self.failures_json()}


def _first_plane() -> Reading:
    from halfpixel.data.images.picture import FIRST_PLANE

    return FIRST_PLANE


@dataclass
class Runner:
    """Goes over images one by one, and keeps what is to be known of them.

    Attributes:
        tell: hears of everything at once.
        reading: which channels and planes. Where only the first plane is read, `Picture.plane` is empty.
        sizes: at which size images are looked at.
        images: how their pixels are measured; None where a job has no say in that.
        one_scene: all images show the same things: how large these are is found once, in the middle one.
        notes: the images that were predicted, by their label.
        failures: what could not be used, by its path.
        warnings: in the order in which they came up.
    """

    tell: Tell = ignore
    reading: Reading = field(default_factory=_first_plane)
    notes: dict[str, Note] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    sizes: SizeOptions = SIZES_FOUND
    images: ImageOptions | None = None
    one_scene: bool = False
    usual_scale: float | None = field(default=None, init=False)
    sizes_differ: bool = field(default=False, init=False)

    def find(self, patterns: Iterable[str], skip: Callable[[Path], bool] = lambda path: False) -> list[Path]:
        """The images that files, folders and globs stand for, each once, but those to be left out."""
        return find_all_images(patterns, self.fail, skip)

    def fail(self, what: str | Path, error: object) -> None:
        """Something cannot be used; an image that was predicted does not count as such any more."""
        self.notes.pop(str(what), None)
        failure = self.failures[str(what)] = Failure.of(what, error)
        self.tell(failure)

    def warn(self, text: object) -> None:
        """Something may surprise."""
        self.warnings.append(one_line(text))
        self.tell(Warned(self.warnings[-1]))

    def predict(
        self,
        predictor: Predictor,
        paths: Sequence[Path],
        limits: DetectionLimits,
        *,
        lowest: float | None = None,
        skip: Callable[[Path, str], bool] = lambda path, plane: False,
        in_parallel: bool | None = None,
    ) -> Iterator[tuple[Picture, Instances]]:
        """Each image that can be used and its objects, in order; the next ones are looked at meanwhile.

        Args:
            predictor: the model.
            paths: image files.
            limits: an image counts as saturated when the limit cut off objects that score at least the threshold.
            lowest: objects from this score upwards. Default: the threshold.
            skip: whether an image, given by its file and plane, is to be left out; called in another thread.
            in_parallel: whether small images are looked at several at once. Default: where there are several.
        """
        reading = self.reading
        if in_parallel is None:
            in_parallel = len(paths) > 1 or reading.planes == "all"
        lowest = limits.threshold if lowest is None else lowest
        planes = read_planes(paths, reading, skip)
        broken = -1
        self.looks_with(predictor)
        choose = self._chooser(predictor, paths)
        self.tell(Progress("predict", 0, len(paths)))
        for plane, future in predictor.predict_in_order(planes, Plane.rgb, lowest, limits.limit, in_parallel, choose):
            self.tell(Progress("predict", plane.number, len(paths)))
            if plane.number == broken:  # the rest of a file of which one plane failed
                continue
            try:
                objects, picture = future.result(), plane.picture()
            except (ImageError, MemoryError) as error:
                broken, path = plane.number, paths[plane.number]
                self.fail(path, error if isinstance(error, ImageError) else f"{path}: too large for the memory")
                continue
            except ModelFileError as error:  # at this image; the others would fare no better
                raise ModelFileError(f"{paths[plane.number]}: {error}") from error
            frames = picture.n_planes if reading.planes == "first" else 1
            channels = "" if reading.channels is not None else false_colours(picture)
            saturated = objects.above(limits.threshold).saturated
            self.notes[label_of(picture.path, picture.plane)] = Note(
                saturated,
                frames,
                channels=channels,
                remarks=picture.remarks,
                scale=objects.scale,
                found_diameter_px=objects.found_diameter_px,
                novelty=objects.novelty,
            )
            yield picture, objects
        self.tell(Progress("predict", len(paths), len(paths)))

    def looks_with(self, predictor: Predictor) -> None:
        """Keep what `outcome` needs to know of a model."""
        self.usual_scale = predictor.info.input.scale
        self.sizes_differ = self.sizes.may_differ(predictor)

    def _chooser(self, predictor: Predictor, paths: Sequence[Path]) -> Callable[[Plane, Rgb8], ChosenScale]:
        """Says at which size to look at each image; sizes are found once a file, in the middle one of its planes."""
        known: dict[int, ChosenScale] = {}

        def choose(plane: Plane, pixels: Rgb8) -> ChosenScale:
            picture, scene = plane.picture(), 0 if self.one_scene else plane.number
            together = self.one_scene or picture.plane
            if not together or not self.sizes.are_found or predictor.size_finder is None:
                return self.sizes.choose(predictor, picture, pixels, self.images)
            if scene not in known:
                known.clear()
                middle = self._middle(paths[len(paths) // 2] if self.one_scene else picture.path, pixels)
                known[scene] = self.sizes.choose(predictor, picture, middle, self.images)
            return known[scene]

        return choose

    def _middle(self, path: Path, pixels: Rgb8) -> Rgb8:
        """The picture in the middle of a file, or the one at hand where it cannot be read."""
        try:
            return middle_of(path, self.reading)
        except ImageError:
            return pixels

    def facts(self, picture: Picture, objects: Instances, doubt: str = "") -> dict[str, Any]:
        """What summaries need of an image that was predicted, as plain JSON values."""
        image = label_of(picture.path, picture.plane)
        self.notes[image] = replace(self.notes[image], doubt=doubt)
        counts = {name: count for name, count in objects.counts().items() if count}
        return {
            "image": image,
            "n_planes": picture.n_planes,
            "size_hw": objects.size_hw,
            "counts": counts,
            "note": asdict(self.notes[image]),
            "search": None if objects.prefilter is None else asdict(objects.prefilter),
        }

    def outcome(self, *warnings: str) -> Outcome:
        """What came of it, with what is to be said at the end."""
        chosen = [(note.scale, note.found_diameter_px) for note in self.notes.values()]
        looked_at = LookedAt.of(self.sizes, chosen, self.usual_scale) if self.sizes_differ else None
        return Outcome(tuple(self.notes), tuple(self.failures.values()), (*self.warnings, *warnings), looked_at)


def notes_of(found: Iterable[Mapping[str, Any]]) -> dict[str, Note]:
    """The notes in the facts of images, by their label."""
    return {facts["image"]: Note(**facts["note"]) for facts in found}


def image_warnings(notes: Mapping[str, Note], limit: int, advice: str = "") -> list[str]:
    """What may make the results of images wrong.

    Args:
        notes: of the images, by their label.
        limit: the detection limit.
        advice: for files of several frames.
    """
    found = []
    stacks = [f"{image}: {note.frames:,}" for image, note in notes.items() if note.frames > 1]
    if stacks:
        files = f"{plural(len(stacks), 'file')} with several ({name_some(stacks)})"
        found.append(f"only the first frame was read of {files}{advice}")
    channels = list(dict.fromkeys(note.channels for note in notes.values() if note.channels))  # not each plane
    if channels:
        files = f"{plural(len(channels), 'file has', 'files have')} several channels ({name_some(channels)})"
        found.append(f"{files}, taken as red, green and blue; choose with `channels`")
    saturated = [image for image, note in notes.items() if note.saturated]
    if saturated:
        where = f"{plural(len(saturated), 'image')} ({name_some(saturated)})"
        found.append(
            f"the detection limit ({limit:,}) cut objects off on {where}: counts may be too low, raise `limit`"
        )
    strange = [image for image, note in notes.items() if note.unlike_training]
    if strange:
        of_all = f"{len(strange):,} of {plural(len(notes), 'image')} ({name_some(strange)})"
        found.append(f"{of_all}: unlike those that the model was trained or calibrated on, counts may be far off")
    doubts: dict[str, list[str]] = {}
    for image, note in notes.items():
        for about, details in note.remarks.items():
            doubts.setdefault(about, []).append(f"{image}: {details}")
        if note.doubt:
            doubts.setdefault(note.doubt, []).append(image)
    found += [f"{plural(len(images), 'image')} ({name_some(images)}): {doubt}" for doubt, images in doubts.items()]
    return [one_line(text) for text in found]

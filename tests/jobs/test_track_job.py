"""The whole way from frames on the disk to tables, with a network that reads the truth in the picture's grey values."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from masked import with_masks
from PIL import Image
from planted import Planted, film, straight

import halfpixel
from halfpixel.engine.predictor import Predictor
from halfpixel.errors import ArgumentError
from halfpixel.jobs.events import Failure
from halfpixel.jobs.predict import PredictRequest
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

SIZE_HW = (80, 120)
CROSSING = (
    Planted(straight((22, 20), (4, 2))),
    Planted(straight((98, 26), (-4, 2))),
    Planted(straight((60, 70), (0, 0), missing=[0, 1, 2])),
)
MIDDLE = "60,80,60,0"


def grey(numbers: Sequence[int], objects: Instances) -> np.ndarray:
    """Each planted disc has its own grey value."""
    assert objects.masks is not None
    levels = np.array([0, *(80 + 40 * number for number in numbers)], dtype=np.uint8)
    return levels[objects.masks.label_image().numpy()]


@pytest.fixture(autouse=True)
def sharp_eyes(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(self: Predictor, pixels: np.ndarray, threshold: float | None, limit: int | None) -> Instances:
        levels = torch.from_numpy(pixels[..., 0].astype(np.int32))
        return replace(with_masks(CropMasks.from_label_image(levels), ("nucleus",)), score_threshold=threshold)

    monkeypatch.setattr(Predictor, "_look", look)


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """frame2.png comes before frame10.png; frame7.png is broken."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for k, (objects, numbers) in enumerate(film(CROSSING, 12, size_hw=SIZE_HW), start=1):
        Image.fromarray(grey(numbers, objects)).save(folder / f"frame{k}.png")
    (folder / "frame7.png").write_bytes(b"no image")
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_frames_are_followed_and_counted(frames: Path, tiny_model: Path, tmp_path: Path) -> None:
    out, told = tmp_path / "out", []
    tracking = halfpixel.TrackOptions(line=(MIDDLE,))
    done = halfpixel.track(frames, out=out, model=tiny_model, tracking=tracking, tell=told.append)
    assert done.film is not None
    assert done.film.flows[0].crossings == ((1, 1),)
    assert (done.film.flows[0].tracks, done.film.flows[0].entered, done.film.flows[0].left) == (3, 1, 0)
    assert done.outcome.exit_code == 1
    assert [Path(one.path).name for one in told if isinstance(one, Failure)] == ["frame7.png"]
    assert [Path(one.place).name for one in done.written] == [
        "instances.json", "overlay", "objects.csv", "tracks.csv", "frames.csv",
    ]  # fmt: skip

    objects = rows_of(out / "objects.csv")
    assert [int(row["frame"]) for row in objects] == sorted(int(row["frame"]) for row in objects)
    assert {(row["image"], row["frame"]) for row in objects} == {
        (f"frame{k}.png", str(k)) for k in range(1, 13) if k != 7
    }
    for row in objects:  # the grey value is the planted number
        levels = {"1": "80", "2": "120", "3": "160"} if objects[0]["intensity_mean_grey"] == "80" else {
            "1": "120", "2": "80", "3": "160"}  # fmt: skip
        assert row["intensity_mean_grey"] == levels[row["track"]]
    entries = json.loads((out / "instances.json").read_text())["annotations"]
    assert [str(entry["track_id"]) for entry in entries] == [row["track"] for row in objects]

    tracks = rows_of(out / "tracks.csv")
    assert [(row["first_frame"], row["last_frame"], row["entered"]) for row in tracks] == [
        ("1", "12", "false"), ("1", "12", "false"), ("4", "12", "true"),
    ]  # fmt: skip
    assert sum(int(row["frames"]) for row in tracks) == len(objects)
    by_frame = rows_of(out / "frames.csv")
    assert [int(row["frame"]) for row in by_frame] == [k for k in range(1, 13) if k != 7]
    assert sum(int(row["objects"]) for row in by_frame) == len(objects)
    assert sum(int(row["line1_in"]) for row in by_frame) == 1
    assert sorted(path.name for path in (out / "overlay").iterdir()) == sorted(
        f"frame{k}.png" for k in range(1, 13) if k != 7
    )
    assert not (out / ".halfpixel-run").exists()


def test_a_stack_of_time_planes_is_a_film(tiny_model: Path, tmp_path: Path) -> None:
    pictures = [grey(numbers, objects) for objects, numbers in film(CROSSING, 12, size_hw=SIZE_HW)]
    tifffile.imwrite(
        tmp_path / "film.tif",
        np.stack(pictures),
        imagej=True,
        resolution=(4, 4),
        metadata={"axes": "TYX", "unit": "um"},
    )
    tracking = halfpixel.TrackOptions(line=(MIDDLE, "0,60,120,60"))
    done = halfpixel.track(
        tmp_path / "film.tif", out=tmp_path / "out", model=tiny_model, save="table", tracking=tracking
    )
    assert done.film is not None
    assert done.film.flows[0].crossings[0] == (1, 1)
    assert done.film.tracks.columns["mean_area_um2"][2] == pytest.approx(
        done.film.tracks.columns["mean_area_px"][2] / 16
    )
    assert rows_of(tmp_path / "out" / "objects.csv")[0]["image"] == "film.tif#t001"
    assert (tmp_path / "out" / "tracks.csv").is_file()


def test_a_film(tiny_model: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    pictures = [grey(numbers, objects) for objects, numbers in film(CROSSING, 12, size_hw=SIZE_HW)]
    with av.open(str(tmp_path / "film.mkv"), "w") as written:
        stream = written.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = *SIZE_HW, "bgr0"
        for picture in pictures:
            colours = np.repeat(picture[..., None], 3, axis=2)
            written.mux(stream.encode(av.VideoFrame.from_ndarray(colours, format="rgb24")))
        written.mux(stream.encode(None))
    done = halfpixel.track(
        tmp_path / "film.mkv", out=tmp_path / "out", model=tiny_model, tracking=halfpixel.TrackOptions(line=(MIDDLE,))
    )
    assert done.film is not None
    assert done.film.flows[0].crossings == ((1, 1),)
    assert done.film.frames.columns["frame"].tolist() == list(range(1, 13))
    assert (tmp_path / "out" / "overlay" / "film_t000012.png").is_file()
    seen = halfpixel.predict_folder(tmp_path / "film.mkv", out=tmp_path / "first", model=tiny_model, save="coco")
    assert seen.counts == {"nucleus": 2}
    assert "only the first frame was read" in seen.outcome.warnings[0]


def test_a_frame_of_another_size_is_passed_over(frames: Path, tiny_model: Path, tmp_path: Path) -> None:
    Image.new("L", (100, 80)).save(frames / "frame7.png")
    done = halfpixel.track(frames, out=tmp_path / "out", model=tiny_model)
    assert done.film is not None
    assert done.film.flows[0].tracks == 3
    assert [one.error for one in done.outcome.failures] == [
        f"{frames / 'frame7.png'}: a frame of 100 x 80 pixels in a film of 120 x 80: its frames have to be of one size"
    ]


def test_how_large_objects_are_is_found_once(
    frames: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of the film, and not in each frame anew, which would look at each at another size."""
    from halfpixel.engine.size_finder import ChosenScale

    looked_at: list[np.ndarray] = []

    def choose(self: object, predictor: Predictor, picture: object, pixels: np.ndarray, images: object) -> ChosenScale:
        looked_at.append(pixels)
        return ChosenScale(None, None)

    monkeypatch.setattr("halfpixel.jobs.size_options.SizeOptions.choose", choose)
    monkeypatch.setattr(Predictor, "size_finder", object())
    halfpixel.track(frames, out=tmp_path / "out", model=tiny_model, save="table")
    assert len(looked_at) == 1
    with Image.open(frames / "frame1.png") as first:  # the middle one, frame7.png, is broken
        assert np.array_equal(looked_at[0][..., 0], np.asarray(first))
    looked_at.clear()
    (frames / "frame7.png").unlink()
    halfpixel.track(frames, out=tmp_path / "again", model=tiny_model, save="table")
    assert len(looked_at) == 1
    with Image.open(frames / "frame6.png") as middle:
        assert np.array_equal(looked_at[0][..., 0], np.asarray(middle))


def test_what_does_not_go_together(frames: Path, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="`save` tracks is of films"):
        halfpixel.predict_folder(frames, out=tmp_path / "out", model=tiny_model, save="table,tracks")
    with pytest.raises(ArgumentError, match="two different points"):
        halfpixel.TrackOptions(line=("1,1,1,1",))
    for wrong in ({"max_gap": -1}, {"min_iou": 0.0}, {"min_frames": 0}):
        with pytest.raises(ArgumentError, match=f"`{next(iter(wrong))}`"):
            halfpixel.TrackOptions(**wrong)


def test_a_run_that_broke_off_begins_anew(frames: Path, tiny_model: Path, tmp_path: Path) -> None:
    """What came before is in no file: a film is followed from its first frame."""
    torn = tmp_path / "out" / ".halfpixel-run" / "run.json"
    torn.parent.mkdir(parents=True)
    torn.write_text("{}")
    with pytest.raises(ArgumentError, match="an interrupted run; `overwrite` begins anew"):
        halfpixel.track(frames, out=tmp_path / "out", model=tiny_model, save="table")
    done = halfpixel.track(frames, out=tmp_path / "out", model=tiny_model, save="table", overwrite=True)
    assert done.film is not None
    assert not torn.exists()
    with pytest.raises(ArgumentError, match="`resume`: a film is followed from its first frame"):
        PredictRequest([str(frames)], tmp_path / "out", resume=True, tracking=halfpixel.TrackOptions())


def test_nothing_to_follow(tiny_model: Path, tmp_path: Path) -> None:
    done = halfpixel.track(tmp_path / "nowhere", out=tmp_path / "out", model=tiny_model)
    assert (done.film, done.outcome.exit_code) == (None, 2)

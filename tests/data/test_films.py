from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from halfpixel.data.films import is_film, middle_of_film, read_film
from halfpixel.data.images.picture import Reading
from halfpixel.errors import ImageError, MissingDependencyError

ALL = Reading(planes="all")


def write_film(path: Path, frames: np.ndarray, pixels: str = "", turned: int = 0) -> Path:
    """`frames` `[n, h, w, 3]`, without loss."""
    codec, usual = ("ffv1", "bgr0") if path.suffix == ".mkv" else ("png", "rgb24")
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as film:
        stream = film.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels or usual
        if turned:
            stream.set_display_rotation(turned)
        for k, pixels_of_frame in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels_of_frame, format="rgb24")
            frame.pts, frame.time_base = k * k, Fraction(1, 10)  # not at an even rate
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
    return path


def noise(n: int = 7, size_hw: tuple[int, int] = (32, 48)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, *size_hw, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["mkv", "avi", "mov"])
def test_every_frame_comes_once_and_as_it_is(tmp_path: Path, suffix: str) -> None:
    """Also where they are not at an even rate, which a player would fill up."""
    frames = noise()
    path = write_film(tmp_path / f"film.{suffix}", frames)
    assert is_film(path)
    found = list(read_film(path, ALL))
    assert [one.plane for one in found] == [f"t00000{k}" for k in range(1, 8)]
    for one, frame in zip(found, frames, strict=True):
        assert np.array_equal(one.rgb, frame)
        assert np.array_equal(one.channels, frame)
        assert (one.channel_names, one.pixel_size_um) == (("red", "green", "blue"), None)
        assert one.n_planes > 1
    assert [one.plane for one in read_film(path)] == ["t000001"]


def test_channels_are_chosen(tmp_path: Path) -> None:
    frames = noise(2)
    path = write_film(tmp_path / "film.mkv", frames)
    red = next(read_film(path, Reading(("red",), "all")))
    assert np.array_equal(red.rgb, np.repeat(frames[0, ..., :1], 3, axis=2))
    assert np.array_equal(red.channels, frames[0])
    with pytest.raises(ImageError, match=r"film\.mkv: no channel is called 'dapi'"):
        next(read_film(path, Reading(("dapi",), "all")))


@pytest.mark.parametrize("turned", [90, 180, 270])
def test_a_film_that_was_taken_upright_is_upright(tmp_path: Path, turned: int) -> None:
    frames = noise(2)
    path = write_film(tmp_path / "film.mov", frames, turned=turned)
    assert np.array_equal(next(read_film(path, ALL)).rgb, np.rot90(frames[0], turned // 90))


def test_the_middle(tmp_path: Path) -> None:
    frames = np.stack([np.full((32, 48, 3), 10 * k, np.uint8) for k in range(20)])
    path = write_film(tmp_path / "film.mkv", frames)
    assert 120 <= middle_of_film(path)[0, 0, 0] <= 150  # at half of its time, not of its frames


def test_grey_films(tmp_path: Path) -> None:
    grey = np.repeat(noise(3)[..., :1], 3, axis=3)
    one = next(read_film(write_film(tmp_path / "film.mkv", grey, pixels="gray"), ALL))
    assert one.channel_names == ("grey",)
    assert one.channels.shape == (32, 48, 1)
    assert np.abs(one.rgb.astype(int) - grey[0]).max() <= 2


def test_a_film_that_is_cut_short_gives_what_is_there(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.avi", noise(12))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    found, why = [], ""
    try:
        for one in read_film(path, ALL):
            found.append(one.plane)
    except ImageError as error:
        why = str(error)
    assert 3 < len(found) < 12
    assert why.startswith(str(path)) or not why


def test_damaged_frames_are_named_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    """Something is written over a part of a frame in the middle."""
    av = pytest.importorskip("av")
    frames = noise(9)
    path = write_film(tmp_path / "film.avi", frames)
    with av.open(str(path)) as film:
        packets = [bytes(packet) for packet in film.demux(film.streams.video[0]) if packet.size]
    data = path.read_bytes()
    broken = bytearray(packets[4])
    broken[len(broken) // 2 : len(broken) // 2 + 40] = bytes(40)
    assert data.count(packets[4]) == 1
    path.write_bytes(data.replace(packets[4], bytes(broken)))
    found = []
    with pytest.raises(ImageError, match=r"film\.avi: frames .* left out: 1 \(t000005\)"):
        found.extend(read_film(path, ALL))
    assert [one.plane[-1] for one in found] == list("12346789")
    assert np.array_equal(found[-1].rgb, frames[-1])


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"\0\0\0\x20ftypisom", True),
        (b"\0\0\0\x20ftypqt  ", True),
        (b"\x1a\x45\xdf\xa3....", True),
        (b"RIFF\x10\0\0\0AVI LIST", True),
        (b"RIFF\x10\0\0\0WEBPVP8 ", False),
        (b"\0\0\0\x20ftypavif", False),
        (b"\0\0\0\x20ftypheic", False),
        (b"\x89PNG\r\n\x1a\n", False),
        (b"", False),
    ],
)
def test_what_is_a_film(tmp_path: Path, data: bytes, answer: bool) -> None:
    path = tmp_path / "file.png"
    path.write_bytes(data)
    assert is_film(path) == answer
    assert not is_film(tmp_path / "nowhere.mp4")


def test_what_is_broken_is_named(tmp_path: Path) -> None:
    pytest.importorskip("av")
    path = tmp_path / "film.mp4"
    path.write_bytes(b"\0\0\0\x20ftypisom" + bytes(100))
    with pytest.raises(ImageError, match=r"film\.mp4: the film cannot be read"):
        next(read_film(path))
    with pytest.raises(ImageError, match=r"nowhere\.mp4"):
        next(read_film(tmp_path / "nowhere.mp4"))


def test_without_the_library_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "halfpixel\[video\]"'):
        next(read_film(tmp_path / "film.mp4"))

"""Run-length encoding against hotcoco, which repeats the COCO API bit for bit."""

import hotcoco.mask
import numpy as np
import pytest

from halfpixel.ops import rle


def shapes() -> dict[str, np.ndarray]:
    def drawn(height: int, width: int, *boxes: tuple[int, int, int, int]) -> np.ndarray:
        mask = np.zeros((height, width), dtype=bool)
        for top, left, bottom, right in boxes:
            mask[top:bottom, left:right] = True
        return mask

    rng = np.random.default_rng(0)
    noise = {f"noise {share}": rng.random((23, 31)) < share for share in (0.02, 0.3, 0.5, 0.9)}
    return {
        "empty": drawn(5, 7),
        "full": drawn(5, 7, (0, 0, 5, 7)),
        "one pixel": drawn(5, 7, (2, 3, 3, 4)),
        "first pixel": drawn(5, 7, (0, 0, 1, 1)),
        "last pixel": drawn(5, 7, (4, 6, 5, 7)),
        "canvas of one pixel": drawn(1, 1, (0, 0, 1, 1)),
        "one row": drawn(1, 9, (0, 2, 1, 4), (0, 6, 1, 7)),
        "one column": drawn(9, 1, (2, 0, 4, 1), (6, 0, 7, 1)),
        "top to bottom": drawn(6, 8, (0, 2, 6, 5)),
        "foot meets the next head": drawn(6, 8, (3, 2, 6, 3), (0, 3, 2, 4)),
        "foot, then nothing": drawn(6, 8, (3, 2, 6, 3), (0, 4, 2, 5)),
        "parts and a hole": drawn(20, 20, (1, 1, 5, 5), (8, 8, 18, 18)) & ~drawn(20, 20, (10, 10, 12, 12)),
        "large": drawn(3000, 40, (0, 0, 2999, 40)),
        **noise,
    }


SHAPES = shapes()


def tight(mask: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    if not mask.any():
        return np.zeros((0, 0), dtype=bool), (0, 0)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    crop = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return crop, (int(columns[0]), int(rows[0]))


def hotcoco_text(mask: np.ndarray) -> str:
    return hotcoco.mask.encode(np.asfortranarray(mask))["counts"].decode("ascii")


@pytest.mark.parametrize("mask", SHAPES.values(), ids=SHAPES)
def test_encoding_equals_hotcoco(mask: np.ndarray) -> None:
    crop, offset_xy = tight(mask)
    # a loose crop says the same
    crops = [(crop, offset_xy), (mask, (0, 0))]
    assert rle.compress(rle.encode_crops(crops, mask.shape)) == [hotcoco_text(mask)] * 2


@pytest.mark.parametrize("mask", SHAPES.values(), ids=SHAPES)
def test_decoding_gives_the_tight_crop(mask: np.ndarray) -> None:
    crop, offset_xy = rle.decode_to_crop(rle.decompress(hotcoco_text(mask)), mask.shape)
    expected, expected_xy = tight(mask)
    np.testing.assert_array_equal(crop, expected)
    assert offset_xy == expected_xy


def test_hotcoco_decodes_what_we_encode() -> None:
    mask = SHAPES["noise 0.3"]
    (text,) = rle.compress(rle.encode_crops([(mask, (4, 5))], (40, 50)))
    canvas = np.zeros((40, 50), dtype=bool)
    canvas[5 : 5 + mask.shape[0], 4 : 4 + mask.shape[1]] = mask
    np.testing.assert_array_equal(hotcoco.mask.decode({"size": [40, 50], "counts": text.encode()}), canvas)


def test_strings_survive_a_round_trip() -> None:
    rng = np.random.default_rng(1)
    for length in (0, 1, 2, 3, 4, 5, 50):
        counts = rng.integers(0, 10 ** rng.integers(1, 9, length)).astype(np.int64)
        np.testing.assert_array_equal(rle.decompress(*rle.compress([counts])), counts)


def test_masks_together_are_as_each_by_itself() -> None:
    """Of different sizes, with none and parts among them, on one canvas."""
    size_hw, rng = (3000, 60), np.random.default_rng(2)
    crops = [(mask, (int(rng.integers(0, 61 - mask.shape[1])), int(rng.integers(0, 3001 - mask.shape[0]))))
             for mask in SHAPES.values()]  # fmt: skip
    crops = [crops[k] for k in rng.permutation(len(crops))]
    texts = rle.compress(rle.encode_crops(crops, size_hw))
    for (mask, (x, y)), text in zip(crops, texts, strict=True):
        canvas = np.zeros(size_hw, dtype=bool)
        canvas[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
        assert text == hotcoco_text(canvas)
        ((found, found_xy),) = rle.decode_to_crops(rle.decompress_all([text]), size_hw)
        expected, expected_xy = tight(canvas)
        np.testing.assert_array_equal(found, expected)
        assert found_xy == expected_xy
    together = rle.decode_to_crops(rle.decompress_all(texts), size_hw)
    for (found, found_xy), text in zip(together, texts, strict=True):
        alone, alone_xy = rle.decode_to_crop(rle.decompress(text), size_hw)
        np.testing.assert_array_equal(found, alone)
        assert found_xy == alone_xy
        assert found.flags.c_contiguous
        assert found.flags.owndata


def test_no_masks_at_all() -> None:
    assert rle.compress(rle.encode_crops([], (4, 5))) == []
    assert rle.decode_to_crops(rle.decompress_all([]), (4, 5)) == []


def test_empty_runs_are_understood() -> None:
    """Other tools write them; they change nothing."""
    plain, plain_xy = rle.decode_to_crop(np.array([7, 4, 9]), (5, 4))
    padded, padded_xy = rle.decode_to_crop(np.array([3, 0, 4, 2, 0, 2, 9, 0]), (5, 4))
    np.testing.assert_array_equal(plain, padded)
    assert plain_xy == padded_xy
    assert rle.decode_to_crop(np.array([20, 0]), (5, 4))[0].size == 0


def test_a_canvas_without_pixels() -> None:
    assert rle.decode_to_crop(np.array([0]), (0, 5))[0].size == 0
    (counts,) = rle.encode_crops([(np.zeros((0, 0), dtype=bool), (0, 0))], (0, 5))
    assert counts.tolist() == [0]


@pytest.mark.parametrize(
    "counts",
    [
        [],
        [19],
        [21],
        [10, -5, 15],
        [2**62, 2**62, 2**62, 2**62, 20],  # the sum wraps around to 20
    ],
    ids=str,
)
def test_runs_that_do_not_fit_the_canvas(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="run lengths"):
        rle.decode_to_crop(np.array(counts, dtype=np.int64), (5, 4))
    with pytest.raises(ValueError, match=r"add up to -?\d+, not to 5 x 4 = 20"):
        rle.decode_to_crops([np.array([20]), np.array(counts, dtype=np.int64), np.array([3, 4, 13])], (5, 4))


@pytest.mark.parametrize("text", ["7 4", "7\n", "7é", "7€", "7\ud800", "~", "/", "7p"])
def test_characters_outside_the_alphabet(text: str) -> None:
    with pytest.raises(ValueError, match="characters outside"):
        rle.decompress(text)
    with pytest.raises(ValueError, match="characters outside"):
        rle.decompress_all(["52", text, ""])


def test_a_string_cut_in_the_middle_of_a_number() -> None:
    (text,) = rle.compress([np.array([1000, 5, 200])])
    for texts in ([text[:1]], [text, text[:1], text], [text, "", text[:1], ""]):
        with pytest.raises(ValueError, match="middle of a number"):
            rle.decompress_all(texts)


def test_a_number_that_is_too_long() -> None:
    with pytest.raises(ValueError, match="too long"):
        rle.decompress("o" * 20 + "0")


@pytest.mark.parametrize("offset_xy", [(-1, 0), (0, -1), (3, 0), (0, 4)])
def test_a_crop_that_leaves_the_canvas(offset_xy: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        rle.encode_crops([(np.ones((2, 2), dtype=bool), (0, 0)), (np.ones((2, 2), dtype=bool), offset_xy)], (5, 4))

import numpy as np
import torch

from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks
from halfpixel.viz.contact_sheet import GAP_PX, MARGIN_PX, TILE_PX, Tile, draw_contact_sheet

RED = (255, 0, 0)


def square(x: int, y: int, side: int, size_hw: tuple[int, int]) -> Instances:
    mask = torch.zeros(1, *size_hw, dtype=torch.bool)
    mask[0, y : y + side, x : x + side] = True
    masks = CropMasks.from_dense(mask)
    return Instances(size_hw, masks.boxes_xyxy(), torch.ones(1), torch.zeros(1, dtype=torch.int64), ("cell",), masks)


def tile(image: np.ndarray | None, objects: Instances | None = None, lines: int = 1) -> Tile:
    colours = np.array([RED] * (0 if objects is None else len(objects)), dtype=np.uint8).reshape(-1, 3)
    return Tile("a.png", [("a line", RED)] * lines, image, objects, colours)


def grey(size_hw: tuple[int, int]) -> np.ndarray:
    return np.full((*size_hw, 3), 200, dtype=np.uint8)


def red_pixels(sheet: np.ndarray) -> np.ndarray:
    """Rows and columns inside of the first picture, texts left out."""
    inside = sheet[:, MARGIN_PX : MARGIN_PX + TILE_PX].astype(int)
    top = int(np.flatnonzero((inside[:, TILE_PX // 2] == 200).all(-1))[0])
    picture = inside[top : top + TILE_PX]
    return np.argwhere((picture[..., 0] > 200) & (picture[..., 1:] < 60).all(-1))


def test_tiles_stand_in_rows_of_four() -> None:
    one = draw_contact_sheet([tile(grey((40, 40)))], "header")
    four = draw_contact_sheet([tile(grey((40, 40)))] * 4, "header")
    five = draw_contact_sheet([tile(grey((40, 40)))] * 5, "header")
    assert four.shape[1] == five.shape[1] == 4 * TILE_PX + 3 * GAP_PX + 2 * MARGIN_PX
    assert one.shape[0] == four.shape[0] < five.shape[0] - TILE_PX
    assert five.dtype == np.uint8


def test_the_part_around_a_small_object_is_shown_large() -> None:
    size_hw = (400, 600)
    places = red_pixels(draw_contact_sheet([tile(grey(size_hw), square(200, 300, 20, size_hw))], "header"))
    low, high = places.min(0), places.max(0)
    # 20 of the 64 pixels that are shown, in the middle
    np.testing.assert_allclose(high - low + 1, 20 / 64 * TILE_PX, atol=4)
    np.testing.assert_allclose((high + low) / 2, TILE_PX / 2, atol=3)


def test_an_object_at_the_edge_is_where_it_is() -> None:
    size_hw = (400, 600)
    places = red_pixels(draw_contact_sheet([tile(grey(size_hw), square(0, 0, 32, size_hw))], "header"))
    np.testing.assert_allclose(places.min(0), 0, atol=3)
    np.testing.assert_allclose(places.max(0), TILE_PX / 2, atol=4)


def test_a_speck_gets_a_ring() -> None:
    size_hw = (64, 64)
    places = red_pixels(draw_contact_sheet([tile(grey(size_hw), square(32, 32, 1, size_hw))], "header"))
    assert len(places) > 100
    radii = np.linalg.norm(places - 162.5, axis=1)
    assert radii.max() < 20
    assert (radii > 12).mean() > 0.8


def test_what_cannot_be_shown_and_what_is_long() -> None:
    many = tile(None, lines=9)
    few = tile(None, lines=1)
    heights = [draw_contact_sheet([one], "x" * 500).shape[0] for one in (few, many, tile(None, lines=5))]
    assert heights[0] < heights[1] == heights[2]  # the rest is counted in the last line
    wide = draw_contact_sheet([Tile("name" * 100, [("line" * 100, RED)], None)], "header")
    assert (wide[:, MARGIN_PX + TILE_PX : MARGIN_PX + TILE_PX + GAP_PX] == wide[0, 0]).all(-1)[120:].all()


def test_odd_pictures() -> None:
    for size_hw in ((1, 1), (1, 900), (700, 2)):
        sheet = draw_contact_sheet([tile(grey(size_hw), square(0, 0, 1, size_hw))], "header")
        assert sheet.shape[0] > TILE_PX
    black = np.zeros((50, 50, 3), dtype=np.uint8)
    black[20:30, 20:30] = 20  # dark, but something
    nothing = square(0, 0, 1, (50, 50))[[]]
    sheet = draw_contact_sheet([tile(black, nothing)], "header")
    middle = sheet[:, MARGIN_PX + TILE_PX // 2].max(-1)
    assert middle.max() > 240  # brightened

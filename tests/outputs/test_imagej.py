import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from masked import boxed, disc, masked, ring_and_pieces
from matplotlib.path import Path as Outline

from halfpixel import optional
from halfpixel.errors import ArgumentError, MissingDependencyError
from halfpixel.outputs.imagej import roi_zip_bytes

SIZE_HW = (40, 50)
MASKS = (disc(6, (12, 14)), ring_and_pieces(), np.zeros(SIZE_HW, dtype=bool), disc(8, (48, 38)))


def filled(rings: list[np.ndarray]) -> np.ndarray:
    """The pixels whose centres are inside of an odd number of rings, by matplotlib."""
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]] + 0.5
    centres = np.stack([x.ravel(), y.ravel()], 1)
    mask = np.zeros(SIZE_HW, dtype=bool)
    for ring in rings:
        mask ^= Outline(ring, closed=False).contains_points(centres).reshape(SIZE_HW)
    return mask


def test_roifile_reads_the_masks_back(tmp_path: Path) -> None:
    roifile = pytest.importorskip("roifile")
    path = tmp_path / "rois.zip"
    path.write_bytes(roi_zip_bytes(masked(*MASKS)))
    rois = roifile.roiread(path)
    assert [roi.name for roi in rois] == ["0001", "0002", "0004"]
    for roi, mask in zip(rois, [MASKS[0], MASKS[1], MASKS[3]], strict=True):
        assert np.array_equal(filled(roi.coordinates(multi=True)), mask)
        rows, columns = np.nonzero(mask)
        assert abs(roi.left - columns.min()) <= 1
        assert abs(roi.bottom - rows.max() - 1) <= 1
    assert [roi.composite for roi in rois] == [False, True, False]


def test_equal_objects_give_equal_bytes_and_entries_have_names() -> None:
    pytest.importorskip("roifile")
    data = roi_zip_bytes(masked(*MASKS))
    assert data == roi_zip_bytes(masked(*MASKS))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["0001.roi", "0002.roi", "0004.roi"]
        assert archive.testzip() is None


def test_boxes_and_a_missing_library_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentError, match="boxes only"):
        roi_zip_bytes(boxed((1, 1, 5, 5)))

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(optional, "import_module", missing)
    with pytest.raises(MissingDependencyError, match=r'pip install "halfpixel\[imagej\]"'):
        roi_zip_bytes(masked(*MASKS))

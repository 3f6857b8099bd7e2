import numpy as np
import torch
from drawing import dense, write_picture
from scipy import ndimage

from halfpixel.data.dataset import Dataset, annotated_sample
from halfpixel.data.formats.yolo import read_yolo
from halfpixel.outputs.yolo import write_yolo
from halfpixel.structures.masks import CropMasks


def test_outlines_give_the_same_pixels_again(tmp_path):
    rng = np.random.default_rng(3)
    noise = [ndimage.gaussian_filter(rng.random((37, 61)), sigma) for sigma in rng.uniform(0.5, 3, 40)]
    masks = np.stack([one > np.quantile(one, rng.uniform(0.5, 0.95)) for one in noise])
    masks[0] = False
    masks[0, 5, 7] = True  # one pixel
    path = write_picture(tmp_path / "a.png", (37, 61))
    crops = CropMasks.from_dense(torch.from_numpy(masks))
    labels = [k % 2 for k in range(40)]
    data = Dataset(tmp_path, ("a", "b"), (1, 2), (annotated_sample(1, path, crops, labels, ("a", "b")),))
    (tmp_path / "out").mkdir()
    lost = write_yolo(data, tmp_path / "out", ["sub/a"])
    again = read_yolo(tmp_path / "out")
    assert (again.class_names, again.warnings) == (("a", "b"), ())
    assert again.samples[0].objects.labels.tolist() == labels

    # background hangs together over corners, objects do not
    filled = np.stack([ndimage.binary_fill_holes(mask, np.ones((3, 3))) for mask in masks])
    np.testing.assert_array_equal(dense(again.samples[0]), filled)
    told = {kind: {issue.where for issue in lost if issue.kind == kind} for kind in ("holes", "parts")}
    assert told["holes"] == {f"annotation {k + 1}" for k in range(40) if (filled[k] != masks[k]).any()}
    assert told["parts"] == {f"annotation {k + 1}" for k in range(40) if ndimage.label(filled[k])[1] > 1}
    assert min(len(told["holes"]), len(told["parts"])) > 10
    assert "annotation 1" not in told["holes"] | told["parts"]

import io

import numpy as np
import tifffile
from PIL import Image

from halfpixel.outputs.label_images import label_file


def test_more_objects_than_16_bits_can_count():
    labels = np.arange(70_000, dtype=np.int32).reshape(280, 250)
    suffix, content = label_file(labels, 69_999)
    assert suffix == ".tif"
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(content)), labels)
    suffix, content = label_file(labels.clip(max=65_535), 65_535)
    assert suffix == ".png"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), labels.clip(max=65_535))

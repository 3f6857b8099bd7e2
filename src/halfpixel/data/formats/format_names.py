"""The names of the formats, for signatures and help texts: nothing here needs torch."""

from typing import Literal

Format = Literal["coco", "yolo", "labelme", "via", "label_studio", "mask_folders", "label_images", "semantic"]
"""The readers in `READERS` (`data/formats/detect.py`), in that order."""

WritableFormat = Literal["coco", "yolo", "label_images", "mask_folders"]
"""The writers in `DATASET_WRITERS` (`outputs/write_dataset.py`), in that order."""

Split = Literal["train", "val", "test"]
"""The parts that a data set may say it has."""

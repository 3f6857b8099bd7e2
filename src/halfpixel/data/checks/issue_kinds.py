"""Every kind of issue that is looked for: how bad it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
"""`error`: training would stop or be wrong. `warning`: something is probably wrong. `note`: good to know."""

FEW_OBJECTS = 10
"""A class with fewer objects is hardly learnt."""


@dataclass(frozen=True)
class Kind:
    """A kind of issue: how bad it is, what is counted, and what to do about it."""

    severity: Severity
    what: str
    advice: str


LOOK_AT_IT = "mend or remove them in the annotations"

KINDS: Mapping[str, Kind] = {
    # training would stop or be wrong
    "no_images": Kind("error", "no images at all", "add images"),
    "no_objects": Kind("error", "no annotated objects at all", "annotate some, or check that the right file was given"),
    "missing_image": Kind(
        "error", "image files that are not there", "say where they are with --images, or restore them"
    ),
    "unreadable_image": Kind(
        "error", "image files that cannot be read", "restore them, or remove them from the data set"
    ),
    "size_mismatch": Kind(
        "error",
        "images of another size than annotated",
        "use the images that were annotated, neither resized nor turned",
    ),
    "in_train_and_val": Kind(
        "error",
        "images of the validation set that are in training too",
        "remove them from one: accuracy would look too good",
    ),
    # what the reader left out
    "unusable_annotation": Kind("warning", "annotations with a key that is missing or of the wrong type", LOOK_AT_IT),
    "unknown_image": Kind(
        "warning", "annotations of an image that is not in the file", "add the images' entries, or remove them"
    ),
    "unknown_category": Kind(
        "warning",
        "annotations of a category that is not in the file",
        "add it to the categories; ids that are off by one look like this",
    ),
    "unusable_box": Kind(
        "warning", "annotations with an unusable box", "boxes are [left, top, width, height] in pixels"
    ),
    "unusable_polygon": Kind("warning", "annotations with an unusable polygon", LOOK_AT_IT),
    "unusable_run_lengths": Kind("warning", "annotations with unusable run lengths", LOOK_AT_IT),
    "unusable_area": Kind(
        "warning", "annotations with an unusable area", "correct the areas, or leave them out of the file"
    ),
    "unusable_crowd": Kind(
        "warning", "annotations with an 'iscrowd' that is neither 0 nor 1", "correct it: they were taken as objects"
    ),
    "outside_image": Kind("warning", "annotations wholly outside of their image", LOOK_AT_IT),
    "empty_mask": Kind(
        "warning", "annotations whose mask has no pixels", "remove them; a polygon takes three points and an area"
    ),
    "repeated_id": Kind("warning", "annotation ids that are given more than once", "number the annotations anew"),
    "unusable_file": Kind("warning", "files that cannot be used", "restore them, or remove them"),
    "unusable_mask": Kind("warning", "mask files that cannot be used", "restore them, or remove them"),
    "unusable_shape": Kind("warning", "shapes that cannot be used", "draw them anew as polygons"),
    "box_without_outline": Kind("warning", "objects with a box only", "annotate their outlines"),
    "image_without_annotation": Kind("warning", "images without an annotation file", "annotate them, or remove them"),
    "annotation_without_image": Kind("warning", "annotation files without an image", "add the images, or remove them"),
    "no_class_names": Kind("warning", "class names that are not given", "give the classes names"),
    "touching_objects": Kind(
        "warning", "masks that do not tell touching objects apart", "give each object its own mask"
    ),
    "several_annotations": Kind(
        "warning", "images that several people annotated", "export the annotations of one of them"
    ),
    "soft_mask": Kind(
        "warning",
        "masks in grey levels, as JPEG and resizing leave them",
        "save masks as PNG or TIFF, and never resized",
    ),
    # objects that are probably wrong
    "duplicate_object": Kind("warning", "objects annotated twice", "remove one of the two"),
    "speck": Kind("warning", "tiny specks", "remove them where they are slips of the hand"),
    "box_off_mask": Kind(
        "warning", "boxes that do not fit their masks", "boxes are [left, top, width, height] in pixels"
    ),
    "area_off_mask": Kind("warning", "areas that differ much from their masks'", "compute the areas from the masks"),
    "polygon_beyond_image": Kind(
        "warning", "polygons that reach beyond their image", "cut them to the image; check its size"
    ),
    "degenerate_polygon": Kind("warning", "degenerate polygons beside good ones", "remove them: they cover nothing"),
    "self_crossing_polygon": Kind(
        "warning", "polygons that cross themselves", "draw them anew: their masks may have gaps"
    ),
    # the set as a whole
    "repeated_image": Kind("warning", "images that occur twice", "remove one of the two"),
    "background_category": Kind("warning", "categories that are the background", "remove them: background is no class"),
    "repeated_category_name": Kind("warning", "categories that share a name", "merge them"),
    "empty_category": Kind(
        "warning", "categories without objects", "remove them, or annotate some: they cannot be learnt"
    ),
    "rare_category": Kind("warning", f"categories with under {FEW_OBJECTS} objects", "annotate more of them"),
    "val_categories_differ": Kind(
        "warning", "categories that only one of the two sets has", "give both the same categories"
    ),
    "over_limit": Kind(
        "warning", "images with more objects than the detection limit", "raise the limit: objects would be cut off"
    ),
    "smaller_than_anchors": Kind(
        "warning", "objects far smaller than the smallest anchor", "raise the input scale (--scale)"
    ),
    "larger_than_anchors": Kind(
        "warning", "objects far larger than the largest anchor", "lower the input scale (--scale)"
    ),
    "crowd_region": Kind(
        "note", "crowd regions, which are neither objects nor background", "CVAT marks brush masks so: --crowd objects"
    ),
    "void_region": Kind(
        "note", "masks with a border of the number 255", "nothing to do: as in Pascal VOC, it is not looked at"
    ),
    "stuff_region": Kind(
        "note", "masks with Cityscapes' numbers of what is no object", "nothing to do: they are left out"
    ),
    "root_category": Kind("note", "categories above the others, without objects", "nothing to do: it is left out"),
    "split_taken": Kind("note", "splits of which one was taken", "name the folder of another split to take that"),
    "category_ids": Kind(
        "note", "category ids that are not 1, 2, 3, ...", "nothing to do: classes go by name and order here"
    ),
    "imbalance": Kind("note", "classes of very different frequency", "watch the rare class in the evaluation"),
    "image_without_objects": Kind(
        "note", "images without objects", "fine if nothing is there: they teach the background"
    ),
}

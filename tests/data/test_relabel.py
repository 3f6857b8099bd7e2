import numpy as np
import pytest
from coco_files import DATA_SET, saved

from halfpixel.data.formats.coco import read_coco
from halfpixel.data.relabel import rename_classes, take_crowd_as_objects
from halfpixel.errors import AnnotationError


def test_classes_get_other_names_and_may_become_one(tmp_path):
    data = read_coco(saved(tmp_path, DATA_SET))
    renamed = rename_classes(data, {"cell": "nucleus"})
    assert (renamed.class_names, renamed.category_ids) == (("tree", "nucleus"), (4, 9))
    assert renamed.samples[0].objects.labels.tolist() == [1, 0]
    assert renamed.samples[0].ignored.class_names == renamed.samples[0].objects.class_names == renamed.class_names
    merged = rename_classes(data, {"cell": "tree"})
    assert (merged.class_names, merged.category_ids) == (("tree",), (4,))
    assert merged.samples[0].objects.labels.tolist() == [0, 0]
    swapped = rename_classes(data, {"cell": "tree", "tree": "cell"})
    assert (swapped.class_names, swapped.samples[0].objects.labels.tolist()) == (("cell", "tree"), [1, 0])
    with pytest.raises(AnnotationError, match=r"instances\.json: it has no class 'dog' to rename .*tree, cell"):
        rename_classes(data, {"dog": "cat"})


def test_crowd_regions_become_objects(tmp_path):
    data = read_coco(saved(tmp_path, DATA_SET))
    (before, other), (after, same) = data.samples, take_crowd_as_objects(data).samples
    assert same is other
    assert (len(after.objects), len(after.ignored)) == (3, 0)
    assert after.objects.labels.tolist() == [1, 0, 0]
    np.testing.assert_array_equal(after.objects.masks.dense()[2], before.ignored.masks.dense()[0])
    assert (after.annotation_ids, after.areas_px.tolist()) == ((1, 3, 4), [36.5, 15, 15])

import json
import tracemalloc

from halfpixel.outputs.coco import write_coco_entries


def test_writing_holds_no_more_than_an_entry_in_memory(tmp_path):
    """20,000 annotations are a file of 3 MB, and as Python objects some 20 MB."""
    entries = ({"image_id": 1, "category_id": 1, "bbox": [k, 0.5, 1.5, 2.5], "score": 0.5} for k in range(20_000))
    image = {"id": 1, "file_name": "a.png", "width": 16, "height": 12}
    tracemalloc.start()
    write_coco_entries(tmp_path / "many.json", [image], entries, [{"id": 1, "name": "cell"}])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300_000
    content = json.loads((tmp_path / "many.json").read_text())
    assert content["images"] == [image]
    assert [entry["id"] for entry in content["annotations"]] == list(range(1, 20_001))

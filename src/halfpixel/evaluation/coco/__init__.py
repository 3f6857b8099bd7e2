"""Average precision by the rules of the COCO challenge."""

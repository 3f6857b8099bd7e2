"""The classes that most published networks know."""


def coco_categories() -> list[str]:
    """COCO's categories from number 1 on, "N/A" for those that it left out, as torchvision has them."""
    from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights  # slow to import

    categories: list[str] = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"][1:]
    return categories


def coco_classes() -> tuple[str, ...]:
    """The 80 classes of COCO, in their order."""
    return tuple(name for name in coco_categories() if name != "N/A")

"""What is known of the models that have names: where they are, under which licence, and how good who says they are.

Figures, addresses and checksums are those that their publishers state, on the page that is named, and with no more of
a definition than stands there. What no page was found for is left empty: a size is then known once the file is here,
and a checksum is that of the first download.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from halfpixel.zoo.download import cache_dir


@dataclass(frozen=True)
class NamedModel:
    """A model that `halfpixel.load` and `--model` know by name.

    Attributes:
        name: what users type.
        summary: what it is, short enough for a list.
        licence: of the weights, an SPDX name.
        details: what else to know before taking it.
        coco_ap: in percent, for a list; `accuracy` defines it.
        accuracy: what was measured, by whom, with its definition; empty where nobody is known to say it.
        page: the address where they say it; empty for what was measured here.
        file: inside the package, for embedded models.
        url: for models that are fetched on first use.
        sha256: of that file, in hex, or the prefix that its publisher states; empty where none is known.
        md5: likewise, where the publisher states that one.
        beside: names of small files that lie beside it at the publisher's, and are fetched with it.
        megabytes: about how much is fetched; 0 where that is not known.
        reader: the file of `halfpixel.zoo.convert` that turns it into a network; empty where the file, or what lies
            beside it, says what it is.
        variant: the network of halfpixel's that it is, in some model's `VARIANTS`; empty where others run it.
        needs: the extra of halfpixel that has to be installed for it, if any.
    """

    name: str
    summary: str
    licence: str
    details: str = ""
    coco_ap: str = ""
    accuracy: str = ""
    page: str = ""
    file: str = ""
    url: str = ""
    sha256: str = ""
    md5: str = ""
    beside: tuple[str, ...] = ()
    megabytes: int = 0
    reader: str = ""
    variant: str = ""
    needs: str = ""

    @property
    def path(self) -> Path:
        """Where its file is, or will be once it is downloaded."""
        if self.file:
            return Path(__file__).with_name(self.file)
        folder = cache_dir() / self.name if self.beside else cache_dir()
        return folder / self.url.rpartition("/")[2]

    @property
    def is_here(self) -> bool:
        """Whether nothing has to be fetched."""
        return all(path.is_file() for path in (self.path, *map(self.path.with_name, self.beside)))


EMBEDDED = (
    NamedModel(
        "nuclei",
        "cell nuclei; the default",
        "Apache-2.0",
        "in fluorescence, stained tissue and brightfield; small, made for CPUs",
        accuracy="COCO mask AP 65.9% at 1,000 detections; TP/(TP+FP+FN) 84.4% at IoU .50 (66 held-out images)",
        file="nuclei.safetensors",
        variant="mask_rcnn_lite",
    ),
    NamedModel(
        "nuclei-unet",
        "cell nuclei, for --first-pass",
        "Apache-2.0",
        "the predecessor, a U-Net with connected components: melts touching nuclei",
        accuracy="TP/(TP+FP+FN) 63.2% at IoU .50, count MAE 6.4 (66 held-out images; the count MAE of nuclei is 2.8)",
        file="nuclei-unet.safetensors",
        variant="unet_lite",
    ),
    NamedModel(
        "nuclei-unet-boundary",
        "cell nuclei and their outlines",
        "Apache-2.0",
        "the same U-Net with outlines as a class of their own, which tell touching nuclei apart",
        accuracy="TP/(TP+FP+FN) 69.1% at IoU .50, count MAE 5.1 (66 held-out images; the count MAE of nuclei is 2.8)",
        file="nuclei-unet-boundary.safetensors",
        variant="unet_lite_boundary",
    ),
)


def _torchvision(
    name: str, summary: str, details: str, file: str, variant: str, megabytes: int, ap: float, kind: str = "mask"
) -> NamedModel:
    """Its files' names end with the first digits of their SHA-256."""
    return NamedModel(
        name,
        summary,
        "BSD-3-Clause",
        details,
        f"{'' if kind == 'mask' else f'{kind} '}{ap:.1f}",
        f"COCO {kind} AP {ap:.1f}% on val2017 at 100 detections, as torchvision states",
        f"https://github.com/pytorch/vision/blob/HEAD/torchvision/models/detection/{variant.partition('_r50')[0]}.py",
        url=f"https://download.pytorch.org/models/{file}",
        sha256=_end(file),
        megabytes=megabytes,
        reader="torchvision",
        variant=variant,
    )


def _mmdetection(
    name: str, reader: str, variant: str, summary: str, details: str, file: str, ap: float, page: str
) -> NamedModel:
    """Its files' names end with the first digits of their SHA-256, too; docs/en/model_zoo.md says on which images."""
    return NamedModel(
        name,
        summary,
        "Apache-2.0",
        details,
        f"{ap:.1f}",
        f"COCO mask AP {ap:.1f}% on val2017, as MMDetection states; the limit of detections is not said",
        f"https://github.com/open-mmlab/mmdetection/blob/HEAD/configs/{page}/metafile.yml",
        url=f"https://download.openmmlab.com/mmdetection/{file}",
        sha256=_end(file),
        reader=reader,
        variant=variant,
    )


def _detectron2(
    name: str, variant: str, summary: str, file: str, ap: float, page: str, where: str = "", md5: str = ""
) -> NamedModel:
    """Detectron2's zoo has a licence of its own."""
    return NamedModel(
        name,
        summary,
        "CC-BY-SA-3.0",
        "trained by the 3x schedule, about 37 epochs",
        f"{ap:.1f}",
        f"COCO mask AP {ap:.1f}%{where}, as Detectron2 states; the limit of detections is not said",
        f"https://github.com/facebookresearch/detectron2/blob/HEAD/{page}",
        url=f"https://dl.fbaipublicfiles.com/detectron2/{file}",
        md5=md5,
        reader="detectron2",
        variant=variant,
    )


def _hub(
    name: str, summary: str, details: str, licence: str, repository: str, ap: str = "", said: str = "", page: str = ""
) -> NamedModel:
    """Weights in a repository of the Hugging Face hub that transformers runs."""
    return NamedModel(
        name,
        summary,
        licence,
        details,
        ap,
        f"COCO mask AP {ap}%, as {said}; neither the images nor the limit of detections are said",
        f"https://github.com/{page}",
        url=_on_hub(repository),
        beside=("config.json", "preprocessor_config.json"),
        needs="transformers",
    )


def _rt_detr(name: str, variant: str, summary: str, repository: str) -> NamedModel:
    """Weights of transformers that become a network of ours."""
    return NamedModel(
        name,
        summary,
        "Apache-2.0",
        "boxes without masks; at most 1,500 objects, more on large images",
        url=_on_hub(repository),
        beside=("config.json",),
        reader="transformers_rt_detr",
        variant=variant,
    )


def _on_hub(repository: str) -> str:
    """The current revision; that of the first download is recorded, and used from then on."""
    return f"https://huggingface.co/{repository}/resolve/main/model.safetensors"


def _end(file: str) -> str:
    """What stands between the last dash and the suffix."""
    return file.rpartition("-")[2].partition(".")[0]


def _rf_detr(size: str, side: int, queries: int, ap: str) -> NamedModel:
    return _hub(
        f"rf-detr-seg-{size}",
        f"RF-DETR-Seg {size}, {side} px",
        f"images are seen at {side} x {side} pixels; at most {queries} objects",
        "Apache-2.0",
        f"Roboflow/rf-detr-seg-{size}",
        ap,
        "Roboflow states",
        "roboflow/rf-detr/blob/HEAD/docs/learn/run/segmentation.md",
    )


def _eomt(side: int, ap: str) -> NamedModel:
    return _hub(
        f"eomt-large-{side}",
        f"EoMT-L, {side} px",
        f"a plain transformer; images are seen at {side} x {side} pixels; at most 200 objects",
        "MIT",
        f"tue-mps/coco_instance_eomt_large_{side}",
        ap,
        "TU Eindhoven states, by pycocotools",
        "tue-mps/eomt/blob/HEAD/model_zoo/dinov2.md",
    )


def _rtmdet(size: str, what: str, schedule: str, date: str, ap: float) -> NamedModel:
    name = f"rtmdet-ins_{size}_{schedule}_coco"
    details = "of the YOLO family: quick on a CPU" if size == "tiny" else "of the YOLO family"
    return _mmdetection(
        f"rtmdet-ins-{size}",
        "mmdet_rtmdet",
        f"rtmdet_ins_{size}",
        f"RTMDet-Ins {what}",
        details,
        f"v3.0/rtmdet/{name}/{name}_{date}.pth",
        ap,
        "rtmdet",
    )


PUBLISHED: Sequence[NamedModel] = (
    _torchvision(
        "coco",
        "Mask R-CNN R50-FPN",
        "torchvision's first variant",
        "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
        "mask_rcnn_r50_fpn",
        170,
        34.6,
    ),
    _torchvision(
        "coco-v2",
        "Mask R-CNN R50-FPN v2",
        "torchvision's second variant: better and slower than coco",
        "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth",
        "mask_rcnn_r50_fpn_v2",
        177,
        41.8,
    ),
    _torchvision(
        "coco-boxes",
        "Faster R-CNN R50-FPN v2",
        "torchvision's second variant; boxes without masks",
        "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
        "faster_rcnn_r50_fpn_v2",
        167,
        46.7,
        "box",
    ),
    _rf_detr("nano", 312, 100, "40.3"),
    _rf_detr("small", 384, 100, "43.1"),
    _rf_detr("medium", 432, 200, "45.3"),
    _rf_detr("xlarge", 624, 300, "48.8"),
    _eomt(640, "45.2"),
    _eomt(1280, "48.8"),
    _rt_detr("rt-detr-r18", "rt_detr_r18", "RT-DETR R18, boxes only", "PekingU/rtdetr_r18vd"),
    _rt_detr("rt-detr-r50", "rt_detr_r50", "RT-DETR R50, boxes only", "PekingU/rtdetr_r50vd"),
    _rtmdet("tiny", "tiny", "8xb32-300e", "20221130_151727-ec670f7e", 35.4),
    _rtmdet("s", "small", "8xb32-300e", "20221121_212604-fdc5d7ec", 38.7),
    _rtmdet("m", "medium", "8xb32-300e", "20221123_001039-6eba602e", 42.1),
    _rtmdet("l", "large", "8xb32-300e", "20221124_103237-78d1d652", 43.7),
    _rtmdet("x", "extra large", "8xb16-300e", "20221124_111313-33d4595b", 44.6),
    _mmdetection(
        "yolact-r50",
        "mmdet_yolact",
        "yolact_r50",
        "YOLACT R50",
        "masks are sums of a few prototypes",
        "v2.0/yolact/yolact_r50_1x8_coco/yolact_r50_1x8_coco_20200908-f38d58df.pth",
        29.0,
        "yolact",
    ),
    _mmdetection(
        "solov2-r50",
        "mmdet_solov2",
        "solov2_r50",
        "SOLOv2 R50, 3x",
        "neither boxes nor anchors; trained by the 3x schedule, 36 epochs",
        "v2.0/solov2/solov2_r50_fpn_3x_coco/solov2_r50_fpn_3x_coco_20220512_125856-fed092d4.pth",
        37.5,
        "solov2",
    ),
    _mmdetection(
        "solov2-light-r50",
        "mmdet_solov2",
        "solov2_light_r50",
        "SOLOv2-light R50, 3x",
        "smaller images and a shorter head than solov2-r50; trained by the 3x schedule, 36 epochs",
        "v2.0/solov2/solov2_light_r50_fpn_3x_coco/solov2_light_r50_fpn_3x_coco_20220512_165256-c93a6074.pth",
        33.7,
        "solov2",
    ),
    _mmdetection(
        "point-rend-r50",
        "mmdet_point_rend",
        "point_rend_r50_fpn",
        "PointRend R50-FPN, 3x",
        "finer masks of large objects; trained by the 3x schedule, 36 epochs",
        "v2.0/point_rend/point_rend_r50_caffe_fpn_mstrain_3x_coco/"
        "point_rend_r50_caffe_fpn_mstrain_3x_coco-e0ebb6b7.pth",
        38.0,
        "point_rend",
    ),
    _detectron2(
        "detectron2-r50",
        "mask_rcnn_r50_fpn",
        "Mask R-CNN R50-FPN, 3x",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl",
        37.2,
        "MODEL_ZOO.md",
        " on val2017",
        md5="f10217",  # "any model on this page contains its md5 prefix in its file name"
    ),
    _detectron2(
        "detectron2-point-rend",
        "point_rend_r50_fpn",
        "PointRend R50-FPN, 3x",
        "PointRend/InstanceSegmentation/pointrend_rcnn_R_50_FPN_3x_coco/164955410/model_final_3c3198.pkl",
        38.3,
        "projects/PointRend/README.md",  # another page, which says nothing of checksums
    ),
)
"""Of each family the best whose weights may be used for anything, as far as their licence goes."""

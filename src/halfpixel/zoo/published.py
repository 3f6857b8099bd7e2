"""What is known of the models that have names: where they are, under which licence, and how good who says they are.

Figures, addresses and checksums are those that their publishers state, on the page that is named. What no page was
found for is left empty: a size is then known once the file is here, and a checksum is that of the first download.
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
        summary: one line.
        licence: of the weights, an SPDX name.
        accuracy: what was measured, by whom, with its definition; empty where nobody is known to say it.
        page: where they say it, in the repository of the publisher; empty for what was measured here.
        file: inside the package, for embedded models.
        url: for models that are fetched on first use.
        sha256: of that file, in hex, or the prefix that its publisher states; empty where none is known.
        beside: names of small files that lie beside it at the publisher's, and are fetched with it.
        megabytes: about how much is fetched; 0 where that is not known.
        reader: the file of `halfpixel.zoo.convert` that turns it into a network; empty where the file, or what lies
            beside it, says what it is.
        needs: the extra of halfpixel that has to be installed for it, if any.
    """

    name: str
    summary: str
    licence: str
    accuracy: str = ""
    page: str = ""
    file: str = ""
    url: str = ""
    sha256: str = ""
    beside: tuple[str, ...] = ()
    megabytes: int = 0
    reader: str = ""
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
        name="nuclei",
        summary="cell nuclei in fluorescence, stained tissue and brightfield; small, made for CPUs (the default)",
        licence="Apache-2.0",
        accuracy="COCO mask AP 65.9 at 1,000 detections; TP/(TP+FP+FN) at IoU .50 0.844 (66 held-out images)",
        file="nuclei.safetensors",
    ),
    NamedModel(
        name="nuclei-unet",
        summary="the predecessor, a U-Net with connected components: melts touching nuclei; good as a --first-pass",
        licence="Apache-2.0",
        accuracy="TP/(TP+FP+FN) at IoU .50 0.632, count MAE 6.4 (the same 66 images; nuclei has 2.9)",
        file="nuclei-unet.safetensors",
    ),
    NamedModel(
        name="nuclei-unet-boundary",
        summary="the same with outlines as a class of their own, which tell touching nuclei apart",
        licence="Apache-2.0",
        accuracy="TP/(TP+FP+FN) at IoU .50 0.691, count MAE 5.1 (the same 66 images)",
        file="nuclei-unet-boundary.safetensors",
    ),
)


def _coco(ap: float, publisher: str) -> str:
    return f"COCO mask AP {ap:.1f} (published by {publisher})"


def _torchvision(name: str, summary: str, file: str, megabytes: int, ap: float, kind: str = "mask") -> NamedModel:
    """Its files' names end with the first digits of their SHA-256."""
    return NamedModel(
        name,
        summary,
        "BSD-3-Clause",
        f"COCO val2017 {kind} AP {ap:.1f} at 100 detections (published by torchvision)",
        page="torchvision/models/detection, the weights' meta",
        url=f"https://download.pytorch.org/models/{file}",
        sha256=_end(file),
        megabytes=megabytes,
        reader="torchvision",
    )


def _mmdetection(name: str, reader: str, summary: str, file: str, ap: float, page: str) -> NamedModel:
    """Its files' names end with the first digits of their SHA-256, too."""
    return NamedModel(
        name,
        summary,
        "Apache-2.0",
        _coco(ap, "MMDetection"),
        page=f"mmdetection, configs/{page}",
        url=f"https://download.openmmlab.com/mmdetection/{file}",
        sha256=_end(file),
        reader=reader,
    )


def _detectron2(name: str, summary: str, file: str, ap: float, page: str) -> NamedModel:
    """Detectron2's zoo has a licence of its own, and states no checksums."""
    return NamedModel(
        name,
        summary,
        "CC-BY-SA-3.0",
        _coco(ap, "Detectron2"),
        page=f"detectron2, {page}",
        url=f"https://dl.fbaipublicfiles.com/detectron2/{file}",
        reader="detectron2",
    )


def _hub(
    name: str, summary: str, licence: str, repository: str, accuracy: str = "", page: str = "", reader: str = ""
) -> NamedModel:
    """Weights of transformers in a repository of the Hugging Face hub; without a reader, transformers runs them."""
    return NamedModel(
        name,
        summary,
        licence,
        accuracy,
        page,
        url=f"https://huggingface.co/{repository}/resolve/main/model.safetensors",
        beside=("config.json",) if reader else ("config.json", "preprocessor_config.json"),
        reader=reader,
        needs="" if reader else "transformers",
    )


def _end(file: str) -> str:
    """What stands between the last dash and the suffix."""
    return file.rpartition("-")[2].partition(".")[0]


RF_DETR = "rf-detr, docs/learn/run/segmentation.md"
EOMT = "eomt, model_zoo/dinov2.md"

PUBLISHED: Sequence[NamedModel] = (
    _torchvision(
        "coco",
        "torchvision's Mask R-CNN R50-FPN: 80 classes of everyday objects",
        "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
        170,
        34.6,
    ),
    _torchvision(
        "coco-v2",
        "torchvision's Mask R-CNN R50-FPN v2: the same classes, better and slower",
        "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth",
        177,
        41.8,
    ),
    _torchvision(
        "coco-boxes",
        "torchvision's Faster R-CNN R50-FPN v2: the same classes, boxes without masks",
        "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
        167,
        46.7,
        "box",
    ),
    _hub(
        "rf-detr-seg-nano",
        "RF-DETR-Seg nano, 312 x 312 pixels: real time on a GPU, at most 100 objects",
        "Apache-2.0",
        "Roboflow/rf-detr-seg-nano",
        _coco(40.3, "Roboflow"),
        RF_DETR,
    ),
    _hub(
        "rf-detr-seg-small",
        "RF-DETR-Seg small, 384 x 384 pixels",
        "Apache-2.0",
        "Roboflow/rf-detr-seg-small",
        _coco(43.1, "Roboflow"),
        RF_DETR,
    ),
    _hub(
        "rf-detr-seg-medium",
        "RF-DETR-Seg medium, 432 x 432 pixels, at most 200 objects",
        "Apache-2.0",
        "Roboflow/rf-detr-seg-medium",
        _coco(45.3, "Roboflow"),
        RF_DETR,
    ),
    _hub(
        "rf-detr-seg-xlarge",
        "RF-DETR-Seg extra large, 624 x 624 pixels",
        "Apache-2.0",
        "Roboflow/rf-detr-seg-xlarge",
        _coco(48.8, "Roboflow"),
        RF_DETR,
    ),
    _hub(
        "eomt-large-640",
        "EoMT-L, a plain transformer, 640 x 640 pixels, at most 200 objects",
        "MIT",
        "tue-mps/coco_instance_eomt_large_640",
        _coco(45.2, "TU Eindhoven"),
        EOMT,
    ),
    _hub(
        "eomt-large-1280",
        "EoMT-L, 1280 x 1280 pixels, at most 200 objects",
        "MIT",
        "tue-mps/coco_instance_eomt_large_1280",
        _coco(48.8, "TU Eindhoven"),
        EOMT,
    ),
    _hub(
        "rt-detr-r18",
        "RT-DETR R18, boxes without masks: quick",
        "Apache-2.0",
        "PekingU/rtdetr_r18vd",
        reader="transformers_rt_detr",
    ),
    _hub(
        "rt-detr-r50",
        "RT-DETR R50, boxes without masks",
        "Apache-2.0",
        "PekingU/rtdetr_r50vd",
        reader="transformers_rt_detr",
    ),
    _mmdetection(
        "rtmdet-ins-tiny",
        "mmdet",
        "RTMDet-Ins tiny, of the YOLO family: quick on a CPU",
        "v3.0/rtmdet/rtmdet-ins_tiny_8xb32-300e_coco/rtmdet-ins_tiny_8xb32-300e_coco_20221130_151727-ec670f7e.pth",
        35.4,
        "rtmdet/metafile.yml",
    ),
    _mmdetection(
        "rtmdet-ins-s",
        "mmdet",
        "RTMDet-Ins small",
        "v3.0/rtmdet/rtmdet-ins_s_8xb32-300e_coco/rtmdet-ins_s_8xb32-300e_coco_20221121_212604-fdc5d7ec.pth",
        38.7,
        "rtmdet/metafile.yml",
    ),
    _mmdetection(
        "rtmdet-ins-m",
        "mmdet",
        "RTMDet-Ins medium",
        "v3.0/rtmdet/rtmdet-ins_m_8xb32-300e_coco/rtmdet-ins_m_8xb32-300e_coco_20221123_001039-6eba602e.pth",
        42.1,
        "rtmdet/metafile.yml",
    ),
    _mmdetection(
        "rtmdet-ins-l",
        "mmdet",
        "RTMDet-Ins large",
        "v3.0/rtmdet/rtmdet-ins_l_8xb32-300e_coco/rtmdet-ins_l_8xb32-300e_coco_20221124_103237-78d1d652.pth",
        43.7,
        "rtmdet/metafile.yml",
    ),
    _mmdetection(
        "rtmdet-ins-x",
        "mmdet",
        "RTMDet-Ins extra large",
        "v3.0/rtmdet/rtmdet-ins_x_8xb16-300e_coco/rtmdet-ins_x_8xb16-300e_coco_20221124_111313-33d4595b.pth",
        44.6,
        "rtmdet/metafile.yml",
    ),
    _mmdetection(
        "yolact-r50",
        "mmdet_yolact",
        "YOLACT R50: prototypes and coefficients",
        "v2.0/yolact/yolact_r50_1x8_coco/yolact_r50_1x8_coco_20200908-f38d58df.pth",
        29.0,
        "yolact/metafile.yml",
    ),
    _mmdetection(
        "solov2-r50",
        "mmdet_solov2",
        "SOLOv2 R50, trained three times as long",
        "v2.0/solov2/solov2_r50_fpn_3x_coco/solov2_r50_fpn_3x_coco_20220512_125856-fed092d4.pth",
        37.5,
        "solov2/metafile.yml",
    ),
    _mmdetection(
        "solov2-light-r50",
        "mmdet_solov2",
        "SOLOv2-light R50: smaller images, shorter head",
        "v2.0/solov2/solov2_light_r50_fpn_3x_coco/solov2_light_r50_fpn_3x_coco_20220512_165256-c93a6074.pth",
        33.7,
        "solov2/metafile.yml",
    ),
    _mmdetection(
        "mask2former-r50",
        "mmdet_mask2former",
        "Mask2Former R50, at most 100 objects",
        "v3.0/mask2former/mask2former_r50_8xb2-lsj-50e_coco/mask2former_r50_8xb2-lsj-50e_coco_20220506_191028-41b088b6.pth",
        42.9,
        "mask2former/README.md",
    ),
    _mmdetection(
        "point-rend-r50",
        "mmdet_point_rend",
        "Mask R-CNN R50 with PointRend's head: finer masks of large objects",
        "v2.0/point_rend/point_rend_r50_caffe_fpn_mstrain_3x_coco/"
        "point_rend_r50_caffe_fpn_mstrain_3x_coco-e0ebb6b7.pth",
        38.0,
        "point_rend/metafile.yml",
    ),
    _detectron2(
        "detectron2-r50",
        "Detectron2's Mask R-CNN R50-FPN, trained three times as long",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl",
        37.2,
        "MODEL_ZOO.md",
    ),
    _detectron2(
        "detectron2-point-rend",
        "Detectron2's PointRend R50-FPN, trained three times as long",
        "PointRend/InstanceSegmentation/pointrend_rcnn_R_50_FPN_3x_coco/164955410/model_final_3c3198.pkl",
        38.3,
        "projects/PointRend/README.md",
    ),
)
"""Of each family the best whose weights may be used for anything, as far as their licence goes."""

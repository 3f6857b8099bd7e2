"""The most memory that finding objects takes, measured in a process of its own."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peers import CLASSES, PEERS, Torchvision
from torchvision.models.detection import maskrcnn_resnet50_fpn

from halfpixel.data.images.rgb8 import read_image
from halfpixel.engine.load import load
from halfpixel.report.speed import Configuration, open_configuration


def peak_memory_mb(name: str, folder: Path, image: Path, calibration: Sequence[Path]) -> float | None:
    """The most resident memory of a fresh process that opens a model and looks at an image twice, in 10^6 bytes.

    Args:
        name: of the configuration.
        folder: with `torchvision.pth`, `ours.safetensors`, and what exports leave there.
        image: what it looks at.
        calibration: for int8, if it has to be exported.
    """
    words = [sys.executable, __file__, name, folder, image, *calibration]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=1800)
    if done.returncode:
        print(f"{name}: no peak memory: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    peak = json.loads(done.stdout.splitlines()[-1])
    return None if peak is None else float(peak)


def alone(name: str, folder: Path, image: Path, calibration: Sequence[Path]) -> None:
    """The process that `peak_memory_mb` starts."""
    pixels = read_image(image)
    if name in PEERS:
        module = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=CLASSES)
        module.load_state_dict(torch.load(folder / "torchvision.pth", weights_only=True))
        find: Callable[[Any], Any] = Torchvision(module, *PEERS[name]).find
    else:
        _, backend, precision = name.split()
        predictor = load(folder / "ours.safetensors")
        find = open_configuration(predictor, Configuration(backend, precision), calibration, folder).predict  # type: ignore[arg-type]
    for _ in range(2):
        find(pixels)
    print(json.dumps(own_peak_mb()))


def own_peak_mb(status: Path = Path("/proc/self/status")) -> float | None:
    """The most resident memory this process ever had, in 10^6 bytes; None where the system does not say.

    Not `ru_maxrss`, which in a child begins with what its parent had.
    """
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 / 1e6 if found else None


if __name__ == "__main__":
    name, *paths = sys.argv[1:]
    folder, image, *calibration = (Path(path) for path in paths)
    alone(name, folder, image, calibration)

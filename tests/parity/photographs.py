"""Compare with torchvision on a folder of photographs, at the published sizes and limits.

Run from the project's root:

    .venv/bin/python tests/parity/photographs.py FOLDER [--variant v1|v2] [--limit N]

The weights are seeded and lively (see `compare.py`): torchvision's published ones work the same way, but have to be
fetched first. Exits with 1 when a difference is left unexplained.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parity.compare import Comparison, lively_torchvision, run_pair

from halfpixel.data.images.rgb8 import find_images, read_image
from halfpixel.engine.load import from_torchvision

HEADER = f"{'photograph':28} {'theirs':>6} {'ours':>5} {'paired':>6} {'box px':>8} {'score':>8} {'mask px':>7}"


def row(name: str, r: Comparison) -> str:
    """One line of the table."""
    counts = f"{r.theirs:6d} {r.ours:5d} {r.paired:6d} {r.box_px:8.5f} {r.score:8.1e} {r.mask_pixels:7d}"
    return f"{name:28} {counts}  {len(r.explained)} explained, {len(r.faults)} faults"


def main() -> int:
    """Print the table and its sums."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photographs", help="a folder, a file or a glob")
    parser.add_argument("--variant", choices=["v1", "v2"], default="v1")
    parser.add_argument(
        "--frozen", action="store_true", help="with torchvision's frozen normalisation, as v1 is published"
    )
    parser.add_argument("--as-trained", action="store_true", help="compare the network itself, not its fast copy")
    parser.add_argument(
        "--channels-last", action="store_true", help="with torchvision's in channels last: rounded otherwise, no more"
    )
    parser.add_argument("--classes", type=int, default=91, help="background counted")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=None, help="only the first N photographs")
    arguments = parser.parse_args()

    paths = find_images(arguments.photographs)[: arguments.limit]
    images = [torch.tensor(read_image(path)).permute(2, 0, 1).float() / 255 for path in paths]
    module = lively_torchvision(arguments.variant, arguments.classes, images[0], arguments.seed, arguments.frozen)
    predictor = from_torchvision(module)
    if arguments.channels_last:
        module = module.to(memory_format=torch.channels_last)
    kind = ", ".join((
        arguments.variant, *(["frozen normalisation"] if arguments.frozen else []),
        *(["channels last"] if arguments.channels_last else []), *(["as trained"] if arguments.as_trained else []),
    ))  # fmt: skip
    print(f"Mask R-CNN R50-FPN {kind}, seed {arguments.seed}, torch {torch.__version__}")
    print(HEADER, flush=True)
    results: list[Comparison] = []
    for path, image in zip(paths, images, strict=True):
        (result,) = run_pair(module, predictor, [image], torch.float32, arguments.as_trained)
        results.append(result)
        print(row(path.name, result), flush=True)
        for line in [*result.explained, *(f"FAULT {fault}" for fault in result.faults)]:
            print(f"    {line}")
    total = Comparison(
        theirs=sum(r.theirs for r in results),
        ours=sum(r.ours for r in results),
        paired=sum(r.paired for r in results),
        box_px=max(r.box_px for r in results),
        score=max(r.score for r in results),
        mask_pixels=sum(r.mask_pixels for r in results),
        explained=[line for r in results for line in r.explained],
        faults=[line for r in results for line in r.faults],
    )
    print(row(f"all {len(results)} (worst or sum)", total))
    return 1 if total.faults else 0


if __name__ == "__main__":
    raise SystemExit(main())

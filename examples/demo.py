"""Outline, count and list the nuclei of a photograph of stained tissue.

The photograph comes with scikit-image: glands of the colon, stained brown for a protein and blue for nuclei. The model
knows tissue in blue and purple, so the brown stain is taken away first, as laboratories do.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage import color, data

import halfpixel
from halfpixel.viz.overlay import count_caption

SHOWN = 10


def only_the_nuclear_stain(photograph: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The tissue as if it had been stained with hematoxylin alone, twice as strong (stain separation)."""
    stains = color.rgb2hed(photograph) * (2, 0, 0)
    return (color.hed2rgb(stains).clip(0, 1) * 255).astype(np.uint8)


def main() -> None:
    """Write the photograph, the overlay and the list to a folder, and print the count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo-output"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    photograph = data.immunohistochemistry()
    Image.fromarray(photograph).save(out / "tissue.png")

    model = halfpixel.load("nuclei")
    nuclei = model.predict(only_the_nuclear_stain(photograph))
    assert nuclei.masks is not None
    overlay = halfpixel.draw_overlay(photograph, nuclei, caption=count_caption(nuclei))
    Image.fromarray(overlay).save(out / "overlay.png")

    areas_px = nuclei.masks.areas_px().tolist()
    rows = [
        f"{number},{score:.3f},{(x0 + x1) / 2:.1f},{(y0 + y1) / 2:.1f},{area}"
        for number, ((x0, y0, x1, y1), score, area) in enumerate(
            zip(nuclei.boxes_xyxy.tolist(), nuclei.scores.tolist(), areas_px, strict=True), start=1
        )
    ]
    header = "nucleus,score,x_px,y_px,area_px"
    (out / "nuclei.csv").write_text("\n".join([header, *rows]) + "\n")

    print(f"{len(nuclei)} nuclei in {photograph.shape[1]} x {photograph.shape[0]} pixels ", end="")
    print(f"(model nuclei, score >= {nuclei.score_threshold})\n")
    for line in [header, *rows[:SHOWN]]:
        print("".join(f"{cell:>10}" for cell in line.split(",")))
    if len(rows) > SHOWN:
        print(f"{'...':>10}  and {len(rows) - SHOWN} more")
    print(f"\nLook at {out / 'overlay.png'}; all nuclei are listed in {out / 'nuclei.csv'}.")


if __name__ == "__main__":
    main()

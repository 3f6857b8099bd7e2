import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_roi_align_follows_the_edge_and_roi_pool_does_not(tmp_path: Path) -> None:
    out = tmp_path / "crops.png"
    command = [sys.executable, "-W", "error", str(EXAMPLES / "roi_align_vs_roi_pool.py"), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    number = r"\s+(\d\.\d+)"
    rows = {
        name: (float(here), float(mean), float(worst))
        for name, here, mean, worst in re.findall(rf"(RoI\w+){number}{number}{number}", done.stdout)
    }
    assert rows["RoIAlign"] == pytest.approx((0.0151, 0.0138, 0.0152), abs=2e-4)
    assert rows["RoIPool"] == pytest.approx((0.1864, 0.1717, 0.2131), abs=2e-4)
    with Image.open(out) as picture:
        assert picture.size == (1650, 990)
        assert len(picture.convert("L").getcolors() or []) > 20
    assert list(tmp_path.iterdir()) == [out]

"""torchrun shares the images of a step out: two processes train as one does."""

import csv
import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_loop import RECIPE, TERMS, fresh, write_dataset

from halfpixel.data.formats.coco import read_coco
from halfpixel.engine.predictor import Predictor
from halfpixel.train.loop import fit

RUN = dataclasses.replace(RECIPE, steps=4, images_per_step=4, validate_every=2, checkpoint_every=2, learning_rate=1e-5)
"""In small steps: in large ones Adam turns rounding into other weights, and those into other gradients."""

PROGRAM = """
import sys
from pathlib import Path
from test_two_processes import RUN, lively
from halfpixel.data.formats.coco import read_coco
from halfpixel.train.loop import fit
data = read_coco(Path(sys.argv[1]))
for resume in (False, True):
    fit(lively(), data, RUN, Path(sys.argv[2]), val=data, resume=resume)
"""


def lively() -> Predictor:
    """Fresh masks all cost the same, so that it would not matter how they are averaged."""
    start = fresh()
    torch.nn.init.normal_(start.model.mask_head.logits.weight, std=2.0)
    return start


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads share sums out in another order, and Adam turns rounding into steps where gradients are almost none."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rows(run: Path, name: str) -> list[dict[str, float]]:
    with (run / name).open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.usefixtures("one_thread")
def test_two_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    data = write_dataset(tmp_path)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    tests = Path(__file__).parent
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)]),
        "HALFPIXEL_CHECK_SHAPES": "0",
        "OMP_NUM_THREADS": "1",
    }
    two = subprocess.Popen([*torchrun, str(program), str(data), str(tmp_path / "two")], env=environment)
    fit(lively(), read_coco(data), RUN, tmp_path / "one", val=read_coco(data))
    assert two.wait(timeout=300) == 0
    for one, other in zip(rows(tmp_path / "one", "log.csv"), rows(tmp_path / "two", "log.csv"), strict=True):
        assert {name: other[name] for name in one} == pytest.approx(one, rel=1e-3, abs=1e-5)
    # the images without objects make the shares differ in what they count: the average of averages would not do
    assert any(row["mask"] > 0 for row in rows(tmp_path / "one", "log.csv"))
    for name in ("step", *TERMS):
        assert name in rows(tmp_path / "two", "log.csv")[0]
    assert [row["step"] for row in rows(tmp_path / "two", "validation.csv")] == [2, 4]
    one, other = (load_file(tmp_path / run / "last.safetensors") for run in ("one", "two"))
    assert all(
        float((one[name].double() - other[name].double()).abs().max()) < 1e-6 for name in one if one[name].numel()
    )

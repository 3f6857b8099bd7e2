"""The documentation is executed: what it shows is what happens.

Every `python` block of README.md and docs/*.md runs, and every line of a `console` block that starts with
`$ halfpixel`. The blocks of one file run from top to bottom in one namespace, in a folder that holds `cells.png` and
`plates/` (two pictures and their annotations.json). `<!-- docs-test: skip because ... -->` on the line before leaves
a block out.
"""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.draw import disk

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINKED_PAGES = sorted({*PAGES, *ROOT.glob("*.md")})

FENCE = re.compile(r"^\s*(```+|~~~+)\s*(\w*)")
DIRECTIVE = re.compile(r"<!--\s*docs-test:(.*?)-->")
SKIP = re.compile(r"\s*skip because \S.*")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)|(?:src|href|srcset)=\"([^\"]+)\"|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the line of its first line (from 1), its text, and whether it is left out."""

    language: str
    line: int
    text: str
    skipped: bool


def blocks(page: str) -> Iterator[Block]:
    lines = page.splitlines()
    start, fence, language = -1, "", ""
    for number, line in enumerate(lines):
        match = FENCE.match(line)
        if start >= 0 and match and match[1].startswith(fence) and not match[2]:
            above = lines[start - 2] if start >= 2 else ""
            text = "\n".join(lines[start:number])
            yield Block(language, start + 1, text, skipped=_is_skipped(above, start))
            start = -1
        elif start < 0 and match:
            start, fence, language = number + 1, match[1], match[2]
    if start >= 0:
        raise ValueError(f"the block that begins before line {start + 1} has no end")


def _is_skipped(line_above: str, line: int) -> bool:
    directive = DIRECTIVE.search(line_above)
    if directive and not SKIP.fullmatch(directive[1]):
        raise ValueError(f"line {line}: write 'docs-test: skip because' and a reason")
    return directive is not None


def run_page(path: Path) -> int:
    """Run a page's blocks in the current folder; how many there were."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    done = 0
    for block in blocks(path.read_text(encoding="utf-8")):
        if block.skipped:
            continue
        if block.language == "python":
            # blank lines in front give the traceback the page's own line numbers
            exec(compile("\n" * (block.line - 1) + block.text, path, "exec"), namespace)
            done += 1
        elif block.language == "console":
            for line, command in commands(block):
                run_command(command, f"{path.name}:{line}")
                done += 1
    return done


def commands(block: Block) -> Iterator[tuple[int, list[str]]]:
    """Line and words of each `$ halfpixel ...` in a console block; a backslash continues the line."""
    text = re.sub(r"\\\n\s*(?:>\s+)?", lambda match: " " + "\0" * match[0].count("\n"), block.text)
    line = block.line
    for one in text.splitlines():
        words = shlex.split(one.replace("\0", ""), comments=True)
        if words[:2] == ["$", "halfpixel"]:
            yield line, words[1:]
        line += 1 + one.count("\0")


def run_command(words: list[str], where: str) -> None:
    if {"|", ">", ">>", "&&", ";"} & set(words):
        pytest.fail(f"{where}: commands run without a shell, so no pipes and redirections: {shlex.join(words)}")
    from halfpixel.cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        try:
            main()
        except SystemExit as stop:
            if stop.code not in (0, None):
                pytest.fail(f"{where}: exit {stop.code} from {shlex.join(words)}")


def broken_links(path: Path) -> list[str]:
    """Relative addresses on a page that lead nowhere."""
    text = path.read_text(encoding="utf-8")
    for block in blocks(text):
        text = text.replace(block.text, "")
    found = [next(filter(None, groups)) for groups in LINK.findall(re.sub(r"`[^`\n]*`", "", text))]
    relative = [link.partition("#")[0] for link in found if not re.match(r"[a-z]+:", link)]
    return [link for link in relative if link and not (path.parent / link).exists()]


def draw_cells(
    seed: int, size_hw: tuple[int, int] = (192, 256), count: int = 12
) -> tuple[Image.Image, list[np.ndarray]]:
    """A dark picture with bright soft discs that do not touch, and each disc's mask."""
    rng = np.random.default_rng(seed)
    canvas = rng.normal(20, 3, size_hw)
    taken = np.zeros(size_hw, dtype=bool)
    masks: list[np.ndarray] = []
    while len(masks) < count:
        radius = rng.uniform(7, 13)
        centre = (rng.uniform(15, size_hw[0] - 15), rng.uniform(15, size_hw[1] - 15))
        mask, margin = np.zeros(size_hw, dtype=bool), np.zeros(size_hw, dtype=bool)
        mask[disk(centre, radius, shape=size_hw)] = True
        margin[disk(centre, radius + 3, shape=size_hw)] = True
        if (margin & taken).any():
            continue
        taken |= mask
        masks.append(mask)
        canvas[mask] += rng.uniform(110, 180) + rng.normal(0, 6, int(mask.sum()))
    return Image.fromarray(canvas.clip(0, 255).astype(np.uint8)).convert("RGB"), masks


def uncompressed_rle(mask: np.ndarray) -> dict[str, object]:
    flat = np.concatenate([[False], mask.T.ravel(), [not mask[-1, -1]]])
    starts = np.flatnonzero(flat[1:] != flat[:-1])
    return {"size": list(mask.shape), "counts": np.diff(np.concatenate([[0], starts])).tolist()}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of the documentation: `cells.png`, `plates/`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    draw_cells(seed=0)[0].save("cells.png")
    Path("plates").mkdir()
    images, annotations = [], []
    for image_id, name in enumerate(("one.png", "two.png"), start=1):
        image, masks = draw_cells(seed=image_id)
        image.save(Path("plates") / name)
        images.append({"id": image_id, "file_name": name, "width": image.width, "height": image.height})
        for mask in masks:
            y, x = np.nonzero(mask)
            box = [int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1]
            annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0}
            rle = uncompressed_rle(mask)
            annotations.append({**annotation, "bbox": box, "area": int(mask.sum()), "segmentation": rle})
    data = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    Path("plates/annotations.json").write_text(json.dumps(data))
    return tmp_path


def page_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_what_the_page_shows_runs(path: Path, folder: Path) -> None:
    run_page(path)


@pytest.mark.parametrize("path", LINKED_PAGES, ids=page_name)
def test_links_lead_somewhere(path: Path) -> None:
    assert broken_links(path) == []


def test_the_readme_shows_python_that_runs() -> None:
    found = [block for block in blocks((ROOT / "README.md").read_text(encoding="utf-8")) if not block.skipped]
    assert [block for block in found if block.language == "python"]


# Does the machinery itself notice? ----------------------------------------------------------------------------------


def write_page(folder: Path, text: str) -> Path:
    path = folder / "page.md"
    path.write_text(text.replace("'''", "```"))
    return path


def test_blocks_share_names_and_see_the_pictures(folder: Path) -> None:
    page = write_page(
        folder,
        "'''python\nfrom PIL import Image\nwith Image.open('cells.png') as image:\n    size = image.size\n'''\n"
        "'''\nnot run\n'''\n'''python\nassert size == (256, 192)\n'''\n",
    )
    assert run_page(page) == 2


def test_a_block_that_fails_is_noticed_on_its_own_line(folder: Path) -> None:
    page = write_page(folder, "# Title\n\n'''python\nx = 1\nassert x == 2\n'''\n")
    with pytest.raises(AssertionError) as caught:
        run_page(page)
    assert caught.traceback[-1].lineno + 1 == 5


def test_skipping_needs_a_reason(folder: Path) -> None:
    comment = "<!-- docs-test: skip because it takes an hour -->"
    assert run_page(write_page(folder, f"{comment}\n'''python\n1 / 0\n'''\n")) == 0
    with pytest.raises(ZeroDivisionError):
        run_page(write_page(folder, f"{comment}\n\n'''python\n1 / 0\n'''\n"))
    with pytest.raises(ValueError, match="and a reason"):
        run_page(write_page(folder, "<!-- docs-test: skip -->\n'''python\n1 / 0\n'''\n"))


def test_commands_are_found() -> None:
    text = "$ make demo\n$ halfpixel predict 'my cells.png' \\\n    --out found\n12 objects\n$ halfpixel models  # all"
    assert list(commands(Block("console", 7, text, skipped=False))) == [
        (8, ["halfpixel", "predict", "my cells.png", "--out", "found"]),
        (11, ["halfpixel", "models"]),
    ]


def test_a_command_that_fails_is_noticed(folder: Path) -> None:
    page = write_page(folder, "'''console\n$ halfpixel no-such-verb\n'''\n")
    with pytest.raises(pytest.fail.Exception, match=r"page.md:2: exit"):
        run_page(page)


def test_links_that_lead_nowhere_are_noticed(folder: Path) -> None:
    page = write_page(
        folder,
        '[a](cells.png) ![b](lost.png) [c](https://example.org) [d](#here) <img src="gone.png">\n'
        "`[e](code.md)`\n\n'''\n[f](code.md)\n'''\n[g](plates/#top)\n\n[h]: missing.md\n",
    )
    assert broken_links(page) == ["lost.png", "gone.png", "missing.md"]


def test_the_annotations_of_the_plates_are_right(folder: Path) -> None:
    import hotcoco.mask

    data = json.loads(Path("plates/annotations.json").read_text())
    assert len(data["annotations"]) == 24
    _, masks = draw_cells(seed=1)
    for annotation, mask in zip(data["annotations"], masks, strict=False):
        rle = hotcoco.mask.frPyObjects(annotation["segmentation"], *mask.shape)
        assert (hotcoco.mask.decode(rle).astype(bool) == mask).all()
        assert hotcoco.mask.toBbox(rle).tolist() == annotation["bbox"]

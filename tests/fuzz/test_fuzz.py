"""The fuzzer for as long as a test may take; `make fuzz` runs it for an hour."""

import itertools
import signal
from pathlib import Path

import fuzz
import pytest
from fuzz import Reader, inputs
from seeds import write_seeds

SECONDS = 25.0


def test_mutated_files_end_in_results_or_errors_of_our_own(tmp_path: Path) -> None:
    summary = fuzz.fuzz(tmp_path / "fuzz", seed=0, most=10_000, seconds=SECONDS)
    assert not summary.failures, str(summary)
    assert {kind for kind, _ in summary.outcomes} == {"image", "annotations", "model"}
    assert {error for _, error in summary.outcomes} >= {"", "ImageError", "AnnotationError"}


def test_inputs_follow_from_the_seed(tmp_path: Path) -> None:
    seeds = write_seeds(tmp_path / "seeds")

    def some(folder: str, seed: int) -> list[tuple[str, bytes]]:
        (tmp_path / folder).mkdir()
        drawn = itertools.islice(inputs(seeds, tmp_path / folder, seed), 12)
        return [(one.name, path.read_bytes() if path.is_file() else b"") for one, _, path in drawn]

    first = some("a", 1)
    assert some("b", 1) == first
    assert some("c", 2) != first


def test_what_should_not_have_been_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (image,) = (one for one in write_seeds(tmp_path / "seeds") if one.name == "grey.png")
    with Reader() as reader:
        assert reader.read("no such kind", image.read)["error"] == "foreign KeyError"
        assert reader.read("image", tmp_path)["error"] == "ImageError"
        assert reader._process is not None
        reader._process.send_signal(signal.SIGSTOP)
        with monkeypatch.context() as patch:
            patch.setattr(fuzz, "PATIENCE_S", 0.5)
            assert reader.read("image", image.read)["error"].startswith("foreign hang")
        assert reader.read("image", image.read)["error"] == ""  # by another process

"""Checkpoints, to the bit; what is none is refused, and nothing is unpickled."""

import errno
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from halfpixel.errors import HalfpixelError, ModelFileError
from halfpixel.train import state
from halfpixel.train.state import KEY, Checkpoint, Progress, load_checkpoint, restore, save_checkpoint


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def trained(seed: int) -> tuple[nn.Module, torch.optim.AdamW]:
    """A network after two steps."""
    model = network(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
    for _ in range(2):
        loss = model(torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)).square().mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return model, optimiser


def checkpoint(seed: int = 0) -> Checkpoint:
    model, optimiser = trained(seed)
    about = {"steps": 3, "zoom": [0.6, 1.1], "images": ["a b.png", "ü.png"], "balance": None}
    moments = optimiser.state_dict()["state"]
    return Checkpoint(Progress(2, 1, 0.1 + 0.2, 4), about, model.state_dict(), network(seed + 1).state_dict(), moments)


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert torch.equal(one[name], other[name]), name


def test_what_is_saved_is_loaded_to_the_bit(tmp_path: Path) -> None:
    saved, path = checkpoint(), tmp_path / "last.safetensors"
    save_checkpoint(path, saved)
    loaded = load_checkpoint(path)
    assert loaded.progress == saved.progress
    assert loaded.about == saved.about
    assert_equal(dict(loaded.network), dict(saved.network))
    assert_equal(dict(loaded.average), dict(saved.average))
    assert loaded.optimiser.keys() == saved.optimiser.keys()
    assert len(saved.optimiser) == 6
    for number, moments in saved.optimiser.items():
        assert moments.keys() >= {"step", "exp_avg", "exp_avg_sq"}
        assert_equal(dict(loaded.optimiser[number]), dict(moments))


def test_before_the_first_step(tmp_path: Path) -> None:
    path, weights = tmp_path / "last.safetensors", network(0).state_dict()
    save_checkpoint(path, Checkpoint(Progress(), {}, network(0).state_dict(), weights, {}))
    loaded = load_checkpoint(path)
    assert (loaded.progress, loaded.optimiser) == (Progress(), {})
    assert_equal(dict(loaded.average), weights)


def test_restored_training_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    model, optimiser = trained(0)
    average, path = network(1), tmp_path / "last.safetensors"
    moments = optimiser.state_dict()["state"]
    save_checkpoint(path, Checkpoint(Progress(2), {}, model.state_dict(), average.state_dict(), moments))

    other, other_optimiser = trained(7)
    other_average = network(8)
    restore(load_checkpoint(path), other, other_average, other_optimiser)
    assert_equal(other_average.state_dict(), average.state_dict())
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    for one, its_optimiser in ((model, optimiser), (other, other_optimiser)):
        one(images.to(memory_format=torch.channels_last)).square().mean().backward()
        its_optimiser.step()
    assert_equal(other.state_dict(), model.state_dict())


def test_a_failed_write_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.safetensors"

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(state, "write_whole", full)
        with pytest.raises(HalfpixelError, match=r"last\.safetensors.*No space") as raised:
            save_checkpoint(path, checkpoint())
    assert "whole" not in str(raised.value)
    save_checkpoint(path, checkpoint())
    before = path.read_bytes()
    monkeypatch.setattr(state, "write_whole", full)
    with pytest.raises(HalfpixelError, match=r"last\.safetensors.*No space.*before it is whole"):
        save_checkpoint(path, checkpoint(seed=5))
    assert path.read_bytes() == before


class Trap:
    """Leaves a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return open, (str(self.trace), "w")


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(Trap(path.with_name("trace"))))


def torch_file(path: Path) -> None:
    torch.save({"weights": Trap(path.with_name("trace"))}, path)


def cut_off(path: Path) -> None:
    save_checkpoint(path, checkpoint())
    path.write_bytes(path.read_bytes()[:-100])


def header_only(path: Path) -> None:
    save_checkpoint(path, checkpoint())
    path.write_bytes(path.read_bytes()[:50])


def described(**changes: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        content = {"format": 1, "progress": {"step": 3}, "about": {}} | changes
        save_file({"network.w": torch.zeros(1)}, path, {KEY: json.dumps(content)})

    return write


BROKEN: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("step,loss\n1,0.5\n"),
    "cut off": cut_off,
    "half a header": header_only,
    "pickled": pickled,
    "torch's own": torch_file,
    "no description": lambda path: save_file({"network.w": torch.zeros(1)}, path),
    "no JSON": lambda path: save_file({"network.w": torch.zeros(1)}, path, {KEY: "{"}),
    "a foreign tensor": lambda path: save_file(
        {"weights": torch.zeros(1)}, path, {KEY: json.dumps({"format": 1, "progress": {}, "about": {}})}
    ),
    "unknown progress": described(progress={"epoch": 3}),
    "no progress": described(progress=None),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_checkpoint_is_named_and_never_unpickled(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "last.safetensors"
    BROKEN[kind](path)
    with pytest.raises(ModelFileError, match=r"last\.safetensors: not a checkpoint"):
        load_checkpoint(path)
    assert not (tmp_path / "trace").exists()


def test_the_trap_works(tmp_path: Path) -> None:
    pickled(tmp_path / "file")
    pickle.loads((tmp_path / "file").read_bytes()).close()
    assert (tmp_path / "trace").exists()


def test_a_newer_version_says_so(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    described(format=2)(path)
    with pytest.raises(ModelFileError, match=r"last\.safetensors.*newer halfpixel"):
        load_checkpoint(path)

"""The fast copies against the networks they are made from, for every model there is."""

from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest
import torch
from networks import enliven, smallest

from halfpixel.engine.backends.base import native_precision
from halfpixel.engine.backends.eager import TorchBackend
from halfpixel.errors import ArgumentError
from halfpixel.nn.network import Network
from halfpixel.structures.images import ImageBatch, Limits
from halfpixel.zoo.modelfile import MODEL_MODULES

CPU = torch.device("cpu")
LIMITS = Limits.of(0.3, 12)


def batch() -> ImageBatch:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(2, 3, 8, 12, generator=generator)
    images = torch.nn.functional.interpolate(images, scale_factor=16, mode="bilinear")
    return ImageBatch(images, torch.tensor([[128, 192], [100, 150]]))


@pytest.fixture(scope="module", params=MODEL_MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def model(request: pytest.FixtureRequest) -> Network:
    module: ModuleType = request.param
    torch.manual_seed(0)
    return enliven(smallest(module).eval(), batch().tensor)


def test_fp32_finds_what_the_network_finds(model: Network) -> None:
    given = batch()
    found = TorchBackend(model, CPU, "fp32").run(given, LIMITS)
    with torch.inference_mode():
        expected = model(given.tensor, given.sizes_hw, LIMITS)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-3)


def test_bf16_gives_float32_and_nearly_the_same(model: Network) -> None:
    given = batch()
    found = TorchBackend(model, CPU, "bf16").run(given, LIMITS)
    exact = TorchBackend(model, CPU, "fp32").run(given, LIMITS)
    for name, tensor in exact.items():
        assert found[name].dtype == tensor.dtype
    if "scores" in exact:  # which weak objects are found may differ, what the best one scores hardly
        assert float(found["scores"].max()) == pytest.approx(float(exact["scores"].max()), abs=0.1)
    else:
        assert (found["probabilities"] - exact["probabilities"]).abs().mean() < 0.05


def test_the_weights_are_taken_when_it_first_runs_and_stay_as_they_are(model: Network) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    backend = TorchBackend(model, CPU, "bf16")
    backend.run(batch(), LIMITS)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_several_threads_share_one_copy(model: Network) -> None:
    backend, given = TorchBackend(model, CPU, "fp32"), batch()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: backend.run(given, LIMITS), range(8)))
    for one in found[1:]:
        for name, tensor in found[0].items():
            torch.testing.assert_close(one[name], tensor, rtol=1e-4, atol=1e-4)


def test_the_precision_is_the_device_s_own_unless_told(monkeypatch: pytest.MonkeyPatch, model: Network) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert native_precision(CPU) == "bf16"
    assert TorchBackend(model, CPU).precision == "bf16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, "amx_bf16": False})
    assert native_precision(CPU) == "fp32"
    assert TorchBackend(model, CPU).precision == "fp32"
    assert TorchBackend(model, CPU, "bf16").precision == "bf16"


def test_torch_runs_no_int8(model: Network) -> None:
    with pytest.raises(ArgumentError, match="int8"):
        TorchBackend(model, CPU, "int8")

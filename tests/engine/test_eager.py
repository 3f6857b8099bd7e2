"""The fast copies against the networks they are made from, for every model there is."""

import copy
import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest
import torch
from networks import enliven, smallest

from halfpixel.engine.backends import eager
from halfpixel.engine.backends.base import native_precision
from halfpixel.engine.backends.eager import TorchBackend, for_inference
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
        if model.layout[name] == "map":
            assert (found[name] - tensor).abs().mean() < 0.05 * tensor.abs().max()
    if "scores" in exact:  # which weak objects are found may differ, what the best one scores hardly
        assert float(found["scores"].max()) == pytest.approx(float(exact["scores"].max()), abs=0.1)


def test_the_model_stays_as_it_is_and_is_copied_once(model: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    copies = []
    monkeypatch.setattr(eager, "for_inference", lambda *given: copies.append(for_inference(*given)) or copies[-1])
    backend = TorchBackend(model, CPU, "fp32")
    for _ in range(3):
        backend.run(batch(), LIMITS)
    assert len(copies) == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    backend.close()
    backend.run(batch(), LIMITS)
    assert len(copies) == 2


def zero_through_data(model: Network) -> None:
    """Not counted by torch as a write."""
    for parameter in model.parameters():
        parameter.data.zero_()


def step_of_an_optimiser(model: Network) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(model.parameters(), lr=0.5).step()


def other_tensors(model: Network) -> None:
    state = {
        name: tensor * 0.9 if tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(state, assign=True)


def one_number_each(model: Network) -> None:
    for name in model.output_layers:  # some may speak in training alone
        bias = model.get_submodule(name).bias
        assert isinstance(bias, torch.Tensor)
        bias.data[-1] += 3  # the first may be the background's


@pytest.mark.parametrize("change", [zero_through_data, step_of_an_optimiser, other_tensors, one_number_each])
def test_the_weights_are_never_stale(model: Network, change: Callable[[Network], None]) -> None:
    model = copy.deepcopy(model)
    backend, given = TorchBackend(model, CPU, "fp32"), batch()
    before = backend.run(given, LIMITS)
    change(model)
    found = backend.run(given, LIMITS)
    with torch.inference_mode():
        expected = model(given.tensor, given.sizes_hw, LIMITS)
    for name, tensor in expected.items():
        if model.layout[name] != "image":  # a candidate more or less is rounding
            torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-3)
    assert any(found[name].shape != before[name].shape or not torch.equal(found[name], before[name]) for name in found)


def test_settings_are_never_stale(model: Network) -> None:
    if "box_iou" not in {field.name for field in dataclasses.fields(model.settings)}:
        pytest.skip("nothing to set")
    model = copy.deepcopy(model)
    backend = TorchBackend(model, CPU, "fp32")
    before = backend.run(batch(), LIMITS)["candidates"][:, -1]
    model.settings = dataclasses.replace(model.settings, box_iou=0.99)
    found = backend.run(batch(), LIMITS)["candidates"][:, -1]
    assert (found >= before).all()
    assert (found > before).any()


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

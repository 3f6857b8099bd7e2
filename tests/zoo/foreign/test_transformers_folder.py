"""Descriptions of transformers that make no sense, and what lies beside weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from halfpixel.engine.load import load, read_description
from halfpixel.errors import ModelFileError
from halfpixel.zoo.foreign.transformers_folder import is_of_transformers, read_config


def folder(path: Path, config: str, weights: str = "model.safetensors") -> Path:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(config)
    save_file({"a": torch.zeros(2)}, path / weights)
    return path / weights


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ('{"model_type": []}', "model_type: expected str"),
        ('{"model_type": {}}', "model_type: expected str"),
        ('{"model_type": 3}', "model_type: expected str"),
        (json.dumps({"model_type": "e" * 5000}), "model_type: expected str"),
        ('{"id2label": ["a"]}', "id2label: expected object"),
        (
            '{"id2label": {"' + "9" * 5000 + '": "a"}}',
            "id2label: expected numbers of classes and their names, got '999",
        ),
        ('{"id2label": {"zero": "a"}}', "id2label: expected numbers of classes and their names, got 'zero'"),
        ('{"id2label": {"\\u0663": "a"}}', "id2label: expected numbers"),
        ('{"id2label": {"0": 7}}', "id2label"),
        ('{"id2label": {"0": ""}}', "id2label"),
        ('{"id2label": {"0": "\\u001b[31m"}}', "id2label"),
        ('{"num_queries": ' + "9" * 5000 + "}", r"cannot be read \(Exceeds the limit \(4300 digits\)[^;]*\)$"),
        ('{"quantization_config": {"quant_method": "bitsandbytes"}}', "quantization_config: quantised weights"),
        ("[" * 100_000, "cannot be read"),
        ("\x00", "cannot be read"),
        ("", "cannot be read"),
        ("null", "expected a JSON object"),
    ],
)
def test_descriptions_that_make_no_sense(config: str, why: str, tmp_path: Path) -> None:
    file = folder(tmp_path, config)
    for read in (load, read_description):
        with pytest.raises(ModelFileError, match=rf"config\.json: {why}") as caught:
            read(file)
        assert not set("`\n\x1b") & set(str(caught.value))
        assert len(str(caught.value)) < 600


def test_weights_that_are_not_all_there_is(tmp_path: Path) -> None:
    file = folder(tmp_path, '{"model_type": "rt_detr"}')
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(
        ModelFileError, match=r"adapter_config\.json: an adapter is not read; merge it into the weights"
    ):
        load(file)
    part = folder(tmp_path / "parts", '{"model_type": "eomt"}', "model-00001-of-00002.safetensors")
    with pytest.raises(ModelFileError, match=r"00002\.safetensors: one of several files of weights; save them in one"):
        load(part)


def test_names(tmp_path: Path) -> None:
    file = folder(tmp_path, '{"id2label": {"10": "c", "2": "b", "0": "a", "1": "b"}, "more": [1]}')
    assert is_of_transformers(file)
    config = read_config(file)
    assert config.class_names() == ("a", "b 1", "b 2", "c")
    assert (config.model_type, config.everything["more"]) == (None, [1])
    assert read_config(folder(tmp_path, "{}")).class_names() is None
    assert (
        read_config(folder(tmp_path, '{"id2label": {"0": "LABEL_0"}, "quantization_config": null}')).class_names()
        is None
    )


def test_nothing_is_asked_of_the_hub(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    file = folder(tmp_path, '{"model_type": "rf_detr", "backbone": "nobody/backbone"}')
    with pytest.raises(ModelFileError, match=r"config\.json: backbone: it would be looked up"):
        load(file)

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from musebridge import vocab
from musebridge.artifact import DiscriminatorInfo, ModelInfo
from musebridge.errors import ModelError

INFO = ModelInfo(
    context=1024,
    n_layers=4,
    n_kv_heads=2,
    d_head=128,
    precision="int8",
    parameters=11_932_672,
    corpus="maestro-v3.0.0",
    licence="CC BY-NC-SA 4.0",
    validation_nll=2.25,
    nll_change=-0.0003,
    record={"command": "musebridge train", "tokens": 40_000_000, "train_nll": 2.3},
)


JUDGE = DiscriminatorInfo(
    context=1024,
    seed_length=192,
    continuation_length=192,
    precision="fp16",
    parameters=12_000_000,
    corpus="maestro-v3.0.0",
    licence="CC BY-NC-SA 4.0",
    generator="0123456789abcdef",
    validation_auroc=0.75,
)


def test_what_is_written_is_read() -> None:
    assert ModelInfo.from_metadata(INFO.to_metadata(), "a.onnx") == INFO
    assert DiscriminatorInfo.from_metadata(JUDGE.to_metadata(), "a.onnx") == JUDGE


def test_a_kind_is_not_taken_for_another() -> None:
    with pytest.raises(ModelError, match=r"^a\.onnx: is a discriminator, here a generator is needed"):
        ModelInfo.from_metadata(JUDGE.to_metadata(), "a.onnx")
    with pytest.raises(ModelError, match=r"^a\.onnx: is a generator, here a discriminator is needed"):
        DiscriminatorInfo.from_metadata(INFO.to_metadata(), "a.onnx")


def test_a_generator_from_before_there_were_kinds_is_one() -> None:
    metadata = INFO.to_metadata()
    assert metadata.pop("musebridge.kind") == "generator"
    assert ModelInfo.from_metadata(metadata, "a.onnx") == INFO
    with pytest.raises(ModelError, match="is a generator, here a discriminator is needed"):
        DiscriminatorInfo.from_metadata(metadata, "a.onnx")


def test_what_was_not_measured_stays_unknown() -> None:
    info = replace(INFO, validation_nll=None, nll_change=None)
    assert ModelInfo.from_metadata(info.to_metadata(), "a.onnx") == info


def test_texts_are_readable_and_named_after_their_field() -> None:
    metadata = INFO.to_metadata()
    assert metadata["musebridge.vocabulary"] == vocab.FINGERPRINT
    assert metadata["musebridge.licence"] == "CC BY-NC-SA 4.0"
    assert metadata["musebridge.context"] == "1024"
    assert json.loads(metadata["musebridge.record"]) == INFO.record


def test_metadata_of_others_is_left_alone() -> None:
    assert ModelInfo.from_metadata({**INFO.to_metadata(), "author": "somebody"}, "a.onnx") == INFO


def test_a_file_without_metadata_is_refused_by_name() -> None:
    with pytest.raises(
        ModelError, match=r"^a\.onnx: is not a MuseBridge model .*vocabulary, context.*'musebridge export'$"
    ):
        ModelInfo.from_metadata({}, "a.onnx")


def test_one_missing_field_is_named() -> None:
    metadata = INFO.to_metadata()
    del metadata["musebridge.licence"]
    with pytest.raises(ModelError, match=r"lacks licence\)"):
        ModelInfo.from_metadata(metadata, "a.onnx")


def test_another_vocabulary_is_refused() -> None:
    metadata = {**INFO.to_metadata(), "musebridge.vocabulary": "0123456789abcdef"}
    with pytest.raises(ModelError, match=r"^a\.onnx: has vocabulary '0123456789abcdef', this program"):
        ModelInfo.from_metadata(metadata, "a.onnx")


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("context", "0"),
        ("context", "-1024"),
        ("context", "12.5"),
        ("context", "true"),
        ("n_layers", "many"),
        ("n_kv_heads", '"2"'),
        ("d_head", ""),
        ("parameters", "null"),
        ("precision", "int3"),
        ("validation_nll", "NaN"),
        ("validation_nll", "Infinity"),
        ("nll_change", "[]"),
        ("record", "[1, 2]"),
        ("record", "{"),
    ],
)
def test_nonsense_is_refused_in_one_line_that_names_the_field(field: str, text: str) -> None:
    with pytest.raises(ModelError) as caught:
        ModelInfo.from_metadata({**INFO.to_metadata(), f"musebridge.{field}": text}, "a.onnx")
    message = str(caught.value)
    assert message.startswith("a.onnx: ")
    assert field in message
    assert "\n" not in message

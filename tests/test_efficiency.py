"""Efficiency is measured on the file as it would be run, never taken from what a method claims."""

from pathlib import Path

import pytest

from bitq.measure import efficiency
from bitq.quant.registry import METHODS


@pytest.mark.parametrize(
    ("method", "activations", "engine"),
    [("fp32", "none", "decoded"), ("bitnet", "none", "fast"), ("int4", "static", "fast"), ("ttq", "none", "decoded"),
     ("bitnet_legacy", "none", "as loaded")],
)  # fmt: skip
def test_a_file_is_run_as_it_would_be_used(method: str, activations: str, engine: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    size = efficiency.write(path, "resnet20", method, activations, width=8)
    row = efficiency.measured(path)
    assert row["engine"] == engine and size == path.stat().st_size
    assert row["latency_ms"] > 0 and row["images_per_second"] > 0 and row["peak_bytes"] >= 0


def test_every_method_is_measured() -> None:
    assert {method for _, method, _ in efficiency.treatments("vgg11")} == set(METHODS)

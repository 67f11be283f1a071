"""Efficiency is measured on the file as it would be run, never taken from what a method claims."""

from pathlib import Path

import pytest

from bitq.io import read_json, write_json
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


@pytest.mark.slow
def test_memory_is_that_of_the_file_whatever_the_process_before_it_took(tmp_path: Path) -> None:
    """A child inherits the largest resident size of its parent (getrusage(2)), so that one would be measured."""
    taken = bytearray(2**30)
    taken[::4096] = bytes(len(taken) // 4096)  # resident
    row = efficiency.measured_apart("vgg11", "fp32", "none")
    assert row["file_bytes"] / 2 < row["peak_bytes"] < 2**30


def test_a_measurement_that_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "efficiency.json", []
    methods = ("fp32", "twn", "bitnet")

    def measured(name: str, method: str, activations: str) -> dict[str, object]:
        seen.append(method)
        if seen == ["fp32", "twn"]:
            raise KeyboardInterrupt
        return {"model": name, "method": method, "activations": activations, "latency_ms": 1.0}

    monkeypatch.setattr(efficiency, "measured_apart", measured)
    monkeypatch.setattr(efficiency, "treatments", lambda name: [(name, method, "none") for method in methods])
    with pytest.raises(KeyboardInterrupt):
        efficiency.efficiency(path, ("vgg11",))
    efficiency.efficiency(path, ("vgg11",))
    assert seen == ["fp32", "twn", "twn", "bitnet"]
    assert [row["method"] for row in read_json(path)["rows"]] == list(methods)
    write_json(path, read_json(path) | {"machine": "another"})
    efficiency.efficiency(path, ("vgg11",))
    assert len(seen) == 7


def test_every_method_is_measured() -> None:
    assert {method for _, method, _ in efficiency.treatments("vgg11")} == set(METHODS)

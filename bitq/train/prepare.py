"""What a run starts from: its data, its network with equal initial weights for all arms of a seed, its parents."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bitq import models
from bitq.data.inputs import Inputs
from bitq.data.loader import Batches, evaluation_batches
from bitq.data.registry import variant
from bitq.data.store import ImageSet, open_set
from bitq.deploy.blueprint import geometry_of, must_fit
from bitq.deploy.export import NOT_SHIPPED, lowbit_layers, packed_layers
from bitq.deploy.load import load
from bitq.errors import DataError, UsageError
from bitq.grid.select import find_run
from bitq.io import sha256_file
from bitq.machine import Machine
from bitq.models.fold import fold
from bitq.quant.convert import convert, quantized_layers, settings_of
from bitq.quant.registry import METHODS, defaults
from bitq.quant.static import activation_named
from bitq.results.folder import MODEL, folder_of
from bitq.rng import derive
from bitq.run import Calibration, Parent, Run

TestSet = list[tuple[Inputs, Tensor]]  # what the network takes, normalised, and labels, on the device

AS_TEACHER: dict[str, Any] = {"method": "fp32", "settings": {}, "keep": (), "start": None, "calibration": None}
EVALUATION_BATCH = 250  # images; divides the test sets of 500, 1,000 and 10,000


def open_data(run: Run) -> ImageSet:
    """The run's images; not those of another digest under the same name."""
    found = variant(run.data.dataset, run.data.variant)
    if found.digest != run.data.digest:
        raise DataError(
            f"{run.id} was planned for {run.data.dataset}/{run.data.variant} with digest {run.data.digest[:12]}, "
            f"but this machine has {found.digest[:12]}; import the right data or plan the run again."
        )
    return open_set(found)


def test_batches(images: ImageSet, run: Run, machine: Machine) -> TestSet:
    """The test set, normalised, on the device."""
    batches = evaluation_batches(
        images.x_test, images.y_test, run.recipe.normalisation, EVALUATION_BATCH, machine.device, images.t_test
    )
    return list(batches)


def training_batches(images: ImageSet, run: Run, machine: Machine) -> Batches:
    """The training images in the order of the run's seed."""
    return Batches(images, run.recipe, run.seed, machine.device)


def network(run: Run, machine: Machine, results: Path) -> nn.Module:
    """The network before its first step: built, given its parent's weights if it has one, then quantized."""
    if run.stem != "cifar" and models.adapter(run.model).one_stem:
        raise UsageError(f"stem={run.stem} was given, but {run.model} has one stem; leave --stem out.")
    model = models.drawn(run.model, models.Geometry.of(run.data, run.width, run.stem), run.seed)
    start, spec = first_weights(run, results)
    method = spec.get("method")
    if method == "fp32":
        copy_state(model, start, run)
    calibration = run.calibration or Calibration()
    if calibration.fold:
        fold(model)
    kept = models.matching_layers(model, models.keep_patterns(run.model, run.keep)) if run.keep else {}
    activation = activation_named(calibration.activations)
    convert(model, run.method, run.settings, kept, run.norm == "layer", activation)
    if method not in (None, "fp32"):
        refuse_other_treatment(run, spec, model, start)
        copy_state(model, start, run)  # latents and scalars of the very same method
        adopt_codes(model, start)
    return model.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def first_weights(run: Run, results: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network that the run starts from and its spec; none, if its weights are drawn from the seed."""
    if run.start is None:
        return nn.Module(), {}
    start, spec = load(parent_file(run.start, run, results))
    refuse_start(run, run.start, spec)
    return start, spec


def refuse_misfit(run: Run) -> None:
    """Refuse parents of the grid that cannot fit, before hours go into training them."""
    if run.start and not run.start.is_file:
        refuse_start(run, run.start, spec_of(find_run(run.start.id, run.scale)))
    teacher = run.distillation and run.distillation.teacher
    if teacher and not teacher.is_file:
        refuse_teacher(run, teacher, spec_of(find_run(teacher.id, run.scale)))


def refuse_start(run: Run, start: Parent, spec: Mapping[str, Any]) -> None:
    """A start of another method or shape."""
    fitting = (*(("fp32",) if METHODS[run.method].weight.follows_weights else ()), run.method)
    if spec["method"] not in fitting:
        raise UsageError(
            f"{run.id} starts from {start.id}, a network of {spec['method']}; "
            f"only weights of {' or '.join(dict.fromkeys(fitting))} can be its start."
        )
    shape = {"model": run.model, "width": run.width, "stem": run.stem}
    must_fit(start.id, spec, shape | geometry_of(run.data), "start from a file of the same shape")


def refuse_teacher(run: Run, teacher: Parent, spec: Mapping[str, Any]) -> None:
    """A teacher of other data."""
    asked = {"dataset": run.data.dataset} | geometry_of(run.data)
    must_fit(teacher.id, spec, asked, f"give {run.id} a teacher of its own data")


def refuse_other_treatment(run: Run, spec: dict[str, Any], model: nn.Module, start: nn.Module) -> None:
    """The latents of a method mean something else under other settings, and nothing in a layer that it leaves alone."""
    ours, theirs = lowbit_layers(model), lowbit_layers(start)
    for name in sorted(ours.keys() ^ theirs.keys()):
        one, other = ("the run", "its start") if name in ours else ("the start", "the run")
        raise UsageError(
            f"{name} is quantized in {one}, but {other} keeps it in full precision; give the layers that the start "
            f"keeps: --keep {','.join(spec.get('keep', ())) or 'none'}."
        )
    may_change = METHODS[run.method].weight.of_evaluation
    for name in ours:
        wanted, found = (_settings(run.method, settings_of(name, of)) for of in (run.settings, spec["settings"]))
        for key in [key for key in wanted if key not in may_change and wanted[key] != found[key]]:
            raise UsageError(
                f"{name} of the start was trained with {key}={found[key]}, but the run has {key}={wanted[key]}; "
                f"give --setting {key}={found[key]}, or start from an fp32 network."
            )


def _settings(method: str, given: dict[str, Any]) -> dict[str, Any]:
    every = defaults(method) | given
    return {key: list(value) if isinstance(value, tuple) else value for key, value in every.items()}


def copy_state(model: nn.Module, source: nn.Module, run: Run) -> None:
    """Give the network the weights and statistics of its start."""
    missing, unexpected = model.load_state_dict(source.state_dict(), strict=False)
    in_codes = tuple(f"{name}.quantizer." for name in packed_layers(source))
    known = [name for name in [*missing, *unexpected] if not name.startswith(in_codes)]
    odd = [name for name in known if not name.endswith(NOT_SHIPPED)]
    if odd:
        raise DataError(f"the start of {run.id} does not fit {run.model}: {odd[0]} is in only one of them.")


@torch.no_grad()
def adopt_codes(model: nn.Module, source: nn.Module) -> None:
    """Where the start shipped codes, its quantizer says what they mean for a training."""
    own = quantized_layers(model)
    for name, layer in packed_layers(source).items():
        own[name].weight.copy_(own[name].quantizer.adopt(layer.quantizer.codes(layer.weight)))


def teacher(run: Run, machine: Machine, results: Path) -> nn.Module | None:
    """The frozen teacher, read from the file that it shipped as; or a fresh one, to be trained beside the student."""
    if run.distillation is None:
        return None
    parent = run.distillation.teacher
    if parent is None:
        own = {"seed": derive(run.seed, "teacher") % 2**31}  # its initial weights are not those of the student
        return network(run.model_copy(update=AS_TEACHER | own), machine, results)
    model, spec = load(parent_file(parent, run, results))
    refuse_teacher(run, parent, spec)
    model.requires_grad_(False).eval()
    return model.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def parent_file(parent: Parent, run: Run, results: Path) -> Path:
    """The parent's packed file: a file given by name, or the result of a run."""
    if parent.is_file:
        path = Path(parent.id)
        if sha256_file(path) != parent.hash:
            raise DataError(f"{path} has changed since {run.id} was planned; plan the run again.")
        return path
    path = folder_of(find_run(parent.id, run.scale), results) / MODEL
    if not path.exists():
        raise DataError(f"{run.id} needs {path}; train it first: bitq train {parent.id} --scale {run.scale}.")
    return path


def spec_of(run: Run) -> dict[str, Any]:
    """What a packed file says of itself: enough to rebuild the network and evaluate it on the right data."""
    return {
        "run": run.id,
        "hash": run.hash,
        "model": run.model,
        "classes": run.data.classes,
        "width": run.width,
        "stem": run.stem,
        "channels": run.data.channels,
        "image_size": run.data.image_size,
        "words": run.data.words,
        "vocabulary": run.data.vocabulary,
        "norm": run.norm,
        "method": run.method,
        "settings": run.settings,
        "calibration": run.calibration.model_dump(mode="json") if run.calibration else None,
        "keep": list(run.keep),
        "dataset": run.data.dataset,
        "variant": run.data.variant,
        "normalisation": run.recipe.normalisation,
    }

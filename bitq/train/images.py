"""The images of a run, in batches on the device that trains."""

from functools import lru_cache
from pathlib import Path

from torch import Tensor

from bitq.data.inputs import Inputs
from bitq.data.loader import EVALUATION_BATCH, Batches, evaluation_batches, on_device
from bitq.data.registry import Variant, default_data_dir, variant
from bitq.data.store import ImageSet, open_set
from bitq.errors import DataError
from bitq.machine import Machine
from bitq.run import Run

TestSet = list[tuple[Inputs, Tensor]]  # what the network takes, normalised, and labels, on the device


def open_data(run: Run) -> ImageSet:
    """Open the run's images; refuse those of another digest under the same name."""
    found = variant(run.data.dataset, run.data.variant)
    if found.digest != run.data.digest:
        raise DataError(
            f"{run.id} was planned for {run.data.dataset}/{run.data.variant} with digest {run.data.digest[:12]}, "
            f"but this machine has {found.digest[:12]}; import the right data or plan the run again."
        )
    return _opened(found, default_data_dir())


@lru_cache(maxsize=1)
def _opened(found: Variant, folder: Path) -> ImageSet:
    """Keep the last set: the runs of one process mostly read the same one."""
    return open_set(found, folder)


def test_batches(images: ImageSet, run: Run, machine: Machine) -> TestSet:
    """Normalise the test set on the device."""
    x, y = (on_device(images, part, machine.device) for part in ("x_test", "y_test"))
    t = None if images.t_test is None else on_device(images, "t_test", machine.device)
    return list(evaluation_batches(x, y, run.recipe.normalisation, EVALUATION_BATCH, machine.device, t))


def training_batches(images: ImageSet, run: Run, machine: Machine) -> Batches:
    """Put the training images on the device, in the order of the run's seed."""
    return Batches(images, run.recipe, run.seed, machine.device)

"""Write the curves of a finished run as TensorBoard's event files."""

from pathlib import Path

from bitq.errors import UsageError
from bitq.results.folder import Finished


def write_events(run: Finished, folder: Path) -> None:
    """Write every curve of a run below `folder`, under the run's id."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError(
            "event files were asked for, and the package tensorboard is not installed; call pip install tensorboard."
        ) from None
    curves = run.history.model_dump()
    with SummaryWriter(folder / run.config.id) as writer:
        for name, values in curves.items():
            for epoch, value in enumerate(values, 1):
                writer.add_scalar(name, value, epoch)

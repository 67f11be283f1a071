"""What a run must not ask for, found before any data are opened."""

from torch import nn

from bitq.deploy.export import lowbit_layers
from bitq.errors import UsageError
from bitq.ptq.calibrate import validate_calibration
from bitq.quant.convert import quantized_layers
from bitq.run import Run


def validate(run: Run, model: nn.Module) -> None:
    """Reject a recipe or a calibration that cannot be meant for this network."""
    validate_recipe(run, model)
    if run.calibration:
        validate_calibration(run.calibration, lowbit_layers(model))


def validate_recipe(run: Run, model: nn.Module) -> None:
    """Reject a recipe or precision by which this network cannot be trained."""
    if run.recipe.mixup and run.data.words:
        raise UsageError(
            f"mixup={run.recipe.mixup} was given, but {run.data.dataset} has a sentence beside each image, and halfway "
            "between two sentences there is none; allowed: 0."
        )
    batch_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    if run.recipe.accumulate > 1 and batch_norm:
        raise UsageError(
            f"accumulate={run.recipe.accumulate} was given, but {run.model} normalises over the batch, so "
            "micro-batches would train another network; allowed: 1, or a model without that, such as convnext."
        )
    if run.precision == "fp16" and any(layer.activation is not None for layer in quantized_layers(model).values()):
        raise UsageError(
            f"precision=fp16 was given, but {run.method} here multiplies codes with codes, whose sums leave its range; "
            "allowed: bf16, fp32."
        )
    if run.recipe.batch == 1 and batch_norm:
        raise UsageError(f"batch=1 was given, but {run.model} normalises over the batch; give a batch of 2 or more.")

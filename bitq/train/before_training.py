"""What the training images decide before the first step of a run."""

import torch
from torch import nn

from bitq.ptq.calibrate import calibrate
from bitq.train.budget import allocate_sparsity
from bitq.train.loop import Training


def calibrate_before_training(training: Training) -> None:
    """Set sparsities, ranges, roundings and statistics as the run asks for; a run of zero epochs ships the outcome."""
    allocate_sparsity(training)
    calibration = training.run.calibration
    if calibration is None:
        return
    calibrate(training.model, calibration, list(training.batches.sample(calibration.images)))
    if calibration.norm_statistics:
        estimate_norm_statistics(training, calibration.images)


@torch.no_grad()
def estimate_norm_statistics(training: Training, images: int) -> None:
    """Estimate running means and variances anew, as averages over batches of training images."""
    model = training.model.eval()
    layers = [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain average over all batches
        layer.train()
    for x in training.batches.sample(images):
        model(x)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum

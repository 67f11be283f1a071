"""The network of the ATQ study: two small convolutions, and two linear layers that hold most of its weights."""

from collections import OrderedDict

from torch import nn

from bitq.models.adapter import STEMS, Adapter, Geometry, keep_modes

POOLINGS = 2


def atq_cnn(geometry: Geometry) -> nn.Module:
    """Build the network: 421,834 parameters as published, on grey images of 28×28 pixels; the original adds its two α.

    As in the original its poolings round sizes down and its layers start as PyTorch starts them. It has one stem.
    """
    first, second, hidden = (factor * geometry.width for factor in (1, 2, 4))  # published: 32, 64, 128
    pixels = (geometry.image_size // 2**POOLINGS) ** 2
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(geometry.channels, first, 3, padding=1),
            bn1=nn.BatchNorm2d(first),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(first, second, 3, padding=1),
            bn2=nn.BatchNorm2d(second),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(second * pixels, hidden),
            relu3=nn.ReLU(),
            dropout=nn.Dropout(0.3),
            fc2=nn.Linear(hidden, geometry.classes),
        )
    )


ATQ_CNN = Adapter(
    atq_cnn,
    keep_modes("conv1", (("conv2",), ("fc1",)), head="fc2", last="fc2") | {"conv": ("conv1", "conv2")},
    smallest_image=dict.fromkeys(STEMS, 2**POOLINGS),
    one_stem=True,
)

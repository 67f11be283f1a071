"""Use a packed network: one file in, predictions out. Train one first, or name a packed file that you have.

bitq train --scale smoke --model resnet18 --dataset cifar10 --method bitnet
python examples/load_packed.py results/smoke/adhoc/cifar10/resnet18/bitnet/s42/model.safetensors
"""

import sys
from pathlib import Path

import torch

from bitq.data.augment import Normalise
from bitq.deploy.load import load
from bitq.errors import BitqError


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        sys.exit("load_packed.py: give one packed file; `bitq train` writes them, as model.safetensors of a run.")
    try:
        model, spec = load(Path(arguments[0]))  # checked byte by byte, then built; in eval mode
    except BitqError as error:
        sys.exit(f"load_packed.py: {error}")
    size, channels = spec["image_size"], spec["channels"]
    images = torch.randint(0, 256, (4, size, size, channels), dtype=torch.uint8)  # yours go here
    x = Normalise(spec["normalisation"], channels, size, "cpu")(images).permute(0, 3, 1, 2)
    with torch.inference_mode():
        print(f"{spec['model']} ({spec['method']}) says", model(x).argmax(1).tolist())


if __name__ == "__main__":
    main(sys.argv[1:])

"""Use a packed network: one file in, predictions out.

python examples/load_packed.py results/smoke/bitnet/cifar10/resnet18/bitnet/s42/model.safetensors
"""

import sys
from pathlib import Path

import torch

from bitq.data.augment import Normalise
from bitq.deploy.load import load


def main() -> None:
    model, spec = load(Path(sys.argv[1]))  # checked byte by byte, then built; in eval mode
    size, channels = spec["image_size"], spec["channels"]
    images = torch.randint(0, 256, (4, size, size, channels), dtype=torch.uint8)  # yours go here
    x = Normalise(spec["normalisation"], channels, size, "cpu")(images).permute(0, 3, 1, 2)
    with torch.inference_mode():
        print(f"{spec['model']} ({spec['method']}) says", model(x).argmax(1).tolist())


if __name__ == "__main__":
    main()

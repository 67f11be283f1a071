"""Post-training quantization in five lines, with data of your own and no training.

python examples/ptq.py
"""

from pathlib import Path

from finetune_float import trained
from own_loop import network
from toy_data import loader

import bitq


def main(path: Path) -> float:
    model = trained()

    bitq.quantize(model, "int4", activations="static", fold=True)
    bitq.calibrate(model, loader(), rounding="adaptive", bias_correction=True)
    written = bitq.export(model, path)
    score = bitq.evaluate(path, loader(seed=1), into=network())
    print(f"{score.percent:.1f} % from {written.file_bytes:,} bytes")

    return score.percent


if __name__ == "__main__":
    main(Path("ptq.safetensors"))

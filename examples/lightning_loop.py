"""The same in Lightning: the module holds a quantized network and tells it the progress of the training.

pip install lightning && python examples/lightning_loop.py
"""

from pathlib import Path

import lightning
import torch
from own_loop import network
from torch import Tensor
from torch.nn import functional
from toy_data import loader

import bitq


class Quantized(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = bitq.quantize(network(), "lsq", settings={"bits": 2}, keep=["0", "9"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(bitq.parameter_groups(self.net, weight_decay=1e-2), lr=1e-2)

    def on_train_batch_start(self, batch: list[Tensor], batch_idx: int) -> None:
        bitq.set_progress(self.net, self.trainer.global_step / self.trainer.estimated_stepping_batches)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return functional.cross_entropy(self.net(x), y)


def main(path: Path) -> float:
    module = Quantized()
    trainer = lightning.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader())
    bitq.export(module.net, path)
    score = bitq.evaluate(path, loader(seed=1), into=network())
    print(f"{score.percent:.1f} % from {path.stat().st_size:,} bytes")
    return score.percent


if __name__ == "__main__":
    main(Path("lightning_loop.safetensors"))

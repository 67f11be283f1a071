"""Define a run of the grid: everything that decides its numbers, and nothing else."""

import re
from functools import cached_property
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from bitq.io import canonical_json, sha256
from bitq.records import Frozen

Stem = Literal["cifar", "imagenet"]
Norm = Literal["none", "layer"]
Precision = Literal["fp32", "bf16", "fp16"]

# Characters that no folder should have in its name.
UNSAFE = re.compile(r"[^A-Za-z0-9_.+@=-]")
LARGEST_SEED = 2**32 - 1


class Data(Frozen):
    """The images of a run: a data set, one of its variants, and the digest that identifies its content."""

    dataset: str
    variant: str
    digest: str
    classes: int = Field(ge=2)
    image_size: int = Field(ge=4)
    channels: int = Field(default=3, ge=1)
    words: int = Field(default=0, ge=0)  # of the sentence beside each image; 0: images alone
    vocabulary: int = Field(default=0, ge=0)  # tokens

    @model_serializer(mode="wrap")
    def _images_alone(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A set of images says nothing of words, and so keeps the hash that it had before there were any.
        fields: dict[str, Any] = plain(self)
        return fields if self.words else {key: fields[key] for key in fields if key not in ("words", "vocabulary")}


# Parts of a recipe that do something only with certain values of another: {part: (other, values)}.
ACTIVE_IF: dict[str, tuple[str, tuple[str, ...]]] = {
    "milestones": ("schedule", ("step",)),
    "gamma": ("schedule", ("step",)),
    "min_lr": ("schedule", ("cosine",)),
    "momentum": ("optimizer", ("sgd",)),
    "nesterov": ("optimizer", ("sgd",)),
    "pad": ("augment", ("basic", "rotate", "randaug", "cutout", "full")),
}


class Recipe(Frozen):
    """The schedule and the regularisation of a training. Lengths are in epochs, `lr` is for the whole batch."""

    epochs: int = Field(default=200, ge=0, description="Epochs of training; 0 quantizes the start as it is.")
    batch: int = Field(default=128, ge=1, description="Images per step.")
    accumulate: int = Field(
        default=1, ge=1, description="Micro-batches per step; refused where batch statistics would change."
    )
    optimizer: Literal["sgd", "adamw", "adam"] = Field(
        default="sgd", description="Optimizer (adam couples weight decay into the gradient, adamw does not)."
    )
    lr: float = Field(default=0.1, gt=0, lt=100, description="Largest learning rate, for the whole batch.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum of sgd.")
    nesterov: bool = Field(default=True, description="Look ahead by the momentum, with sgd.")
    weight_decay: float = Field(default=5e-4, ge=0, description="Weight decay; quantizer scalars are exempt.")
    schedule: Literal["cosine", "step", "constant"] = Field(
        default="cosine", description="Course of the learning rate."
    )
    milestones: tuple[float, ...] = Field(
        default=(), description="Epochs at which schedule step multiplies the learning rate by gamma: 100,150."
    )
    gamma: float = Field(default=0.1, gt=0, le=1, description="Factor of schedule step at each milestone.")
    warmup_epochs: float = Field(default=0.0, ge=0, description="Epochs over which the learning rate rises from zero.")
    min_lr: float = Field(default=0.0, ge=0, description="Learning rate at the end of schedule cosine.")
    # The published works change lr once an epoch; short runs need finer steps.
    lr_every: Literal["epoch", "step"] = Field(default="epoch", description="How often the learning rate changes.")
    clip_norm: float | None = Field(default=None, gt=0, description="Largest norm of the gradient.")
    mixup: float = Field(
        default=0.0, ge=0, description="α of the Beta distribution by which pairs of images are mixed; 0 is off."
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="Share of a label that goes to all classes.")
    l1: float = Field(
        default=0.0, ge=0, description="Weight of Σ|w| from half of the training on; until then it grows from zero."
    )
    augment: Literal["none", "basic", "rotate", "randaug", "cutout", "full"] = Field(
        default="basic", description="Augmentation (basic crops and flips)."
    )
    pad: int = Field(default=4, ge=0, description="Zero border of the random crop, in pixels.")
    normalisation: Literal["imagenet", "half", "cifar10", "cifar100", "fashion_mnist", "mnist"] = Field(
        default="imagenet", description="Whose mean and deviation the images are normalised by (half: 0.5 and 0.5)."
    )
    validation: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the training images held out, drawn by the seed."
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> "Recipe":
        if self.epochs and self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} must be less than epochs {self.epochs}")
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr {self.min_lr} must not exceed lr {self.lr}")
        if self.batch % self.accumulate:
            raise ValueError(f"batch {self.batch} must be a multiple of accumulate {self.accumulate}")
        if self.schedule == "step" and not self.milestones:
            raise ValueError("schedule 'step' needs milestones, for example milestones: [100, 150]")
        if self.milestones and min(self.milestones) <= 0:
            raise ValueError(f"milestones {list(self.milestones)} must be epochs above 0")
        for name, (other, values) in ACTIVE_IF.items():
            given, now = getattr(self, name), getattr(self, other)
            if given != Recipe.model_fields[name].default and now not in values:
                # Its run would have a twin of another name.
                raise ValueError(f"{name} {given} changes nothing with {other} {now}; it is for {', '.join(values)}")
        return self


class Parent(Frozen):
    """A run (or file) whose weights this run starts from or learns from."""

    id: str
    hash: str

    @property
    def is_file(self) -> bool:
        """Tell whether it is a packed file that somebody named, and no run."""
        return self.id.endswith(".safetensors")


class Distillation(Frozen):
    """Knowledge distillation: loss = α·T²·KL(teacher ‖ student) + (1-α)·cross-entropy."""

    teacher: Parent | None  # None: an fp32 network of the same shape, trained beside the student in the same loop
    temperature: float = Field(default=4.0, gt=0)
    alpha: float = Field(default=0.9, ge=0, le=1)


class Calibration(Frozen):
    """Post-training quantization: what is decided after training on a few training images."""

    images: int = Field(default=512, ge=1)
    fold: bool = False  # batch normalisation becomes part of the convolution before it
    # dynamic: int8 with one scale per sample; static: uint8 with one scale and zero point per layer
    activations: Literal["none", "dynamic", "static"] = "none"
    activation_range: Literal["minmax", "percentile", "mse"] = "minmax"  # of static activations
    bias_correction: bool = False  # the mean shift of every output channel is taken back
    rounding: Literal["nearest", "adaptive"] = "nearest"
    norm_statistics: bool = False  # running means and variances are estimated anew with the quantized weights

    @model_validator(mode="after")
    def _makes_sense(self) -> "Calibration":
        if self.fold and self.norm_statistics:
            raise ValueError("fold leaves no norm_statistics to estimate; ask for one of them")
        if self.activation_range != "minmax" and self.activations != "static":
            raise ValueError(
                f"activation_range {self.activation_range} is for activations=static, and they are {self.activations}; "
                "give activations=static with it"
            )
        return self

    @property
    def needs_trained_weights(self) -> str:
        """Name what needs a trained network: untrained weights would not do."""
        asked = {
            "fold": self.fold,
            "activations=static": self.activations == "static",
            "rounding=adaptive": self.rounding == "adaptive",
            "bias_correction": self.bias_correction,
            "norm_statistics": self.norm_statistics,
        }
        return ", ".join(name for name, is_asked in asked.items() if is_asked)


class Run(Frozen):
    """A fully resolved line of the grid."""

    study: str
    phase: str
    scale: str
    data: Data
    model: str
    width: int = Field(ge=1, le=1024)  # channels of the first stage
    stem: Stem = "cifar"
    norm: Norm = "none"  # per-sample normalisation in front of every convolution and linear layer
    method: str
    settings: dict[str, Any] = Field(default_factory=dict)  # arguments of the method's quantizer
    keep: tuple[str, ...] = ()  # layers left in full precision: modes of the model's adapter, or globs
    distillation: Distillation | None = None
    start: Parent | None = None  # initial weights, if not drawn from the seed
    calibration: Calibration | None = None
    recipe: Recipe = Recipe()
    precision: Precision = "bf16"
    seed: int = Field(ge=0, le=LARGEST_SEED)
    tag: str = ""  # of arms whose difference has no name of its own

    @model_validator(mode="after")
    def _makes_sense(self) -> "Run":
        if self.recipe.epochs == 0 and self.start is None:
            raise ValueError("epochs 0 trains nothing; name a start, the run or file to quantize as it is")
        if self.start is None and self.calibration and self.calibration.needs_trained_weights:
            raise ValueError(
                f"calibration {self.calibration.needs_trained_weights} is for a trained network; name a start, the run "
                "or file to quantize"
            )
        return self

    @property
    def arm(self) -> str:
        """Name the folder between model and seed: method, kept layers, and whatever else sets the arm apart."""
        parts = [self.method]
        parts += ["keep_" + "+".join(self.keep)] if self.keep else []
        parts += ["norm"] if self.norm != "none" else []
        parts += ["imagenet_stem"] if self.stem == "imagenet" else []
        parts += ["kd" if self.distillation.teacher else "online_kd"] if self.distillation else []
        parts += [self.tag] if self.tag else []
        return UNSAFE.sub("_", "-".join(parts))

    @cached_property
    def id(self) -> str:
        """Name the run, readably and uniquely within a scale: study/dataset/model/arm/seed."""
        return f"{self.study}/{self.data.dataset}/{self.model}/{self.arm}/s{self.seed}"

    @property
    def path(self) -> str:
        """Locate its files, relative to the results folder."""
        return f"{self.scale}/{self.id}"

    @cached_property
    def hash(self) -> str:
        """Hash the resolved configuration, its data digest and the hashes of its parents (sha256)."""
        return sha256(canonical_json(self.identity))

    @property
    def identity(self) -> dict[str, Any]:
        """Collect all that decides its numbers; of a file that is the content, not its place or name."""
        fields = self.model_dump(mode="json")
        teacher = (fields["distillation"] or {}).get("teacher")
        for parent in filter(None, (fields["start"], teacher)):
            if Parent(**parent).is_file:
                del parent["id"]
        return fields

    def __copy__(self) -> "Run":
        # model_copy(update=…) starts from here: a changed copy must not keep the names of the original.
        copied = super().__copy__()
        for name in ("id", "hash"):
            copied.__dict__.pop(name, None)
        return copied

    @property
    def parents(self) -> tuple[Parent, ...]:
        """List the runs that must be finished first."""
        found = (self.distillation and self.distillation.teacher, self.start)
        return tuple(parent for parent in found if parent)

"""The questions of the studies as families of contrasts: one entry a question, arms named as in run ids."""

from dataclasses import dataclass

PARITY = 0.5  # points of accuracy; two arms closer than this count as equal
EXTENSION = "n10"  # the phase of the further seeds, which only the family of that name counts

KEPT = ("conv1", "layer1", "layer4", "fc")


def group_of(study: str) -> str:
    """Return the study that a study extends, or its own name; the two are read together.

    >>> group_of("bitnet-extended"), group_of("ring")
    ('bitnet', 'ring')
    """
    return study.removesuffix("-extended")


@dataclass(frozen=True)
class Family:
    """Contrasts that are corrected together: first arm minus second, at every place of the study that has both."""

    name: str
    question: str
    pairs: tuple[tuple[str, str], ...]
    margin: float | None = None  # of equivalence, where parity is claimed
    all_seeds: bool = False  # also count the extension's seeds
    study: str = "bitnet"  # with its extension


@dataclass(frozen=True)
class Gap:
    """The share of the gap from `low` to `high` that the arm `kept` recovers."""

    kept: str
    low: str
    high: str
    study: str = "bitnet"


FAMILIES: tuple[Family, ...] = (
    Family("bitnet_vs_fp32", "What do ternary weights and int8 activations cost?", (("bitnet", "fp32"),)),
    Family(
        "recipe_vs_fp32",
        "Does a first convolution in full precision bring parity?",
        (("bitnet-keep_conv1", "fp32"), ("bitnet-keep_conv1-kd", "fp32")),
        margin=PARITY,
    ),
    Family("bitnet_vs_ttq", "Which ternary rule is better, all layers ternary?", (("bitnet", "ttq"),)),
    Family(
        "recipe_vs_ttq",
        "Does the recipe beat TTQ?",
        (("bitnet-keep_conv1", "ttq"), ("bitnet-keep_conv1-kd", "ttq")),
    ),
    Family(
        "kd",
        "What does distillation do to a float and to a ternary student?",
        (("fp32-kd", "fp32"), ("bitnet-kd", "bitnet")),
    ),
    Family(
        "kd_with_kept_layers",
        "What does distillation do where a layer is left in full precision?",
        tuple((f"bitnet-keep_{layer}-kd", f"bitnet-keep_{layer}") for layer in KEPT),
    ),
    Family(
        "layers",
        "Which layer gains most in full precision?",
        tuple((f"bitnet-keep_{layer}", "bitnet") for layer in KEPT),
    ),
    Family(
        "layers_with_kd",
        "Which layer gains most in full precision, under distillation?",
        tuple((f"bitnet-keep_{layer}-kd", "bitnet-kd") for layer in KEPT),
    ),
    Family(
        "first_against_other_layers",
        "Is the first convolution the most sensitive layer?",
        tuple((f"bitnet-keep_conv1{kd}", f"bitnet-keep_{layer}{kd}") for kd in ("", "-kd") for layer in KEPT[1:]),
    ),
    Family(
        "norm",
        "What does a normalisation in front of every layer do by itself?",
        (("fp32-norm", "fp32"), ("bitnet-norm", "bitnet")),
        margin=PARITY,
    ),
    Family(
        "legacy",
        "Do the methods as defined differ from the original's code?",
        (("bitnet", "bitnet_legacy"), ("ttq", "ttq_legacy")),
        margin=PARITY,
    ),
    Family(
        "mixup",
        "What does distillation lose without the mixup of its twin?",
        (("fp32-kd-no_mixup", "fp32-kd"), ("bitnet-kd-no_mixup", "bitnet-kd")),
    ),
    Family(
        "kd_as_published",
        "What does the original's contrast show, which changes mixup together with distillation?",
        (("fp32-kd-no_mixup", "fp32"), ("bitnet-kd-no_mixup", "bitnet")),
    ),
    Family(
        "kd_alpha",
        "What does distillation do to a ternary student with more weight on the labels?",
        tuple((f"bitnet-kd-alpha{share}", "bitnet") for share in ("01", "03", "05")),
    ),
    Family("stem", "What does the stem for small images gain?", (("fp32", "fp32-imagenet_stem"),)),
    Family(
        "ttq_as_published",
        "What do float outer layers and a trained start give TTQ?",
        (("ttq-keep_first+last-from_fp32", "ttq"), ("ttq-keep_first+last-from_fp32", "bitnet")),
    ),
    Family("ttq_unit", "What does the fitted unit of its values give TTQ from scratch?", (("ttq", "ttq-unit_one"),)),
    Family(
        "n10",
        "What do ten seeds say?",
        (
            ("bitnet", "fp32"),
            ("bitnet-keep_conv1", "fp32"),
            ("bitnet-keep_conv1", "bitnet"),
            ("fp32-kd", "fp32"),
            ("bitnet-kd", "bitnet"),
        ),
        all_seeds=True,
    ),
)

ATQ, LEGACY = "atq-keep_conv", "atq_legacy-keep_conv"  # linear layers ternary, as published
THRESHOLDS = ("twn", "max", "ls", "learned")
RULES = ("cubic", "scale_learned", "scale_asym", "channel", "gradient_ttq")
INGREDIENTS = ("boosted", "boosted_gradient", "routed", "routed_boundary", "routed_inputs", "l1")

FAMILIES += (
    Family(
        "atq_vs_fp32",
        "What do ternary linear layers, and ternary convolutions too, cost the network of ATQ?",
        ((ATQ, "fp32"), ("atq", "fp32"), ("atq", ATQ)),
        study="atq",
    ),
    Family(
        "atq_legacy",
        "Does the published arithmetic learn, and does its ternary part matter?",
        ((ATQ, f"{LEGACY}-online_kd"), (f"{LEGACY}-zeroed", f"{LEGACY}-online_kd")),
        margin=PARITY,
        study="atq",
    ),
    Family(
        "atq_rules",
        "Which rules for thresholds, scales, gradients and schedules matter?",
        (
            *((f"{ATQ}-threshold_{rule}", f"{ATQ}-constant") for rule in THRESHOLDS),
            (f"{ATQ}-ttq_rules", f"{ATQ}-constant"),
            (ATQ, f"{ATQ}-constant"),
            *((f"{ATQ}-{rule}", ATQ) for rule in RULES),
        ),
        study="atq",
    ),
    Family(
        "atq_ingredients",
        "What does each ingredient of ATQ add?",
        (*((f"{ATQ}-{name}", ATQ) for name in INGREDIENTS), (f"{ATQ}-budget50", f"{ATQ}-zeros50")),
        study="atq",
    ),
    Family(
        "atq_kd",
        "What does distillation do, offline and online, to a float and to a ternary student?",
        (("fp32-kd", "fp32"), (f"{ATQ}-kd", ATQ), (f"{ATQ}-online_kd", ATQ)),
        study="atq",
    ),
    Family(
        "atq_sparsity",
        "What do more zeros cost?",
        tuple((f"{ATQ}-zeros{share}", ATQ) for share in (10, 50, 70, 90)),
        study="atq",
    ),
    Family(
        "atq_others",
        "Is ATQ better than other ternary methods in the same layers?",
        ((ATQ, "twn-keep_conv"), (ATQ, "ttq-keep_conv")),
        study="atq",
    ),
)

GAPS: tuple[Gap, ...] = (
    *(Gap(f"bitnet-keep_{layer}", "bitnet", "fp32") for layer in KEPT),
    *(Gap(f"bitnet-keep_{layer}-kd", "bitnet-kd", "fp32-kd") for layer in KEPT),
    Gap("bitnet-keep_conv1-kd", "bitnet", "fp32"),  # the whole recipe against the plain gap; all that ResNet-50 has
)

LOW = (4, 3, 2)

FAMILIES += (
    Family(
        "precision_training",
        "What does training in 16 bits cost?",
        (("fp32-trained_bf16", "fp32"), ("fp32-trained_fp16", "fp32"), ("fp32-trained_fp16", "fp32-trained_bf16")),
        margin=PARITY,
        study="precision",
    ),
    Family(
        "precision_casts",
        "What does a cast to 16 bits cost?",
        (("fp16", "fp32"), ("bf16", "fp32"), ("fp16", "bf16")),
        margin=PARITY,
        study="precision",
    ),
    Family(
        "precision_ptq",
        "What do fewer bits after training cost, all layers?",
        (*((f"int{bits}-ptq", "fp32") for bits in (8, 6, 5, 4, 3, 2)), ("int8-ptq_a8_static", "fp32")),
        margin=PARITY,
        study="precision",
    ),
    Family(
        "precision_choices",
        "Which choices after training matter?",
        (
            *((f"int{bits}-ptq", f"int{bits}-ptq_minmax") for bits in LOW),
            ("int4-ptq", "int4-ptq_percentile"),
            *((f"int{bits}-ptq_bias", f"int{bits}-ptq") for bits in LOW),
            *((f"int{bits}-ptq_adaptive", f"int{bits}-ptq_bias") for bits in LOW),
            ("int4-ptq_tensor", "int4-ptq"),
            ("int8-ptq_a8_dynamic", "int8-ptq_a8_static"),
        ),
        study="precision",
    ),
    Family(
        "precision_linear",
        "How does the original, in its linear layers only, compare with all layers in as many bits?",
        tuple((f"int{bits}-keep_conv-linear_ptq", f"int{bits}-ptq_minmax") for bits in (8, 4)),
        study="precision",
    ),
    Family(
        "precision_qat",
        "Does training with quantized weights recover what quantization after training loses?",
        (
            *((f"lsq-w{bits}", f"int{bits}-ptq") for bits in (8, *LOW)),
            *((f"lsq-w{bits}", "fp32-trained_on") for bits in (8, *LOW)),
            ("dorefa-w4", "lsq-w4"),
            ("dorefa-w2", "lsq-w2"),
            ("lsq-w4a8", "int4-ptq_a8_adaptive"),
        ),
        study="precision",
    ),
)

FAMILIES += (
    Family(
        "multimodal_vs_fp32",
        "What do few levels cost the network that sees an image and a sentence?",
        (("atq", "fp32"), ("twn", "fp32"), ("bitnet", "fp32")),
        margin=PARITY,
        study="multimodal",
    ),
    Family(
        "multimodal_modality",
        "Which modality pays for ternary weights?",
        (
            ("atq-keep_text+fusion+last", "fp32"),
            ("atq-keep_image+fusion+last", "fp32"),
            ("atq-keep_embedding", "atq"),
            ("atq-keep_text+fusion+last", "atq-keep_image+fusion+last"),
        ),
        study="multimodal",
    ),
)

RING, RING_LEGACY = "ring-keep_last", "ring_legacy-keep_last"  # the last layer in full precision, as published

FAMILIES += (
    Family(
        "ring_vs_fp32",
        "What do hard rings of four and of eight levels cost?",
        ((f"{RING}-n4", "fp32"), (f"{RING}-n8", "fp32")),
        study="ring",
    ),
    Family(
        "ring_snapping",
        "What is left of the published network on its own ring?",
        tuple(
            (f"{RING_LEGACY}-r{n}_{how}", f"{RING_LEGACY}-r{n}") for n in (4, 8) for how in ("snapped", "recalibrated")
        ),
        study="ring",
    ),
    Family(
        "ring_hard_vs_soft",
        "Are levels from the start better than the continuous weights of the original?",
        tuple((f"{RING}-n{n}", f"{RING_LEGACY}-r{n}") for n in (4, 8)),
        study="ring",
    ),
    Family(
        "ring_order",
        "What does the order on a ring do that ascending order does not?",
        tuple((f"{RING}-n{n}", f"{RING}-n{n}_line") for n in (4, 8)),
        study="ring",
    ),
    Family(
        "ring_vs_others",
        "Is a ring better than established methods with as many levels?",
        (
            (f"{RING}-n4", "lsq-keep_last-w2"),
            (f"{RING}-n4", "dorefa-keep_last-w2"),
            (f"{RING}-n8", "lsq-keep_last-w3"),
            (f"{RING}-n8", "dorefa-keep_last-w3"),
            (f"{RING}-n3", "twn-keep_last"),
            (f"{RING}-n3", "ttq-keep_last"),
        ),
        study="ring",
    ),
    Family(
        "ring_vs_further",
        "Is a ring better than further methods with as many levels?",
        (
            (f"{RING}-n2", "bwn-keep_last"),
            (f"{RING}-n2", "irnet-keep_last"),
            (f"{RING}-n3", "twn-keep_last-channel"),
            *((f"{RING}-n{n}", f"{method}-keep_last-n{n}") for n in (3, 4) for method in ("paretoq", "parq")),
            (f"{RING}-n8", "apot-keep_last-w3"),
            (f"{RING}-n16", "lsq-keep_last-w4"),
            (f"{RING}-n16", "apot-keep_last-w4"),
        ),
        study="ring",
    ),
    Family(
        "ring_choices",
        "What do a scale a channel, and the count of weights behind a step's gradient, change?",
        (
            ("twn-keep_last-channel", "twn-keep_last"),
            ("lsq-keep_last-w2_tensor_count", "lsq-keep_last-w2"),
        ),
        study="ring",
    ),
    Family(
        "ring_codebooks",
        "What do other waves, learned levels and annealing change?",
        (
            *((f"{RING}-n{n}_{wave}", f"{RING}-n{n}") for n in (4, 8) for wave in ("sine", "learned")),
            (f"{RING}-n4_anneal", f"{RING}-n4"),
            (f"{RING}-n4_narrowing", f"{RING}-n4"),
            (f"{RING}-n4_phase0", f"{RING}-n3"),
        ),
        study="ring",
    ),
)

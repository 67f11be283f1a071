"""List the questions of the study atq as families of contrasts."""

from bitq.stats.families import PARITY, Family

ATQ, LEGACY = "atq-keep_conv", "atq_legacy-keep_conv"  # linear layers ternary, as published
THRESHOLDS = ("twn", "max", "ls", "learned")
RULES = ("cubic", "scale_learned", "scale_asym", "channel", "gradient_ttq")
INGREDIENTS = ("boosted", "boosted_gradient", "routed", "routed_boundary", "routed_inputs", "l1")

FAMILIES: tuple[Family, ...] = (
    Family(
        "atq_vs_fp32",
        "What do ternary linear layers, and ternary convolutions too, cost the network of ATQ?",
        ((ATQ, "fp32"), ("atq", "fp32"), ("atq", ATQ)),
    ),
    Family(
        "atq_legacy",
        "Does the published arithmetic learn, and does its ternary part matter?",
        ((ATQ, f"{LEGACY}-online_kd"), (f"{LEGACY}-zeroed", f"{LEGACY}-online_kd")),
        margin=PARITY,
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
    ),
    Family(
        "atq_ingredients",
        "What does each ingredient of ATQ add?",
        (*((f"{ATQ}-{name}", ATQ) for name in INGREDIENTS), (f"{ATQ}-budget50", f"{ATQ}-zeros50")),
    ),
    Family(
        "atq_kd",
        "What does distillation do, offline and online, to a float and to a ternary student?",
        (("fp32-kd", "fp32"), (f"{ATQ}-kd", ATQ), (f"{ATQ}-online_kd", ATQ)),
    ),
    Family(
        "atq_sparsity",
        "What do more zeros cost?",
        tuple((f"{ATQ}-zeros{share}", ATQ) for share in (10, 50, 70, 90)),
    ),
    Family(
        "atq_others",
        "Is ATQ better than other ternary methods in the same layers?",
        ((ATQ, "twn-keep_conv"), (ATQ, "ttq-keep_conv")),
    ),
)

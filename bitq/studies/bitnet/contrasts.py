"""List the questions of the study bitnet as families of contrasts, and its gaps."""

from bitq.stats.families import PARITY, Family, Gap

KEPT = ("conv1", "layer1", "layer4", "fc")

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

GAPS: tuple[Gap, ...] = (
    *(Gap(f"bitnet-keep_{layer}", "bitnet", "fp32") for layer in KEPT),
    *(Gap(f"bitnet-keep_{layer}-kd", "bitnet-kd", "fp32-kd") for layer in KEPT),
    Gap("bitnet-keep_conv1-kd", "bitnet", "fp32"),  # the whole recipe against the plain gap; all that ResNet-50 has
)

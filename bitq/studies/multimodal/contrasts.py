"""List the questions of the study multimodal as families of contrasts."""

from bitq.stats.families import PARITY, Family

FAMILIES: tuple[Family, ...] = (
    Family(
        "multimodal_vs_fp32",
        "What do few levels cost the network that sees an image and a sentence?",
        (("atq", "fp32"), ("twn", "fp32"), ("bitnet", "fp32")),
        margin=PARITY,
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
    ),
)

"""List the questions of the study granularity as families of contrasts."""

from bitq.stats.families import Family

FAMILIES: tuple[Family, ...] = (
    Family(
        "granularity_scales",
        "What does a scale for each channel gain over one for each layer?",
        (("twn-fine", "twn"), ("twn", "fp32"), ("twn-fine", "fp32")),
    ),
)

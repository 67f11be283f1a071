"""List the questions of the study ring as families of contrasts."""

from bitq.stats.families import Family

RING, RING_LEGACY = "ring-keep_last", "ring_legacy-keep_last"  # the last layer in full precision, as published

FAMILIES: tuple[Family, ...] = (
    Family(
        "ring_vs_fp32",
        "What do hard rings of four and of eight levels cost?",
        ((f"{RING}-n4", "fp32"), (f"{RING}-n8", "fp32")),
    ),
    Family(
        "ring_snapping",
        "What is left of the published network on its own ring?",
        tuple(
            (f"{RING_LEGACY}-r{n}_{how}", f"{RING_LEGACY}-r{n}") for n in (4, 8) for how in ("snapped", "recalibrated")
        ),
    ),
    Family(
        "ring_hard_vs_soft",
        "Are levels from the start better than the continuous weights of the original?",
        tuple((f"{RING}-n{n}", f"{RING_LEGACY}-r{n}") for n in (4, 8)),
    ),
    Family(
        "ring_order",
        "What does the order on a ring do that ascending order does not?",
        tuple((f"{RING}-n{n}", f"{RING}-n{n}_line") for n in (4, 8)),
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
    ),
    Family(
        "ring_choices",
        "What do a scale a channel, and the count of weights behind a step's gradient, change?",
        (
            ("twn-keep_last-channel", "twn-keep_last"),
            ("lsq-keep_last-w2_tensor_count", "lsq-keep_last-w2"),
        ),
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
    ),
)

"""List the questions of the study precision as families of contrasts."""

from bitq.stats.families import PARITY, Family

LOW = (4, 3, 2)

FAMILIES: tuple[Family, ...] = (
    Family(
        "precision_training",
        "What does training in 16 bits cost?",
        (("fp32-trained_bf16", "fp32"), ("fp32-trained_fp16", "fp32"), ("fp32-trained_fp16", "fp32-trained_bf16")),
        margin=PARITY,
    ),
    Family(
        "precision_casts",
        "What does a cast to 16 bits cost?",
        (("fp16", "fp32"), ("bf16", "fp32"), ("fp16", "bf16")),
        margin=PARITY,
    ),
    Family(
        "precision_ptq",
        "What do fewer bits after training cost, all layers?",
        (*((f"int{bits}-ptq", "fp32") for bits in (8, 6, 5, 4, 3, 2)), ("int8-ptq_a8_static", "fp32")),
        margin=PARITY,
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
    ),
    Family(
        "precision_linear",
        "How does the original, in its linear layers only, compare with all layers in as many bits?",
        tuple((f"int{bits}-keep_conv-linear_ptq", f"int{bits}-ptq_minmax") for bits in (8, 4)),
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
    ),
)

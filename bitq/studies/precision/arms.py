"""Name the arms of the study on precision, and how the tables and figures group them."""

PLACE = "cifar100", "vgg11"
TRAINED = {"fp32": "FP32", "fp32-trained_bf16": "bf16", "fp32-trained_fp16": "fp16, loss scaling"}
CASTS = {"fp16": "fp16", "bf16": "bf16"}
AFTER = {f"int{bits}-ptq": f"int{bits}, MSE range" for bits in (8, 7, 6, 5, 4, 3, 2)}
# Group in print → arm → its name there.
BITS: dict[str, dict[str, str]] = {
    "After training, weights": AFTER,
    "… with the range of the largest weight": {f"int{bits}-ptq_minmax": f"int{bits}, minmax" for bits in (8, 4, 3, 2)},
    "… with the range of all but the tails": {f"int{bits}-ptq_percentile": f"int{bits}, percentile" for bits in (8, 4)},
    "… with one step for all channels": {f"int{bits}-ptq_tensor": f"int{bits}, per tensor" for bits in (8, 4)},
    "… with corrected biases": {f"int{bits}-ptq_bias": f"int{bits}" for bits in (4, 3, 2)},
    "… and weights rounded for the outputs": {f"int{bits}-ptq_adaptive": f"int{bits}" for bits in (4, 3, 2)},
    "After training, weights and 8-bit activations": {
        "int8-ptq_a8_static": "W8A8, static, minmax",
        "int8-ptq_a8_adaptive": "W8A8, static, rounded for the outputs",
        "int8-ptq_a8_dynamic": "W8A8, dynamic",
        "int4-ptq_a8_adaptive": "W4A8, static, rounded for the outputs",
    },
    "Trained on with quantized weights": {f"lsq-w{bits}": f"LSQ, {bits} bits" for bits in (8, 4, 3, 2)}
    | {f"dorefa-w{bits}": f"DoReFa, {bits} bits" for bits in (4, 2)}
    | {f"lsq-w{bits}a8": f"LSQ, W{bits}A8" for bits in (8, 4)},
    "Trained on in full precision": {"fp32-trained_on": "FP32"},
}
LINEAR = {
    "int8-keep_conv-linear_ptq": "int8, linear layers only",
    "int8-ptq_minmax": "int8, all layers",
    "int4-keep_conv-linear_ptq": "int4, linear layers only",
    "int4-ptq_minmax": "int4, all layers",
}
# Trained arm → the one after training in as many bits, which it should match.
MATCHES = {f"lsq-w{bits}": f"int{bits}-ptq" for bits in (8, 4, 3, 2)}
# Lines of the figure over bits per weight.
CURVES = {
    "after training": ("int2-ptq", "int3-ptq", "int4-ptq", "int5-ptq", "int6-ptq", "int7-ptq", "int8-ptq", "fp16"),
    "rounded for the outputs": ("int2-ptq_adaptive", "int3-ptq_adaptive", "int4-ptq_adaptive"),
    "trained on (LSQ)": ("lsq-w2", "lsq-w3", "lsq-w4", "lsq-w8"),
    "trained on (DoReFa)": ("dorefa-w2", "dorefa-w4"),
}
PARTS = {
    "trained_bf16": "trained in bf16",
    "trained_fp16": "trained in fp16",
    "trained_on": "trained on",
    "linear_ptq": "after training",
    "ptq_minmax": "minmax",
    "ptq_percentile": "percentile",
    "ptq_tensor": "per tensor",
    "ptq_bias": "corrected biases",
    "ptq_adaptive": "rounded for the outputs",
    "ptq_a8_static": "static int8 activations",
    "ptq_a8_dynamic": "dynamic int8 activations",
    "ptq_a8_adaptive": "static int8 activations, rounded for the outputs",
}

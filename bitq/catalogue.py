"""Name the networks, methods and layers that there are, without loading torch; tests hold the registries to it."""

from bitq.errors import one_of

# Channels of the first stage of each published network, which its first convolution puts out.
PUBLISHED_WIDTH: dict[str, int] = {
    "resnet18": 64,
    "resnet50": 64,
    "resnet20": 16,
    "resnet32": 16,
    "resnet44": 16,
    "vgg11": 64,
    "vgg16": 64,
    "mobilenet_v2": 32,
    "efficientnet_b0": 32,
    "convnext": 96,
    "atq_cnn": 32,
    "gated_fusion": 32,
    "fusion_image_only": 32,
    "fusion_text_only": 32,
}
MODELS = tuple(PUBLISHED_WIDTH)
ABOUT_MODELS: dict[str, str] = {
    "resnet18": "residual network of 18 layers, four stages",
    "resnet50": "residual network of 50 layers with bottlenecks, four stages",
    "resnet20": "residual network for small images, 20 layers in three stages",
    "resnet32": "the same with 32 layers",
    "resnet44": "the same with 44 layers",
    "vgg11": "eight convolutions and three linear layers, batch normalisation",
    "vgg16": "thirteen convolutions and three linear layers, batch normalisation",
    "mobilenet_v2": "inverted residuals with depthwise convolutions",
    "efficientnet_b0": "inverted residuals with squeeze and excitation",
    "convnext": "ConvNeXt-Tiny: depthwise 7×7 convolutions, layer normalisation",
    "atq_cnn": "two convolutions and two linear layers, the network of the ATQ study",
    "gated_fusion": "an image and a sentence, joined by a gate",
    "fusion_image_only": "its control that sees the image alone",
    "fusion_text_only": "its control that sees the sentence alone",
}

# Modes of --keep, and the words with which the names of layers begin.
KEEP = (
    *("first", "last", "stem", "conv_stem", "head", "fc", "fc1", "fc2", "classifier", "conv", "conv1", "conv2"),
    *("layer1", "layer2", "layer3", "layer4", "layer5", "features", "image", "text", "embedding", "fusion"),
)

# What may be set of each method's quantizer.
SETTINGS: dict[str, tuple[str, ...]] = {
    "fp32": (),
    "bitnet": (),
    "bitnet_legacy": (),
    "ttq": ("threshold", "unit"),
    "ttq_legacy": (),
    "twn": ("threshold", "granularity"),
    "ring": ("levels", "wave", "phase", "order", "mode", "sigma", "hard_from"),
    "ring_legacy": ("ring_size", "wave", "snap"),
    "lsq": ("bits", "granularity", "init", "gradient_count"),
    "dorefa": ("bits",),
    "fp16": (),
    "bf16": (),
    **{f"int{bits}": ("granularity", "range", "percentile") for bits in range(2, 9)},
    "atq": (
        *("threshold", "sparsity", "schedule", "start_sparsity", "until", "budget", "scale", "granularity", "gradient"),
        *("clip", "boost", "boost_by", "boost_until", "route_weights", "route_by", "route_inputs"),
    ),
    "atq_legacy": ("rho", "sparsity", "zeroed"),
    "bwn": (),
    "paretoq": ("levels",),
    "parq": ("levels", "steepness", "until"),
    "apot": ("bits",),
    "irnet": (),
}
METHODS = tuple(SETTINGS)
ABOUT_METHODS: dict[str, str] = {
    "fp32": "weights as they are",
    "bitnet": "BitNet b1.58: ternary weights around their mean size, int8 activations",
    "bitnet_legacy": "BitNet as the published ResNet code computes it",
    "ttq": "Trained Ternary Quantization: two trained scales a layer",
    "ttq_legacy": "TTQ as the published ResNet code computes it",
    "twn": "Ternary Weight Networks: threshold and scale in closed form",
    "ring": "levels on a ring, the nearest one taken",
    "ring_legacy": "Ring Quantization as published: a soft blend of levels",
    "lsq": "Learned Step Size Quantization, 2 to 8 bits",
    "dorefa": "DoReFa-Net: even levels of squeezed weights, 1 to 8 bits",
    "fp16": "weights rounded to 16-bit floats",
    "bf16": "weights rounded to bfloat16",
    **{f"int{bits}": f"integers of {bits} bits, rounded after training" for bits in range(2, 9)},
    "atq": "Adaptive Ternary Quantization: ternary with a chosen share of zeros",
    "atq_legacy": "ATQ as the published code computes it",
    "bwn": "Binary Weight Networks: the sign, and one scale a channel",
    "paretoq": "ParetoQ's stretched elastic levels: 3 or 4, balanced around zero",
    "parq": "PARQ: a proximal map that draws weights to few levels",
    "apot": "additive powers of two, 2 to 4 bits",
    "irnet": "IR-Net: signs of standardized weights",
}


def published_width(model: str) -> int:
    """Look up the width of a network as it was published."""
    if model not in PUBLISHED_WIDTH:
        raise one_of("model", model, PUBLISHED_WIDTH)
    return PUBLISHED_WIDTH[model]

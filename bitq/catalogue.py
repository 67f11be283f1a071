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


def published_width(model: str) -> int:
    """Look up the width of a network as it was published."""
    if model not in PUBLISHED_WIDTH:
        raise one_of("model", model, PUBLISHED_WIDTH)
    return PUBLISHED_WIDTH[model]

"""Name the data sets, networks and layers of the study on BitNet, in the order of its tables."""

DATASETS = ("cifar10", "cifar100", "tiny_imagenet")
MODELS = R18, R50 = "resnet18", "resnet50"
LAYERS = ("conv1", "layer1", "layer4", "fc")

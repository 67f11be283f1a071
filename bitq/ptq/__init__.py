"""Quantization after training: folded normalisation, ranges of activations, roundings and biases from a few images."""

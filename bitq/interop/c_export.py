"""Write a network as C: its packed codes, levels and scales as arrays, and a reference inference to read."""

from collections.abc import Mapping
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bitq.data.inputs import Inputs
from bitq.deploy.evaluate import inference
from bitq.errors import UsageError
from bitq.interop.c_calls import CWriter
from bitq.interop.calls import Traced, example_for, traced, write_calls
from bitq.io import write_atomic
from bitq.quant.layers import QuantLayer

REFERENCE = ("reference.h", "reference.c", "main.c")
MOST_FLOATS = 2_000_000  # weights in full precision, of which a line of C each would make a compiler gasp


def export_c(model: nn.Module, spec: Mapping[str, Any], folder: Path) -> dict[str, int]:
    """Write network.h, network.c and the reference inference into a folder; return bytes by file."""
    return write_c(model, example_for(spec), folder)


def write_c(model: nn.Module, example: Inputs, folder: Path) -> dict[str, int]:
    """Write the files of a network that is traced with two examples."""
    contents = c_files(model, example)
    for name, text in contents.items():
        write_atomic(folder / name, text.encode())
    return {name: len(text.encode()) for name, text in contents.items()}


def c_files(model: nn.Module, example: Inputs) -> dict[str, str]:
    """Build the text of each file."""
    check_floats_are_few(model)
    network, writer = traced(model, example), CWriter()
    with inference(model), torch.no_grad():
        write_calls(network, writer)
    texts = {name: (files("bitq.interop") / "c" / name).read_text() for name in REFERENCE}
    return {"network.h": header(network), "network.c": program(network, writer)} | texts


def check_floats_are_few(model: nn.Module) -> None:
    """Refuse a network that is not of few levels."""
    packed = {id(module.weight) for module in model.modules() if isinstance(module, QuantLayer) and _has_codes(module)}
    floats = sum(value.numel() for value in model.parameters() if id(value) not in packed)
    if floats > MOST_FLOATS:
        raise UsageError(
            f"{floats:,} weights of this network are in full precision, and format c takes up to {MOST_FLOATS:,}; "
            "quantize them, or use --format onnx."
        )


def _has_codes(layer: QuantLayer) -> bool:
    return layer.quantizer.levels is not None


def header(network: Traced) -> str:
    """Declare the network and its sizes."""
    sizes = {each.name: prod(each.shape[1:]) for each in network.inputs}
    classes = prod(network.output.shape[1:])
    return f"""/* Written by bitq: a network of few levels, one image at a time. */
#ifndef BITQ_NETWORK_H
#define BITQ_NETWORK_H

#include "reference.h"

#define IMAGE_NUMBERS {sizes["images"]} /* {" x ".join(map(str, network.inputs[0].shape[1:]))} */
#define WORDS {sizes.get("tokens", 0)}
#define CLASSES {classes}

/* Compute the logits of an image, normalised as in training, and of the tokens of its sentence where there are any. */
void network(const float *images, const int32_t *tokens, float *logits);

/* The layer of that name if it has whole levels and integer inputs, or NULL. */
const struct layer *network_layer(const char *name);

#endif
"""


def program(network: Traced, writer: CWriter) -> str:
    """Write the arrays of a network and the calls in order."""
    reads = len(network.inputs) > 1
    words = prod(network.inputs[1].shape[1:]) if reads else 0
    buffers = "".join(f"static float {name}[{size}];\n" for name, size in writer.buffers.items())
    tokens = f"static float tokens[{words}];\n" if reads else ""
    copied = f"    for (int i = 0; i < {words}; i++)\n        tokens[i] = (float)words[i];\n" if reads else ""
    unused = "" if reads else "    (void)words;\n"
    body = "".join(f"    {statement}\n" for statement in writer.statements)
    integers = "".join(f"&{symbol}, " for symbol in writer.integer_layers)
    return f"""#include "network.h"

#include <math.h>
#include <string.h>

{"".join(writer.arrays)}{buffers}{tokens}
void network(const float *images, const int32_t *words, float *logits) {{
{unused}{copied}{body}    memcpy(logits, {writer.name_of(network.output)}, CLASSES * sizeof *logits);
}}

static const struct layer *const integer_layers[] = {{{integers}NULL}};

const struct layer *network_layer(const char *name) {{
    for (const struct layer *const *of = integer_layers; *of; of++)
        if (strcmp((*of)->name, name) == 0)
            return *of;
    return NULL;
}}
"""

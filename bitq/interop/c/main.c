/* Read inputs from stdin and write results to stdout, as raw numbers of this machine, one image after another.
 *
 *   network               float images (and int32 tokens, where the network takes them) in, float logits out
 *   network --layer NAME  int16 codes of the layer's input in, the int32 sums of its product out */
#include "network.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(const char *why) {
    fprintf(stderr, "network: %s\n", why);
    return 2;
}

static int run_layer(const char *name) {
    const struct layer *of = network_layer(name);
    if (of == NULL)
        return failed("no layer of that name has whole levels and integer inputs");
    int16_t *codes = malloc(input_size(of) * sizeof *codes);
    int32_t *sums = malloc(output_size(of) * sizeof *sums);
    if (codes == NULL || sums == NULL)
        return failed("out of memory");
    while (fread(codes, sizeof *codes, input_size(of), stdin) == input_size(of)) {
        layer_sums(of, codes, sums);
        fwrite(sums, sizeof *sums, output_size(of), stdout);
    }
    free(codes);
    free(sums);
    return 0;
}

static float images[IMAGE_NUMBERS];
static int32_t tokens[WORDS + 1]; /* an array has at least one element */
static float logits[CLASSES];

int main(int count, char **arguments) {
    if (count == 3 && strcmp(arguments[1], "--layer") == 0)
        return run_layer(arguments[2]);
    if (count != 1)
        return failed("give no argument, or --layer NAME");
    while (fread(images, sizeof *images, IMAGE_NUMBERS, stdin) == IMAGE_NUMBERS) {
        if (fread(tokens, sizeof *tokens, WORDS, stdin) != WORDS)
            return failed("an image came without its tokens");
        network(images, tokens, logits);
        fwrite(logits, sizeof *logits, CLASSES, stdout);
    }
    return 0;
}

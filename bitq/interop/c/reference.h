/* A small reference inference for networks of few levels: one image at a time, clear rather than fast. C99.
 *
 * Tensors are arrays of float in row-major order. Shapes have four dimensions; shorter ones begin with ones. */
#ifndef BITQ_REFERENCE_H
#define BITQ_REFERENCE_H

#include <stddef.h>
#include <stdint.h>

/* What becomes of a layer's input before its product. */
enum inputs {
    AS_IT_IS,   /* floats */
    INT8,       /* round(x * 127 / max|x|), one scale for an image, or for a row of a linear layer */
    UINT8,      /* round(x / step) + zero within 0..255, the zero taken off again */
    NORM_SCALED /* normalised and scaled to a peak of 128, but never rounded */
};

/* A convolution or a linear layer. Its weights are values[code] * scale, its codes packed into bytes: five of three
 * levels a byte (bits = 0), or numbers of `bits` bits, the lowest first. Without codes, `values` are the weights. */
struct layer {
    const char *name;
    int is_linear, rows;                        /* of a linear layer: how often it is applied */
    int outputs, inputs_each, groups;           /* channels; inputs of each group */
    int kernel[2], stride[2], dilation[2], before[2]; /* height and width; padding above and to the left */
    int size[2], size_out[2];                   /* height and width of the input and of the output */
    const uint8_t *codes;
    int bits;
    const float *values;
    int levels, whole;                          /* are all values whole numbers? */
    const float *scale;
    int scales;                                 /* one for all outputs, or one each */
    int corrections;                            /* weights that a correction is added to, after the scale */
    const uint32_t *corrected;
    const float *correction;
    const float *bias;                          /* or NULL */
    enum inputs inputs;
    float step;                                 /* of UINT8 */
    int zero;
};

void layer(const struct layer *of, const float *x, float *y);
void embedding(const struct layer *table, const float *tokens, float *y);
/* The exact sums of a layer with whole values and integer inputs. */
void layer_sums(const struct layer *of, const int16_t *codes, int32_t *sums);
size_t input_size(const struct layer *of);
size_t output_size(const struct layer *of);

/* Round to a floating-point format of `digits` binary digits, multiples of 2^lowest, none above `largest`. */
void round_to_format(size_t count, const float *x, int digits, int lowest, float largest, float *y);
void scale_and_shift(int channels, int pixels, const float *x, const float *scale, const float *shift, float *y);
void layer_norm(int rows, int size, const float *x, const float *weight, const float *bias, float eps, float *y);

/* Functions of one number: r relu, 6 relu6, s sigmoid, t tanh, w silu, h hardsigmoid, i hardswish, g gelu, n -x. */
void apply(char function, size_t count, const float *x, float *y);
/* Of two, of any two shapes that broadcast: + - * / and = (1 where equal). */
void binary(char function, const float *a, const int sa[4], const float *b, const int sb[4], float *y, const int sy[4]);
void masked_fill(const float *x, const int sx[4], const float *mask, const int sm[4], float value, float *y);

/* Over the middle one of three joined dimensions. */
void softmax(int outer, int size, int inner, const float *x, float *y);
void sum(int outer, int size, int inner, float divisor, const float *x, float *y);

struct window { int kernel[2], stride[2], before[2], dilation[2]; };
void max_pool(int channels, const int size[2], const struct window *of, const int size_out[2], const float *x, float *y);
void avg_pool(int channels, const int size[2], const struct window *of, int counts_padding, const int size_out[2],
              const float *x, float *y);
void adaptive_pool(int channels, const int size[2], const int size_out[2], const float *x, float *y);

void permute(const float *x, const int sx[4], const int order[4], float *y);
/* Copy the box of that size from one place to another. */
void copy_box(const float *x, const int sx[4], const int from[4], const int size[4],
              float *y, const int sy[4], const int to[4]);

#endif

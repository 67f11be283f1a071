#include "reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *need(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (memory == NULL) {
        fputs("out of memory\n", stderr);
        exit(72);
    }
    return memory;
}

/* --- layers ---------------------------------------------------------------------------------------------------- */

static size_t weights_of(const struct layer *of) {
    return (size_t)of->outputs * of->inputs_each * of->kernel[0] * of->kernel[1];
}

size_t input_size(const struct layer *of) {
    size_t channels = (size_t)of->inputs_each * of->groups;
    return of->is_linear ? of->rows * channels : channels * of->size[0] * of->size[1];
}

size_t output_size(const struct layer *of) {
    return of->is_linear ? (size_t)of->rows * of->outputs : (size_t)of->outputs * of->size_out[0] * of->size_out[1];
}

static int code_at(const struct layer *of, size_t i) {
    static const int powers[5] = {1, 3, 9, 27, 81};
    if (of->bits == 0)
        return of->codes[i / 5] / powers[i % 5] % 3;
    size_t bit = i * of->bits, byte = bit / 8;
    int shift = bit % 8, word = of->codes[byte];
    if (shift + of->bits > 8)
        word |= of->codes[byte + 1] << 8;
    return word >> shift & ((1 << of->bits) - 1);
}

static float scale_of(const struct layer *of, size_t output) { return of->scale[of->scales > 1 ? output : 0]; }

static void decode(const struct layer *of, int scaled, float *weights) {
    size_t count = weights_of(of), each = count / of->outputs;
    for (size_t i = 0; i < count; i++) {
        weights[i] = of->codes ? of->values[code_at(of, i)] : of->values[i];
        if (scaled)
            weights[i] *= scale_of(of, i / each);
    }
    for (int i = 0; i < of->corrections; i++)
        weights[of->corrected[i]] += of->correction[i];
}

/* Where a convolution's input lies for one output pixel and one tap, or -1 in the padding. */
static long pixel(const struct layer *of, int channel, const int out[2], const int tap[2]) {
    int at[2];
    for (int d = 0; d < 2; d++) {
        at[d] = out[d] * of->stride[d] - of->before[d] + tap[d] * of->dilation[d];
        if (at[d] < 0 || at[d] >= of->size[d])
            return -1;
    }
    return ((long)channel * of->size[0] + at[0]) * of->size[1] + at[1];
}

/* Both products differ in nothing but the types of their numbers. */
#define PRODUCT(NAME, INPUT, WEIGHT, SUM, RESULT)                                                                     \
    static void NAME(const struct layer *of, const INPUT *x, const WEIGHT *w, RESULT *y) {                            \
        if (of->is_linear) {                                                                                          \
            for (int row = 0; row < of->rows; row++)                                                                  \
                for (int o = 0; o < of->outputs; o++) {                                                               \
                    SUM sum = 0;                                                                                      \
                    for (int i = 0; i < of->inputs_each; i++)                                                         \
                        sum += (SUM)x[row * of->inputs_each + i] * (SUM)w[(size_t)o * of->inputs_each + i];           \
                    y[row * of->outputs + o] = (RESULT)sum;                                                           \
                }                                                                                                     \
            return;                                                                                                   \
        }                                                                                                             \
        size_t at = 0;                                                                                                \
        for (int o = 0; o < of->outputs; o++) {                                                                       \
            int first = o / (of->outputs / of->groups) * of->inputs_each, out[2], tap[2];                             \
            for (out[0] = 0; out[0] < of->size_out[0]; out[0]++)                                                      \
                for (out[1] = 0; out[1] < of->size_out[1]; out[1]++) {                                                \
                    const WEIGHT *weight = w + (size_t)o * of->inputs_each * of->kernel[0] * of->kernel[1];           \
                    SUM sum = 0;                                                                                      \
                    for (int i = 0; i < of->inputs_each; i++)                                                         \
                        for (tap[0] = 0; tap[0] < of->kernel[0]; tap[0]++)                                            \
                            for (tap[1] = 0; tap[1] < of->kernel[1]; tap[1]++, weight++) {                            \
                                long from = pixel(of, first + i, out, tap);                                           \
                                if (from >= 0)                                                                        \
                                    sum += (SUM)x[from] * (SUM)*weight;                                               \
                            }                                                                                         \
                    y[at++] = (RESULT)sum;                                                                            \
                }                                                                                                     \
        }                                                                                                             \
    }

PRODUCT(product_of_floats, float, float, double, float)
PRODUCT(product_of_integers, int16_t, int8_t, int32_t, int32_t)

void layer_sums(const struct layer *of, const int16_t *codes, int32_t *sums) {
    size_t count = weights_of(of);
    int8_t *weights = need(count, sizeof *weights);
    for (size_t i = 0; i < count; i++)
        weights[i] = (int8_t)of->values[code_at(of, i)];
    product_of_integers(of, codes, weights, sums);
    free(weights);
}

static void float_sums(const struct layer *of, const float *x, int scaled, float *y) {
    float *weights = need(weights_of(of), sizeof *weights);
    decode(of, scaled, weights);
    product_of_floats(of, x, weights, y);
    free(weights);
}

/* The output channel of element i of the output. */
static size_t channel_of(const struct layer *of, size_t i) {
    return of->is_linear ? i % of->outputs : i / ((size_t)of->size_out[0] * of->size_out[1]);
}

static void int8_codes(size_t count, const float *x, int16_t *codes, float *step) {
    float peak = 1e-5f;
    for (size_t i = 0; i < count; i++)
        peak = fmaxf(peak, fabsf(x[i]));
    for (size_t i = 0; i < count; i++)
        codes[i] = (int16_t)rintf(x[i] * (127.0f / peak));
    *step = peak / 127.0f;
}

static void uint8_codes(const struct layer *of, size_t count, const float *x, int16_t *codes) {
    float lowest = (float)-of->zero, highest = (float)(255 - of->zero);
    for (size_t i = 0; i < count; i++)
        codes[i] = (int16_t)fminf(fmaxf(rintf(x[i] * (1.0f / of->step)), lowest), highest);
}

/* y = sums * (step * scale) + bias, one step for an image or one for each row. */
static void integer_layer(const struct layer *of, const float *x, float *y) {
    size_t in = input_size(of), out = output_size(of);
    int rows = of->is_linear ? of->rows : 1;
    int16_t *codes = need(in, sizeof *codes);
    float *steps = need(rows, sizeof *steps);
    for (int row = 0; row < rows; row++) {
        size_t each = in / rows;
        if (of->inputs == INT8)
            int8_codes(each, x + row * each, codes + row * each, steps + row);
        else
            uint8_codes(of, each, x + row * each, codes + row * each), steps[row] = of->step;
    }
    if (of->whole && of->corrections == 0) {
        int32_t *sums = need(out, sizeof *sums);
        layer_sums(of, codes, sums);
        for (size_t i = 0; i < out; i++)
            y[i] = (float)sums[i];
        free(sums);
    } else {
        float *floats = need(in, sizeof *floats);
        for (size_t i = 0; i < in; i++)
            floats[i] = codes[i];
        float_sums(of, floats, of->corrections > 0, y);
        free(floats);
    }
    for (size_t i = 0; i < out; i++) {
        size_t channel = channel_of(of, i);
        float scale = of->corrections ? 1.0f : scale_of(of, channel);
        y[i] *= steps[i / (out / rows)] * scale;
        if (of->bias)
            y[i] += of->bias[channel];
    }
    free(steps);
    free(codes);
}

/* y = (sums + bias) * (step * scale) over inputs that are scaled, but not rounded. */
static void norm_scaled_layer(const struct layer *of, const float *x, float *y) {
    size_t in = input_size(of), out = output_size(of);
    float *scaled = need(in, sizeof *scaled), peak = 1e-5f;
    layer_norm(1, (int)in, x, NULL, NULL, 1e-5f, scaled);
    for (size_t i = 0; i < in; i++)
        peak = fmaxf(peak, fabsf(scaled[i]));
    for (size_t i = 0; i < in; i++)
        scaled[i] = fminf(fmaxf(scaled[i] * (128.0f / peak), -128.0f + 1e-5f), 128.0f - 1e-5f);
    float_sums(of, scaled, 0, y);
    for (size_t i = 0; i < out; i++) {
        size_t channel = channel_of(of, i);
        if (of->bias)
            y[i] += of->bias[channel];
        y[i] *= peak / 128.0f * scale_of(of, channel);
    }
    free(scaled);
}

void layer(const struct layer *of, const float *x, float *y) {
    if (of->inputs == NORM_SCALED) {
        norm_scaled_layer(of, x, y);
    } else if (of->inputs != AS_IT_IS) {
        integer_layer(of, x, y);
    } else {
        float_sums(of, x, 1, y);
        for (size_t i = 0; of->bias && i < output_size(of); i++)
            y[i] += of->bias[channel_of(of, i)];
    }
}

void embedding(const struct layer *table, const float *tokens, float *y) {
    float *weights = need(weights_of(table), sizeof *weights);
    decode(table, 1, weights);
    for (int row = 0; row < table->rows; row++)
        memcpy(y + (size_t)row * table->inputs_each, weights + (size_t)tokens[row] * table->inputs_each,
               table->inputs_each * sizeof *y);
    free(weights);
}

/* --- floats ---------------------------------------------------------------------------------------------------- */

void round_to_format(size_t count, const float *x, int digits, int lowest, float largest, float *y) {
    for (size_t i = 0; i < count; i++) {
        int exponent = 0;
        if (isfinite(x[i]))
            frexpf(x[i], &exponent);
        int unit = exponent - digits > lowest ? exponent - digits : lowest;
        y[i] = isfinite(x[i]) ? (float)ldexp(rint(ldexp(x[i], -unit)), unit) : x[i];
        if (fabsf(y[i]) > largest)
            y[i] = copysignf(INFINITY, y[i]);
    }
}

void scale_and_shift(int channels, int pixels, const float *x, const float *scale, const float *shift, float *y) {
    for (int c = 0; c < channels; c++)
        for (int p = 0; p < pixels; p++)
            y[c * pixels + p] = x[c * pixels + p] * scale[c] + shift[c];
}

void layer_norm(int rows, int size, const float *x, const float *weight, const float *bias, float eps, float *y) {
    for (int row = 0; row < rows; row++, x += size, y += size) {
        double mean = 0, square = 0;
        for (int i = 0; i < size; i++)
            mean += x[i];
        mean /= size;
        for (int i = 0; i < size; i++)
            square += (x[i] - mean) * (x[i] - mean);
        double factor = 1 / sqrt(square / size + eps);
        for (int i = 0; i < size; i++)
            y[i] = (float)((x[i] - mean) * factor * (weight ? weight[i] : 1) + (bias ? bias[i] : 0));
    }
}

static float of_one(char function, float x) {
    switch (function) {
    case 'r': return x < 0 ? 0 : x;
    case '6': return x < 0 ? 0 : x > 6 ? 6 : x;
    case 's': return 1 / (1 + expf(-x));
    case 't': return tanhf(x);
    case 'w': return x / (1 + expf(-x));
    case 'h': return fminf(fmaxf(x / 6 + 0.5f, 0), 1);
    case 'i': return x * fminf(fmaxf(x / 6 + 0.5f, 0), 1);
    case 'g': return 0.5f * x * (1 + erff(x * 0.70710678f));
    default: return -x;
    }
}

void apply(char function, size_t count, const float *x, float *y) {
    for (size_t i = 0; i < count; i++)
        y[i] = of_one(function, x[i]);
}

static float of_two(char function, float a, float b) {
    switch (function) {
    case '+': return a + b;
    case '-': return a - b;
    case '*': return a * b;
    case '/': return a / b;
    default: return a == b;
    }
}

/* Where the element at a place lies; dimensions of length one are repeated. */
static size_t offset(const int shape[4], const int at[4]) {
    size_t place = 0;
    for (int d = 0; d < 4; d++)
        place = place * shape[d] + (shape[d] == 1 ? 0 : at[d]);
    return place;
}

#define FOR_EACH(at, shape)                                                                                           \
    for (at[0] = 0; at[0] < (shape)[0]; at[0]++)                                                                      \
        for (at[1] = 0; at[1] < (shape)[1]; at[1]++)                                                                  \
            for (at[2] = 0; at[2] < (shape)[2]; at[2]++)                                                              \
                for (at[3] = 0; at[3] < (shape)[3]; at[3]++)

void binary(char function, const float *a, const int sa[4], const float *b, const int sb[4], float *y,
            const int sy[4]) {
    int at[4];
    FOR_EACH(at, sy)
        *y++ = of_two(function, a[offset(sa, at)], b[offset(sb, at)]);
}

void masked_fill(const float *x, const int sx[4], const float *mask, const int sm[4], float value, float *y) {
    int at[4];
    FOR_EACH(at, sx) {
        *y++ = mask[offset(sm, at)] != 0 ? value : *x;
        x++;
    }
}

/* --- over dimensions ------------------------------------------------------------------------------------------- */

void softmax(int outer, int size, int inner, const float *x, float *y) {
    for (int o = 0; o < outer; o++)
        for (int i = 0; i < inner; i++) {
            size_t first = (size_t)o * size * inner + i;
            float largest = x[first];
            double total = 0;
            for (int k = 0; k < size; k++)
                largest = fmaxf(largest, x[first + (size_t)k * inner]);
            for (int k = 0; k < size; k++)
                total += exp(x[first + (size_t)k * inner] - largest);
            for (int k = 0; k < size; k++)
                y[first + (size_t)k * inner] = (float)(exp(x[first + (size_t)k * inner] - largest) / total);
        }
}

void sum(int outer, int size, int inner, float divisor, const float *x, float *y) {
    for (int o = 0; o < outer; o++)
        for (int i = 0; i < inner; i++) {
            double total = 0;
            for (int k = 0; k < size; k++)
                total += x[((size_t)o * size + k) * inner + i];
            *y++ = (float)(total / divisor);
        }
}

void max_pool(int channels, const int size[2], const struct window *of, const int size_out[2], const float *x,
              float *y) {
    for (int c = 0; c < channels; c++, x += size[0] * size[1])
        for (int row = 0; row < size_out[0]; row++)
            for (int column = 0; column < size_out[1]; column++) {
                float largest = -INFINITY;
                for (int i = 0; i < of->kernel[0]; i++)
                    for (int j = 0; j < of->kernel[1]; j++) {
                        int h = row * of->stride[0] - of->before[0] + i * of->dilation[0];
                        int w = column * of->stride[1] - of->before[1] + j * of->dilation[1];
                        if (h >= 0 && h < size[0] && w >= 0 && w < size[1])
                            largest = fmaxf(largest, x[h * size[1] + w]);
                    }
                *y++ = largest;
            }
}

void avg_pool(int channels, const int size[2], const struct window *of, int counts_padding, const int size_out[2],
              const float *x, float *y) {
    for (int c = 0; c < channels; c++, x += size[0] * size[1])
        for (int row = 0; row < size_out[0]; row++)
            for (int column = 0; column < size_out[1]; column++) {
                double total = 0;
                int inside = 0;
                for (int i = 0; i < of->kernel[0]; i++)
                    for (int j = 0; j < of->kernel[1]; j++) {
                        int h = row * of->stride[0] - of->before[0] + i;
                        int w = column * of->stride[1] - of->before[1] + j;
                        if (h >= 0 && h < size[0] && w >= 0 && w < size[1])
                            total += x[h * size[1] + w], inside++;
                    }
                *y++ = (float)(total / (counts_padding ? of->kernel[0] * of->kernel[1] : inside));
            }
}

void adaptive_pool(int channels, const int size[2], const int size_out[2], const float *x, float *y) {
    for (int c = 0; c < channels; c++, x += size[0] * size[1])
        for (int row = 0; row < size_out[0]; row++)
            for (int column = 0; column < size_out[1]; column++) {
                int top = row * size[0] / size_out[0], bottom = ((row + 1) * size[0] + size_out[0] - 1) / size_out[0];
                int left = column * size[1] / size_out[1];
                int right = ((column + 1) * size[1] + size_out[1] - 1) / size_out[1];
                double total = 0;
                for (int h = top; h < bottom; h++)
                    for (int w = left; w < right; w++)
                        total += x[h * size[1] + w];
                *y++ = (float)(total / ((bottom - top) * (right - left)));
            }
}

void permute(const float *x, const int sx[4], const int order[4], float *y) {
    int sy[4] = {sx[order[0]], sx[order[1]], sx[order[2]], sx[order[3]]}, at[4], from[4];
    FOR_EACH(at, sy) {
        for (int d = 0; d < 4; d++)
            from[order[d]] = at[d];
        *y++ = x[offset(sx, from)];
    }
}

void copy_box(const float *x, const int sx[4], const int from[4], const int size[4], float *y, const int sy[4],
              const int to[4]) {
    int at[4], in[4], out[4];
    FOR_EACH(at, size) {
        for (int d = 0; d < 4; d++)
            in[d] = from[d] + at[d], out[d] = to[d] + at[d];
        y[offset(sy, out)] = x[offset(sx, in)];
    }
}

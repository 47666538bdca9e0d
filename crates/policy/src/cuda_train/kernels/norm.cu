// Group norm (Wu and He 2018), Mish (Misra 2019), FiLM (Perez et al. 2018) and a residual sum in one pass, and back. One
// warp holds a group of one sample, [t, group] numbers, in registers, and finds mean and deviation anew on the way back.

struct Norm {
    u64 input, output;    // bf16 [samples * t, channels]
    u64 gamma, beta;      // f32 [channels]
    u64 film;             // bf16 [samples, ..]: scales, then biases; or biases alone; or NONE
    u64 residual;         // bf16, added last; or NONE
    int samples, t, channels, group;
    int ld_output, ld_film, ld_residual;
    int film_scales;
};

struct NormGradient {
    u64 input, slope, output;                 // bf16; `slope` is the loss's by the norm's output, `output` by its input
    u64 gamma, beta, film;                    // as above
    u64 film_slope;                           // bf16 like film
    u64 gamma_slope, beta_slope, bias_slope;  // f32 [parts, channels]; the last is that of the convolution before
    u64 split_stride;                         // numbers between parts
    int samples, t, channels, group;
    int ld_slope, ld_film;
    int film_scales;
    int parts;
};

// Of what a lane holds, vector i is WIDTH channels from `channel` at time `row(i)`.
template <int WIDTH, int VECTORS>
struct Held {
    int per_row, lane, channel;

    __device__ __forceinline__ Held(int group, int lane)
        : per_row(group / WIDTH), lane(lane), channel(lane % (group / WIDTH) * WIDTH) {}
    __device__ __forceinline__ int row(int i) const { return (lane + 32 * i) / per_row; }

    // x becomes (x - mean) / deviation; returns 1 / deviation.
    __device__ __forceinline__ float normalise(float (&x)[VECTORS][WIDTH], int t, int group) const {
        float count = 1.0f / (float)(t * group), sum = 0.0f, squares = 0.0f;
#pragma unroll
        for (int i = 0; i < VECTORS; i++) {
#pragma unroll
            for (int j = 0; j < WIDTH; j++) sum += x[i][j];
        }
        float mean = sum_of_warp(sum) * count;
#pragma unroll
        for (int i = 0; i < VECTORS; i++) {
#pragma unroll
            for (int j = 0; j < WIDTH; j++) {
                x[i][j] = row(i) < t ? x[i][j] - mean : 0.0f;
                squares += x[i][j] * x[i][j];
            }
        }
        float scale = rsqrtf(sum_of_warp(squares) * count + 1e-5f);
#pragma unroll
        for (int i = 0; i < VECTORS; i++) {
#pragma unroll
            for (int j = 0; j < WIDTH; j++) x[i][j] *= scale;
        }
        return scale;
    }

    // The sum over the lanes that hold the same channels.
    __device__ __forceinline__ float over_rows(float value) const {
        for (int step = 16; step >= per_row; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
        return value;
    }
};

template <int WIDTH, int VECTORS>
__device__ __forceinline__ void norm(char* base, const Norm& p) {
    int lane = threadIdx.x & 31, unit = blockIdx.x * 8 + (threadIdx.x >> 5), groups = p.channels / p.group;
    int sample = unit / groups, first = unit % groups * p.group;
    if (sample >= p.samples) return;
    Held<WIDTH, VECTORS> held(p.group, lane);
    int channel = first + held.channel;
    const bf16* input = (const bf16*)(base + p.input) + (u64)sample * p.t * p.channels + channel;

    float x[VECTORS][WIDTH] = {};
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        if (held.row(i) < p.t) load(x[i], input + held.row(i) * p.channels);
    }
    held.normalise(x, p.t, p.group);
    float gamma[WIDTH], beta[WIDTH], scale[WIDTH], bias[WIDTH];
    load(gamma, (const float*)(base + p.gamma) + channel);
    load(beta, (const float*)(base + p.beta) + channel);
#pragma unroll
    for (int j = 0; j < WIDTH; j++) scale[j] = 1.0f, bias[j] = 0.0f;
    if (p.film != NONE) {
        const bf16* film = (const bf16*)(base + p.film) + (u64)sample * p.ld_film + channel;
        if (p.film_scales) load(scale, film);
        load(bias, film + p.film_scales * p.channels);
    }
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
        if (held.row(i) >= p.t) continue;
        u64 row = (u64)sample * p.t + held.row(i);
        float residual[WIDTH] = {};
        if (p.residual != NONE) load(residual, (const bf16*)(base + p.residual) + row * p.ld_residual + channel);
#pragma unroll
        for (int j = 0; j < WIDTH; j++) {
            x[i][j] = mish(x[i][j] * gamma[j] + beta[j]) * scale[j] + bias[j] + residual[j];
        }
        store((bf16*)(base + p.output) + row * p.ld_output + channel, x[i]);
    }
}

template <int WIDTH, int VECTORS>
__device__ __forceinline__ void norm_back(char* base, const NormGradient& p) {
    __shared__ float partial[8][3][256];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, first = blockIdx.x * p.group;
    Held<WIDTH, VECTORS> held(p.group, lane);
    int channel = first + held.channel;
    float gamma[WIDTH], beta[WIDTH], gamma_slope[WIDTH] = {}, beta_slope[WIDTH] = {}, bias_slope[WIDTH] = {};
    load(gamma, (const float*)(base + p.gamma) + channel);
    load(beta, (const float*)(base + p.beta) + channel);
    float count = 1.0f / (float)(p.t * p.group);

    int begin = (int)((u64)blockIdx.y * p.samples / p.parts), end = (int)((u64)(blockIdx.y + 1) * p.samples / p.parts);
    for (int sample = begin + warp; sample < end; sample += 8) {
        u64 at = (u64)sample * p.t * p.channels + channel;
        float x[VECTORS][WIDTH] = {}, slope[VECTORS][WIDTH] = {};
#pragma unroll
        for (int i = 0; i < VECTORS; i++) {
            if (held.row(i) >= p.t) continue;
            load(x[i], (const bf16*)(base + p.input) + at + held.row(i) * p.channels);
            u64 row = (u64)sample * p.t + held.row(i);
            load(slope[i], (const bf16*)(base + p.slope) + row * p.ld_slope + channel);
        }
        float inverse = held.normalise(x, p.t, p.group);
        float scale[WIDTH], scale_slope[WIDTH] = {}, shift_slope[WIDTH] = {};
#pragma unroll
        for (int j = 0; j < WIDTH; j++) scale[j] = 1.0f;
        if (p.film != NONE && p.film_scales) {
            load(scale, (const bf16*)(base + p.film) + (u64)sample * p.ld_film + channel);
        }
        float sum = 0.0f, product = 0.0f;
#pragma unroll
        for (int i = 0; i < VECTORS; i++) {
#pragma unroll
            for (int j = 0; j < WIDTH; j++) {
                float value, steepness;
                mish_and_slope(x[i][j] * gamma[j] + beta[j], value, steepness);
                scale_slope[j] += slope[i][j] * value;
                shift_slope[j] += slope[i][j];
                float inner = slope[i][j] * scale[j] * steepness;
                gamma_slope[j] += inner * x[i][j];
                beta_slope[j] += inner;
                slope[i][j] = inner * gamma[j];
                sum += slope[i][j];
                product += slope[i][j] * x[i][j];
            }
        }
        sum = sum_of_warp(sum) * count;
        product = sum_of_warp(product) * count;
#pragma unroll
        for (int i = 0; i < VECTORS; i++) {
            if (held.row(i) >= p.t) continue;
#pragma unroll
            for (int j = 0; j < WIDTH; j++) {
                slope[i][j] = inverse * (slope[i][j] - sum - x[i][j] * product);
                bias_slope[j] += slope[i][j];
            }
            store((bf16*)(base + p.output) + at + held.row(i) * p.channels, slope[i]);
        }
        if (p.film != NONE) {
#pragma unroll
            for (int j = 0; j < WIDTH; j++) {
                scale_slope[j] = held.over_rows(scale_slope[j]);
                shift_slope[j] = held.over_rows(shift_slope[j]);
            }
            if (lane < held.per_row) {
                bf16* film = (bf16*)(base + p.film_slope) + (u64)sample * p.ld_film + channel;
                if (p.film_scales) store(film, scale_slope);
                store(film + p.film_scales * p.channels, shift_slope);
            }
        }
    }

#pragma unroll
    for (int j = 0; j < WIDTH; j++) {
        float sums[3] = {
            held.over_rows(gamma_slope[j]), held.over_rows(beta_slope[j]), held.over_rows(bias_slope[j])};
#pragma unroll
        for (int kind = 0; kind < 3; kind++) {
            if (lane < held.per_row) partial[warp][kind][held.channel + j] = sums[kind];
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < 3 * p.group; i += 256) {
        int kind = i / p.group, at = i % p.group;
        float sum = 0.0f;
#pragma unroll
        for (int other = 0; other < 8; other++) sum += partial[other][kind][at];
        u64 output = kind == 0 ? p.gamma_slope : kind == 1 ? p.beta_slope : p.bias_slope;
        ((float*)(base + output))[blockIdx.y * p.split_stride + first + at] = sum;
    }
}

#define NORMS(WIDTH, VECTORS)                                                                                      \
    extern "C" __global__ void __launch_bounds__(256) norm_##WIDTH##x##VECTORS(char* base, const Norm p) {         \
        norm<WIDTH, VECTORS>(base, p);                                                                             \
    }                                                                                                              \
    extern "C" __global__ void __launch_bounds__(256)                                                              \
        norm_back_##WIDTH##x##VECTORS(char* base, const NormGradient p) {                                          \
        norm_back<WIDTH, VECTORS>(base, p);                                                                        \
    }
NORMS(4, 1)
NORMS(8, 1)
NORMS(8, 2)
NORMS(8, 4)

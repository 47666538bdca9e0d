// Numbers in registers.

__device__ __forceinline__ float low_half(u32 both) { return __uint_as_float(both << 16); }
__device__ __forceinline__ float high_half(u32 both) { return __uint_as_float(both & 0xffff0000u); }
__device__ __forceinline__ float widen(bf16 value) { return __uint_as_float((u32)value << 16); }
__device__ __forceinline__ bf16 narrow(float value) { return (bf16)(pack(value, 0.0f) & 0xffffu); }

// `WIDTH` (4 or 8) neighbouring numbers.
template <int WIDTH>
__device__ __forceinline__ void load(float (&out)[WIDTH], const bf16* from) {
    u32 words[WIDTH / 2];
    if (WIDTH == 8) {
        uint4 raw = *(const uint4*)from;
        words[0] = raw.x, words[1] = raw.y, words[WIDTH / 2 - 2] = raw.z, words[WIDTH / 2 - 1] = raw.w;
    } else {
        uint2 raw = *(const uint2*)from;
        words[0] = raw.x, words[1] = raw.y;
    }
#pragma unroll
    for (int i = 0; i < WIDTH / 2; i++) {
        out[2 * i] = low_half(words[i]);
        out[2 * i + 1] = high_half(words[i]);
    }
}

template <int WIDTH>
__device__ __forceinline__ void store(bf16* to, const float (&values)[WIDTH]) {
    u32 words[WIDTH / 2];
#pragma unroll
    for (int i = 0; i < WIDTH / 2; i++) words[i] = pack(values[2 * i], values[2 * i + 1]);
    if (WIDTH == 8) {
        *(uint4*)to = make_uint4(words[0], words[1], words[WIDTH / 2 - 2], words[WIDTH / 2 - 1]);
    } else {
        *(uint2*)to = make_uint2(words[0], words[1]);
    }
}

template <int WIDTH>
__device__ __forceinline__ void load(float (&out)[WIDTH], const float* from) {
#pragma unroll
    for (int i = 0; i < WIDTH; i += 4) {
        float4 raw = *(const float4*)(from + i);
        out[i] = raw.x, out[i + 1] = raw.y, out[i + 2] = raw.z, out[i + 3] = raw.w;
    }
}

// tanh(softplus(x)) = n / (n + 2) with n = e^x (e^x + 2): Misra 2019 with one exponential. Past 20 it is 1 in f32.
__device__ __forceinline__ float mish(float x) {
    float e = __expf(fminf(x, 20.0f)), n = e * (e + 2.0f);
    return x * __fdividef(n, n + 2.0f);
}

__device__ __forceinline__ void mish_and_slope(float x, float& value, float& slope) {
    float e = __expf(fminf(x, 20.0f)), n = e * (e + 2.0f);
    float gate = __fdividef(n, n + 2.0f);
    value = x * gate;
    slope = gate + x * (1.0f - gate * gate) * __fdividef(e, 1.0f + e);
}

__device__ __forceinline__ float sum_of_warp(float value) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}

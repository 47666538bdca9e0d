// Loads of what other blocks have written, and arithmetic.

// Past the first-level cache, which knows nothing of what other blocks have written.
__device__ __forceinline__ float4 load4(const float* from) { return __ldcg((const float4*)from); }
__device__ __forceinline__ float load1(const float* from) { return __ldcg(from); }

// Asks for the first four of `count` parts, `stride` apart, and waits for none; those that are not there are zero.
// Branches, not conditions on each load: of these the compiler has too few, and would wait for one part before it asks
// for the next.
__device__ __forceinline__ void load_parts(float4* parts, const float* from, int count, long long stride) {
    parts[0] = parts[1] = parts[2] = parts[3] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (count >= 4) {
#pragma unroll
        for (int i = 0; i < 4; i++) parts[i] = load4(from + i * stride);
    } else if (count >= 2) {
        parts[0] = load4(from);
        parts[1] = load4(from + stride);
        if (count == 3) parts[2] = load4(from + 2 * stride);
    } else if (count == 1)
        parts[0] = load4(from);
}

__device__ __forceinline__ void add(float4& sum, float4 part) {
    sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
}

// The parts from number `first` on.
__device__ __forceinline__ void add_rest(float4& sum, const float* from, int first, int count, long long stride) {
#pragma unroll 1
    for (int s = first; s < count; s++) add(sum, load4(from + s * stride));
}

// n / d for n, d < 2^16, where `magic` is ceil(2^32 / d), or 0 for d = 1.
__device__ __forceinline__ int divide(int n, u32 magic) { return magic ? __umulhi((u32)n, magic) : n; }

__device__ __forceinline__ float from_bf16(u16 bits) { return __uint_as_float((u32)bits << 16); }

// x tanh(softplus(x)): with e = exp(x), x (e^2 + 2e) / (e^2 + 2e + 2).
__device__ __forceinline__ float mish(float x) {
    float e = __expf(fminf(x, 20.0f));
    float n = e * (e + 2.0f);
    return x * __fdividef(n, n + 2.0f);
}

__device__ __forceinline__ void store_input(u16* x, int part_stride, int at, float value) {
#pragma unroll
    for (int part = 0; part < X_PARTS; part++) {
        u16 bits = to_bf16(value);
        x[part * part_stride + at] = bits;
        value -= from_bf16(bits);
    }
}

// What a GPU does at best: kernels that only read, and that only multiply.

// Reads `count` groups of 16 bytes `passes` times, past the first-level caches, as a plan reads weights step after step.
extern "C" __global__ void read_again(const uint4* words, unsigned long long count, int passes, unsigned int* out) {
    unsigned long long first = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;
    unsigned long long stride = (unsigned long long)gridDim.x * blockDim.x;
    unsigned int sum = 0;
    for (int pass = 0; pass < passes; ++pass) {
        unsigned long long index = first;
        // Eight loads under way at a time.
        for (; index + 7 * stride < count; index += 8 * stride) {
            uint4 word[8];
#pragma unroll
            for (int i = 0; i < 8; ++i) word[i] = __ldcg(words + index + i * stride);
#pragma unroll
            for (int i = 0; i < 8; ++i) sum ^= word[i].x ^ word[i].y ^ word[i].z ^ word[i].w;
        }
        for (; index < count; index += stride) {
            uint4 word = __ldcg(words + index);
            sum ^= word.x ^ word.y ^ word.z ^ word.w;
        }
    }
    // Never true for what is read, which the compiler cannot know.
    if (sum == 0x9E3779B9u) *out = sum;
}

// Tensor cores: eight independent products of 16 x 8 x 16 a turn and warp, bf16 in and f32 sums.
extern "C" __global__ void multiply_bf16(int turns, unsigned int number, float* out) {
    float sums[8][4] = {};
    for (int turn = 0; turn < turns; ++turn) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            asm volatile(
                "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%4,%4,%4}, {%4,%4}, {%0,%1,%2,%3};"
                : "+f"(sums[i][0]), "+f"(sums[i][1]), "+f"(sums[i][2]), "+f"(sums[i][3])
                : "r"(number));
        }
    }
    float sum = 0.0f;
    for (int i = 0; i < 8; ++i) sum += sums[i][0] + sums[i][1] + sums[i][2] + sums[i][3];
    if (sum == 12345.0f) *out = sum;
}

// Ordinary cores: sixteen independent sums a turn and thread.
extern "C" __global__ void multiply_f32(int turns, unsigned int number, float* out) {
    float factor = __uint_as_float(number);
    float sums[16] = {};
    for (int turn = 0; turn < turns; ++turn) {
#pragma unroll
        for (int i = 0; i < 16; ++i) sums[i] = fmaf(sums[i], factor, 0.5f);
    }
    float sum = 0.0f;
    for (int i = 0; i < 16; ++i) sum += sums[i];
    if (sum == 12345.0f) *out = sum;
}

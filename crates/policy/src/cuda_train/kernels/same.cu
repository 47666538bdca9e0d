// Convolutions that leave the resolution as it is, forward and back. All taps read the same rows, shifted within each
// sample, so activations are brought into shared memory once for all of them. A tile holds whole samples.

constexpr int ROWS = 128, COLUMNS = 64;

// Output [rows, n] as in product.cu for stride 1: 256 threads make 128 x 64 numbers, or a part of their sums; the block
// that finishes the last part adds them all, in order. Each warp has 16 rows. A stage holds 64 input channels of the rows
// and of all taps' weights.
template <int TAPS, int STAGES, bool TURNED>
__device__ __forceinline__ void convolve_rows(char* base, const Convolution& p) {
    constexpr int A_SIZE = ROWS * PITCH_K, B_SIZE = COLUMNS * BLOCK_K, STAGE = A_SIZE + TAPS * B_SIZE;
    u32 misplaced = (u32)__cvta_generic_to_shared(dynamic_shared) & 1023;
    bf16* stages = (bf16*)(dynamic_shared + ((1024 - misplaced) & 1023));
    bf16* zeros = stages + STAGES * STAGE;
    int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
    int m0 = blockIdx.y * ROWS, n0 = blockIdx.x * COLUMNS;
    int row = thread / 8, column = thread % 8 * 8;
    if (thread < ZEROS / 2) ((u32*)zeros)[thread] = 0;

    int chunks = (p.k + BLOCK_K - 1) / BLOCK_K;
    int first = (int)((u64)blockIdx.z * chunks / p.splits), last = (int)((u64)(blockIdx.z + 1) * chunks / p.splits);
    const bf16* input = (const bf16*)(base + p.input) + (u64)(m0 + row) * p.ld_input + column;
    const bf16* weight = (const bf16*)(base + p.weight);
    weight += TURNED ? (u64)row * p.ld_weight + n0 + column : (u64)(n0 + row) * p.ld_weight + column;
    const bf16* nowhere = (const bf16*)base;
    auto bring = [&](int chunk) {
        bf16* b = stages + (chunk - first) % STAGES * STAGE;
        bf16* a = b + TAPS * B_SIZE;
        int k0 = chunk * BLOCK_K;
        bool inside = k0 + column < p.k;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            bool valid = inside && m0 + row + 32 * i < p.rows;
            const bf16* source = valid ? input + k0 + (u64)(32 * i) * p.ld_input : nowhere;
            copy_async(a + (row + 32 * i) * PITCH_K + column, source, valid);
        }
#pragma unroll
        for (int i = 0; i < 2; i++) {
            bool valid = TURNED ? k0 + row + 32 * i < p.k && n0 + column < p.n : inside && n0 + row + 32 * i < p.n;
            const bf16* source = weight + (TURNED ? (u64)(k0 + 32 * i) * p.ld_weight : k0 + (u64)(32 * i) * p.ld_weight);
#pragma unroll
            for (int tap = 0; tap < TAPS; tap++) {
                bf16* to = b + tap * B_SIZE + swizzled(row + 32 * i, thread % 8);
                copy_async(to, valid ? source + tap * p.tap_stride : nowhere, valid);
            }
        }
    };
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++) {
        if (first + i < last) bring(first + i);
        copies_commit();
    }

    float sums[8][4] = {};
    // Products read rows from registers until they are done, so the next ones come into others.
    u32 left[3][4][4];
    int own_row = 16 * warp + (lane & 15), own_time = own_row & (p.t_out - 1);
    for (int chunk = first; chunk < last; chunk++) {
        copies_wait<STAGES - 2>();
#ifdef WARPGROUPS
        show_to_groups();
#endif
        // Here all products of the chunk before are done, and its stage can be filled again.
        __syncthreads();
        const bf16* b = stages + (chunk - first) % STAGES * STAGE;
        const bf16* a = b + TAPS * B_SIZE + own_row * PITCH_K;
#pragma unroll
        for (int tap = 0; tap < TAPS; tap++) {
            int shift = p.transposed ? p.pad - tap : tap - p.pad;
            bool inside = own_time + shift >= 0 && own_time + shift < p.t_out;
            const bf16* from = (inside ? a + shift * PITCH_K : zeros) + (lane >> 4) * 8;
#ifdef WARPGROUPS
            if (tap >= 3) groups_wait<2>();
#endif
#pragma unroll
            for (int k = 0; k < 4; k++) load_matrices(left[tap % 3][k], from + 16 * k);
#ifdef WARPGROUPS
            groups_begin();
#pragma unroll
            for (int k = 0; k < 4; k++) {
                multiply_add_group<TURNED>(sums, left[tap % 3][k], described<TURNED>(b + tap * B_SIZE, 16 * k));
            }
            groups_commit();
#else
#pragma unroll
            for (int k = 0; k < 4; k++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    u32 right[4];
                    int eight = lane & 7, second = (lane >> 3) & 1, fourth = lane >> 4;
                    const bf16* tile = b + tap * B_SIZE;
                    if (TURNED) {
                        int at = swizzled(16 * k + eight + second * 8, 2 * j + fourth);
                        load_matrices_transposed(right, tile + at);
                    } else {
                        load_matrices(right, tile + swizzled(16 * j + eight + fourth * 8, 2 * k + second));
                    }
                    multiply_add(sums[2 * j], left[tap % 3][k], right[0], right[1]);
                    multiply_add(sums[2 * j + 1], left[tap % 3][k], right[2], right[3]);
                }
            }
#endif
            if (tap == 0) {
                if (chunk + STAGES - 1 < last) bring(chunk + STAGES - 1);
                copies_commit();
            }
        }
#ifdef WARPGROUPS
        groups_wait<0>();
#endif
    }

    if (p.splits > 1) {
        __shared__ bool last_part;
        int tile = blockIdx.y * gridDim.x + blockIdx.x;
        u32* counter = (u32*)(base + p.counters) + tile;
        float4* parts = (float4*)(base + p.workspace) + (u64)tile * p.splits * (8 * 256) + thread;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            parts[(blockIdx.z * 8 + i) * 256] = make_float4(sums[i][0], sums[i][1], sums[i][2], sums[i][3]);
        }
        __threadfence();
        __syncthreads();
        if (thread == 0) last_part = atomicAdd(counter, 1u) + 1 == p.splits;
        __syncthreads();
        if (!last_part) return;
        __threadfence();
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float total[4] = {};
            for (int z = 0; z < p.splits; z++) {
                float4 part = __ldcg(parts + (z * 8 + i) * 256);
                total[0] += part.x, total[1] += part.y, total[2] += part.z, total[3] += part.w;
            }
#pragma unroll
            for (int j = 0; j < 4; j++) sums[i][j] = total[j];
        }
        if (thread == 0) *counter = 0;
    }

#pragma unroll
    for (int i = 0; i < 2; i++) {
        int m = m0 + 16 * warp + 8 * i + lane / 4;
        if (m >= p.rows) continue;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            int n = n0 + 8 * j + lane % 4 * 2;
            if (n < p.n) finish(base, p, m, n, sums[j][2 * i], sums[j][2 * i + 1]);
        }
    }
}

#define SAME(TAPS, STAGES)                                                                                            \
    extern "C" __global__ void __launch_bounds__(256, 2) convolve_same_##TAPS(char* base, const Convolution p) {     \
        convolve_rows<TAPS, STAGES, false>(base, p);                                                                  \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256, 2) convolve_same_back_##TAPS(char* base, const Convolution p) { \
        convolve_rows<TAPS, STAGES, true>(base, p);                                                                   \
    }
SAME(1, 4)
SAME(3, 2)
SAME(5, 2)

// Weight gradients of convolutions that leave the resolution as it is: all taps at once, from the same rows.

// Gradient of the weights of all TAPS taps: 256 threads make 64 x 64 of each, from one part of the rows.
template <int TAPS>
__device__ __forceinline__ void differentiate_taps(char* base, const WeightGradient& p) {
    constexpr int TILE = 64, SIZE = BLOCK_K * PITCH_K, DEPTH = 4;
    bf16* zeros = (bf16*)dynamic_shared;
    bf16* tiles = zeros + ZEROS;
    const bf16* slope = (const bf16*)(base + p.slope);
    const bf16* input = (const bf16*)(base + p.input);
    int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
    int tiles_n = (p.n + TILE - 1) / TILE;
    int m0 = blockIdx.x / tiles_n * TILE, n0 = blockIdx.x % tiles_n * TILE;
    int row = thread / 8, column = thread % 8 * 8;
    int chunks = (p.rows + BLOCK_K - 1) / BLOCK_K;
    int begin = (int)((u64)blockIdx.z * chunks / p.splits), end = (int)((u64)(blockIdx.z + 1) * chunks / p.splits);
    if (thread < ZEROS / 2) ((u32*)zeros)[thread] = 0;

    auto bring = [&](int step) {
        bf16* a = tiles + (step - begin) % DEPTH * (2 * SIZE);
        bf16* b = a + SIZE;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int at = row + 32 * i, from = step * BLOCK_K + at;
            bool valid = from < p.rows && m0 + column < p.m;
            copy_async(
                a + at * PITCH_K + column, valid ? slope + (u64)from * p.ld_slope + m0 + column : slope, valid);
            valid = from < p.rows && n0 + column < p.n;
            copy_async(
                b + at * PITCH_K + column, valid ? input + (u64)from * p.ld_input + n0 + column : input, valid);
        }
    };

    float sums[TAPS][2][2][4] = {};
    int warp_m = warp % 2 * 32, warp_n = warp / 2 * 16;
    // Of the input's rows, this lane brings `own_row` of every 16; samples are no longer than that.
    int own_row = (lane & 7) + ((lane >> 3) & 1) * 8, own_column = warp_n + (lane >> 4) * 8;
    bool inside[TAPS];
#pragma unroll
    for (int tap = 0; tap < TAPS; tap++) {
        int time = (own_row & (p.t_fine - 1)) + tap - p.pad;
        inside[tap] = time >= 0 && time < p.t_fine;
    }
#pragma unroll
    for (int i = 0; i < DEPTH - 1; i++) {
        if (begin + i < end) bring(begin + i);
        copies_commit();
    }
    for (int step = begin; step < end; step++) {
        copies_wait<DEPTH - 2>();
        __syncthreads();
        if (step + DEPTH - 1 < end) bring(step + DEPTH - 1);
        copies_commit();
        const bf16* a = tiles + (step - begin) % DEPTH * (2 * SIZE);
        const bf16* b = a + SIZE;
#pragma unroll
        for (int k = 0; k < BLOCK_K; k += 16) {
            u32 left[2][4];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                int m = warp_m + 16 * i + ((lane >> 3) & 1) * 8;
                load_matrices_transposed(left[i], a + (k + (lane & 7) + (lane >> 4) * 8) * PITCH_K + m);
            }
#pragma unroll
            for (int tap = 0; tap < TAPS; tap++) {
                u32 right[4];
                const bf16* from = inside[tap] ? b + (k + own_row + tap - p.pad) * PITCH_K : zeros;
                load_matrices_transposed(right, from + own_column);
#pragma unroll
                for (int i = 0; i < 2; i++) {
#pragma unroll
                    for (int j = 0; j < 2; j++) {
                        multiply_add(sums[tap][i][j], left[i], right[2 * j], right[2 * j + 1]);
                    }
                }
            }
        }
    }

    float* output = (float*)(base + p.output) + blockIdx.z * p.split_stride;
#pragma unroll
    for (int tap = 0; tap < TAPS; tap++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int m = m0 + warp_m + 8 * i + lane / 4;
            if (m >= p.m) continue;
#pragma unroll
            for (int j = 0; j < 2; j++) {
                int n = n0 + warp_n + 8 * j + lane % 4 * 2;
                if (n >= p.n) continue;
                *(float2*)(output + ((u64)tap * p.m + m) * p.n + n) =
                    make_float2(sums[tap][i / 2][j][i % 2 * 2], sums[tap][i / 2][j][i % 2 * 2 + 1]);
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(256, 2) weights_of_3_taps(char* base, const WeightGradient p) {
    differentiate_taps<3>(base, p);
}
extern "C" __global__ void __launch_bounds__(256, 2) weights_of_5_taps(char* base, const WeightGradient p) {
    differentiate_taps<5>(base, p);
}

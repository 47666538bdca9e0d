// Weight gradients of convolutions that leave the resolution as it is: all taps at once, from the same rows.

// Gradient of the weights of all TAPS taps: 128 threads make 64 x 64 of each, from one part of the rows. The slope's rows are
// shifted, so that all taps share what is multiplied with them.
template <int TAPS>
__device__ __forceinline__ void differentiate_taps(char* base, const WeightGradient& p) {
    constexpr int TILE = 64, STAGES = 4, B_SIZE = BLOCK_K * TILE, STAGE = B_SIZE + BLOCK_K * PITCH_K;
    u32 misplaced = (u32)__cvta_generic_to_shared(dynamic_shared) & 1023;
    bf16* stages = (bf16*)(dynamic_shared + ((1024 - misplaced) & 1023));
    bf16* zeros = stages + STAGES * STAGE;
    int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
    int tiles_n = (p.n + TILE - 1) / TILE;
    int m0 = blockIdx.x / tiles_n * TILE, n0 = blockIdx.x % tiles_n * TILE;
    int row = thread / 8, column = thread % 8 * 8;
    int chunks = (p.rows + BLOCK_K - 1) / BLOCK_K;
    int begin = (int)((u64)blockIdx.z * chunks / p.splits), end = (int)((u64)(blockIdx.z + 1) * chunks / p.splits);
    if (thread < ZEROS / 2) ((u32*)zeros)[thread] = 0;

    const bf16* slope = (const bf16*)(base + p.slope) + (u64)row * p.ld_slope + m0 + column;
    const bf16* input = (const bf16*)(base + p.input) + (u64)row * p.ld_input + n0 + column;
    const bf16* nowhere = (const bf16*)base;
    auto bring = [&](int step) {
        bf16* b = stages + (step - begin) % STAGES * STAGE;
        bf16* a = b + B_SIZE;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int at = row + 16 * i;
            u64 from = (u64)step * BLOCK_K + 16 * i;
            bool inside = step * BLOCK_K + at < p.rows, valid = inside && m0 + column < p.m;
            copy_async(a + at * PITCH_K + column, valid ? slope + from * p.ld_slope : nowhere, valid);
            valid = inside && n0 + column < p.n;
            copy_async(b + swizzled(at, thread % 8), valid ? input + from * p.ld_input : nowhere, valid);
        }
    };

    float sums[TAPS][8][4] = {};
    // Products read the slope from registers until they are done, so the next numbers come into others.
    u32 left[2][TAPS][4];
    // Of every 16 rows this lane brings `own_row`; samples are no longer than that.
    int own_row = (lane & 7) + (lane >> 4) * 8, own_column = 16 * warp + ((lane >> 3) & 1) * 8;
    bool inside[TAPS];
#pragma unroll
    for (int tap = 0; tap < TAPS; tap++) {
        int time = (own_row & (p.t_fine - 1)) + p.pad - tap;
        inside[tap] = time >= 0 && time < p.t_fine;
    }
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++) {
        if (begin + i < end) bring(begin + i);
        copies_commit();
    }
    for (int step = begin; step < end; step++) {
        copies_wait<STAGES - 2>();
#ifdef WARPGROUPS
        show_to_groups();
#endif
        // Here all products of the step before are done, and its stage can be filled again.
        __syncthreads();
        const bf16* b = stages + (step - begin) % STAGES * STAGE;
        const bf16* a = b + B_SIZE + (own_row + p.pad) * PITCH_K + own_column;
#pragma unroll
        for (int k = 0; k < 4; k++) {
#ifdef WARPGROUPS
            if (k >= 2) groups_wait<1>();
#endif
#pragma unroll
            for (int tap = 0; tap < TAPS; tap++) {
                const bf16* from = inside[tap] ? a + (16 * k - tap) * PITCH_K : zeros;
                load_matrices_transposed(left[k % 2][tap], from);
            }
#ifdef WARPGROUPS
            groups_begin();
#pragma unroll
            for (int tap = 0; tap < TAPS; tap++) {
                multiply_add_group<true>(sums[tap], left[k % 2][tap], described<true>(b, 16 * k));
            }
            groups_commit();
#else
#pragma unroll
            for (int j = 0; j < 4; j++) {
                u32 right[4];
                int at = swizzled(16 * k + (lane & 7) + ((lane >> 3) & 1) * 8, 2 * j + (lane >> 4));
                load_matrices_transposed(right, b + at);
#pragma unroll
                for (int tap = 0; tap < TAPS; tap++) {
                    multiply_add(sums[tap][2 * j], left[k % 2][tap], right[0], right[1]);
                    multiply_add(sums[tap][2 * j + 1], left[k % 2][tap], right[2], right[3]);
                }
            }
#endif
            if (k == 0) {
                if (step + STAGES - 1 < end) bring(step + STAGES - 1);
                copies_commit();
            }
        }
#ifdef WARPGROUPS
        groups_wait<0>();
#endif
    }

    float* output = (float*)(base + p.output) + blockIdx.z * p.split_stride;
#pragma unroll
    for (int tap = 0; tap < TAPS; tap++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int m = m0 + 16 * warp + 8 * i + lane / 4;
            if (m >= p.m) continue;
#pragma unroll
            for (int j = 0; j < 8; j++) {
                int n = n0 + 8 * j + lane % 4 * 2;
                if (n >= p.n) continue;
                *(float2*)(output + ((u64)tap * p.m + m) * p.n + n) =
                    make_float2(sums[tap][j][2 * i], sums[tap][j][2 * i + 1]);
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(128, 2) weights_of_1_tap(char* base, const WeightGradient p) {
    differentiate_taps<1>(base, p);
}
extern "C" __global__ void __launch_bounds__(128, 2) weights_of_3_taps(char* base, const WeightGradient p) {
    differentiate_taps<3>(base, p);
}
extern "C" __global__ void __launch_bounds__(128, 2) weights_of_5_taps(char* base, const WeightGradient p) {
    differentiate_taps<5>(base, p);
}

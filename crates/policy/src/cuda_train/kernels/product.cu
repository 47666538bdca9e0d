// Products for layers that change the resolution, whose sums are wanted in parts, or whose samples fill no tile.

constexpr int BLOCK_N = 128, STAGES = 3, PITCH_N = BLOCK_N + 8;

// Output row `m` of a tile as sample and time. Transposed: by parity of time first, so that a tile needs half the taps.
__device__ __forceinline__ void sample_and_time(const Convolution& p, int m, int& sample, int& time) {
    if (p.transposed && p.stride == 2) {
        int half = p.rows / 2, parity = m >= half, rest = m - parity * half, steps = p.t_out / 2;
        sample = rest / steps;
        time = 2 * (rest - sample * steps) + parity;
    } else {
        sample = m / p.t_out;
        time = m - sample * p.t_out;
    }
}

// The row of the input that `time` sees through `tap`, or -1.
__device__ __forceinline__ int seen(const Convolution& p, int time, int tap) {
    int from = p.transposed ? time + p.pad - tap : time * p.stride + tap - p.pad;
    if (p.transposed && p.stride == 2) {
        if (from & 1) return -1;
        from >>= 1;
    }
    return from >= 0 && from < p.t_in ? from : -1;
}

// One warp's 32 x 64 part of a tile: sums[i][j] is 16 x 8 at (16 i, 8 j). A is [m][k] in shared memory, or [k][m] when
// A_TURNED; B is [n][k], or [k][n] when B_TURNED.
template <bool A_TURNED, bool B_TURNED>
__device__ __forceinline__ void multiply_tile(
    float (&sums)[2][8][4], const bf16* a, int pitch_a, const bf16* b, int pitch_b, int warp_m, int warp_n, int lane) {
#pragma unroll
    for (int k = 0; k < BLOCK_K; k += 16) {
        u32 left[2][4], right[4][4];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int m = warp_m + 16 * i;
            if (A_TURNED) {
                const bf16* row = a + (k + (lane & 7) + (lane >> 4) * 8) * pitch_a + m + ((lane >> 3) & 1) * 8;
                load_matrices_transposed(left[i], row);
            } else {
                load_matrices(left[i], a + (m + (lane & 15)) * pitch_a + k + (lane >> 4) * 8);
            }
        }
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int n = warp_n + 16 * j;
            if (B_TURNED) {
                const bf16* row = b + (k + (lane & 7) + ((lane >> 3) & 1) * 8) * pitch_b + n + (lane >> 4) * 8;
                load_matrices_transposed(right[j], row);
            } else {
                const bf16* row = b + (n + (lane & 7) + (lane >> 4) * 8) * pitch_b + k + ((lane >> 3) & 1) * 8;
                load_matrices(right[j], row);
            }
        }
#pragma unroll
        for (int i = 0; i < 2; i++) {
#pragma unroll
            for (int j = 0; j < 8; j++) {
                multiply_add(sums[i][j], left[i], right[j / 2][2 * (j % 2)], right[j / 2][2 * (j % 2) + 1]);
            }
        }
    }
}

// Output [rows, n] = sum over taps of input rows [.., k] times the tap's weights: [n][k], or [k][n] when TURNED, which
// is what a gradient of the input needs. A block of 2 BLOCK_M threads makes BLOCK_M x 128 numbers.
template <int BLOCK_M, bool TURNED>
__device__ __forceinline__ void convolve(char* base, const Convolution& p) {
    constexpr int THREADS = 2 * BLOCK_M, PITCH_B = TURNED ? PITCH_N : PITCH_K;
    constexpr int A_SIZE = BLOCK_M * PITCH_K, B_SIZE = (TURNED ? BLOCK_K : BLOCK_N) * PITCH_B;
    bf16* shared = (bf16*)dynamic_shared;
    const bf16* input = (const bf16*)(base + p.input);
    const bf16* weight = (const bf16*)(base + p.weight);
    int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
    int m0 = blockIdx.y * BLOCK_M, n0 = blockIdx.x * BLOCK_N;

    // Each thread brings the same columns of four rows of A, whatever the tap.
    constexpr int A_STEP = THREADS / 8;
    int a_row = thread / 8, a_column = thread % 8 * 8;
    int first_row[4], time[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int m = m0 + a_row + i * A_STEP, sample;
        sample_and_time(p, m, sample, time[i]);
        first_row[i] = sample * p.t_in;
        if (m >= p.rows) first_row[i] = -1;
    }

    int first_tap = 0, tap_step = 1;
    if (p.transposed && p.stride == 2) {
        int sample, begin, end;
        sample_and_time(p, m0, sample, begin);
        sample_and_time(p, min(m0 + BLOCK_M, p.rows) - 1, sample, end);
        if ((begin & 1) == (end & 1)) first_tap = (begin + p.pad) & 1, tap_step = 2;
    }
    int used = (p.taps - first_tap + tap_step - 1) / tap_step, chunks = (p.k + BLOCK_K - 1) / BLOCK_K;
    int begin = (int)((u64)blockIdx.z * (used * chunks) / p.splits);
    int end = (int)((u64)(blockIdx.z + 1) * (used * chunks) / p.splits);

    auto bring = [&](int step) {
        int tap = first_tap + step / chunks * tap_step, k0 = step % chunks * BLOCK_K;
        bf16* a = shared + (step - begin) % STAGES * (A_SIZE + B_SIZE);
        bf16* b = a + A_SIZE;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int from = seen(p, time[i], tap), column = k0 + a_column;
            bool valid = from >= 0 && first_row[i] >= 0 && column < p.k;
            const bf16* source = valid ? input + (u64)(first_row[i] + from) * p.ld_input + column : input;
            copy_async(a + (a_row + i * A_STEP) * PITCH_K + a_column, source, valid);
        }
        const bf16* taps = weight + (u64)tap * p.tap_stride;
        if (TURNED) {
#pragma unroll
            for (int i = 0; i < BLOCK_K * BLOCK_N / 8 / THREADS; i++) {
                int row = thread / 16 + i * (THREADS / 16), column = thread % 16 * 8;
                bool valid = k0 + row < p.k && n0 + column < p.n;
                const bf16* source = valid ? taps + (u64)(k0 + row) * p.ld_weight + n0 + column : taps;
                copy_async(b + row * PITCH_B + column, source, valid);
            }
        } else {
#pragma unroll
            for (int i = 0; i < BLOCK_K * BLOCK_N / 8 / THREADS; i++) {
                int row = thread / 8 + i * (THREADS / 8), column = thread % 8 * 8;
                bool valid = n0 + row < p.n && k0 + column < p.k;
                const bf16* source = valid ? taps + (u64)(n0 + row) * p.ld_weight + k0 + column : taps;
                copy_async(b + row * PITCH_B + column, source, valid);
            }
        }
    };

    float sums[2][8][4] = {};
    int warp_m = warp % (BLOCK_M / 32) * 32, warp_n = warp / (BLOCK_M / 32) * 64;
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++) {
        if (begin + i < end) bring(begin + i);
        copies_commit();
    }
    for (int step = begin; step < end; step++) {
        copies_wait<STAGES - 2>();
        __syncthreads();
        if (step + STAGES - 1 < end) bring(step + STAGES - 1);
        copies_commit();
        const bf16* a = shared + (step - begin) % STAGES * (A_SIZE + B_SIZE);
        multiply_tile<false, TURNED>(sums, a, PITCH_K, a + A_SIZE, PITCH_B, warp_m, warp_n, lane);
    }

#pragma unroll
    for (int i = 0; i < 4; i++) {
        int m = m0 + warp_m + 8 * i + lane / 4, sample, at;
        if (m >= p.rows) continue;
        sample_and_time(p, m, sample, at);
        u64 row = (u64)sample * p.t_out + at;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            int n = n0 + warp_n + 8 * j + lane % 4 * 2;
            if (n >= p.n) continue;
            finish(base, p, row, n, sums[i / 2][j][i % 2 * 2], sums[i / 2][j][i % 2 * 2 + 1]);
        }
    }
}

// Gradient of a convolution's weights: 256 threads make 128 x 128 of one tap, from one part of the rows.
__device__ __forceinline__ void differentiate_weights(char* base, const WeightGradient& p) {
    constexpr int SIZE = BLOCK_K * PITCH_N;
    bf16* shared = (bf16*)dynamic_shared;
    const bf16* slope = (const bf16*)(base + p.slope);
    const bf16* input = (const bf16*)(base + p.input);
    int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
    int tiles_n = (p.n + BLOCK_N - 1) / BLOCK_N, tiles_m = (p.m + 127) / 128;
    int tile = blockIdx.x, tap = tile / (tiles_m * tiles_n);
    tile -= tap * tiles_m * tiles_n;
    int m0 = tile / tiles_n * 128, n0 = tile % tiles_n * BLOCK_N;
    int chunks = (p.rows + BLOCK_K - 1) / BLOCK_K;
    int begin = (int)((u64)blockIdx.z * chunks / p.splits), end = (int)((u64)(blockIdx.z + 1) * chunks / p.splits);

    // Sample and time of each of the four rows that this thread brings next.
    int own_row = thread / 16, column = thread % 16 * 8;
    int sample[4], time[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int row = begin * BLOCK_K + own_row + 16 * i;
        sample[i] = row / p.t_coarse;
        time[i] = row - sample[i] * p.t_coarse;
    }
    int next_sample = BLOCK_K / p.t_coarse, next_time = BLOCK_K % p.t_coarse;

    auto bring = [&](int step) {
        bf16* a = shared + (step - begin) % STAGES * (2 * SIZE);
        bf16* b = a + SIZE;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int row = step * BLOCK_K + own_row + 16 * i, other = time[i] * p.stride + tap - p.pad;
            bool both = row < p.rows && other >= 0 && other < p.t_fine;
            int fine = sample[i] * p.t_fine + other;
            bool valid = both && m0 + column < p.m;
            int from = p.slope_is_fine ? fine : row;
            copy_async(
                a + (own_row + 16 * i) * PITCH_N + column,
                valid ? slope + (u64)from * p.ld_slope + m0 + column : slope,
                valid);
            valid = both && n0 + column < p.n;
            from = p.slope_is_fine ? row : fine;
            copy_async(
                b + (own_row + 16 * i) * PITCH_N + column,
                valid ? input + (u64)from * p.ld_input + n0 + column : input,
                valid);
            sample[i] += next_sample;
            time[i] += next_time;
            if (time[i] >= p.t_coarse) time[i] -= p.t_coarse, sample[i]++;
        }
    };

    float sums[2][8][4] = {};
    int warp_m = warp % 4 * 32, warp_n = warp / 4 * 64;
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++) {
        if (begin + i < end) bring(begin + i);
        copies_commit();
    }
    for (int step = begin; step < end; step++) {
        copies_wait<STAGES - 2>();
        __syncthreads();
        if (step + STAGES - 1 < end) bring(step + STAGES - 1);
        copies_commit();
        const bf16* a = shared + (step - begin) % STAGES * (2 * SIZE);
        multiply_tile<true, true>(sums, a, PITCH_N, a + SIZE, PITCH_N, warp_m, warp_n, lane);
    }

    float* output = (float*)(base + p.output) + blockIdx.z * p.split_stride + (u64)tap * p.m * p.n;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int m = m0 + warp_m + 8 * i + lane / 4;
        if (m >= p.m) continue;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            int n = n0 + warp_n + 8 * j + lane % 4 * 2;
            if (n >= p.n) continue;
            *(float2*)(output + (u64)m * p.n + n) =
                make_float2(sums[i / 2][j][i % 2 * 2], sums[i / 2][j][i % 2 * 2 + 1]);
        }
    }
}

extern "C" __global__ void __launch_bounds__(128) convolve_64(char* base, const Convolution p) {
    convolve<64, false>(base, p);
}
extern "C" __global__ void __launch_bounds__(128) convolve_back_64(char* base, const Convolution p) {
    convolve<64, true>(base, p);
}
extern "C" __global__ void __launch_bounds__(256) convolve_weights(char* base, const WeightGradient p) {
    differentiate_weights(base, p);
}

// Convolutions that leave the resolution as it is, forward and back. All taps read the same rows, shifted within each
// sample, so activations are brought into shared memory once for all of them. A tile holds whole samples.

constexpr int ROWS = 128, COLUMNS = 64;
constexpr int A_STAGES = 3, B_STAGES = 6;

// Where 16-byte part `part` of `row` lies in a tile of 64 x 64 numbers; see the prelude.
__device__ __forceinline__ int swizzled(int row, int part) { return row * 64 + (part ^ (row & 7)) * 8; }

// Output [rows, n] as in product.cu for stride 1: 256 threads make 128 x 64 numbers, or a part of their sums; the block
// that finishes the last part adds them all, in order. Each warp has 16 rows.
template <bool TURNED>
__device__ __forceinline__ void convolve_rows(char* base, const Convolution& p) {
    constexpr int A_SIZE = ROWS * PITCH_K, B_SIZE = COLUMNS * BLOCK_K;
    u32 misplaced = (u32)__cvta_generic_to_shared(dynamic_shared) & 1023;
    bf16* all_b = (bf16*)(dynamic_shared + ((1024 - misplaced) & 1023));
    bf16* all_a = all_b + B_STAGES * B_SIZE;
    bf16* zeros = all_a + A_STAGES * A_SIZE;
    const bf16* input = (const bf16*)(base + p.input);
    const bf16* weight = (const bf16*)(base + p.weight);
    int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
    int m0 = blockIdx.y * ROWS, n0 = blockIdx.x * COLUMNS;
    int row = thread / 8, column = thread % 8 * 8;
    if (thread < ZEROS / 2) ((u32*)zeros)[thread] = 0;

    int chunks = (p.k + BLOCK_K - 1) / BLOCK_K;
    int first = (int)((u64)blockIdx.z * chunks / p.splits), last = (int)((u64)(blockIdx.z + 1) * chunks / p.splits);
    int steps = (last - first) * p.taps;
    // How many steps ahead numbers are asked for: as many as there are stages, less the two whose products may still be
    // under way; and the rows of as many chunks must fit.
    int ahead = p.taps * (A_STAGES - 1) < B_STAGES - 2 ? 2 : 4;

    // The next step whose numbers are asked for.
    int next_chunk = 0, next_tap = 0, next_a = 0, next_b = 0;
    auto bring = [&]() {
        int k0 = (first + next_chunk) * BLOCK_K;
        if (next_tap == 0) {
            bf16* a = all_a + next_a * A_SIZE;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int m = row + 32 * i;
                bool valid = m0 + m < p.rows && k0 + column < p.k;
                const bf16* source = valid ? input + (u64)(m0 + m) * p.ld_input + k0 + column : input;
                copy_async(a + m * PITCH_K + column, source, valid);
            }
            next_a = next_a + 1 == A_STAGES ? 0 : next_a + 1;
        }
        bf16* b = all_b + next_b * B_SIZE;
        const bf16* tap = weight + (u64)next_tap * p.tap_stride;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int at = row + 32 * i, outer = TURNED ? k0 + at : n0 + at, inner = (TURNED ? n0 : k0) + column;
            bool valid = outer < (TURNED ? p.k : p.n) && inner < (TURNED ? p.n : p.k);
            const bf16* source = valid ? tap + (u64)outer * p.ld_weight + inner : tap;
            copy_async(b + swizzled(at, thread % 8), source, valid);
        }
        next_b = next_b + 1 == B_STAGES ? 0 : next_b + 1;
        if (++next_tap == p.taps) next_tap = 0, next_chunk++;
    };

    for (int i = 0; i < ahead; i++) {
        if (i < steps) bring();
        copies_commit();
    }
    float sums[8][4] = {};
    int own_row = 16 * warp + (lane & 15), own_time = own_row & (p.t_out - 1);
    int tap = 0, a_slot = 0, b_slot = 0, asked = ahead;
    auto work = [&](u32 (&left)[4][4]) {
        if (ahead == 4) copies_wait<3>();
        else copies_wait<1>();
#ifdef WARPGROUPS
        show_to_groups();
#endif
        __syncthreads();
        if (asked < steps) bring();
        copies_commit();
        asked++;

        int shift = p.transposed ? p.pad - tap : tap - p.pad;
        bool inside = own_time + shift >= 0 && own_time + shift < p.t_out;
        const bf16* a = inside ? all_a + a_slot * A_SIZE + (own_row + shift) * PITCH_K : zeros;
        const bf16* b = all_b + b_slot * B_SIZE;
#pragma unroll
        for (int k = 0; k < 4; k++) load_matrices(left[k], a + (lane >> 4) * 8 + 16 * k);
#ifdef WARPGROUPS
        groups_begin();
#pragma unroll
        for (int k = 0; k < 4; k++) multiply_add_group<TURNED>(sums, left[k], described<TURNED>(b, 16 * k));
        groups_commit();
        // The step before is done: once all have come to the next barrier, its numbers may be replaced.
        groups_wait<1>();
#else
#pragma unroll
        for (int k = 0; k < 4; k++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                u32 right[4];
                int eight = lane & 7, second = (lane >> 3) & 1, fourth = lane >> 4;
                if (TURNED) load_matrices_transposed(right, b + swizzled(16 * k + eight + second * 8, 2 * j + fourth));
                else load_matrices(right, b + swizzled(16 * j + eight + fourth * 8, 2 * k + second));
                multiply_add(sums[2 * j], left[k], right[0], right[1]);
                multiply_add(sums[2 * j + 1], left[k], right[2], right[3]);
            }
        }
#endif
        b_slot = b_slot + 1 == B_STAGES ? 0 : b_slot + 1;
        if (++tap == p.taps) tap = 0, a_slot = a_slot + 1 == A_STAGES ? 0 : a_slot + 1;
    };
    // Products may still read one step's rows from registers while the next one's come.
    u32 even[4][4], odd[4][4];
    int step = 0;
    for (; step + 1 < steps; step += 2) {
        work(even);
        work(odd);
    }
    if (step < steps) work(even);
#ifdef WARPGROUPS
    groups_wait<0>();
#endif

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

extern "C" __global__ void __launch_bounds__(256, 2) convolve_same(char* base, const Convolution p) {
    convolve_rows<false>(base, p);
}
extern "C" __global__ void __launch_bounds__(256, 2) convolve_same_back(char* base, const Convolution p) {
    convolve_rows<true>(base, p);
}

// The product of an item: weights from the ring with its input, and what the warps summed written as one part.

// Adds what the warps summed, and writes it as one part of the layer's output.
__device__ __forceinline__ void write_sums(const Phase& phase, const Ready& ready, float (*sums)[4], float* scratch,
                                           float* out) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, columns = BATCH * phase.positions;
#pragma unroll
    for (int j = 0; j < N_TILES; j++) {
        int n = j * 8 + (lane % 4) * 2;
        float* at = scratch + (warp * 16 + lane / 4) * columns + n;
        if (n < columns) {
            *(float2*)at = make_float2(sums[j][0], sums[j][1]);
            *(float2*)(at + 8 * columns) = make_float2(sums[j][2], sums[j][3]);
        }
    }
    consumers_sync();
    for (int i = threadIdx.x; i < ready.rows * columns; i += CONSUMERS) {
        float sum = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; w++) sum += scratch[w * 16 * columns + i];
        out[ready.out + i * phase.parities] = sum;
    }
}

__device__ __forceinline__ void multiply_item(const Phase& phase, u32 offsets, const Ready& ready, Ring& ring,
                                              float* scratch) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, tiles_across = (BATCH * phase.positions + 7) / 8;
    // Two chains of sums while there are few columns: one product need not wait for the last.
    constexpr int CHAINS = N_TILES <= 4 ? 2 : 1, UNROLL = N_TILES <= 4 ? 32 / WARPS : 1;
    float sums[CHAINS][N_TILES][4] = {}, shortcut[N_TILES][4] = {};
#if SCALE_BYTES
    float scales[4];             // of this lane's two rows, for the convolution and for the shortcut
#endif
    for (int tile0 = 0; tile0 < ready.tiles; tile0 += CHUNK, ring.next()) {
        int end = min(CHUNK, ready.tiles - tile0);
        u32 weights = ring.chunks + ring.stage * STAGE_BYTES;
        barrier_wait(ring.full + 8 * ring.stage, ring.turn);
        // What lies beyond the end is the last tile again, and is not added: no branches between the loads.
        auto load = [&](uint4* a, u32 (*b)[COLUMN_PAIRS * 4], int first) {
#pragma unroll
            for (int u = 0; u < UNROLL; u++) {
                int tile = min(first + u * WARPS, end - 1), entry = divide(tile0 + tile, ready.by_blocks);
                u32 offset = load_shared(offsets + 4 * entry) + (tile0 + tile - entry * ready.blocks) * 32;
                a[u] = load_weights(weights + tile * TILE_BYTES, lane);
#pragma unroll
                for (int j = 0; j < COLUMN_PAIRS; j++) load_columns(b[u] + 4 * j, ready.column[j] + offset);
            }
        };
        auto add_products = [&](const uint4* a, const u32 (*b)[COLUMN_PAIRS * 4], int first) {
#pragma unroll
            for (int u = 0; u < UNROLL; u++) {
                bool own = tile0 + first + u * WARPS < min(ready.own_tiles, tile0 + end);
                bool along = first + u * WARPS < end && !own;
#pragma unroll
                for (int j = 0; j < N_TILES; j++) {
                    if (own && j < tiles_across) multiply(sums[u % CHAINS][j], a[u], b[u][2 * j], b[u][2 * j + 1]);
                    if (along && j < tiles_across) multiply(shortcut[j], a[u], b[u][2 * j], b[u][2 * j + 1]);
                }
            }
        };
        // The second half is on its way while the first is multiplied.
        for (int first = warp; first < end; first += 2 * UNROLL * WARPS) {
            uint4 a[2][UNROLL];
            u32 b[2][UNROLL][COLUMN_PAIRS * 4];
            int second = first + UNROLL * WARPS;
            load(a[0], b[0], first);
            if (second < end) load(a[1], b[1], second);
            add_products(a[0], b[0], first);
            if (second < end) add_products(a[1], b[1], second);
        }
#if SCALE_BYTES
        if (tile0 + CHUNK >= ready.tiles) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                scales[i] = __uint_as_float(load_shared(weights + end * TILE_BYTES + (lane / 4 + 8 * i) * 4));
        }
#endif
        __syncwarp();
        if (lane == 0) barrier_arrive(ring.empty + 8 * ring.stage);
    }
    if (CHAINS == 2)
#pragma unroll
        for (int j = 0; j < N_TILES; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) sums[0][j][i] += sums[CHAINS - 1][j][i];
#if SCALE_BYTES
#pragma unroll
    for (int j = 0; j < N_TILES; j++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            sums[0][j][i] *= scales[i / 2];
            shortcut[j][i] *= scales[2 + i / 2];
        }
#endif
    write_sums(phase, ready, sums[0], scratch, phase.out);
    if (phase.out_shortcut) {
        consumers_sync();
        write_sums(phase, ready, shortcut, scratch, phase.out_shortcut);
    }
}

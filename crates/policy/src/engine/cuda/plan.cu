// A whole plan in one launch: every step of the sampler, every layer of the U-Net, one block a multiprocessor.
//
// At batch 1 a plan is a stream of weights past very few columns (16, 8 or 4 time steps). So one warp of each block does
// nothing but copy this block's weights into a ring in shared memory, ahead of everything, across layers and steps; the
// other eight warps multiply them with tensor cores. A layer's input channels are split over blocks as well as its output
// channels. Each block writes its partial sums, and whoever reads them next adds them up, normalises, and applies Mish,
// FiLM and the shortcut while it loads them: one barrier over the grid a layer, and no other pass over memory.
//
// Tensor cores multiply bf16 and add in f32. Weights of 8 bits become bf16 on the way from the ring, which holds them
// exactly, and an item's sums are multiplied with the scales of their rows. An f32 is the sum of three bf16, and a product of
// two f32 the sum of six.
//
// Defined from outside: BATCH samples, COLUMNS = BATCH * Tp, N_TILES = ceil(COLUMNS / 8), X_PARTS (bf16 that a number of the
// input is the sum of), TILE_BYTES of 16 by 16 weights, SCALE_BYTES behind the last tile of an item (0 where weights are
// bf16), STAGES of CHUNK tiles in the ring, ROUNDS of loads that the largest input takes, CLUSTER (blocks, or 0 where they
// are too many to be one cluster), CONSUMERS (threads that compute), ENTRIES as in Phase.

typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned long long u64;

constexpr int WARPS = CONSUMERS / 32;
// The tiles of a chunk, and the scales that follow the last tile.
constexpr int STAGE_BYTES = CHUNK * TILE_BYTES + SCALE_BYTES;

// Where the input of a layer comes from: sums of partial products, `[splits][channels][columns]`.
struct Source {
    const float* partial;
    const float* bias;           // [channels], or null
    const float* gamma;          // of group norm, which Mish follows; null without
    const float* beta;
    const float* shortcut;       // added last: [shortcut_splits][channels][columns], or null
    const float* shortcut_bias;  // [channels], or null
    float* keep;                 // [channels][columns], where the input is kept for later layers, or null
    int splits;
    int shortcut_splits;
    int channels;
    int group;                   // channels of one group
    int film;                    // where this layer's scale is among FiLM's numbers, its bias follows; -1 without
    int first;                   // the input channel that this source begins at
};

struct Phase {
    Source source[2];
    // [items][tiles][32 lanes], in the register order of the tensor cores, then the item's scales.
    const unsigned char* weights;
    float* out;                  // [splits][rows][columns]
    float* out_shortcut;         // the same for the 1x1 convolution that runs along, or null
    int sources;
    int range;                   // input channels of an item
    int row_tiles;               // 16 output rows each, over all parities
    int items;                   // row_tiles * splits, row tile fastest
    int tiles;                   // of an item
    int rows;                    // output channels
    int length;                  // time steps of the input
    int positions;               // columns a sample
    int stride;
    int parities;                // 2: even and odd outputs of a transposed convolution are rows of their own
    int entries;                 // (tap, part) pairs of the convolution itself
    int all_entries;             // with those of the shortcut
    int sampled;                 // the input is the noisy sample
    u32 by_quads, by_group, by_positions, by_columns, by_range; // for `divide`: length / 4, a group's quads, ...
    signed char shift[2][ENTRIES]; // input time minus stride * position, by parity and entry
    signed char part[ENTRIES];   // which part of the input an entry reads
};

struct Step {
    float clean_x, clean_output, of_clean, of_x, of_output, deviation;
    int draw;                    // which noise is drawn, if deviation > 0
};

struct Plan {
    const Phase* phases;
    const Step* steps;
    const float* film_steps;     // [steps][film]
    const float* film_weights;   // [condition][film]
    float* film_condition;       // [BATCH][film]
    const float* condition;      // [BATCH][condition], read from the host
    const float* noise;          // [1 + draws][BATCH][sample], read from the host
    float* samples;              // [BATCH][sample], written to the host
    float* x;                    // [2][BATCH][sample]
    const float* output;         // partial sums of the last layer: [output_splits][action_dim][columns]
    const float* output_bias;
    u32* arrived;                // of the barrier over the grid; zero at first
    int phase_count, step_count, film, condition_dim, action_dim, output_splits;
    int x_bytes, scratch;        // of shared memory: bytes for the input, numbers for what passes between warps
};

__device__ __forceinline__ u32 shared_address(const void* pointer) {
    return (u32)__cvta_generic_to_shared(pointer);
}

__device__ __forceinline__ void barrier_init(u64* barrier, u32 count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count));
}

__device__ __forceinline__ void barrier_arrive(u64* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

__device__ __forceinline__ void barrier_wait(u64* barrier, u32 parity) {
    asm volatile(
        "{\n.reg .pred done;\nagain:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n}" ::"r"(shared_address(barrier)), "r"(parity) : "memory");
}

// Copies `bytes` and lets `barrier` know when they are there. `policy` says how long they are worth keeping in the cache.
__device__ __forceinline__ void copy_chunk(void* to, const void* from, u32 bytes, u64* barrier, u64 policy) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
            shared_address(to)),
        "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(shared_address(barrier)), "l"(policy)
        : "memory");
}

__device__ __forceinline__ void consumers_sync() { asm volatile("bar.sync 1, %0;" ::"n"(CONSUMERS) : "memory"); }

// Says that this block has come to barrier `turn` over the grid, to which its writes so far belong.
__device__ __forceinline__ void grid_arrive(u32* arrived, u64* cluster_barrier) {
    consumers_sync();
#if CLUSTER
    // Few blocks are one cluster: each tells each other through shared memory, without the way to the second-level cache.
    if (threadIdx.x < CLUSTER)
        asm volatile(
            "{\n.reg .b32 remote;\n"
            "mapa.shared::cluster.u32 remote, %0, %1;\n"
            "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [remote];\n}" ::"r"(shared_address(cluster_barrier)),
            "r"(threadIdx.x) : "memory");
#else
    if (threadIdx.x == 0) asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(arrived) : "memory");
#endif
}

// Waits for all blocks: what they wrote before they arrived can be read after it.
__device__ __forceinline__ void grid_wait(u32* arrived, u64* cluster_barrier, u32 turn) {
    // A block that never arrives is a bug: an error is better than a plan that never comes.
    long long since = clock64();
#if CLUSTER
    u32 done = 0;
    while (!done) {
        asm volatile(
            "{\n.reg .pred done;\n"
            "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%1], %2;\n"
            "selp.u32 %0, 1, 0, done;\n}" : "=r"(done) : "r"(shared_address(cluster_barrier)), "r"(turn & 1) : "memory");
        if (!done && clock64() - since > 4000000000ll) __trap();
    }
#else
    if (threadIdx.x == 0) {
        u32 seen, target = (turn + 1) * gridDim.x;
        do {
            asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(arrived) : "memory");
            if (clock64() - since > 4000000000ll) __trap();
        } while ((int)(seen - target) < 0);
    }
    consumers_sync();
#endif
}

// Past the first-level cache, which knows nothing of what other blocks have written.
__device__ __forceinline__ float4 load4(const float* from) { return __ldcg((const float4*)from); }
__device__ __forceinline__ float load1(const float* from) { return __ldcg(from); }

// The sum of the parts beyond the eighth, `stride` apart.
__device__ __forceinline__ void add_rest(float4& sum, const float* from, int count, long long stride) {
    for (int s = 8; s < count; s++) {
        float4 part = load4(from + s * stride);
        sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
    }
}

// n / d for n, d < 2^16, where `magic` is ceil(2^32 / d), or 0 for d = 1.
__device__ __forceinline__ int divide(int n, u32 magic) { return magic ? __umulhi((u32)n, magic) : n; }

__device__ __forceinline__ u16 to_bf16(float value) {
    u16 bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

__device__ __forceinline__ float from_bf16(u16 bits) { return __uint_as_float((u32)bits << 16); }

// x tanh(softplus(x)): with e = exp(x), x (e^2 + 2e) / (e^2 + 2e + 2).
__device__ __forceinline__ float mish(float x) {
    float e = __expf(fminf(x, 20.0f));
    float n = e * (e + 2.0f);
    return x * __fdividef(n, n + 2.0f);
}

__device__ __forceinline__ void multiply(float* sums, uint4 a, u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

// Two 8-bit integers of `bytes` as bf16. Behind 0x43, the seven low bits are the mantissa of 128 to 255; the sign bit is
// worth 128 less, and there it makes 256 of 128.
__device__ __forceinline__ u32 to_bf16(u32 bytes, u32 selector) {
    u32 both = __byte_perm(bytes, 0x43434343u, selector), result;
    asm("sub.rn.bf16x2 %0, %1, %2;" : "=r"(result) : "r"(both & 0xff7fff7fu), "r"(both & 0xff80ff80u));
    return result;
}

// This lane's weights of a tile.
__device__ __forceinline__ uint4 load_weights(const unsigned char* tile, int lane) {
#if SCALE_BYTES
    uint2 bytes = ((const uint2*)tile)[lane];
    return make_uint4(to_bf16(bytes.x, 0x4140), to_bf16(bytes.x, 0x4342), to_bf16(bytes.y, 0x4140),
                      to_bf16(bytes.y, 0x4342));
#else
    return ((const uint4*)tile)[lane];
#endif
}

__device__ __forceinline__ void store_input(u16* x, int part_stride, int at, float value) {
#pragma unroll
    for (int part = 0; part < X_PARTS; part++) {
        u16 bits = to_bf16(value);
        x[part * part_stride + at] = bits;
        value -= from_bf16(bits);
    }
}

// The sample that step `step` begins with; that of `step_count` is the plan.
__device__ __forceinline__ float sample_at(const Plan& plan, int step, int b, int t, int d) {
    int length = COLUMNS / BATCH;
    int sample = length * plan.action_dim;
    int at = b * sample + t * plan.action_dim + d;
    if (step == 0) return plan.noise[at];
    const Step& last = plan.steps[step - 1];
    float x = load1(plan.x + ((step - 1) & 1) * BATCH * sample + at);
    float output = plan.output_bias[d], parts[8];
    for (int s = 0; s < plan.output_splits; s += 8) {
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (s + i < plan.output_splits)
                parts[i] = load1(plan.output + ((s + i) * plan.action_dim + d) * COLUMNS + b * length + t);
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (s + i < plan.output_splits) output += parts[i];
    }
    float clean = fminf(fmaxf(last.clean_x * x + last.clean_output * output, -1.0f), 1.0f);
    float next = last.of_clean * clean + last.of_x * x + last.of_output * output;
    // `clamp` drops NaN: what is not finite must stay so, to be seen.
    if (!(fabsf(output) < 3.0e38f)) next = output;
    if (last.deviation > 0.0f) next += last.deviation * plan.noise[(1 + last.draw) * BATCH * sample + at];
    return next;
}

// What a thread needs for the input of an item and does not depend on the layer before: it is computed, and fetched to
// shared memory, while that layer's blocks are waited for.
struct Ready {
    int at[ROUNDS], x[ROUNDS];  // in the source, less than 0 for nothing; in shared memory
    int base[N_TILES];          // of the columns that this lane reads, in shared memory
};

// A channel's numbers, in the order in which they lie in shared memory: one of each for every thread and round.
enum { BIAS, SHORTCUT_BIAS, GAMMA, BETA, STEP_SCALE, STEP_SHIFT, SCALE, SHIFT, CHANNEL_NUMBERS };
constexpr int OF_EACH = ROUNDS * CONSUMERS;

__device__ __forceinline__ void fetch(float* to, const float* from, bool present, float otherwise) {
    if (present)
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(to)), "l"(from) : "memory");
    else
        *to = otherwise;
}

__device__ __forceinline__ const Source& source_of(const Phase& phase, int item) {
    return phase.source[phase.sources == 2 && item / phase.row_tiles * phase.range >= phase.source[1].first];
}

__device__ __forceinline__ void prepare(const Plan& plan, const Phase& phase, int step, int item, u16* x, int* offsets,
                                        float* numbers, Ready& ready) {
    int range = phase.range, length = phase.length, pitch = range + 8, rows = length + 4;
    int part_stride = BATCH * rows * pitch, lane = threadIdx.x % 32;
    int split = item / phase.row_tiles;
    int parity = (item - split * phase.row_tiles) / (phase.row_tiles / phase.parities);
    if (threadIdx.x < phase.all_entries)
        offsets[threadIdx.x] = phase.part[threadIdx.x] * part_stride + phase.shift[parity][threadIdx.x] * pitch;
    for (int i = threadIdx.x; i < X_PARTS * BATCH * 4 * (range / 2); i += CONSUMERS) {
        int r = divide(i * 2, phase.by_range), c = i - r * (range / 2);
        int row = (r / 4) * rows + (r % 4 < 2 ? r % 4 : length + r % 4);
        ((u32*)x)[row * (pitch / 2) + c] = 0;
    }
    int columns = BATCH * phase.positions;
#pragma unroll
    for (int j = 0; j < N_TILES; j++) {
        int n = min(j * 8 + lane / 4, columns - 1);
        int sample = BATCH == 1 ? 0 : divide(n, phase.by_positions);
        ready.base[j] = (sample * rows + (n - sample * phase.positions) * phase.stride + 2) * pitch + (lane % 4) * 2;
    }
    if (phase.sampled) return;
    const Source& source = source_of(phase, item);
    int start = split * range - source.first, quads = length / 4, of_sample = range * quads;
    bool normed = source.gamma != nullptr, film = source.film >= 0;
#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
        int q = r * CONSUMERS + threadIdx.x;
        ready.at[r] = -1;
        if (q < BATCH * of_sample) {
            int b = BATCH == 1 ? 0 : q / of_sample, within = q - b * of_sample, local = divide(within, phase.by_quads);
            int c = start + local, t = (within - local * quads) * 4;
            ready.at[r] = c * BATCH * length + b * length + t;
            ready.x[r] = (b * rows + t + 2) * pitch + local;
            const float* of_step = plan.film_steps + step * plan.film + source.film + c;
            const float* of_condition = plan.film_condition + b * plan.film + source.film + c;
            float* to = numbers + q;
            fetch(to + BIAS * OF_EACH, source.bias + c, source.bias, 0.0f);
            fetch(to + SHORTCUT_BIAS * OF_EACH, source.shortcut_bias + c, source.shortcut_bias, 0.0f);
            if (normed) {
                fetch(to + GAMMA * OF_EACH, source.gamma + c, true, 0.0f);
                fetch(to + BETA * OF_EACH, source.beta + c, true, 0.0f);
                fetch(to + STEP_SCALE * OF_EACH, of_step, film, 1.0f);
                fetch(to + STEP_SHIFT * OF_EACH, of_step + source.channels, film, 0.0f);
                fetch(to + SCALE * OF_EACH, of_condition, film, 0.0f);
                fetch(to + SHIFT * OF_EACH, of_condition + source.channels, film, 0.0f);
            }
        }
    }
}

// Writes the input of an item to shared memory as bf16: [part][BATCH * (length + 4)][range + 8], two rows of zeros before
// and after each sample.
__device__ __forceinline__ void load_input(const Plan& plan, const Phase& phase, int step, int item, u16* x,
                                           float2* sums, const float* numbers, const Ready& ready) {
    int range = phase.range, length = phase.length, pitch = range + 8, rows = length + 4;
    int part_stride = BATCH * rows * pitch;
    if (phase.sampled) {
        for (int i = threadIdx.x; i < COLUMNS * range; i += CONSUMERS) {
            int n = divide(i, phase.by_range), d = i - n * range, b = n / length, t = n - b * length;
            float value = 0.0f;
            if (d < plan.action_dim) {
                value = sample_at(plan, step, b, t, d);
                int at = ((step & 1) * BATCH + b) * length * plan.action_dim + t * plan.action_dim + d;
                if (item == 0) plan.x[at] = value;
            }
            store_input(x, part_stride, (b * rows + t + 2) * pitch + d, value);
        }
        consumers_sync();
        return;
    }
    const Source& source = source_of(phase, item);
    bool keeper = item % phase.row_tiles == 0 && source.keep, normed = source.gamma != nullptr;
    int stride = source.channels * BATCH * length;
    int of_group = source.group * (length / 4);
    int width = of_group & -of_group;
    width = width > 32 ? 32 : width;
    int shift_by = __ffs(width) - 1;
    float4 value[ROUNDS], shortcut[ROUNDS];
#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
        value[r] = shortcut[r] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (ready.at[r] >= 0) {
            const float* from = source.partial + ready.at[r];
            const float* along = source.shortcut + ready.at[r];
            // Everything that is needed from memory is asked for before anything is waited for; so no sums in between.
            float4 parts[8], shortcuts[8];
#pragma unroll
            for (int i = 0; i < 8; i++)
                if (i < source.splits) parts[i] = load4(from + i * stride);
#pragma unroll
            for (int i = 0; i < 8; i++)
                if (i < source.shortcut_splits) shortcuts[i] = load4(along + i * stride);
            if (r == 0) asm volatile("cp.async.wait_all;" ::: "memory");
            const float* own = numbers + r * CONSUMERS + threadIdx.x;
            float bias = own[BIAS * OF_EACH], other = own[SHORTCUT_BIAS * OF_EACH];
            float4 sum = make_float4(bias, bias, bias, bias);
            shortcut[r] = make_float4(other, other, other, other);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                if (i < source.splits)
                    sum.x += parts[i].x, sum.y += parts[i].y, sum.z += parts[i].z, sum.w += parts[i].w;
                if (i < source.shortcut_splits)
                    shortcut[r].x += shortcuts[i].x, shortcut[r].y += shortcuts[i].y, shortcut[r].z += shortcuts[i].z,
                        shortcut[r].w += shortcuts[i].w;
            }
            add_rest(sum, from, source.splits, stride);
            add_rest(shortcut[r], along, source.shortcut_splits, stride);
            value[r] = sum;
        }
    }
    if (normed) {
#pragma unroll
        for (int r = 0; r < ROUNDS; r++) {
            int q = r * CONSUMERS + threadIdx.x;
            float4 f = value[r];
            float2 moments = make_float2(f.x + f.y + f.z + f.w, f.x * f.x + f.y * f.y + f.z * f.z + f.w * f.w);
            for (int offset = 1; offset < width; offset *= 2) {
                moments.x += __shfl_xor_sync(~0u, moments.x, offset);
                moments.y += __shfl_xor_sync(~0u, moments.y, offset);
            }
            if (ready.at[r] >= 0 && (q & (width - 1)) == 0) sums[q >> shift_by] = moments;
        }
        consumers_sync();
    }
#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
        if (ready.at[r] < 0) break;
        float out[4] = {value[r].x, value[r].y, value[r].z, value[r].w};
        if (normed) {
            const float* own = numbers + r * CONSUMERS + threadIdx.x;
            float2 moments = make_float2(0.0f, 0.0f);
            int first = divide(r * CONSUMERS + threadIdx.x, phase.by_group) * (of_group >> shift_by);
            for (int j = first; j < first + (of_group >> shift_by); j++) {
                moments.x += sums[j].x;
                moments.y += sums[j].y;
            }
            float share = __fdividef(1.0f, (float)(source.group * length)), mean = moments.x * share;
            float scale = rsqrtf(fmaxf(moments.y * share - mean * mean, 0.0f) + 1e-5f) * own[GAMMA * OF_EACH];
            float shift = own[BETA * OF_EACH] - mean * scale;
            float film_scale = own[STEP_SCALE * OF_EACH] + own[SCALE * OF_EACH];
            float film_shift = own[STEP_SHIFT * OF_EACH] + own[SHIFT * OF_EACH];
#pragma unroll
            for (int i = 0; i < 4; i++) out[i] = mish(out[i] * scale + shift) * film_scale + film_shift;
        }
        out[0] += shortcut[r].x, out[1] += shortcut[r].y, out[2] += shortcut[r].z, out[3] += shortcut[r].w;
        if (keeper) *(float4*)(source.keep + ready.at[r]) = make_float4(out[0], out[1], out[2], out[3]);
#pragma unroll
        for (int i = 0; i < 4; i++) store_input(x, part_stride, ready.x[r] + i * pitch, out[i]);
    }
    consumers_sync();
}

// Adds what the warps summed, and writes it as one part of the layer's output.
__device__ __forceinline__ void write_sums(const Phase& phase, int item, float (*sums)[4], float* scratch, float* out) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    constexpr int pitch = N_TILES * 8;
#pragma unroll
    for (int j = 0; j < N_TILES; j++) {
        float* at = scratch + (warp * 16 + lane / 4) * pitch + j * 8 + (lane % 4) * 2;
        *(float2*)at = make_float2(sums[j][0], sums[j][1]);
        *(float2*)(at + 8 * pitch) = make_float2(sums[j][2], sums[j][3]);
    }
    consumers_sync();
    int split = item / phase.row_tiles, tile = item % phase.row_tiles;
    int tiles = phase.row_tiles / phase.parities, parity = tile / tiles;
    int columns = BATCH * phase.positions;
    for (int i = threadIdx.x; i < 16 * columns; i += CONSUMERS) {
        int row = divide(i, phase.by_columns), n = i - row * columns;
        float sum = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; w++) sum += scratch[(w * 16 + row) * pitch + n];
        int channel = (tile % tiles) * 16 + row;
        if (channel < phase.rows)
            out[(split * phase.rows + channel) * columns * phase.parities + n * phase.parities + parity] = sum;
    }
}

__device__ __forceinline__ void multiply_item(const Phase& phase, int item, const u16* x, const int* offsets, const Ready& ready,
                              const unsigned char* ring, u64* full, u64* empty, u32& chunk, float* scratch) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int blocks = phase.range / 16, tiles_across = (BATCH * phase.positions + 7) / 8;
    // Two chains of sums while there are few columns: one product need not wait for the last.
    constexpr int CHAINS = N_TILES <= 4 ? 2 : 1, UNROLL = N_TILES <= 4 ? 32 / WARPS : 1;
    float sums[CHAINS][N_TILES][4] = {}, shortcut[N_TILES][4] = {};
#if SCALE_BYTES
    float scales[4];             // of this lane's two rows, for the convolution and for the shortcut
#endif
    int entry = 0, block = warp;
    while (block >= blocks) block -= blocks, entry++;
    for (int tile0 = 0; tile0 < phase.tiles; tile0 += CHUNK, chunk++) {
        u32 stage = chunk % STAGES;
        int end = min(CHUNK, phase.tiles - tile0);
        barrier_wait(&full[stage], (chunk / STAGES) & 1);
        const unsigned char* weights = ring + stage * STAGE_BYTES;
        for (int tile = warp; tile < end; tile += UNROLL * WARPS) {
            uint4 a[UNROLL];
            u32 b0[UNROLL][N_TILES], b1[UNROLL][N_TILES];
            bool main[UNROLL];
#pragma unroll
            for (int u = 0; u < UNROLL; u++) {
                if (tile + u * WARPS < end) {
                    a[u] = load_weights(weights + (tile + u * WARPS) * TILE_BYTES, lane);
                    int offset = offsets[entry] + block * 16;
                    main[u] = entry < phase.entries;
#pragma unroll
                    for (int j = 0; j < N_TILES; j++)
                        if (j < tiles_across) {
                            b0[u][j] = *(const u32*)(x + ready.base[j] + offset);
                            b1[u][j] = *(const u32*)(x + ready.base[j] + offset + 8);
                        }
                    block += WARPS;
                    while (block >= blocks) block -= blocks, entry++;
                }
            }
#pragma unroll
            for (int u = 0; u < UNROLL; u++)
#pragma unroll
                for (int j = 0; j < N_TILES; j++)
                    if (tile + u * WARPS < end && j < tiles_across) {
                        // Not `main ? sums : shortcut`, which would put both in memory.
                        if (main[u])
                            multiply(sums[u % CHAINS][j], a[u], b0[u][j], b1[u][j]);
                        else
                            multiply(shortcut[j], a[u], b0[u][j], b1[u][j]);
                    }
        }
#if SCALE_BYTES
        if (tile0 + CHUNK >= phase.tiles) {
            const float* of_rows = (const float*)(weights + end * TILE_BYTES) + lane / 4;
#pragma unroll
            for (int i = 0; i < 4; i++) scales[i] = of_rows[8 * i];
        }
#endif
        __syncwarp();
        if (lane == 0) barrier_arrive(&empty[stage]);
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
    write_sums(phase, item, sums[0], scratch, phase.out);
    if (phase.out_shortcut) {
        consumers_sync();
        write_sums(phase, item, shortcut, scratch, phase.out_shortcut);
    }
}

#if CLUSTER
extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(CONSUMERS + 32, 1)
#else
extern "C" __global__ void __launch_bounds__(CONSUMERS + 32, 1)
#endif
    plan_kernel(const Plan plan) {
    extern __shared__ __align__(128) unsigned char shared[];
    unsigned char* ring = shared;
    u16* x = (u16*)(shared + STAGES * STAGE_BYTES);
    float2* sums = (float2*)((unsigned char*)x + plan.x_bytes);
    float* scratch = (float*)(sums + ROUNDS * CONSUMERS);
    Phase* phases = (Phase*)(scratch + plan.scratch);
    float* numbers = (float*)(phases + plan.phase_count);
    for (int i = threadIdx.x; i < plan.phase_count * (int)(sizeof(Phase) / 4); i += CONSUMERS + 32)
        ((u32*)phases)[i] = __ldg((const u32*)plan.phases + i);
    __shared__ u64 full[STAGES], empty[STAGES], cluster_barrier;
    __shared__ int offsets[ENTRIES];
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            barrier_init(&full[i], 1);
            barrier_init(&empty[i], WARPS);
        }
        barrier_init(&cluster_barrier, CLUSTER ? CLUSTER : 1);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
#if CLUSTER
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif

    if (threadIdx.x >= CONSUMERS) {
        if (threadIdx.x % 32 != 0) return;
        u32 chunk = 0;
        u64 policy;
#if CLUSTER
        asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
#else
        // More weights than the cache holds come by once a step: they must not drive out what passes between layers.
        asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
#endif
        for (int step = 0; step < plan.step_count; step++)
            for (int p = 0; p < plan.phase_count; p++) {
                const unsigned char* weights = phases[p].weights;
                int items = phases[p].items, tiles = phases[p].tiles;
                for (int item = blockIdx.x; item < items; item += gridDim.x)
                    for (int tile0 = 0; tile0 < tiles; tile0 += CHUNK, chunk++) {
                        u32 stage = chunk % STAGES;
                        // A ring that nobody has used is empty: the phase before the first one counts as over.
                        barrier_wait(&empty[stage], ((chunk / STAGES) & 1) ^ 1);
                        u32 bytes =
                            tile0 + CHUNK < tiles ? CHUNK * TILE_BYTES : (tiles - tile0) * TILE_BYTES + SCALE_BYTES;
                        long long from = (long long)item * (tiles * TILE_BYTES + SCALE_BYTES) + tile0 * TILE_BYTES;
                        copy_chunk(ring + stage * STAGE_BYTES, weights + from, bytes, &full[stage], policy);
                    }
            }
        return;
    }

    // FiLM's part that depends on the condition.
    for (int i = threadIdx.x; i < BATCH * plan.condition_dim; i += CONSUMERS) scratch[i] = mish(plan.condition[i]);
    consumers_sync();
    for (int i = blockIdx.x * CONSUMERS + threadIdx.x; i < BATCH * plan.film; i += gridDim.x * CONSUMERS) {
        int b = i / plan.film, f = i % plan.film;
        float sum = 0.0f;
        for (int k = 0; k < plan.condition_dim; k++)
            sum += __ldg(plan.film_weights + (long long)k * plan.film + f) * scratch[b * plan.condition_dim + k];
        plan.film_condition[i] = sum;
    }
    consumers_sync();

    grid_arrive(plan.arrived, &cluster_barrier);
    grid_wait(plan.arrived, &cluster_barrier, 0);
    u32 chunk = 0, turn = 1;
    Ready ready;
    if (blockIdx.x < phases[0].items) prepare(plan, phases[0], 0, blockIdx.x, x, offsets, numbers, ready);
    consumers_sync();
    for (int step = 0; step < plan.step_count; step++)
        for (int p = 0; p < plan.phase_count; p++, turn++) {
            const Phase& phase = phases[p];
            for (int item = blockIdx.x; item < phase.items; item += gridDim.x) {
                if (item != blockIdx.x) {
                    consumers_sync();
                    prepare(plan, phase, step, item, x, offsets, numbers, ready);
                }
                load_input(plan, phase, step, item, x, sums, numbers, ready);
                multiply_item(phase, item, x, offsets, ready, ring, full, empty, chunk, scratch);
            }
            grid_arrive(plan.arrived, &cluster_barrier);
            bool more = p + 1 < plan.phase_count;
            const Phase& next = phases[more ? p + 1 : 0];
            if (blockIdx.x < next.items)
                prepare(plan, next, more ? step : step + 1, blockIdx.x, x, offsets, numbers, ready);
            grid_wait(plan.arrived, &cluster_barrier, turn);
        }
    int sample = COLUMNS / BATCH * plan.action_dim;
    for (int i = blockIdx.x * CONSUMERS + threadIdx.x; i < BATCH * sample; i += gridDim.x * CONSUMERS) {
        int b = i / sample, t = (i % sample) / plan.action_dim, d = i % plan.action_dim;
        plan.samples[i] = sample_at(plan, plan.step_count, b, t, d);
    }
    // The next plan counts from zero again: the last block to come here clears the count.
    consumers_sync();
    if (threadIdx.x == 0) {
        u32 left;
        asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;" : "=r"(left) : "l"(plan.arrived + 1) : "memory");
        if (left == gridDim.x - 1) {
            plan.arrived[0] = 0;
            plan.arrived[1] = 0;
        }
    }
}

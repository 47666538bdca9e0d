// A whole plan in one launch: every step of the sampler, every layer of the U-Net, one block a multiprocessor.
//
// At batch 1 a plan is a stream of weights past very few columns (16, 8 or 4 time steps). So one warp of each block does
// nothing but copy this block's weights into a ring in shared memory, ahead of everything, across layers and steps; the
// other eight warps multiply them with tensor cores. A layer's input channels are split over blocks as well as its output
// channels. Each block writes its partial sums, and whoever reads them next adds them up, normalises, and applies Mish,
// FiLM and the shortcut while it loads them: one barrier over the grid a layer, and no other pass over memory.
//
// Defined from outside: BATCH samples, COLUMNS = BATCH * Tp, N_TILES = ceil(COLUMNS / 8), PARTS (1: bf16; 3: f32 as
// sums of two bf16, with three products), STAGES of CHUNK tiles in the ring, ENTRIES as in Phase.

typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned long long u64;

constexpr int CONSUMERS = 256;
constexpr int WARPS = CONSUMERS / 32;
constexpr int X_PARTS = PARTS == 3 ? 2 : 1;

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
    const uint4* weights;        // [items][tiles][32 lanes], in the register order of the tensor cores
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
    int shift[2][ENTRIES];       // input time minus stride * position, by parity and entry
    int part[ENTRIES];           // which part of the input an entry reads
    int unused;
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
    int x_bytes, v_bytes;        // of the parts of shared memory
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

// Copies `bytes` and lets `barrier` know when they are there.
__device__ __forceinline__ void copy_chunk(void* to, const void* from, u32 bytes, u64* barrier) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
            shared_address(to)),
        "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(shared_address(barrier))
        : "memory");
}

__device__ __forceinline__ void consumers_sync() { asm volatile("bar.sync 1, 256;" ::: "memory"); }

// All consumers of all blocks: what was written before it can be read after it.
__device__ __forceinline__ void grid_sync(u32* arrived, u32 target) {
    consumers_sync();
    if (threadIdx.x == 0) {
        asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(arrived) : "memory");
        u32 seen;
        long long since = clock64();
        do {
            asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(arrived) : "memory");
            // A block that never arrives is a bug: an error is better than a plan that never comes.
            if (clock64() - since > 4000000000ll) __trap();
        } while ((int)(seen - target) < 0);
    }
    consumers_sync();
}

__device__ __forceinline__ float4 load4(const float* from) {
    float4 value;
    asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
                 : "l"(from));
    return value;
}

__device__ __forceinline__ float load1(const float* from) {
    float value;
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(value) : "l"(from));
    return value;
}

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

__device__ __forceinline__ void store_input(u16* x, int part_stride, int at, float value) {
    u16 high = to_bf16(value);
    x[at] = high;
    if (X_PARTS == 2) x[part_stride + at] = to_bf16(value - from_bf16(high));
}

// The sample that step `step` begins with; `step_count` gives the plan.
__device__ float sample_at(const Plan& plan, int step, int b, int t, int d) {
    int length = COLUMNS / BATCH;
    int sample = length * plan.action_dim;
    int at = b * sample + t * plan.action_dim + d;
    if (step == 0) return plan.noise[at];
    Step last = plan.steps[step - 1];
    float x = load1(plan.x + ((step - 1) & 1) * BATCH * sample + at);
    float output = plan.output_bias[d];
    for (int s = 0; s < plan.output_splits; s++)
        output += load1(plan.output + (s * plan.action_dim + d) * COLUMNS + b * length + t);
    float clean = fminf(fmaxf(last.clean_x * x + last.clean_output * output, -1.0f), 1.0f);
    float next = last.of_clean * clean + last.of_x * x + last.of_output * output;
    // `clamp` drops NaN: what is not finite must stay so, to be seen.
    if (!(fabsf(output) < 3.0e38f)) next = output;
    if (last.deviation > 0.0f) next += last.deviation * plan.noise[(1 + last.draw) * BATCH * sample + at];
    return next;
}

// Writes the input of an item to shared memory as bf16: [part][BATCH * (length + 4)][range + 8], two rows of zeros before
// and after each sample.
__device__ void load_input(const Plan& plan, const Phase& phase, int step, int item, u16* x, float4* v, float2* sums,
                           float2* norms) {
    int range = phase.range, length = phase.length, pitch = range + 8, rows = length + 4;
    int part_stride = BATCH * rows * pitch;
    int split = item / phase.row_tiles;
    bool keeper = item % phase.row_tiles == 0;
    for (int i = threadIdx.x; i < X_PARTS * BATCH * 4 * (range / 2); i += CONSUMERS) {
        int c = i % (range / 2), r = i / (range / 2);
        int row = (r / 4) * rows + (r % 4 < 2 ? r % 4 : length + r % 4);
        ((u32*)x)[row * (pitch / 2) + c] = 0;
    }
    if (phase.sampled) {
        for (int i = threadIdx.x; i < COLUMNS * range; i += CONSUMERS) {
            int d = i % range, n = i / range, b = n / length, t = n % length;
            float value = 0.0f;
            if (d < plan.action_dim) {
                value = sample_at(plan, step, b, t, d);
                if (item == 0) plan.x[((step & 1) * BATCH + b) * length * plan.action_dim + t * plan.action_dim + d] = value;
            }
            store_input(x, part_stride, (b * rows + t + 2) * pitch + d, value);
        }
        consumers_sync();
        return;
    }
    int start = split * range;
    const Source& source = phase.source[phase.sources == 2 && start >= phase.source[1].first];
    start -= source.first;
    int columns = BATCH * length, quads = length / 4;
    bool normed = source.gamma != nullptr;
    // Four time steps of one channel a thread, ordered by sample, group, channel, time.
    int group = normed ? source.group : range;
    int of_group = group * quads, groups = range / group, of_sample = groups * of_group;
    int total = BATCH * of_sample;
    int width = of_group & -of_group;
    width = width > 32 ? 32 : width;
    for (int q0 = threadIdx.x & ~31; q0 < total; q0 += CONSUMERS) {
        int q = q0 + (threadIdx.x & 31);
        float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (q < total) {
            int b = q / of_sample, c = start + (q % of_sample) / quads, t = (q % quads) * 4;
            const float* from = source.partial + (long long)c * columns + b * length + t;
            for (int s = 0; s < source.splits; s++) {
                float4 part = load4(from + (long long)s * source.channels * columns);
                sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
            }
            if (source.bias) {
                float bias = __ldg(source.bias + c);
                sum.x += bias, sum.y += bias, sum.z += bias, sum.w += bias;
            }
            v[q] = sum;
        }
        if (normed) {
            float2 moments = make_float2(sum.x + sum.y + sum.z + sum.w,
                                         sum.x * sum.x + sum.y * sum.y + sum.z * sum.z + sum.w * sum.w);
            for (int offset = 1; offset < width; offset *= 2) {
                moments.x += __shfl_xor_sync(~0u, moments.x, offset);
                moments.y += __shfl_xor_sync(~0u, moments.y, offset);
            }
            if (q < total && q % width == 0) sums[q / width] = moments;
        }
    }
    if (normed) {
        consumers_sync();
        for (int i = threadIdx.x; i < BATCH * groups; i += CONSUMERS) {
            float2 moments = make_float2(0.0f, 0.0f);
            for (int j = i * (of_group / width); j < (i + 1) * (of_group / width); j++) {
                moments.x += sums[j].x;
                moments.y += sums[j].y;
            }
            float count = (float)(group * length);
            float mean = moments.x / count;
            norms[i] = make_float2(mean, rsqrtf(fmaxf(moments.y / count - mean * mean, 0.0f) + 1e-5f));
        }
        consumers_sync();
    }
    for (int q = threadIdx.x; q < total; q += CONSUMERS) {
        int b = q / of_sample, local = (q % of_sample) / quads, c = start + local, t = (q % quads) * 4;
        float4 sum = v[q];
        float value[4] = {sum.x, sum.y, sum.z, sum.w};
        if (normed) {
            float2 norm = norms[q / of_group];
            float scale = norm.y * __ldg(source.gamma + c), shift = __ldg(source.beta + c) - norm.x * scale;
            float film_scale = 1.0f, film_bias = 0.0f;
            if (source.film >= 0) {
                const float* of_step = plan.film_steps + (long long)step * plan.film + source.film;
                const float* of_condition = plan.film_condition + (long long)b * plan.film + source.film;
                film_scale = __ldg(of_step + c) + load1(of_condition + c);
                film_bias = __ldg(of_step + source.channels + c) + load1(of_condition + source.channels + c);
            }
            for (int i = 0; i < 4; i++) value[i] = mish(value[i] * scale + shift) * film_scale + film_bias;
        }
        long long at = (long long)c * columns + b * length + t;
        if (source.shortcut) {
            for (int s = 0; s < source.shortcut_splits; s++) {
                float4 part = load4(source.shortcut + (long long)s * source.channels * columns + at);
                value[0] += part.x, value[1] += part.y, value[2] += part.z, value[3] += part.w;
            }
            if (source.shortcut_bias)
                for (int i = 0; i < 4; i++) value[i] += __ldg(source.shortcut_bias + c);
        }
        if (keeper && source.keep)
            *(float4*)(source.keep + at) = make_float4(value[0], value[1], value[2], value[3]);
        for (int i = 0; i < 4; i++) store_input(x, part_stride, (b * rows + t + i + 2) * pitch + local, value[i]);
    }
    consumers_sync();
}

// Adds what the warps summed, and writes it as one part of the layer's output.
__device__ void write_sums(const Phase& phase, int item, float (*sums)[4], float* scratch, float* out) {
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
        int row = i / columns, n = i % columns;
        float sum = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; w++) sum += scratch[(w * 16 + row) * pitch + n];
        int channel = (tile % tiles) * 16 + row;
        if (channel < phase.rows)
            out[((long long)split * phase.rows + channel) * columns * phase.parities + n * phase.parities + parity] = sum;
    }
    consumers_sync();
}

__device__ void multiply_item(const Phase& phase, int item, const u16* x, const uint4* ring, u64* full, u64* empty,
                              u32& chunk, float* scratch) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int pitch = phase.range + 8, rows = phase.length + 4, columns = BATCH * phase.positions;
    int part_stride = BATCH * rows * pitch;
    int parity = (item % phase.row_tiles) / (phase.row_tiles / phase.parities);
    int blocks = phase.range / 16, tiles_across = (columns + 7) / 8;
    const u16* base[N_TILES];
#pragma unroll
    for (int j = 0; j < N_TILES; j++) {
        int n = min(j * 8 + lane / 4, columns - 1);
        int row = (n / phase.positions) * rows + (n % phase.positions) * phase.stride + 2;
        base[j] = x + row * pitch + (lane % 4) * 2;
    }
    float sums[N_TILES][4] = {}, shortcut[N_TILES][4] = {};
    int entry = warp / blocks, block = warp % blocks;
    for (int tile0 = 0; tile0 < phase.tiles; tile0 += CHUNK, chunk++) {
        u32 stage = chunk % STAGES;
        barrier_wait(&full[stage], (chunk / STAGES) & 1);
        const uint4* weights = ring + (long long)stage * CHUNK * 32 + lane;
        int end = min(CHUNK, phase.tiles - tile0);
        for (int tile = warp; tile < end; tile += WARPS) {
            uint4 a = weights[tile * 32];
            int offset = phase.part[entry] * part_stride + phase.shift[parity][entry] * pitch + block * 16;
            bool main = entry < phase.entries;
#pragma unroll
            for (int j = 0; j < N_TILES; j++) {
                if (j < tiles_across) {
                    u32 b0 = *(const u32*)(base[j] + offset), b1 = *(const u32*)(base[j] + offset + 8);
                    // Not `main ? sums : shortcut`, which would put both in memory.
                    if (main)
                        multiply(sums[j], a, b0, b1);
                    else
                        multiply(shortcut[j], a, b0, b1);
                }
            }
            block += WARPS;
            while (block >= blocks) block -= blocks, entry++;
        }
        __syncwarp();
        if (lane == 0) barrier_arrive(&empty[stage]);
    }
    write_sums(phase, item, sums, scratch, phase.out);
    if (phase.out_shortcut) write_sums(phase, item, shortcut, scratch, phase.out_shortcut);
}

__device__ __forceinline__ void fetch(Phase* to, const Phase* from) {
    for (int i = threadIdx.x; i < (int)(sizeof(Phase) / 4); i += CONSUMERS) ((u32*)to)[i] = __ldg((const u32*)from + i);
}

extern "C" __global__ void __launch_bounds__(CONSUMERS + 32, 1) plan_kernel(const Plan plan) {
    extern __shared__ __align__(128) unsigned char shared[];
    uint4* ring = (uint4*)shared;
    u16* x = (u16*)(shared + STAGES * CHUNK * 512);
    float4* v = (float4*)((unsigned char*)x + plan.x_bytes);
    float* scratch = (float*)((unsigned char*)v + plan.v_bytes);
    float2* sums = (float2*)(scratch + WARPS * 16 * N_TILES * 8);
    float2* norms = sums + 1024;
    __shared__ u64 full[STAGES], empty[STAGES];
    __shared__ Phase current[2];
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            barrier_init(&full[i], 1);
            barrier_init(&empty[i], WARPS);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();

    if (threadIdx.x >= CONSUMERS) {
        if (threadIdx.x % 32 != 0) return;
        u32 chunk = 0;
        for (int step = 0; step < plan.step_count; step++)
            for (int p = 0; p < plan.phase_count; p++) {
                const uint4* weights = plan.phases[p].weights;
                int items = plan.phases[p].items, tiles = plan.phases[p].tiles;
                for (int item = blockIdx.x; item < items; item += gridDim.x)
                    for (int tile0 = 0; tile0 < tiles; tile0 += CHUNK, chunk++) {
                        u32 stage = chunk % STAGES;
                        // A ring that nobody has used is empty: the phase before the first one counts as over.
                        barrier_wait(&empty[stage], ((chunk / STAGES) & 1) ^ 1);
                        u32 bytes = min(CHUNK, tiles - tile0) * 512;
                        copy_chunk(ring + (long long)stage * CHUNK * 32,
                                   weights + ((long long)item * tiles + tile0) * 32, bytes, &full[stage]);
                    }
            }
        return;
    }

    // FiLM's part that depends on the condition; the first layer does not need it, and a barrier follows that layer.
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

    u32 chunk = 0, target = 0;
    fetch(&current[0], plan.phases);
    consumers_sync();
    for (int step = 0, turn = 0; step < plan.step_count; step++)
        for (int p = 0; p < plan.phase_count; p++, turn ^= 1) {
            const Phase& phase = current[turn];
            fetch(&current[turn ^ 1], plan.phases + (p + 1 < plan.phase_count ? p + 1 : 0));
            for (int item = blockIdx.x; item < phase.items; item += gridDim.x) {
                load_input(plan, phase, step, item, x, v, sums, norms);
                multiply_item(phase, item, x, ring, full, empty, chunk, scratch);
            }
            target += gridDim.x;
            grid_sync(plan.arrived, target);
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

// What the machine offers: barriers, copies, the ring of weights, loads, and tensor cores.

// Kept in a register: the compiler would compute it again wherever it is used.
__device__ __forceinline__ u32 shared_address(const void* pointer) {
    u32 address;
    asm volatile("mov.u32 %0, %1;" : "=r"(address) : "r"((u32)__cvta_generic_to_shared(pointer)));
    return address;
}

__device__ __forceinline__ void barrier_init(u32 barrier, u32 count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count));
}

__device__ __forceinline__ void barrier_arrive(u32 barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void barrier_wait(u32 barrier, u32 parity) {
    asm volatile(
        "{\n.reg .pred done;\nagain:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n}" ::"r"(barrier), "r"(parity) : "memory");
}

// Copies `bytes` and lets `barrier` know when they are there. `policy` says how long they are worth keeping in the cache.
__device__ __forceinline__ void copy_chunk(u32 to, const void* from, u32 bytes, u32 barrier, u64 policy) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
                 : "memory");
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
            to),
        "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(barrier), "l"(policy)
        : "memory");
}

__device__ __forceinline__ void consumers_sync() { asm volatile("bar.sync 1, %0;" ::"n"(CONSUMERS) : "memory"); }

// The next chunk of the ring: each stage has a barrier that its bytes have come, and one that nobody needs them any more.
struct Ring {
    u32 chunks, full, empty; // addresses in shared memory
    u32 stage = 0, turn = 0;

    __device__ __forceinline__ void next() {
        if (++stage == STAGES) stage = 0, turn ^= 1;
    }
};

// A barrier over the grid. Whoever waits until memory has taken what was written computes nothing meanwhile: so a warp of
// its own does, and the others go on from `grid_arrive` with what needs no other block.
__device__ __forceinline__ void grid_arrive() { asm volatile("bar.arrive 2, %0;" ::"n"(CONSUMERS + 32) : "memory"); }

// A block that never arrives is a bug: an error is better than a plan that never comes.
__device__ __forceinline__ void give_up_after(long long since) {
    if (clock64() - since > 4000000000ll) __trap();
}

// Waits for all blocks: what they wrote before they arrived can be read after it.
__device__ __forceinline__ void grid_wait(u32 all_blocks, u32 turn) {
#if CLUSTER
    long long since = clock64();
    for (u32 done = 0; !done; give_up_after(since))
        asm volatile(
            "{\n.reg .pred done;\n"
            "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%1], %2;\n"
            "selp.u32 %0, 1, 0, done;\n}" : "=r"(done) : "r"(all_blocks), "r"(turn & 1) : "memory");
#else
    asm volatile("bar.sync 3, %0;" ::"n"(CONSUMERS + 32) : "memory");
#endif
}

// What the warp that speaks with the other blocks does, through all `turns` of the barrier.
__device__ __forceinline__ void speak(u32* arrived, u32 all_blocks, u32 turns) {
    int lane = threadIdx.x % 32;
    for (u32 turn = 0; turn < turns; turn++) {
        asm volatile("bar.sync 2, %0;" ::"n"(CONSUMERS + 32) : "memory");
#if CLUSTER
        // Few blocks are one cluster: each tells each other through shared memory, not by the second-level cache.
        if (lane < CLUSTER)
            asm volatile(
                "{\n.reg .b32 remote;\n"
                "mapa.shared::cluster.u32 remote, %0, %1;\n"
                "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [remote];\n}" ::"r"(all_blocks), "r"(lane)
                : "memory");
#else
        if (lane == 0) {
            asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(arrived) : "memory");
            long long since = clock64();
            for (u32 seen = 0; (int)(seen - (turn + 1) * gridDim.x) < 0; give_up_after(since))
                asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(arrived) : "memory");
        }
        __syncwarp();
        asm volatile("bar.arrive 3, %0;" ::"n"(CONSUMERS + 32) : "memory");
#endif
    }
}

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
__device__ __forceinline__ uint4 load_weights(u32 tile, int lane) {
    uint4 a;
#if SCALE_BYTES
    u32 first, second;
    asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(first), "=r"(second) : "r"(tile + lane * 8));
    a = make_uint4(to_bf16(first, 0x4140), to_bf16(first, 0x4342), to_bf16(second, 0x4140), to_bf16(second, 0x4342));
#else
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a.x), "=r"(a.y), "=r"(a.z), "=r"(a.w) : "r"(tile + lane * 16));
#endif
    return a;
}

__device__ __forceinline__ u32 load_shared(u32 address) {
    u32 value;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(value) : "r"(address));
    return value;
}

// Four 8 by 8 matrices of the input, whose rows the lanes point to: two tiles of 8 columns by 16 numbers.
__device__ __forceinline__ void load_columns(u32* b, u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3]) : "r"(address));
}

__device__ __forceinline__ void store_input(u16* x, int part_stride, int at, float value) {
#pragma unroll
    for (int part = 0; part < X_PARTS; part++) {
        u16 bits = to_bf16(value);
        x[part * part_stride + at] = bits;
        value -= from_bf16(bits);
    }
}

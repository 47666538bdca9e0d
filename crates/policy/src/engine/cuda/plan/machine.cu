// What the machine offers: barriers, copies, the ring of weights, and tensor cores. On a CPU `emulated.cpp` stands in for it.

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

__device__ __forceinline__ u16 to_bf16(float value) {
    u16 bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
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

// What was initialised can be waited for by other blocks' threads.
__device__ __forceinline__ void barriers_ready() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// How long weights are worth keeping in the second-level cache.
__device__ __forceinline__ u64 weights_policy() {
    u64 policy;
#if CLUSTER
    asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
#else
    // More weights than the cache holds come by once a step: they must not drive out what passes between layers.
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
#endif
    return policy;
}

// Copies a number to shared memory, in its own time, or writes `otherwise`.
__device__ __forceinline__ void fetch(u32 to, const float* from, bool present, float otherwise) {
    if (present)
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from));
    else
        asm volatile("st.shared.f32 [%0], %1;" ::"r"(to), "f"(otherwise));
}

__device__ __forceinline__ void wait_for_fetched() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// How many blocks have left before.
__device__ __forceinline__ u32 leave(u32* left_before) {
    u32 left;
    asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;" : "=r"(left) : "l"(left_before) : "memory");
    return left;
}

// Stands in for machine.cu on a CPU, behind cuda/fibers.cpp. All blocks are there at once. Copies into shared memory happen
// when they are waited for and no sooner, shared memory begins as not-a-number, and an access beyond it or at an odd address
// ends the program.

#define __cluster_dims__(...)
// What a block declares lies in one place, and is exchanged when another block goes on.
#define __shared__ static __attribute__((section("block_shared")))
extern "C" __attribute__((visibility("hidden"))) char __start_block_shared[], __stop_block_shared[];

static int __ffs(int bits) { return __builtin_ffs(bits); }
static u32 __umulhi(u32 a, u32 b) { return (u64)a * b >> 32; }

struct Fetched { u32 to; const float* from; };
struct Chunk { u32 to; const void* from; u32 bytes, barrier; };
struct Block {
    unsigned char* memory;
    std::vector<char> declared;
    Barrier named[4];
    std::vector<Chunk> chunks;
};
static std::vector<Block> block_list;
static std::vector<std::vector<Fetched>> fetched;
static int shared_bytes, present;
static Barrier of_all;
static u32 all_arrived;

static Block& block() { return block_list[current / threads]; }
static unsigned char* block_memory() { return block().memory; }

static void fail(const char* what) { fprintf(stderr, "%s\n", what), abort(); }

constexpr u32 MEMORY = 1u << 28, DECLARED = 2u << 28;

static u32 shared_address(const void* pointer) {
    const char* at = (const char*)pointer;
    if (at >= __start_block_shared && at < __stop_block_shared) return DECLARED + (at - __start_block_shared);
    size_t within = at - (const char*)block().memory;
    if (within > (size_t)shared_bytes) fail("no address in shared memory");
    return MEMORY + within;
}

template <class T>
static T* at(u32 address, size_t bytes = sizeof(T)) {
    bool declared = address >= DECLARED;
    size_t within = address - (declared ? DECLARED : MEMORY);
    size_t size = declared ? __stop_block_shared - __start_block_shared : shared_bytes;
    if (within + bytes > size || within % min(bytes, (size_t)16) != 0) fail("beyond shared memory, or misaligned");
    return (T*)((declared ? (unsigned char*)__start_block_shared : block().memory) + within);
}

// A barrier in shared memory: arrivals of a phase, those that are missing, bytes that are, and the phase's parity.
struct Phased { u16 count, pending; u32 parity : 1, bytes : 31; };
static_assert(sizeof(Phased) == 8, "it lies where 64 bits do");

static void barrier_init(u32 barrier, u32 count) { *at<Phased>(barrier) = {(u16)count, (u16)count, 0, 0}; }

static void complete(Phased& phased) {
    if (phased.pending == 0 && phased.bytes == 0) phased.pending = phased.count, phased.parity ^= 1;
}

static void barrier_arrive(u32 barrier) {
    Phased& phased = *at<Phased>(barrier);
    if (phased.pending == 0) fail("too many arrive");
    phased.pending--;
    complete(phased);
}

static void barrier_wait(u32 barrier, u32 parity) {
    for (;;) {
        if (at<Phased>(barrier)->parity != parity) return;
        std::vector<Chunk>& chunks = block().chunks;
        for (size_t i = 0; i < chunks.size(); i++) {
            Chunk chunk = chunks[i];
            if (chunk.barrier != barrier) continue;
            chunks.erase(chunks.begin() + i--);
            memcpy(at<char>(chunk.to, chunk.bytes), chunk.from, chunk.bytes);
            Phased& phased = *at<Phased>(barrier);
            phased.bytes -= chunk.bytes;
            complete(phased);
        }
        if (at<Phased>(barrier)->parity != parity) return;
        pass();
    }
}

static void copy_chunk(u32 to, const void* from, u32 bytes, u32 barrier, u64) {
    if (to % 16 || (u64)from % 16 || bytes % 16) fail("a bulk copy of what is not whole lines");
    Phased& phased = *at<Phased>(barrier);
    if (phased.pending == 0) fail("too many arrive");
    phased.pending--;
    phased.bytes += bytes;
    block().chunks.push_back({to, from, bytes, barrier});
}

static void consumers_sync() { meet(block().named[1], CONSUMERS); }

struct Ring {
    u32 chunks, full, empty;
    u32 stage = 0, turn = 0;

    void next() {
        if (++stage == STAGES) stage = 0, turn ^= 1;
    }
};

static void grid_arrive() { arrive(block().named[2], CONSUMERS + 32); }

static void grid_wait(u32, u32 turn) {
#if CLUSTER
    while (all_arrived < (turn + 1) * present) pass();
#else
    meet(block().named[3], CONSUMERS + 32);
#endif
}

static void speak(u32* arrived, u32, u32 turns) {
    for (u32 turn = 0; turn < turns; turn++) {
        meet(block().named[2], CONSUMERS + 32);
#if CLUSTER
        if (threadIdx.x % 32 == 0) all_arrived++;
#else
        if (threadIdx.x % 32 == 0) {
            ++*arrived;
            while (*(volatile u32*)arrived < (turn + 1) * present) pass();
        }
        __syncwarp();
        arrive(block().named[3], CONSUMERS + 32);
#endif
    }
}

static void barriers_ready() {}
static void cluster_sync() { meet(of_all, present * threads); }
static u64 weights_policy() { return 0; }

static void fetch(u32 to, const float* from, bool there, float otherwise) {
    if (there) fetched[current].push_back({to, from});
    else *at<float>(to) = otherwise;
}

static void wait_for_fetched() {
    for (const Fetched& one : fetched[current]) *at<float>(one.to) = *one.from;
    fetched[current].clear();
}

static u32 leave(u32* left_before) { return (*left_before)++; }

static u16 to_bf16(float value) { return rounded(value); }

static void multiply(float* sums, uint4 a, u32 b0, u32 b1) {
    u32 parts[4] = {a.x, a.y, a.z, a.w};
    multiply_add(sums, parts, b0, b1);
}

// Two 8-bit integers of `bytes` as bf16, by the same difference as on the GPU.
static u32 to_bf16(u32 bytes, u32 selector) {
    u32 both = 0;
    for (int i = 0; i < 4; i++) {
        u32 pick = selector >> 4 * i & 7;
        both |= (pick < 4 ? bytes >> 8 * pick & 0xff : 0x43) << 8 * i;
    }
    auto half = [&](int shift) {
        u32 bits = both >> shift & 0xffff;
        return rounded(__uint_as_float((bits & 0xff7f) << 16) - __uint_as_float((bits & 0xff80) << 16)) << shift;
    };
    return half(0) | half(16);
}

static uint4 load_weights(u32 tile, int lane) {
#if SCALE_BYTES
    const u32* two = at<u32>(tile + lane * 8, 8);
    return make_uint4(to_bf16(two[0], 0x4140), to_bf16(two[0], 0x4342), to_bf16(two[1], 0x4140), to_bf16(two[1], 0x4342));
#else
    return *at<uint4>(tile + lane * 16);
#endif
}

static u32 load_shared(u32 address) { return *at<u32>(address); }

static void load_columns(u32* b, u32 address) { load_matrices(b, at<u16>(address, 16), false); }

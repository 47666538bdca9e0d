// What kernels/*.cu take from CUDA, for one CPU core: each thread of a block is a fiber, blocks follow each other. Copies
// into shared memory happen when they are waited for and no sooner, shared memory begins as not-a-number, and a misaligned
// access ends the program. It stands in for kernels/prelude.cu.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <algorithm>
#include <deque>
#include <vector>

using std::min;

typedef unsigned long long u64;
typedef unsigned int u32;
typedef unsigned short bf16;

#define NONE 0xffffffffffffffffull
#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

struct Place { int x, y, z; };
struct uint2 { u32 x, y; };
struct uint4 { u32 x, y, z, w; };
struct float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };

static Place threadIdx, blockIdx, gridDim;
static unsigned char* dynamic_shared;

static uint2 make_uint2(u32 x, u32 y) { return {x, y}; }
static uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }
static float2 make_float2(float x, float y) { return {x, y}; }
static float __uint_as_float(u32 bits) { float value; memcpy(&value, &bits, 4); return value; }
static u32 bits_of(float value) { u32 bits; memcpy(&bits, &value, 4); return bits; }
static float fast_exp(float x) { return expf(x); }
#define __expf fast_exp
static float __fdividef(float a, float b) { return a / b; }
static float rsqrtf(float x) { return 1.0f / sqrtf(x); }

static u64 __cvta_generic_to_shared(const void* address) { return (u64)address; }
static void __threadfence() {}
static u32 atomicAdd(u32* to, u32 more) { u32 before = *to; *to += more; return before; }
static float4 __ldcg(const float4* from) { return *from; }
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// Saves a fiber's registers and stack pointer and goes on with another's (System V on x86-64).
extern "C" void change_fiber(void** from, void* to);
asm(R"(
.text
.globl change_fiber
change_fiber:
    pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
    ret
)");

struct Copy { bf16* to; const bf16* from; bool valid; };

struct Fiber {
    void* stack_pointer;
    char* stack;
    bool done;
    int turn;
    std::deque<std::vector<Copy>> groups;
    std::vector<Copy> open;
};

static std::vector<Fiber> fibers;
static void* scheduler;
static int current, threads;

// Threads that have come to a barrier, and how often it has opened.
struct Barrier { int come, opened; };
static Barrier of_block, of_warps[32];
// What the lanes of a warp show each other, in turns: a lane that brings something again has come past the next meeting,
// so all have seen what it brought before the last time.
static u64 brought[2][32][32];

static void pass() {
    int self = current;
    change_fiber(&fibers[self].stack_pointer, scheduler);
    threadIdx = {self, 0, 0};
}

static void meet(Barrier& barrier, int expected) {
    int before = barrier.opened;
    if (++barrier.come == expected) barrier.come = 0, barrier.opened++;
    while (barrier.opened == before) pass();
}

static void __syncthreads() { meet(of_block, threads); }
static void meet_warp() { meet(of_warps[current / 32], 32); }

static int next_turn() { return fibers[current].turn ^= 1; }

static float __shfl_xor_sync(u32, float value, int mask) {
    int warp = current / 32, lane = current % 32, turn = next_turn();
    brought[turn][warp][lane] = bits_of(value);
    meet_warp();
    return __uint_as_float((u32)brought[turn][warp][lane ^ mask]);
}

static u32 rounded(float value) {
    u32 bits = bits_of(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

static u32 pack(float low, float high) { return rounded(high) << 16 | rounded(low); }

static void aligned(const void* address) {
    if ((u64)address % 16 != 0) fprintf(stderr, "16 bytes at an odd address\n"), abort();
}

static void copy_async(bf16* shared, const bf16* global, bool valid) {
    aligned(shared), aligned(global);
    fibers[current].open.push_back({shared, global, valid});
}

static void copies_commit() {
    Fiber& fiber = fibers[current];
    fiber.groups.push_back(std::move(fiber.open));
    fiber.open.clear();
}

template <int PENDING>
static void copies_wait() {
    Fiber& fiber = fibers[current];
    while ((int)fiber.groups.size() > PENDING) {
        for (const Copy& copy : fiber.groups.front()) {
            if (copy.valid) memcpy(copy.to, copy.from, 16);
            else memset(copy.to, 0, 16);
        }
        fiber.groups.pop_front();
    }
}

static void load_matrices(u32 (&out)[4], const bf16* row, bool transposed) {
    int warp = current / 32, lane = current % 32, turn = next_turn();
    aligned(row);
    brought[turn][warp][lane] = (u64)row;
    meet_warp();
    for (int i = 0; i < 4; i++) {
        auto at = [&](int row, int column) { return (u32)((const bf16*)brought[turn][warp][8 * i + row])[column]; };
        int first = lane / 4, second = lane % 4 * 2;
        out[i] = transposed ? at(second, first) | at(second + 1, first) << 16
                            : at(first, second) | at(first, second + 1) << 16;
    }
}

static void load_matrices(u32 (&out)[4], const bf16* row) { load_matrices(out, row, false); }
static void load_matrices_transposed(u32 (&out)[4], const bf16* row) { load_matrices(out, row, true); }

static void multiply_add(float (&sum)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    struct Parts { u32 a[4], b[2]; };
    static Parts shown[2][32][32];
    int lane = current % 32, turn = next_turn(), row = lane / 4;
    Parts* parts = shown[turn][current / 32];
    parts[lane] = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
    meet_warp();
    auto low = [](u32 both) { return __uint_as_float(both << 16); };
    auto high = [](u32 both) { return __uint_as_float(both & 0xffff0000u); };
    for (int i = 0; i < 4; i++) {
        int column = lane % 4 * 2 + i % 2;
        float total = 0.0f;
        for (int pair = 0; pair < 8; pair++) {
            u32 left = parts[row * 4 + pair % 4].a[i / 2 + pair / 4 * 2], right = parts[column * 4 + pair % 4].b[pair / 4];
            total += low(left) * low(right) + high(left) * high(right);
        }
        sum[i] += total;
    }
}

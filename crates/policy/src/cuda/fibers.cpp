// What kernels take from CUDA, for one CPU core: each thread of a block is a fiber, and each runs until it has to wait for
// others. Blocks follow each other, or are interleaved where a kernel needs them all at once.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <algorithm>
#include <deque>
#include <vector>

using std::max;
using std::min;

typedef unsigned long long u64;
typedef unsigned int u32;
typedef unsigned short u16;

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct Place { int x, y, z; };
struct uint2 { u32 x, y; };
struct alignas(16) uint4 { u32 x, y, z, w; };
struct float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };

static Place threadIdx, blockIdx, gridDim;

static uint2 make_uint2(u32 x, u32 y) { return {x, y}; }
static uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }
static float2 make_float2(float x, float y) { return {x, y}; }
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static float __uint_as_float(u32 bits) { float value; memcpy(&value, &bits, 4); return value; }
static u32 bits_of(float value) { u32 bits; memcpy(&bits, &value, 4); return bits; }
static float fast_exp(float x) { return expf(x); }
#define __expf fast_exp
static float __fdividef(float a, float b) { return a / b; }
static float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static void __threadfence() {}
static u32 atomicAdd(u32* to, u32 more) { u32 before = *to; *to += more; return before; }
template <class T> static T __ldcg(const T* from) { return *from; }
template <class T> static T __ldg(const T* from) { return *from; }

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

struct Fiber {
    void* stack_pointer;
    char* stack;
    bool done;
    int turn;
};

// Of all blocks that run at once, `threads` each.
static std::vector<Fiber> fibers;
static void* scheduler;
static int current, threads;

// Threads that have come to a barrier, and how often it has opened.
struct Barrier { int come, opened; };
static std::vector<Barrier> of_blocks, of_warps;
// What the lanes of a warp show each other, in turns: a lane that brings something again has come past the next meeting,
// so all have seen what it brought before the last time.
struct Lanes { u64 lane[32]; };
static std::vector<Lanes> brought[2];

static void pass() { change_fiber(&fibers[current].stack_pointer, scheduler); }

static void arrive(Barrier& barrier, int expected) {
    if (++barrier.come == expected) barrier.come = 0, barrier.opened++;
}

static void meet(Barrier& barrier, int expected) {
    int before = barrier.opened;
    arrive(barrier, expected);
    while (barrier.opened == before) pass();
}

static void __syncthreads() { meet(of_blocks[current / threads], threads); }
static void meet_warp() { meet(of_warps[current / 32], 32); }
static void __syncwarp() { meet_warp(); }

static int next_turn() { return fibers[current].turn ^= 1; }

static float __shfl_xor_sync(u32, float value, int mask) {
    int warp = current / 32, lane = current % 32, turn = next_turn();
    brought[turn][warp].lane[lane] = bits_of(value);
    meet_warp();
    return __uint_as_float((u32)brought[turn][warp].lane[lane ^ mask]);
}

static u32 rounded(float value) {
    u32 bits = bits_of(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

static void aligned(const void* address) {
    if ((u64)address % 16 != 0) fprintf(stderr, "16 bytes at an odd address\n"), abort();
}

static void load_matrices(u32* out, const u16* row, bool transposed) {
    int warp = current / 32, lane = current % 32, turn = next_turn();
    aligned(row);
    brought[turn][warp].lane[lane] = (u64)row;
    meet_warp();
    for (int i = 0; i < 4; i++) {
        auto at = [&](int row, int column) { return (u32)((const u16*)brought[turn][warp].lane[8 * i + row])[column]; };
        int first = lane / 4, second = lane % 4 * 2;
        out[i] = transposed ? at(second, first) | at(second + 1, first) << 16
                            : at(first, second) | at(first, second + 1) << 16;
    }
}

struct Parts { u32 a[4], b[2]; };
static std::vector<Parts> shown[2];

// A tensor core's m16n8k16 of bf16.
static void multiply_add(float* sum, const u32* a, u32 b0, u32 b1) {
    int lane = current % 32, turn = next_turn(), row = lane / 4;
    Parts* parts = &shown[turn][current / 32 * 32];
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

// What a fiber does.
static void (*body)();

static void begin() {
    body();
    fibers[current].done = true;
    change_fiber(&fibers[current].stack_pointer, scheduler);
}

// Runs `blocks` blocks at once to their end. `enter` is told whenever another block goes on.
static void run_blocks(int blocks, void (*of_thread)(), void (*enter)(int)) {
    constexpr size_t STACK = 64 * 1024;
    body = of_thread;
    fibers.resize(blocks * threads);
    of_blocks.assign(blocks, {});
    of_warps.assign(blocks * threads / 32, {});
    for (int turn = 0; turn < 2; turn++) {
        brought[turn].resize(of_warps.size());
        shown[turn].resize(fibers.size());
    }
    for (Fiber& fiber : fibers) {
        if (!fiber.stack) fiber.stack = (char*)aligned_alloc(64, STACK);
        fiber.done = false;
        fiber.turn = 0;
        // Six registers to restore, the place to return to, and a caller that is never returned to.
        u64* top = (u64*)(fiber.stack + STACK - 64);
        *--top = 0;
        *--top = (u64)begin;
        for (int i = 0; i < 6; i++) *--top = 0;
        fiber.stack_pointer = top;
    }
    for (int left = blocks * threads; left > 0;) {
        left = 0;
        for (int block = 0; block < blocks; block++) {
            enter(block);
            for (int thread = 0; thread < threads; thread++) {
                current = block * threads + thread;
                if (fibers[current].done) continue;
                left++;
                threadIdx = {thread, 0, 0};
                change_fiber(&scheduler, fibers[current].stack_pointer);
            }
        }
    }
}

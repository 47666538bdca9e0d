// What kernels/*.cu take from the machine, behind cuda/fibers.cpp: it stands in for kernels/prelude.cu. Blocks follow each
// other. Copies into shared memory happen when they are waited for and no sooner, shared memory begins as not-a-number, and
// a misaligned access ends the program.

typedef u16 bf16;

#define NONE 0xffffffffffffffffull
#define __shared__ static

static unsigned char* dynamic_shared;

static u64 __cvta_generic_to_shared(const void* address) { return (u64)address; }

static u32 pack(float low, float high) { return rounded(high) << 16 | rounded(low); }

struct Copy { bf16* to; const bf16* from; bool valid; };
struct Copies {
    std::deque<std::vector<Copy>> groups;
    std::vector<Copy> open;
};
static std::vector<Copies> copies;

static void copy_async(bf16* shared, const bf16* global, bool valid) {
    aligned(shared), aligned(global);
    copies[current].open.push_back({shared, global, valid});
}

static void copies_commit() {
    Copies& own = copies[current];
    own.groups.push_back(std::move(own.open));
    own.open.clear();
}

template <int PENDING>
static void copies_wait() {
    Copies& own = copies[current];
    while ((int)own.groups.size() > PENDING) {
        for (const Copy& copy : own.groups.front()) {
            if (copy.valid) memcpy(copy.to, copy.from, 16);
            else memset(copy.to, 0, 16);
        }
        own.groups.pop_front();
    }
}

static void load_matrices(u32 (&out)[4], const bf16* row) { load_matrices(out, row, false); }
static void load_matrices_transposed(u32 (&out)[4], const bf16* row) { load_matrices(out, row, true); }

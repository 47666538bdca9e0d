// What the kernels of training share: number types and the instructions that C++ has no word for.
// Every kernel gets the base of one block of device memory and a struct by value; the struct's `u64` members are byte
// offsets into that block, and NONE says that there is no such tensor.

typedef unsigned long long u64;
typedef unsigned int u32;
typedef unsigned short bf16;

#define NONE 0xffffffffffffffffull

extern __shared__ __align__(16) unsigned char dynamic_shared[];

// Two numbers rounded to bf16, the first in the low half.
__device__ __forceinline__ u32 pack(float low, float high) {
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}

// 16 bytes into shared memory on their own; zeros unless `valid`.
__device__ __forceinline__ void copy_async(bf16* shared, const bf16* global, bool valid) {
    u32 to = (u32)__cvta_generic_to_shared(shared);
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes) : "memory");
}

__device__ __forceinline__ void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until no more than `PENDING` of this thread's groups of copies are under way.
template <int PENDING>
__device__ __forceinline__ void copies_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Four 8x8 matrices; lane `8 i + r` brings the address of row `r` of matrix `i`.
__device__ __forceinline__ void load_matrices(u32 (&out)[4], const bf16* row) {
    u32 from = (u32)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(from)
                 : "memory");
}

__device__ __forceinline__ void load_matrices_transposed(u32 (&out)[4], const bf16* row) {
    u32 from = (u32)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(from)
                 : "memory");
}

// sum[16x8] += a[16x16] b[16x8]
__device__ __forceinline__ void multiply_add(float (&sum)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Hopper's products of four warps: sum[64x64] += a[64x16] b[16x64]. Each warp holds 16 rows of `a` and of the sums as
// `multiply_add` does; `b` is 64 rows of 128 bytes in shared memory, at 1024 bytes, whose 16-byte parts change places
// within each row, part i lying at i ^ (row % 8). Rows are [n][k], or [k][n] when TURNED.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define WARPGROUPS

__device__ __forceinline__ void groups_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void groups_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

template <int PENDING>
__device__ __forceinline__ void groups_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// What was copied into shared memory can be read by products, after the next barrier.
__device__ __forceinline__ void show_to_groups() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// The tile at `b`, `k` numbers on.
template <bool TURNED>
__device__ __forceinline__ u64 described(const bf16* b, int k) {
    u32 at = (u32)__cvta_generic_to_shared(b) + (TURNED ? k * 128 : k * 2);
    return (u64)((at & 0x3ffff) >> 4) | (u64)64 << 16 | (u64)64 << 32 | (u64)1 << 62;
}

template <bool TURNED>
__device__ __forceinline__ void multiply_add_group(float (&d)[8][4], const u32 (&a)[4], u64 b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, "
        "%13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, {%32, %33, "
        "%34, %35}, %36, 1, 1, 1, %37;"
        : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]), "+f"(d[1][0]), "+f"(d[1][1]), "+f"(d[1][2]),
          "+f"(d[1][3]), "+f"(d[2][0]), "+f"(d[2][1]), "+f"(d[2][2]), "+f"(d[2][3]), "+f"(d[3][0]), "+f"(d[3][1]),
          "+f"(d[3][2]), "+f"(d[3][3]), "+f"(d[4][0]), "+f"(d[4][1]), "+f"(d[4][2]), "+f"(d[4][3]), "+f"(d[5][0]),
          "+f"(d[5][1]), "+f"(d[5][2]), "+f"(d[5][3]), "+f"(d[6][0]), "+f"(d[6][1]), "+f"(d[6][2]), "+f"(d[6][3]),
          "+f"(d[7][0]), "+f"(d[7][1]), "+f"(d[7][2]), "+f"(d[7][3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(TURNED ? 1 : 0));
}
#endif

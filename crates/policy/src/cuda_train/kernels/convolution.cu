// What matrix products on tensor cores are given (bf16 times bf16, sums in f32). They are written as convolutions over time:
// activations are [samples * time, channels], weights [taps, outputs, inputs], and a linear layer is a convolution of one
// tap over one step of time.

struct Convolution {
    u64 input, weight, output;
    u64 bias;          // f32 [n], or NONE
    u64 addends[2];    // bf16 like the output, or NONE
    u64 split_stride;  // numbers between partial sums
    u64 workspace;     // f32, a tile for every part of a split sum; or NONE
    u64 counters;      // u32 [tiles], parts that are done; 0 between launches
    int rows, n, k;    // samples * t_out; output channels; input channels
    int ld_input, ld_weight, ld_output, ld_addends[2];
    int taps, tap_stride;
    int t_out, t_in, stride, pad;
    int transposed;  // row t sees (t + pad - tap) / stride where that is whole, else t * stride + tap - pad
    int splits;      // parts of the sum, one a block in z
    int f32;         // output is f32
};

struct WeightGradient {
    u64 slope, input, output;  // bf16 [rows of the output, m], bf16 [rows of the input, n], f32 [splits, taps, m, n]
    u64 split_stride;
    int rows, m, n;  // rows of the coarser of the two, over which is summed
    int ld_slope, ld_input;
    int taps;
    int t_coarse, t_fine, stride, pad;
    int slope_is_fine;  // of a transposed convolution
    int splits;
};

constexpr int BLOCK_K = 64;
// Rows in shared memory are 16 bytes longer than their numbers: eight of them then lie in different banks.
constexpr int PITCH_K = BLOCK_K + 8;
// Numbers of a row of zeros, which stands for rows beyond a sample's ends.
constexpr int ZEROS = 128;

// Where 16-byte part `part` of `row` lies in a tile of 64 x 64 numbers; see the prelude.
__device__ __forceinline__ int swizzled(int row, int part) { return row * 64 + (part ^ (row & 7)) * 8; }

// Bias, addends and rounding of two neighbouring numbers of an output row.
__device__ __forceinline__ void finish(char* base, const Convolution& p, u64 row, int n, float low, float high) {
    if (p.bias != NONE) {
        float2 bias = *(const float2*)((const float*)(base + p.bias) + n);
        low += bias.x, high += bias.y;
    }
#pragma unroll
    for (int k = 0; k < 2; k++) {
        if (p.addends[k] == NONE) continue;
        u32 both = *(const u32*)((const bf16*)(base + p.addends[k]) + row * p.ld_addends[k] + n);
        low += low_half(both), high += high_half(both);
    }
    if (p.f32) {
        float* output = (float*)(base + p.output) + blockIdx.z * p.split_stride;
        *(float2*)(output + row * p.ld_output + n) = make_float2(low, high);
    } else {
        *(u32*)((bf16*)(base + p.output) + row * p.ld_output + n) = pack(low, high);
    }
}

// A whole plan in one launch: every step of the sampler, every layer of the U-Net, one block a multiprocessor.
//
// At batch 1 a plan is a stream of weights past very few columns (16, 8 or 4 time steps). So one warp of each block does
// nothing but copy this block's weights into a ring in shared memory, ahead of everything, across layers and steps; the
// other eight warps multiply them with tensor cores. A layer's input channels are split over blocks as well as its output
// channels. Each block writes its partial sums, and whoever reads them next adds them up, normalises, and applies Mish,
// FiLM and the shortcut while it loads them: one barrier over the grid a layer, and no other pass over memory.
//
// Tensor cores multiply bf16 and add in f32. Weights of 8 bits become bf16 on the way from the ring, which holds them
// exactly, and an item's sums are multiplied with the scales of their rows. An f32 is the sum of three bf16, and a
// product of two f32 the sum of six.
//
// Nothing here takes long, so everything that waits counts: loads are asked for together, what does not depend on the
// layer before is done while its blocks are waited for, and integers are divided by multiplying.
//
// Defined from outside: BATCH samples, of LARGEST_BATCH at most, COLUMNS = BATCH * Tp, N_TILES = ceil(COLUMNS / 8), X_PARTS
// (bf16 that a number of the input is the sum of), TILE_BYTES of 16 by 16 weights, SCALE_BYTES behind the last tile of an
// item (0 where weights are bf16), STAGES of CHUNK tiles in the ring, ROUNDS of loads that the largest input takes, CLUSTER
// (blocks, or 0 where they are too many to be one cluster), CONSUMERS (threads that compute), ENTRIES as in Phase, KEEPS (1
// where rows of the sample may be kept as they are asked for, else 0).

typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned long long u64;

constexpr int WARPS = CONSUMERS / 32;
// With a warp that copies weights, and one that speaks with the other blocks.
constexpr int THREADS = CONSUMERS + 64;
// Where the memory has all it can do, each block asks for one chunk at a time: more would only stand in the way of what
// passes between layers, and of the barrier.
constexpr bool ONE_AT_A_TIME = !CLUSTER && SCALE_BYTES == 0;
constexpr int COLUMN_PAIRS = (N_TILES + 1) / 2; // of tiles of 8 columns
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
    // For `divide`: by length / 4, by a group's quads, by range / 16, ...
    u32 by_quads, by_group, by_positions, by_blocks, by_row_tiles;
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
#if KEEPS
    const float* clean;          // [BATCH][sample]
    const float* kept_parts;     // [steps][2]: what kept rows are made of when a step begins, of `clean` and of the first noise
    int kept[LARGEST_BATCH][2];  // of each sample, the first row that is kept, and the first behind them
#endif
};

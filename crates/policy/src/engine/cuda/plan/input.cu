// The input of an item: what the layer before summed, normalised and so on, as bf16 in shared memory.

// What row `t` of a sample is when step `step` begins, if it is kept, and otherwise `next`.
__device__ __forceinline__ float kept_or(const Plan& plan, int step, int b, int t, int at, float next) {
#if KEEPS
    if (t < plan.kept[b][0] || t >= plan.kept[b][1]) return next;
    if (step == plan.step_count) return plan.clean[at];
    const float* parts = plan.kept_parts + 2 * step;
    // The noise lies with the host, and is far.
    float noise = parts[1] != 0.0f ? plan.noise[at] : 0.0f;
    return parts[0] * plan.clean[at] + parts[1] * noise;
#else
    return next;
#endif
}

// The sample that step `step` begins with; that of `step_count` is the plan.
__device__ __forceinline__ float sample_at(const Plan& plan, int step, int b, int t, int d) {
    int length = COLUMNS / BATCH;
    int sample = length * plan.action_dim;
    int at = b * sample + t * plan.action_dim + d;
    if (step == 0) return kept_or(plan, step, b, t, at, plan.noise[at]);
    const Step& last = plan.steps[step - 1];
    float x = load1(plan.x + ((step - 1) & 1) * BATCH * sample + at);
    float output = plan.output_bias[d], parts[8];
    for (int s = 0; s < plan.output_splits; s += 8) {
#pragma unroll
        for (int i = 0; i < 8; i++)
            parts[i] = load1(plan.output + (min(s + i, plan.output_splits - 1) * plan.action_dim + d) * COLUMNS +
                             b * length + t);
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (s + i < plan.output_splits) output += parts[i];
    }
    float clean = fminf(fmaxf(last.clean_x * x + last.clean_output * output, -1.0f), 1.0f);
    float next = last.of_clean * clean + last.of_x * x + last.of_output * output;
    // `clamp` drops NaN: what is not finite must stay so, to be seen.
    if (!(fabsf(output) < 3.0e38f)) next = output;
    if (last.deviation > 0.0f) next += last.deviation * plan.noise[(1 + last.draw) * BATCH * sample + at];
    return kept_or(plan, step, b, t, at, next);
}

// What a thread needs for an item and does not depend on the layer before: it is computed, and fetched to shared memory,
// while that layer's blocks are waited for.
struct Ready {
    int at[ROUNDS], x[ROUNDS];  // in the source, less than 0 for nothing; in shared memory
    int moments[ROUNDS];        // where those of its group begin
    const float *partial, *shortcut;
    float* keep;                // null where another block keeps the input, or nobody does
    int rounds, stride, splits, shortcut_splits;
    int width, of_group;        // neighbours that are normalised together, and how many such there are in a group
    float share;                // 1 / numbers of a group; 0 without group norm
    u32 column[COLUMN_PAIRS];   // address of the columns whose rows this lane points to
    int tiles, own_tiles;       // of the item, and without those of the shortcut
    int blocks;                 // of 16 input channels
    u32 by_blocks;
    int out, rows;              // where the item's sums begin in the layer's, and how many rows they have
};

// A channel's numbers, in the order in which they lie in shared memory: one of each for every thread and round.
enum { BIAS, SHORTCUT_BIAS, GAMMA, BETA, STEP_SCALE, STEP_SHIFT, SCALE, SHIFT, CHANNEL_NUMBERS };
constexpr int OF_EACH = ROUNDS * CONSUMERS;

__device__ __forceinline__ void prepare(const Plan& plan, const Phase& phase, int step, int item, u16* x, u32 x_address,
                                        int* offsets, u32 numbers, Ready& ready) {
    int range = phase.range, length = phase.length, pitch = range + 8, rows = length + 4;
    int part_stride = BATCH * rows * pitch, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int columns = BATCH * phase.positions;
    int split = divide(item, phase.by_row_tiles), tile = item - split * phase.row_tiles;
    int tiles = phase.parities == 2 ? phase.row_tiles / 2 : phase.row_tiles, parity = tile >= tiles;
    int first_row = (tile - parity * tiles) * 16;
    ready.out = (split * phase.rows + first_row) * columns * phase.parities + parity;
    ready.rows = min(16, phase.rows - first_row);
    ready.blocks = range >> 4;
    ready.by_blocks = phase.by_blocks;
    ready.tiles = phase.tiles;
    ready.own_tiles = phase.entries * ready.blocks;
    if (threadIdx.x < phase.all_entries)
        offsets[threadIdx.x] = 2 * (phase.part[threadIdx.x] * part_stride + phase.shift[parity][threadIdx.x] * pitch);
    // The two rows before a sample and the two behind it: a warp, or two, for each.
    int halo = warp % 4 + (warp % 4 < 2 ? 0 : length);
    for (int sample = 0; sample < X_PARTS * BATCH; sample++)
#pragma unroll 1
        for (int c = warp / 4 * 32 + lane; c < ready.blocks * 2; c += WARPS / 4 * 32)
            *(uint4*)(x + (sample * rows + halo) * pitch + c * 8) = make_uint4(0, 0, 0, 0);
#pragma unroll
    for (int j = 0; j < COLUMN_PAIRS; j++) {
        // Lanes 0 to 7 point to the first 8 columns' numbers 0 to 7, then 8 lanes to their numbers 8 to 15, and so on.
        int n = min(j * 16 + lane / 16 * 8 + lane % 8, columns - 1);
        int sample = BATCH == 1 ? 0 : divide(n, phase.by_positions);
        int row = sample * rows + (n - sample * phase.positions) * phase.stride + 2;
        ready.column[j] = x_address + 2 * (row * pitch + lane / 8 % 2 * 8);
    }
    if (phase.sampled) return;
    const Source source = phase.source[phase.sources == 2 && split * range >= phase.source[1].first];
    int start = split * range - source.first, quads = length >> 2, of_sample = range * quads;
    bool normed = source.gamma != nullptr, film = source.film >= 0;
    int of_group = source.group * quads, width = min(of_group & -of_group, 32);
    u32 by_quads = phase.by_quads, by_group = phase.by_group;
    ready.partial = source.partial;
    ready.shortcut = source.shortcut;
    ready.keep = tile == 0 ? source.keep : nullptr;
    ready.rounds = (BATCH * of_sample + CONSUMERS - 1) / CONSUMERS;
    ready.stride = source.channels * BATCH * length;
    ready.splits = source.splits;
    ready.shortcut_splits = source.shortcut_splits;
    ready.width = width;
    ready.of_group = of_group >> (__ffs(width) - 1);
    ready.share = normed ? __fdividef(1.0f, (float)(source.group * length)) : 0.0f;
    const float* film_steps = plan.film_steps + step * plan.film + source.film;
#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
        int q = r * CONSUMERS + threadIdx.x;
        ready.at[r] = -1;
        ready.moments[r] = divide(q, by_group) * ready.of_group;
        if (q < BATCH * of_sample) {
            int b = BATCH == 1 ? 0 : q / of_sample, within = q - b * of_sample, local = divide(within, by_quads);
            int c = start + local, t = (within - local * quads) * 4;
            ready.at[r] = c * BATCH * length + b * length + t;
            ready.x[r] = (b * rows + t + 2) * pitch + local;
            u32 to = numbers + 4 * q;
            fetch(to + 4 * BIAS * OF_EACH, source.bias + c, source.bias, 0.0f);
            fetch(to + 4 * SHORTCUT_BIAS * OF_EACH, source.shortcut_bias + c, source.shortcut_bias, 0.0f);
            if (normed) {
                const float* of_step = film_steps + c;
                const float* of_condition = plan.film_condition + b * plan.film + source.film + c;
                fetch(to + 4 * GAMMA * OF_EACH, source.gamma + c, true, 0.0f);
                fetch(to + 4 * BETA * OF_EACH, source.beta + c, true, 0.0f);
                fetch(to + 4 * STEP_SCALE * OF_EACH, of_step, film, 1.0f);
                fetch(to + 4 * STEP_SHIFT * OF_EACH, of_step + source.channels, film, 0.0f);
                fetch(to + 4 * SCALE * OF_EACH, of_condition, film, 0.0f);
                fetch(to + 4 * SHIFT * OF_EACH, of_condition + source.channels, film, 0.0f);
            }
        }
    }
}

// Writes the input of an item to shared memory as bf16: [part][BATCH * (length + 4)][range + 8], two rows of zeros before
// and after each sample.
__device__ __forceinline__ void load_input(const Plan& plan, const Phase& phase, int step, int item, u16* x,
                                           float2* sums, const float* numbers, const Ready& ready) {
    int range = phase.range, length = phase.length, pitch = range + 8, rows = length + 4;
    int part_stride = BATCH * rows * pitch;
    if (phase.sampled) {
        for (int i = threadIdx.x; i < COLUMNS * range; i += CONSUMERS) {
            int n = divide(i / 16, phase.by_blocks), d = i - n * range, b = n / length, t = n - b * length;
            float value = 0.0f;
            if (d < plan.action_dim) {
                value = sample_at(plan, step, b, t, d);
                int at = ((step & 1) * BATCH + b) * length * plan.action_dim + t * plan.action_dim + d;
                if (item == 0) plan.x[at] = value;
            }
            store_input(x, part_stride, (b * rows + t + 2) * pitch + d, value);
        }
        consumers_sync();
        return;
    }
    float4 value[ROUNDS], shortcut[ROUNDS];
    // Everything that is needed from memory is asked for before anything is waited for: eight parts of one round, or four
    // of two.
#pragma unroll
    for (int r = 0; r < ROUNDS; r += 2) {
        if (ready.at[r] < 0) break;
        int other = r + 1 < ROUNDS ? r + 1 : r;
        bool two = other != r && other < ready.rounds;
        long long stride = ready.stride, skip = two ? max(ready.at[other], 0) - ready.at[r] : 4 * stride;
        const float *from = ready.partial + ready.at[r], *along = ready.shortcut + ready.at[r];
        float4 parts[8], shortcuts[8];
        load_parts(parts, from, ready.splits, stride);
        load_parts(parts + 4, from + skip, two ? ready.splits : ready.splits - 4, stride);
        load_parts(shortcuts, along, ready.shortcut_splits, stride);
        load_parts(shortcuts + 4, along + skip, two ? ready.shortcut_splits : ready.shortcut_splits - 4, stride);
        if (r == 0) wait_for_fetched();
#pragma unroll
        for (int i = r; i <= other; i++) {
            const float* own = numbers + i * CONSUMERS + threadIdx.x;
            float bias = own[BIAS * OF_EACH], beside = own[SHORTCUT_BIAS * OF_EACH];
            value[i] = make_float4(bias, bias, bias, bias);
            shortcut[i] = make_float4(beside, beside, beside, beside);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) add(value[r], parts[i]), add(shortcut[r], shortcuts[i]);
        if (two) {
#pragma unroll
            for (int i = 4; i < 8; i++) add(value[other], parts[i]), add(shortcut[other], shortcuts[i]);
            add_rest(value[other], from + skip, 4, ready.splits, stride);
            add_rest(shortcut[other], along + skip, 4, ready.shortcut_splits, stride);
        } else {
#pragma unroll
            for (int i = 4; i < 8; i++) add(value[r], parts[i]), add(shortcut[r], shortcuts[i]);
        }
        add_rest(value[r], from, two ? 4 : 8, ready.splits, stride);
        add_rest(shortcut[r], along, two ? 4 : 8, ready.shortcut_splits, stride);
    }
    if (ready.share > 0.0f) {
#pragma unroll
        for (int r = 0; r < ROUNDS; r++) {
            if (r >= ready.rounds) break;
            int q = r * CONSUMERS + threadIdx.x;
            float4 f = value[r];
            float2 moments = make_float2(f.x + f.y + f.z + f.w, f.x * f.x + f.y * f.y + f.z * f.z + f.w * f.w);
            for (int offset = 1; offset < ready.width; offset *= 2) {
                moments.x += __shfl_xor_sync(~0u, moments.x, offset);
                moments.y += __shfl_xor_sync(~0u, moments.y, offset);
            }
            if (ready.at[r] >= 0 && (q & (ready.width - 1)) == 0) sums[q >> (__ffs(ready.width) - 1)] = moments;
        }
        consumers_sync();
    }
#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
        if (ready.at[r] < 0) break;
        float out[4] = {value[r].x, value[r].y, value[r].z, value[r].w};
        if (ready.share > 0.0f) {
            const float* own = numbers + r * CONSUMERS + threadIdx.x;
            float2 moments = make_float2(0.0f, 0.0f);
            for (int j = ready.moments[r]; j < ready.moments[r] + ready.of_group; j++) {
                moments.x += sums[j].x;
                moments.y += sums[j].y;
            }
            float mean = moments.x * ready.share;
            float scale = rsqrtf(fmaxf(moments.y * ready.share - mean * mean, 0.0f) + 1e-5f) * own[GAMMA * OF_EACH];
            float shift = own[BETA * OF_EACH] - mean * scale;
            float film_scale = own[STEP_SCALE * OF_EACH] + own[SCALE * OF_EACH];
            float film_shift = own[STEP_SHIFT * OF_EACH] + own[SHIFT * OF_EACH];
#pragma unroll
            for (int i = 0; i < 4; i++) out[i] = mish(out[i] * scale + shift) * film_scale + film_shift;
        }
        out[0] += shortcut[r].x, out[1] += shortcut[r].y, out[2] += shortcut[r].z, out[3] += shortcut[r].w;
        if (ready.keep) *(float4*)(ready.keep + ready.at[r]) = make_float4(out[0], out[1], out[2], out[3]);
#pragma unroll
        for (int i = 0; i < 4; i++) store_input(x, part_stride, ready.x[r] + i * pitch, out[i]);
    }
    consumers_sync();
}

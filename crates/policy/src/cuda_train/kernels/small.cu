// What stands before, between and behind the layers.

struct Inputs {
    u64 noisy, timesteps, condition;     // f32 [samples, t, actions], f32 [samples], f32 [samples, conditions]
    u64 sample, embedding, features;     // bf16 [samples * t, ld_sample], [samples, embed], [samples, ld_features]
    int samples, t, actions, ld_sample, embed, conditions, ld_features;
    float rate;                          // ln(10000) / (embed / 2 - 1)
};

struct Activation {
    u64 input, output;  // bf16
    int rows, columns, ld_input, ld_output;
};

struct ActivationGradient {
    u64 slope, input, output;  // f32 [splits, rows, ld_slope], bf16, bf16
    u64 split_stride;
    int rows, columns, ld_slope, ld_input, ld_output, splits;
};

struct ColumnSums {
    u64 input, output;  // bf16 [rows, ld], f32 [parts, columns]
    u64 split_stride;
    int rows, columns, ld, parts;
};

struct Loss {
    u64 output, target, slope;  // f32 [rows, ld], f32 [rows, actions], bf16 [rows, ld]
    u64 losses, scalars;        // f32 [ring], Scalars
    int rows, actions, ld;
    // From here on it is read where rows are kept alone.
    int t;
    u64 kept;                   // f32 [samples, 2]: the first time step of which nothing is learned, and the first behind them
};

// What changes from step to step.
struct Scalars {
    float rate, shrink;              // learning rate; 1 - rate * weight decay
    float correct_first, correct_second;  // 1 / (1 - beta^updates)
    float decay, complement;         // of the average, and 1 less it
    u32 slot;                        // where the loss goes
    float share;                     // 1 / numbers that count in it
};

struct Adam {
    u64 weights, first, second, average, halves;  // f32 but the last, which is bf16: what the products read
    u64 pieces, scalars;
    float beta_first, beta_second, rest_first, rest_second, epsilon;
};

// At most 2048 numbers of one parameter, and where the parts of its gradient are.
struct Piece {
    u64 index, gradient, split_stride;
    u32 count, splits;
};

// Sinusoidal embedding of the diffusion step (Vaswani et al. 2017, section 3.5), and the inputs as the products want them.
extern "C" __global__ void __launch_bounds__(256) prepare(char* base, const Inputs p) {
    int at = blockIdx.x * 256 + threadIdx.x, signal = p.samples * p.t * p.ld_sample, waves = p.samples * p.embed;
    int rest = p.ld_features - p.embed;
    if (at < signal) {
        int row = at / p.ld_sample, column = at - row * p.ld_sample;
        float value = column < p.actions ? ((const float*)(base + p.noisy))[row * p.actions + column] : 0.0f;
        ((bf16*)(base + p.sample))[at] = narrow(value);
    } else if (at < signal + waves) {
        at -= signal;
        int sample = at / p.embed, i = at - sample * p.embed, half = p.embed / 2, wave = i % half;
        float angle = ((const float*)(base + p.timesteps))[sample] * expf(-p.rate * (float)wave);
        ((bf16*)(base + p.embedding))[at] = narrow(i < half ? sinf(angle) : cosf(angle));
    } else if (at < signal + waves + p.samples * rest) {
        at -= signal + waves;
        int sample = at / rest, i = at - sample * rest;
        float value = 0.0f;
        if (i < p.conditions) value = mish(((const float*)(base + p.condition))[sample * p.conditions + i]);
        ((bf16*)(base + p.features))[(u64)sample * p.ld_features + p.embed + i] = narrow(value);
    }
}

extern "C" __global__ void __launch_bounds__(256) activate(char* base, const Activation p) {
    int at = blockIdx.x * 256 + threadIdx.x, row = at / p.columns, column = at - row * p.columns;
    if (row >= p.rows) return;
    float value = mish(widen(((const bf16*)(base + p.input))[(u64)row * p.ld_input + column]));
    ((bf16*)(base + p.output))[(u64)row * p.ld_output + column] = narrow(value);
}

extern "C" __global__ void __launch_bounds__(256) activate_back(char* base, const ActivationGradient p) {
    int at = blockIdx.x * 256 + threadIdx.x, row = at / p.columns, column = at - row * p.columns;
    if (row >= p.rows) return;
    float sum = 0.0f, value, steepness;
    const float* slope = (const float*)(base + p.slope) + (u64)row * p.ld_slope + column;
    for (int i = 0; i < p.splits; i++) sum += slope[i * p.split_stride];
    mish_and_slope(widen(((const bf16*)(base + p.input))[(u64)row * p.ld_input + column]), value, steepness);
    ((bf16*)(base + p.output))[(u64)row * p.ld_output + column] = narrow(sum * steepness);
}

// Gradients of biases.
extern "C" __global__ void __launch_bounds__(256) sum_columns(char* base, const ColumnSums p) {
    __shared__ float partial[8][256];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, column = blockIdx.x * 256 + lane * 8;
    int begin = (int)((u64)blockIdx.y * p.rows / p.parts), end = (int)((u64)(blockIdx.y + 1) * p.rows / p.parts);
    float sums[8] = {};
    if (column < p.columns) {
        for (int row = begin + warp; row < end; row += 8) {
            float values[8];
            load(values, (const bf16*)(base + p.input) + (u64)row * p.ld + column);
#pragma unroll
            for (int j = 0; j < 8; j++) sums[j] += values[j];
        }
    }
#pragma unroll
    for (int j = 0; j < 8; j++) partial[warp][lane * 8 + j] = sums[j];
    __syncthreads();
    column = blockIdx.x * 256 + threadIdx.x;
    if (column >= p.columns) return;
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) sum += partial[i][threadIdx.x];
    ((float*)(base + p.output))[blockIdx.y * p.split_stride + column] = sum;
}

// Mean squared error and its gradient; one block.
template <bool KEEPS>
__device__ __forceinline__ void mean_squares(char* base, const Loss& p) {
    __shared__ float partial[32];
    const float* output = (const float*)(base + p.output);
    const float* target = (const float*)(base + p.target);
    const Scalars* scalars = (const Scalars*)(base + p.scalars);
    float share = KEEPS ? scalars->share : 1.0f / ((float)p.rows * (float)p.actions), sum = 0.0f;
    for (int at = threadIdx.x; at < p.rows * p.ld; at += 1024) {
        int row = at / p.ld, column = at - row * p.ld;
        bool counts = column < p.actions;
        if (KEEPS) {
            const float* kept = (const float*)(base + p.kept) + row / p.t * 2;
            float step = (float)(row % p.t);
            counts = counts && !(step >= kept[0] && step < kept[1]);
        }
        float difference = counts ? output[at] - target[row * p.actions + column] : 0.0f;
        sum += difference * difference;
        ((bf16*)(base + p.slope))[at] = narrow(2.0f * share * difference);
    }
    sum = sum_of_warp(sum);
    if ((threadIdx.x & 31) == 0) partial[threadIdx.x >> 5] = sum;
    __syncthreads();
    if (threadIdx.x < 32) {
        sum = sum_of_warp(partial[threadIdx.x]);
        if (threadIdx.x == 0) ((float*)(base + p.losses))[scalars->slot] = sum * share;
    }
}

extern "C" __global__ void __launch_bounds__(1024) measure_loss(char* base, const Loss p) {
    mean_squares<false>(base, p);
}

// Where nothing is learned of some rows.
extern "C" __global__ void __launch_bounds__(1024) measure_loss_of_rest(char* base, const Loss p) {
    mean_squares<true>(base, p);
}

// AdamW (Loshchilov and Hutter 2019), the average of the weights and their bf16 copy: each number read and written once.
extern "C" __global__ void __launch_bounds__(256) adam(char* base, const Adam p) {
    Piece piece = ((const Piece*)(base + p.pieces))[blockIdx.x];
    Scalars s = *(const Scalars*)(base + p.scalars);
    float4* weights = (float4*)((float*)(base + p.weights) + piece.index);
    float4* first = (float4*)((float*)(base + p.first) + piece.index);
    float4* second = (float4*)((float*)(base + p.second) + piece.index);
    float4* average = (float4*)((float*)(base + p.average) + piece.index);
    uint2* halves = (uint2*)((bf16*)(base + p.halves) + piece.index);
    const float* gradient = (const float*)(base + piece.gradient);
    auto update = [&](float& w, float& m, float& v, float& mean, float g) {
        m = p.beta_first * m + p.rest_first * g;
        v = p.beta_second * v + p.rest_second * g * g;
        w = w * s.shrink - s.rate * (m * s.correct_first) / (sqrtf(v * s.correct_second) + p.epsilon);
        mean = mean * s.decay + w * s.complement;
    };
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int at = i * 256 + threadIdx.x;
        if (at * 4 >= piece.count) continue;
        float4 w = weights[at], m = first[at], v = second[at], mean = average[at];
        float4 g = ((const float4*)gradient)[at];
        for (u32 part = 1; part < piece.splits; part++) {
            float4 more = ((const float4*)(gradient + part * piece.split_stride))[at];
            g.x += more.x, g.y += more.y, g.z += more.z, g.w += more.w;
        }
        update(w.x, m.x, v.x, mean.x, g.x);
        update(w.y, m.y, v.y, mean.y, g.y);
        update(w.z, m.z, v.z, mean.z, g.z);
        update(w.w, m.w, v.w, mean.w, g.w);
        weights[at] = w, first[at] = m, second[at] = v, average[at] = mean;
        halves[at] = make_uint2(pack(w.x, w.y), pack(w.z, w.w));
    }
}

struct Rounding {
    u64 input, output, count;  // f32, bf16; a multiple of four numbers
};

extern "C" __global__ void __launch_bounds__(256) round_weights(char* base, const Rounding p) {
    for (u64 at = blockIdx.x * 256 + threadIdx.x; at < p.count / 4; at += (u64)gridDim.x * 256) {
        float4 w = ((const float4*)(base + p.input))[at];
        ((uint2*)(base + p.output))[at] = make_uint2(pack(w.x, w.y), pack(w.z, w.w));
    }
}

// One step of a sampler for a batch; the plan engine's kernel has the same arithmetic within it.

typedef unsigned long long u64;

struct Denoise {
    u64 x, output, noise, timesteps;  // f32 [rows, actions], f32 [rows, ld], as x, f32 [batch]
    int count, actions, ld, batch;
    float clean_x, clean_output, of_clean, of_x, of_output, deviation, next_timestep;
    // From here on it is read where rows are kept alone.
    int t;
    u64 kept, clean, start;           // f32 [batch, 2]: the first time step that is kept, and the first behind them; as x
    float kept_clean, kept_noise;     // what kept rows are made of, when the next step begins
};

template <bool KEEPS>
__device__ __forceinline__ void denoise_one(const Denoise& p) {
    int at = blockIdx.x * 256 + threadIdx.x;
    if (at < p.batch) ((float*)p.timesteps)[at] = p.next_timestep;
    if (at >= p.count) return;
    int row = at / p.actions;
    float x = ((const float*)p.x)[at], output = ((const float*)p.output)[row * p.ld + at - row * p.actions];
    float clean = fminf(fmaxf(p.clean_x * x + p.clean_output * output, -1.0f), 1.0f);
    float next = p.of_clean * clean + p.of_x * x + p.of_output * output;
    // `clamp` drops NaN: what is not finite must stay so, to be seen.
    if (!(fabsf(output) < 3.0e38f)) next = output;
    if (p.deviation > 0.0f) next += p.deviation * ((const float*)p.noise)[at];
    if (KEEPS) {
        const float* kept = (const float*)p.kept + row / p.t * 2;
        float step = (float)(row % p.t);
        if (step >= kept[0] && step < kept[1])
            next = p.kept_clean * ((const float*)p.clean)[at] + p.kept_noise * ((const float*)p.start)[at];
    }
    ((float*)p.x)[at] = next;
}

extern "C" __global__ void __launch_bounds__(256) denoise(const Denoise p) { denoise_one<false>(p); }

extern "C" __global__ void __launch_bounds__(256) denoise_and_keep(const Denoise p) { denoise_one<true>(p); }

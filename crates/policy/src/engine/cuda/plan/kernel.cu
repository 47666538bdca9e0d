#if CLUSTER
extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(THREADS, 1)
#else
extern "C" __global__ void __launch_bounds__(THREADS, 1)
#endif
    plan_kernel(const Plan plan) {
    extern __shared__ __align__(128) unsigned char shared[];
    u16* x = (u16*)(shared + STAGES * STAGE_BYTES);
    float2* sums = (float2*)((unsigned char*)x + plan.x_bytes);
    float* scratch = (float*)(sums + ROUNDS * CONSUMERS);
    Phase* phases = (Phase*)(scratch + plan.scratch);
    float* numbers = (float*)(phases + plan.phase_count);
    for (int i = threadIdx.x; i < plan.phase_count * (int)(sizeof(Phase) / 4); i += THREADS)
        ((u32*)phases)[i] = __ldg((const u32*)plan.phases + i);
    __shared__ u64 full_barriers[STAGES], empty_barriers[STAGES], cluster_barrier;
    __shared__ int offsets[ENTRIES];
    Ring ring = {shared_address(shared), shared_address(full_barriers), shared_address(empty_barriers)};
    u32 all_blocks = shared_address(&cluster_barrier);
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            barrier_init(ring.full + 8 * i, 1);
            barrier_init(ring.empty + 8 * i, WARPS);
        }
        barrier_init(all_blocks, CLUSTER ? CLUSTER : 1);
        barriers_ready();
    }
    __syncthreads();
#if CLUSTER
    cluster_sync();
#endif

    if (threadIdx.x >= CONSUMERS + 32) {
        speak(plan.arrived, all_blocks, 1 + plan.step_count * plan.phase_count);
        return;
    }
    if (threadIdx.x >= CONSUMERS) {
        if (threadIdx.x % 32 != 0) return;
        Ring last = ring;
        bool begun = false;
        u64 policy = weights_policy();
        for (int step = 0; step < plan.step_count; step++)
            for (int p = 0; p < plan.phase_count; p++) {
                const unsigned char* weights = phases[p].weights;
                int items = phases[p].items, tiles = phases[p].tiles;
                for (int item = blockIdx.x; item < items; item += gridDim.x)
                    for (int tile0 = 0; tile0 < tiles; tile0 += CHUNK, ring.next()) {
                        // A ring that nobody has used is empty: the phase before the first one counts as over.
                        barrier_wait(ring.empty + 8 * ring.stage, ring.turn ^ 1);
                        if (ONE_AT_A_TIME && begun) {
                            barrier_wait(last.full + 8 * last.stage, last.turn);
                            last.next();
                        }
                        begun = true;
                        u32 bytes =
                            tile0 + CHUNK < tiles ? CHUNK * TILE_BYTES : (tiles - tile0) * TILE_BYTES + SCALE_BYTES;
                        long long from = (long long)item * (tiles * TILE_BYTES + SCALE_BYTES) + tile0 * TILE_BYTES;
                        copy_chunk(ring.chunks + ring.stage * STAGE_BYTES, weights + from, bytes,
                                   ring.full + 8 * ring.stage, policy);
                    }
            }
        return;
    }

    // FiLM's part that depends on the condition.
    for (int i = threadIdx.x; i < BATCH * plan.condition_dim; i += CONSUMERS) scratch[i] = mish(plan.condition[i]);
    consumers_sync();
    for (int i = blockIdx.x * CONSUMERS + threadIdx.x; i < BATCH * plan.film; i += gridDim.x * CONSUMERS) {
        int b = i / plan.film, f = i % plan.film;
        float sum = 0.0f;
        for (int k = 0; k < plan.condition_dim; k++)
            sum += __ldg(plan.film_weights + (long long)k * plan.film + f) * scratch[b * plan.condition_dim + k];
        plan.film_condition[i] = sum;
    }
    consumers_sync();

    grid_arrive();
    grid_wait(all_blocks, 0);
    u32 turn = 1, offset_address = shared_address(offsets), x_address = shared_address(x);
    u32 number_address = shared_address(numbers);
    Ready ready;
    if (blockIdx.x < phases[0].items)
        prepare(plan, phases[0], 0, blockIdx.x, x, x_address, offsets, number_address, ready);
    consumers_sync();
    for (int step = 0; step < plan.step_count; step++)
        for (int p = 0; p < plan.phase_count; p++, turn++) {
            const Phase& phase = phases[p];
            for (int item = blockIdx.x; item < phase.items; item += gridDim.x) {
                if (item != blockIdx.x) {
                    consumers_sync();
                    prepare(plan, phase, step, item, x, x_address, offsets, number_address, ready);
                }
                load_input(plan, phase, step, item, x, sums, numbers, ready);
                multiply_item(phase, offset_address, ready, ring, scratch);
            }
            grid_arrive();
            bool more = p + 1 < plan.phase_count;
            const Phase& next = phases[more ? p + 1 : 0];
            if (blockIdx.x < next.items)
                prepare(plan, next, more ? step : step + 1, blockIdx.x, x, x_address, offsets, number_address, ready);
            grid_wait(all_blocks, turn);
        }
    int sample = COLUMNS / BATCH * plan.action_dim;
    for (int i = blockIdx.x * CONSUMERS + threadIdx.x; i < BATCH * sample; i += gridDim.x * CONSUMERS) {
        int b = i / sample, t = (i % sample) / plan.action_dim, d = i % plan.action_dim;
        plan.samples[i] = sample_at(plan, plan.step_count, b, t, d);
    }
    // The next plan counts from zero again: the last block to come here clears the count.
    consumers_sync();
    if (threadIdx.x == 0) {
        u32 left = leave(plan.arrived + 1);
        if (left == gridDim.x - 1) {
            plan.arrived[0] = 0;
            plan.arrived[1] = 0;
        }
    }
}

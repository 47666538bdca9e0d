// Runs a plan.

static const Plan* given;

static void run_thread() { plan_kernel(*given); }

// The block that went on last; -1 before the first.
static int last;

static void enter(int next) {
    size_t size = __stop_block_shared - __start_block_shared;
    if (last >= 0) memcpy(block_list[last].declared.data(), __start_block_shared, size);
    memcpy(__start_block_shared, block_list[next].declared.data(), size);
    last = next;
    blockIdx = {next, 0, 0};
}

extern "C" void emulate_plan(const Plan* plan, int blocks, int bytes) {
    given = plan, threads = THREADS, shared_bytes = bytes, present = blocks, all_arrived = 0, of_all = {}, last = -1;
    gridDim = {blocks, 1, 1};
    fetched.assign(blocks * threads, {});
    block_list.assign(blocks, {});
    for (Block& block : block_list) {
        block.memory = (unsigned char*)aligned_alloc(1024, (bytes / 1024 + 1) * 1024);
        memset(block.memory, 0xff, bytes);
        block.declared.assign(__stop_block_shared - __start_block_shared, (char)0xff);
    }
    run_blocks(blocks, run_thread, enter);
    for (Block& block : block_list) free(block.memory);
}

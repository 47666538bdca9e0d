// Follows the kernels: finds one by its name and runs it.

static void (*kernel)(char*, const void*);
static char* given_base;
static const void* given_arguments;

static void run_thread() { kernel(given_base, given_arguments); }

#define KERNEL(NAME, ARGUMENTS) \
    if (strcmp(name, #NAME) == 0) kernel = [](char* base, const void* p) { NAME(base, *(const ARGUMENTS*)p); };

// 1, or 0 when there is no kernel of this name.
extern "C" int emulate(
    const char* name, const int* grid, int thread_count, int shared_bytes, char* base, const void* arguments) {
    kernel = nullptr;
    KERNEL(convolve_64, Convolution)
    KERNEL(convolve_back_64, Convolution)
    KERNEL(convolve_weights, WeightGradient)
    KERNEL(convolve_same_1, Convolution)
    KERNEL(convolve_same_3, Convolution)
    KERNEL(convolve_same_5, Convolution)
    KERNEL(convolve_same_back_1, Convolution)
    KERNEL(convolve_same_back_3, Convolution)
    KERNEL(convolve_same_back_5, Convolution)
    KERNEL(weights_of_1_tap, WeightGradient)
    KERNEL(weights_of_3_taps, WeightGradient)
    KERNEL(weights_of_5_taps, WeightGradient)
    KERNEL(norm_4x1, Norm)
    KERNEL(norm_8x1, Norm)
    KERNEL(norm_8x2, Norm)
    KERNEL(norm_8x4, Norm)
    KERNEL(norm_back_4x1, NormGradient)
    KERNEL(norm_back_8x1, NormGradient)
    KERNEL(norm_back_8x2, NormGradient)
    KERNEL(norm_back_8x4, NormGradient)
    KERNEL(prepare, Inputs)
    KERNEL(activate, Activation)
    KERNEL(activate_back, ActivationGradient)
    KERNEL(sum_columns, ColumnSums)
    KERNEL(measure_loss, Loss)
    KERNEL(measure_loss_of_rest, Loss)
    KERNEL(adam, Adam)
    KERNEL(round_weights, Rounding)
    // These are told addresses, not places in the block.
    if (strcmp(name, "denoise") == 0) kernel = [](char*, const void* p) { denoise(*(const Denoise*)p); };
    if (strcmp(name, "denoise_and_keep") == 0) kernel = [](char*, const void* p) { denoise_and_keep(*(const Denoise*)p); };
    if (!kernel) return 0;
    given_base = base, given_arguments = arguments, threads = thread_count;
    dynamic_shared = (unsigned char*)aligned_alloc(1024, (shared_bytes / 1024 + 1) * 1024);
    gridDim = {grid[0], grid[1], grid[2]};
    for (int z = 0; z < grid[2]; z++) {
        for (int y = 0; y < grid[1]; y++) {
            for (int x = 0; x < grid[0]; x++) {
                blockIdx = {x, y, z};
                memset(dynamic_shared, 0xff, shared_bytes);
                copies.assign(threads, {});
                run_blocks(1, run_thread, [](int) {});
            }
        }
    }
    free(dynamic_shared);
    return 1;
}

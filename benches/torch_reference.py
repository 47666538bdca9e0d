"""The work that `nudge bench --vs torch` holds Nudge against, in PyTorch: plans and training steps of the same network.

The network is the conditional 1D temporal U-Net of Diffusion Policy (Chi et al. 2023, section 5.1), under the parameter
names of its reference implementation. CASE is what `nudge` writes for one plan: a safetensors file of weights, input,
noise and the plan that Nudge made of them; how far PyTorch's own plan lies from it is told as `deviation`.

    python3 torch_reference.py CASE plan  --device cpu --batch 1   --threads 1 --count 100 --seconds 10
    python3 torch_reference.py CASE train --device cpu --batch 256 --threads 2 --count 10  --seconds 60
    python3 torch_reference.py CASE start --device cpu --begun "$(date +%s.%N)"

`start` ends with the first plan. `first_ms` is what passed from BEGUN, in seconds since 1970, to the end of the first work.

Prints one JSON object. A way of running that fails on this machine is told with its reason, and the others go on.
"""

import argparse
import copy
import json
import math
import sys
import time

BEGUN = time.time()

try:
    import torch
except ImportError as error:
    sys.exit(f"PyTorch is not installed for this Python: {error}")
from torch import nn
from torch.nn import functional as F


def conv_block(inputs, outputs, config):
    kernel = config["kernel_size"]
    layers = nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2), nn.GroupNorm(config["n_groups"], outputs), nn.Mish()
    )
    return nn.ModuleDict({"block": layers})


class ResidualBlock(nn.Module):
    def __init__(self, inputs, outputs, features, config):
        super().__init__()
        self.predicts_scale = config["cond_predict_scale"]
        self.blocks = nn.ModuleList([conv_block(inputs, outputs, config), conv_block(outputs, outputs, config)])
        self.cond_encoder = nn.Sequential(nn.Mish(), nn.Linear(features, outputs * (2 if self.predicts_scale else 1)))
        self.residual_conv = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x, features):
        hidden = self.blocks[0]["block"](x)
        film = self.cond_encoder(features).unsqueeze(-1)
        if self.predicts_scale:
            scale, bias = film.chunk(2, dim=1)
            hidden = scale * hidden + bias
        else:
            hidden = hidden + film
        return self.blocks[1]["block"](hidden) + self.residual_conv(x)


class Resample(nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        return self.conv(x)


class ConditionalUnet1d(nn.Module):
    def __init__(self, config):
        super().__init__()
        dims, embed = config["down_dims"], config["diffusion_step_embed_dim"]
        features = embed + config["condition_dim"]
        pairs = list(zip([config["action_dim"]] + dims, dims))

        def level(inputs, outputs, resample):
            blocks = [ResidualBlock(inputs, outputs, features, config), ResidualBlock(outputs, outputs, features, config)]
            return nn.ModuleList(blocks + [resample])

        def halve(channels):
            return Resample(nn.Conv1d(channels, channels, 3, 2, 1))

        def double(channels):
            return Resample(nn.ConvTranspose1d(channels, channels, 4, 2, 1))

        half = embed // 2
        frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * (-math.log(10000) / (half - 1)))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.diffusion_step_encoder = nn.Sequential(
            nn.Identity(), nn.Linear(embed, 4 * embed), nn.Mish(), nn.Linear(4 * embed, embed)
        )
        self.down_modules = nn.ModuleList(
            level(inputs, outputs, halve(outputs) if index < len(dims) - 1 else nn.Identity())
            for index, (inputs, outputs) in enumerate(pairs)
        )
        self.mid_modules = nn.ModuleList(ResidualBlock(dims[-1], dims[-1], features, config) for _ in range(2))
        self.up_modules = nn.ModuleList(
            level(2 * outputs, inputs, double(inputs)) for inputs, outputs in reversed(pairs[1:])
        )
        self.final_conv = nn.Sequential(conv_block(dims[0], dims[0], config), nn.Conv1d(dims[0], config["action_dim"], 1))

    def forward(self, sample, timesteps, condition):
        """`[B, Tp, Da]`, `[B]`, `[B, To * Do]` to `[B, Tp, Da]`."""
        angles = timesteps.float().unsqueeze(1) * self.frequencies.float()
        embedding = torch.cat([angles.sin(), angles.cos()], dim=1).to(condition.dtype)
        features = torch.cat([self.diffusion_step_encoder(embedding), condition], dim=1)
        x, skips = sample.transpose(1, 2), []
        for first, second, resample in self.down_modules:
            x = second(first(x, features), features)
            skips.append(x)
            x = resample(x)
        for block in self.mid_modules:
            x = block(x, features)
        for first, second, resample in self.up_modules:
            x = second(first(torch.cat([x, skips.pop()], dim=1), features), features)
            x = resample(x)
        return self.final_conv[1](self.final_conv[0]["block"](x)).transpose(1, 2)


def read_safetensors(path):
    """Tensors by name, and the metadata; all are f32."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    length = int.from_bytes(data[:8], "little")
    header = json.loads(bytes(data[8 : 8 + length]))
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        flat = torch.frombuffer(data, dtype=torch.float32, count=(end - begin) // 4, offset=8 + length + begin)
        tensors[name] = flat.reshape(entry["shape"]).clone()
    return tensors, metadata


def sampler(network, steps):
    """A function of condition `[B, To * Do]` and noise `[draws, B, Tp, Da]` that denoises."""
    steps = steps.tolist()
    # On the device beforehand: a captured graph can copy nothing from the host.
    at = [None]

    def sample(condition, noise):
        batch = condition.shape[0]
        if at[0] is None or at[0][0].shape[0] != batch:
            at[0] = [torch.full((batch,), int(step[0]), device=condition.device) for step in steps]
        x, draw = noise[0], 1
        for timesteps, (_, c0, c1, of_clean, of_x, of_output, deviation) in zip(at[0], steps):
            output = network(x, timesteps, condition)
            mean = of_x * x
            if of_clean != 0.0:
                mean = mean + of_clean * (c0 * x + c1 * output).clamp(-1.0, 1.0)
            if of_output != 0.0:
                mean = mean + of_output * output
            if deviation > 0.0:
                mean, draw = mean + deviation * noise[draw], draw + 1
            x = mean
        return x

    return sample


def finish(work, device):
    """Does it, to the end on the device."""
    work()
    if device == "cuda":
        torch.cuda.synchronize()


def measure(work, device, options, warmup):
    """Milliseconds of `work`, again and again."""

    def timed():
        begun = time.perf_counter()
        finish(work, device)
        return (time.perf_counter() - begun) * 1e3

    for _ in range(warmup):
        timed()
    times, begun = [], time.perf_counter()
    while len(times) < 3 or (len(times) < options.count and time.perf_counter() - begun < options.seconds):
        times.append(timed())
    ordered = torch.tensor(times, dtype=torch.float64)
    median, p99, p999 = (ordered.quantile(q).item() for q in (0.5, 0.99, 0.999))
    return {
        "n": len(times),
        "warmup": warmup,
        "median_ms": median,
        "p99_ms": p99,
        "p999_ms": p999,
        "min_ms": min(times),
        "mean_ms": sum(times) / len(times),
    }


def captured(work):
    """`work` as a CUDA graph; a function that replays it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def plan_variants(network, tensors, options):
    """Name and work of each way to plan."""
    device, batch = options.device, options.batch
    draws, _, length, dim = tensors["case.noise"].shape
    width = tensors["case.condition"].shape[1]

    def planner(dtype, compiled, graph):
        model = copy.deepcopy(network).to(device, dtype)
        # One compiled step, not a plan unrolled into one: that compiles for hours. Tuning (`max-autotune`) takes minutes, and
        # leaves the convolutions to the same library.
        forward = torch.compile(model) if compiled else model
        sample = sampler(forward, tensors["case.steps"])
        condition = torch.zeros(batch, width, device=device, dtype=dtype)
        noise = torch.zeros(draws, batch, length, dim, device=device, dtype=dtype)
        result = torch.zeros(batch, length, dim, device=device, dtype=dtype)
        run = lambda: result.copy_(sample(condition, noise))
        if graph:
            run = captured(run)

        def plan():
            # Fresh input from the host, and the plan back on it, as a robot has them.
            condition.copy_(torch.rand(batch, width) * 2 - 1)
            noise.normal_()
            run()
            return result.cpu()

        return plan

    if device == "cpu":
        yield "eager f32", lambda: planner(torch.float32, False, False)
        yield "eager bf16", lambda: planner(torch.bfloat16, False, False)
    else:
        yield "eager bf16", lambda: planner(torch.bfloat16, False, False)
        yield "eager bf16, graph", lambda: planner(torch.bfloat16, False, True)
        yield "compiled bf16, graph", lambda: planner(torch.bfloat16, True, True)


def train_variants(network, tensors, options):
    """Name and work of each way to make a training step: noise, loss, gradient, AdamW, average of the weights."""
    device, batch = options.device, options.batch
    _, _, length, dim = tensors["case.noise"].shape
    width = tensors["case.condition"].shape[1]
    steps = options.train_steps
    angle = (torch.arange(steps + 1, dtype=torch.float64) / steps + 0.008) / 1.008 * math.pi / 2
    level = angle.cos() ** 2
    kept = (1 - (1 - level[1:] / level[:-1]).clamp(max=0.999)).cumprod(0)
    signal, deviation = (part.float().to(device) for part in (kept.sqrt(), (1 - kept).sqrt()))

    def trainer(autocast, compiled, graph):
        model = copy.deepcopy(network).to(device).train()
        weights = list(model.parameters())
        average = [weight.detach().clone() for weight in weights]
        cuda = device == "cuda"
        optimizer = torch.optim.AdamW(
            weights, lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, fused=cuda or None, capturable=graph
        )
        forward = torch.compile(model) if compiled else model
        condition = torch.rand(batch, width, device=device) * 2 - 1
        action = torch.rand(batch, length, dim, device=device) * 2 - 1

        def update():
            noise = torch.randn(batch, length, dim, device=device)
            timesteps = torch.randint(0, steps, (batch,), device=device)
            noisy = signal[timesteps, None, None] * action + deviation[timesteps, None, None] * noise
            with torch.autocast(device, torch.bfloat16, enabled=autocast):
                output = forward(noisy, timesteps, condition)
            F.mse_loss(output.float(), noise).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=not graph)
            with torch.no_grad():
                torch._foreach_lerp_(average, weights, 1e-4)

        run = captured(update) if graph else update

        def step():
            # A batch from the host each step, as a loader brings it.
            condition.copy_(torch.rand(batch, width))
            action.copy_(torch.rand(batch, length, dim))
            run()

        return step

    if device == "cpu":
        yield "eager f32", lambda: trainer(False, False, False)
    else:
        yield "eager f32", lambda: trainer(False, False, False)
        yield "eager bf16", lambda: trainer(True, False, False)
        yield "compiled bf16, graph", lambda: trainer(True, True, True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case")
    parser.add_argument("work", choices=["plan", "train", "start"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--begun", type=float, default=BEGUN)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("this PyTorch sees no CUDA device")

    tensors, metadata = read_safetensors(options.case)
    config = json.loads(metadata["network"])
    options.train_steps = config["train_steps"]
    network = ConditionalUnet1d(config)
    network.load_state_dict({name: value for name, value in tensors.items() if not name.startswith("case.")})
    network.eval()

    variants, first_ms = {}, None
    plans = options.work != "train"
    for name, make in (plan_variants if plans else train_variants)(network, tensors, options):
        try:
            with torch.inference_mode(plans):
                work = make()
                finish(work, options.device)
                first_ms = first_ms or (time.time() - options.begun) * 1e3
                if options.work == "start":
                    variants[name] = {}
                    break
                variants[name] = measure(work, options.device, options, 5 if plans else 2)
        except Exception as error:  # noqa: BLE001
            variants[name] = {"problem": f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"}
    with torch.inference_mode():
        sample = sampler(network, tensors["case.steps"])(tensors["case.condition"], tensors["case.noise"])
    deviation = (sample - tensors["case.sample"]).abs().max().item()
    report = {
        "version": torch.__version__,
        "device_name": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "deviation": deviation,
        "first_ms": first_ms,
        "variants": variants,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()

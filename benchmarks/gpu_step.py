"""On the device at hand: seconds of a training step and where they go, or what scales add.

  python -m benchmarks.gpu_step --arch deeplabv3plus_wide_resnet38 --crop 896 --batch 2
  python -m benchmarks.gpu_step --multiscale --arch deeplabv3_resnet18

The step is that of train.py: autocast in the precision that auto chooses, label relaxation, SGD,
drawn streets that are on the device already. The share of matrix work is the part of the device's
time in kernels of convolutions and matrix products, by torch.profiler. --multiscale compares six
forwards of an image (scales 0.5, 1 and 2, mirrored) with one of each of their sizes alone.
"""

import re
from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.latency import build_random
from benchmarks.timing import machine
from benchmarks.train_step import Case, draw
from model import MODELS, build_model
from model.losses import build_loss
from utils import distributed
from utils.inference.pipeline import synchronize
from utils.inference.predictor import Predictor
from utils.inference.settings import Inference
from utils.options.parser import Parser, positive
from utils.precision import autocast
from utils.stopping import run
from utils.training import optimization
from utils.training.schedules import Schedule

# Of kernels on a GPU, and of operators on a CPU.
MATRIX = re.compile(r"gemm|conv|cudnn|cutlass|xmma|wgrad|dgrad|implicit|sgemm|mm\b|nvjet", re.I)
CLASSES = 19


def build_step(arch: str, case: Case, device: torch.device, precision: str) -> Callable[[], float]:
    """A training step; gives its loss."""
    torch.manual_seed(0)
    network = build_model(arch, CLASSES).to(device, memory_format=torch.channels_last)
    optimization.train_mode(network, freeze_bn=False)
    groups = optimization.parameter_groups(network, 1e-3, 1e-4, 1.0, decay_all=False)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    state = optimization.TrainingState(
        network, None, optimization.build_optimizer("sgd", groups, 0.9),
        Schedule("constant", 1000), scaler)
    loss_function = build_loss("label_relaxation", 0)
    pixels, ids = (each.to(device) for each in draw(case))

    def step() -> float:
        with autocast(device, precision):
            logits = state.network(pixels.permute(0, 3, 1, 2))
        loss = optimization.backward(state, loss_function(logits, ids.long()))
        optimization.update(state)
        return float(loss)

    return step


def seconds_of(work: Callable[[], object], device: torch.device, count: int) -> float:
    """The median of some runs, after three to warm up."""
    seconds = []
    for number in range(3 + count):
        synchronize(device)
        start = perf_counter()
        work()
        synchronize(device)
        if number >= 3:
            seconds.append(perf_counter() - start)
    return median(seconds)


def matrix_share(work: Callable[[], object], device: torch.device) -> float:
    """Part of the device's time in convolutions and matrix products."""
    cuda = device.type == "cuda"
    kinds = [ProfilerActivity.CUDA] if cuda else [ProfilerActivity.CPU]
    with profile(activities=kinds) as profiler:
        work()
        synchronize(device)
    times = {each.key: each.self_device_time_total if cuda else each.self_cpu_time_total
             for each in profiler.key_averages()}
    return sum(t for name, t in times.items() if MATRIX.search(name)) / sum(times.values())


def main() -> None:
    parser = Parser(__doc__)
    parser.prog = "python -m benchmarks.gpu_step"
    parser.add_argument("--arch", default="sgcpnet", choices=tuple(MODELS), help="network")
    parser.add_argument("--crop", type=positive, default=896, help="pixels, side of a crop")
    parser.add_argument("--batch", type=positive, default=2, help="crops of a step")
    parser.add_argument("--steps", type=positive, default=10, help="of which the median counts")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--multiscale", action="store_true", help="what scales add, instead")
    args = parser.parse_args()
    device = distributed.start(args.device)
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    precision = "bf16" if bf16 else "fp32"
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else machine()
    size = args.crop, 2 * args.crop if args.multiscale else args.crop
    print(f"{args.arch}, {size[1]}x{size[0]}, {precision}; {where}")
    if args.multiscale:
        pixels = draw(Case(1, size))[0][0]
        scales = (0.5, 1.0, 2.0)
        network = build_random(args.arch).to(device, memory_format=torch.channels_last)
        alone = Predictor(network, precision)
        inputs = [torch.nn.functional.interpolate(
            pixels.permute(2, 0, 1)[None].float(), scale_factor=scale)[0].permute(1, 2, 0).byte()
            for scale in scales]
        each = sum(seconds_of(lambda image=image: alone(image), device, args.steps)
                   for image in inputs)
        averaged = Predictor(network, precision, inference=Inference(scales, flip=True))
        whole = seconds_of(lambda: averaged(pixels), device, args.steps)
        print(f"scales {scales}, mirrored: {1000 * whole:.1f} ms, "
              f"{whole / (2 * each):.2f} times its six forwards")
        return
    step = build_step(args.arch, Case(args.batch, size), device, precision)
    seconds = seconds_of(step, device, args.steps)
    share = matrix_share(step, device)
    memory = f", {torch.cuda.max_memory_allocated() / 1e9:.1f} GB" if device.type == "cuda" else ""
    print(f"batch {args.batch}: {1000 * seconds:.1f} ms a step, {args.batch / seconds:.1f} "
          f"images/s, {100 * share:.0f} % of the device's time in matrix work{memory}")


if __name__ == "__main__":
    run(main)

"""Trains SDCNet2D, which corrects optical flow until a frame can be made from the one before.

examples:
  python train_sdcnet.py --data-root data/cityscapes --crop-size 448 448
  python train_sdcnet.py --data-root data/videos --crop-size 128 192 --lr 3e-4 --max-steps 2000
  python train_sdcnet.py --init sdc_cityscapes_vrec.pth.tar --data-root data/cityscapes
  python train_sdcnet.py --resume runs/sdcnet2d_recon-frames-20260101-120000

It learns from frames alone. Validation prints the PSNR of frames made from the one before: by the
network, by the flow that it was given, without any motion. A run's folder gets last.pth and
last.prev.pth (to resume), best.pth (highest PSNR, for propagate.py), log.jsonl, TensorBoard events.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from utils.stopping import end_with_launcher

    end_with_launcher()

import argparse
import math
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from datasets import find_root
from datasets.sampling.epoch_lists import AllImages
from datasets.sampling.sampler import TrainSampler
from datasets.video.sequences import FrameTriplets
from model.flow import MOTIONS
from model.sdcnet import SDCNETS, SDCNet2D, load_sdcnet, reconstruction_loss, warp
from utils import distributed
from utils.options.data import add_device
from utils.options.motion import add_frames, add_output, add_sdcnet, add_steps, check_sdcnet
from utils.options.parser import Parser
from utils.options.training import check_same_options, parse_resumable
from utils.precision import autocast, choose_for_training
from utils.processes import count_cores
from utils.stopping import Stopped, StopRequest, prepare_to_train, run
from utils.training import optimization
from utils.training.log import Log
from utils.training.optimization import Settings, TrainingState, backward, seed_step, update
from utils.training.run_folder import Run
from utils.training.schedules import SCHEDULES, Schedule
from utils.workers import Loader, read_shard

VAL_FRAMES = 200
SOURCE, TARGET = 1, 2  # of three frames: the one that is warped, the one that it shall become


def parse_args() -> tuple[argparse.Namespace, dict[str, Any] | None]:
    parser = Parser(__doc__)
    add_frames(parser, min(4, count_cores()))
    add_sdcnet(parser, ("sdcnet2d_recon", "sdcnet2d"), [x for x in MOTIONS if x != "sdcnet"])
    add_steps(parser, [name for name in SCHEDULES if name != "scl-poly"])
    add_output(parser)
    add_device(parser)
    args, last = parse_resumable(parser)
    if last and last["model"]["arch"] not in SDCNETS:
        raise ValueError(f"{args.run_dir}: of {last['model']['arch']}; train.py continues it")
    return args, last


def reconstruct(network: nn.Module, frames: Tensor, flows: Tensor) -> tuple[Tensor, Tensor]:
    """The last of three frames, made from the one before, and the displacement that made it.

    Of (N, 3, 3, H, W) uint8 frames and (N, 2, 2, H, W) float flows, by a network that may be
    wrapped: (N, 3, H, W) float in 0..255, and (N, 2, H, W).
    """
    plain: Any = distributed.unwrap(network)
    vectors = network(frames[:, : plain.FRAMES], flows[:, : plain.FRAMES - 1])
    return warp(frames[:, SOURCE].float(), vectors), vectors


def loss_of(network: nn.Module, batch: tuple[Tensor, Tensor], settings: Settings) -> Tensor:
    """() loss of (N, 3, H, W, 3) frames and the flows between them."""
    frames, flows = (part.to(settings.device, non_blocking=True) for part in batch)
    frames = frames.permute(0, 1, 4, 2, 3)
    with autocast(settings.device, settings.precision):
        made, vectors = reconstruct(network, frames, flows)
    return reconstruction_loss(made, frames[:, TARGET].float(), vectors)["total"]


def attempt(
    network: nn.Module, train: FrameTriplets, val: FrameTriplets, sampler: TrainSampler,
    settings: Settings,
) -> None:
    """Forward and backward of the first batch, forward of a val triplet."""
    for batch in ([train[key] for key in next(iter(sampler))], [val[len(val) - 1]]):
        loss = loss_of(network, default_collate(batch), settings)
        if not loss.isfinite():  # backward of what it samples at would leave the image
            raise FloatingPointError(f"loss {loss.item()} of the first batch; give another --init")
        loss.backward()


def train_until(
    end: int, state: TrainingState, batches: Iterator[tuple[Tensor, Tensor]], settings: Settings,
    stop: StopRequest, log: Log,
) -> None:
    """Steps to `end`, or raises Stopped at the border of a step."""
    state.network.train()
    for batch in islice(batches, end - state.step):
        seed_step(settings.seed, state.step)
        loss = backward(state, loss_of(state.network, batch, settings))
        figures = update(state)
        loss, stopped = distributed.mean_over_ranks(loss, bool(stop), device=settings.device)
        log.step(state.step, loss, figures)
        if stopped:
            raise Stopped(stop.number)


@torch.inference_mode()
def validate(
    network: SDCNet2D, val: FrameTriplets, settings: Settings, workers: int, stop: StopRequest
) -> dict[str, Any]:
    """How well frames are made from the one before, over all pixels of all frames.

    Returns `psnr` in dB: of the network, of the flow that it was given, and of no motion; and
    `better`, the share of frames that the network makes better than the flow.

    Raises Stopped: a rank was asked to stop.
    """
    names = ("network", "flow", "no_motion")
    sums, better, pixels = torch.zeros(3, dtype=torch.float64), 0.0, 0.0
    for frames, flows in read_shard(val, workers, settings.device):
        if stop:
            break
        frames = frames[None].to(settings.device).permute(0, 1, 4, 2, 3)
        flows = flows[None].to(settings.device)
        source, target = frames[:, SOURCE].float(), frames[:, TARGET].float()
        with autocast(settings.device, settings.precision):
            made, _ = reconstruct(network, frames, flows)
        guesses = made, warp(source, flows[:, network.FRAMES - 2]), source
        errors = torch.stack([(guess - target).square().sum() for guess in guesses]).cpu()
        sums, pixels = sums + errors, pixels + target.numel()
        better += float(errors[0] < errors[1])
    *means, better, pixels, stopped = distributed.mean_over_ranks(
        *sums.tolist(), better, pixels, bool(stop), device=settings.device)
    if stopped:
        raise Stopped(stop.number)
    # An error that no 8-bit picture can show stands for none, whose PSNR would be infinite.
    ratios = [255**2 / max(mean / pixels, 1e-5) for mean in means]
    psnr = [10 * math.log10(ratio) for ratio in ratios]
    return {"psnr": dict(zip(names, psnr, strict=True)),
            "better": better * distributed.world() / len(val)}


def build_network(args: argparse.Namespace, last: dict[str, Any] | None) -> SDCNet2D:
    """The network as it starts. Raises ValueError if `--init` is of another kind."""
    torch.manual_seed(args.seed)
    if last:
        return SDCNETS[last["model"]["arch"]](**last["model"]["options"])
    network = load_sdcnet(args.init) if args.init else SDCNETS[args.arch]()
    if args.arch != network.NAME:
        raise ValueError(f"--init {args.init}: is a {network.NAME}, give --arch {network.NAME}")
    return network


def main() -> None:
    args, last = parse_args()
    prepare_to_train()
    device = distributed.start(args.device, args.threads, args.patience)
    rank, world = distributed.rank(), distributed.world()
    check_same_options(args, last)
    check_sdcnet(args, world)

    with distributed.main_first():  # it may download weights
        motion = MOTIONS[args.motion](args.motion_weights, device)
    workers = args.workers if args.motion == "dis" else 0  # RAFT is on the device of this process
    data = find_root("cityscapes", args.data_root)
    train = FrameTriplets(data, args.train_split, motion, args.crop_size, seed=args.seed)
    val = FrameTriplets(data, args.val_split, motion, limit=VAL_FRAMES)
    sampler = TrainSampler(AllImages((len(train), len(train))), args.epochs,
                           (1, world, args.batch_size // world), rank, args.seed, args.max_steps)
    total = sampler.offsets[-1]
    distributed.agree("data", {"list of frames": (train.digest(), val.digest())}, ValueError,
                      "give every host the same files")
    network = build_network(args, last).to(device)
    batch, frames = args.batch_size // world, network.FRAMES
    # In args, so that checkpoints say it and a resumed training keeps it.
    args.precision = choose_for_training(
        device, args.precision, network,
        (torch.empty(batch, frames, 3, *args.crop_size, dtype=torch.uint8),
         torch.empty(batch, frames - 1, 2, *args.crop_size)), total)
    settings = Settings(device, args.precision, seed=args.seed)
    groups = optimization.parameter_groups(network, args.lr, 0.0, 1.0, True)
    adam = optimization.build_optimizer("adam", groups, momentum=0.9)
    scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
    state = TrainingState(distributed.wrap(network), None, adam, Schedule(args.schedule, total),
                          scaler)
    this = {"optimizer": "adam", "steps": total, "samples": train.digest()}
    about = {"model": network.config, "dataset": {"name": "frames", "motion": args.motion}}
    training = Run(args, last, state, this, about)
    if training.complete:
        distributed.stop()
        return
    stop = StopRequest()  # until here there is nothing to save
    sampler.start_step = state.step
    batches = iter(Loader(train, workers, device, batch_sampler=sampler))
    with training.until_stopped(f"{len(train)} train and {len(val)} val frames", settings):
        if not last:
            training.rehearse(partial(attempt, train=train, val=val, sampler=sampler,
                                      settings=settings))
        while not training.complete:
            due = state.step % args.val_every == 0 and training.log.validated < state.step
            if not due:  # else it was stopped in the validation
                marks = [(state.step // n + 1) * n for n in (args.save_every, args.val_every)]
                train_until(min(total, *marks), state, batches, settings, stop, training.log)
            if state.step == total or state.step % args.val_every == 0:
                training.save()  # a validation may fail
                figures = validate(network.eval(), val, settings, workers, stop)
                if training.log.reconstruction(state, figures):
                    training.save_best()
            training.save(complete=state.step == total)


if __name__ == "__main__":
    run(main)

"""Trains a segmentation network.

examples:
  python train.py --dataset camvid --data-root data/camvid --arch deeplabv3_resnet18
  python -m torch.distributed.run --standalone --nproc-per-node 8 train.py --batch-size 16
  python train.py --resume runs/deeplabv3_resnet18-camvid-20260101-120000
  python train.py --dataset folder --data-root mine --init runs/cityscapes/best.pth

Recipes are in scripts/train_*.sh. A run's folder gets last.pth and
last.prev.pth (to resume), best.pth (highest val mIoU), log.jsonl, TensorBoard events.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from utils.stopping import end_with_launcher

    end_with_launcher()

import argparse
import copy
import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from datasets import DATASETS, build_dataset, dataset_of, describe, find_root
from datasets.base import SegmentationDataset
from datasets.cache.decoded import open_cache
from datasets.cache.per_label import count_class_pixels
from datasets.classes import read_class_map
from datasets.doctor import check_ids, check_labels
from datasets.reading import check_exif, settle
from datasets.samples import note_small, shared_images
from datasets.sampling.epoch_lists import EpochLists, ListOptions, lists_digest, make_lists
from datasets.sampling.mixing import Mosaic, Paste
from datasets.sampling.sampler import TrainSampler
from datasets.transforms import EvalTransform, TrainTransform
from model import MODELS, check_name, list_networks
from model.layers import checkpoint_activations
from model.losses import CLASS_WEIGHTS, LOSSES, Loss, build_loss, class_weights
from model.losses.distillation import Teacher
from model.losses.label_relaxation import IMAGE_WEIGHTED, LossOptions
from model.snapshot import build_with_weights, from_snapshot, read_snapshot
from utils import distributed
from utils.checkpoint import fingerprint
from utils.inference.predictor import Predictor
from utils.options.data import add_data, add_device
from utils.options.optimization import (
    add_loss,
    add_optimization,
    add_schedule,
    build_schedule,
    loss_settings,
)
from utils.options.parser import Parser
from utils.options.training import (
    add_augmentation,
    add_network,
    add_run,
    add_training_data,
    check_same_options,
    check_training,
    parse_resumable,
    starting_network,
)
from utils.precision import autocast, choose_for_training
from utils.scoring.validation import ConfusionMatrix, compare, validate
from utils.stopping import Stopped, StopRequest, prepare_to_train, run
from utils.training import optimization
from utils.training.log import Log
from utils.training.optimization import Settings, TrainingState, backward, seed_step, update
from utils.training.run_folder import Run
from utils.workers import Loader, check_shared_memory

RARE = 0.02  # a class with fewer of the training labels' pixels is pasted


def parse_args() -> tuple[argparse.Namespace, dict[str, Any] | None]:
    parser = Parser(__doc__)
    add_data(parser, DATASETS, default="cityscapes", split=None)
    add_training_data(parser, read_class_map)
    add_network(parser, MODELS, check_name, list_networks)
    add_run(parser)
    add_augmentation(parser)
    add_loss(parser, LOSSES, CLASS_WEIGHTS)
    add_optimization(parser, optimization.OPTIMIZERS)
    add_schedule(parser)
    add_device(parser)
    return parse_resumable(parser)


def train_until(
    end: int, state: TrainingState, batches: Iterator[tuple[Tensor, Tensor]], loss_function: Loss,
    settings: Settings, stop: StopRequest, log: Log,
) -> None:
    """Steps to `end`, or raises Stopped at the border of a step."""
    optimization.train_mode(state.network, settings.freeze_bn)
    while state.step < end:
        seed_step(settings.seed, state.step)
        loss = 0.0
        for micro, batch in enumerate(islice(batches, settings.accumulate), start=1):
            with distributed.accumulate(state.network, last=micro == settings.accumulate):
                part = loss_of(state.network, batch, loss_function, settings)
                loss += backward(state, part / settings.accumulate)
        figures = update(state, settings.clip, settings.ema, settings.ema_ramp)
        loss, stopped = distributed.mean_over_ranks(loss, bool(stop), device=settings.device)
        log.step(state.step, loss, figures)
        if stopped:
            raise Stopped(stop.number)


def loss_of(
    network: nn.Module, batch: tuple[Tensor, Tensor], loss_function: Loss, settings: Settings
) -> Tensor:
    """() loss of (N, H, W, 3) images and their (N, H, W) targets."""
    images, target = (part.to(settings.device, non_blocking=True) for part in batch)
    images = images.permute(0, 3, 1, 2)
    with autocast(settings.device, settings.precision):
        logits = network(images)
    loss = loss_function(logits, target.long())
    if settings.teacher:
        with autocast(settings.device, settings.precision):
            loss = settings.teacher(loss, logits, images)
    return loss


def attempt(
    network: nn.Module, samples: Dataset, sampler: TrainSampler, val: SegmentationDataset,
    loss_function: Loss, settings: Settings,
) -> None:
    """Forward and backward of the first batch, a few val samples read, one of them scored."""
    batch = default_collate([samples[key] for key in next(iter(sampler))])
    loss_of(network, batch, loss_function, settings).backward()
    for index in sorted({len(val) - 1, len(val) // 2, 0}, reverse=True):
        image, target = val[index]
    prediction = Predictor(network.eval(), settings.precision)(image, tuple(target.shape))
    ConfusionMatrix(val.class_names, settings.device).update(target.to(settings.device), prediction)


def build_data(
    args: argparse.Namespace,
) -> tuple[SegmentationDataset, SegmentationDataset, EpochLists]:
    """Training and validation split, with pairs and sizes checked, and what epochs consist of."""
    crop = TrainTransform(args.crop_size, args.scale, args.flip, args.jitter, args.hue, args.blur,
                          args.pre_size, args.seed)
    root = find_root(args.dataset, args.data_root)
    chosen = args.holdout, args.cv_split, args.limit
    train = build_dataset(args.dataset, root, args.train_split, crop, *chosen)
    whole = EvalTransform(args.eval_size, args.eval_crop)
    val = build_dataset(args.dataset, root, "val", whole, *chosen)
    settle(train, val, args.exif)
    check_labels(args.dataset, train, val, args.workers)
    if args.class_map:
        train.merge(args.class_map)
        val.merge(args.class_map)
        check_labels(args.dataset, train, val, args.workers)
    if shared := shared_images(train.samples, val.samples):
        distributed.say(f"note: {shared} of {len(val)} val images are trained on; their mIoU is no "
                        "measure of other images")
    lists = ListOptions(args.class_uniform, args.tile, args.max_cu_epoch, tuple(args.coarse_boost),
                        args.propagated_root, tuple(args.propagated_skip), args.limit, args.seed)
    with distributed.main_first():
        epoch_lists, train.samples = make_lists(train, lists, args.workers)
    added = copy.copy(train)
    added.samples = train.samples[epoch_lists.images[0] :]  # propagated, or of coarse labels
    if added.samples:
        check_exif(added)
        check_ids(args.dataset, added, 0, args.workers)
    if args.cache:  # the ranks wait for one of them, longer than a barrier would
        train.cache = open_cache(train, args.workers)
    sizes = [dataset.sizes() for dataset in (train, val)]
    note_small(sizes[0], args.crop_size, args.pre_size)
    images = args.batch_size // (args.accumulate * distributed.world())
    pixels = images * math.prod(args.crop_size) + max(map(math.prod, sizes[1]))
    check_shared_memory(args.workers, 2 * 4 * pixels)  # two batches of RGB and train ids
    names = [sample.name for sample in val.samples]
    own = {"list of training images": lists_digest(train, epoch_lists),
           "list of val images": names, "size of an image": sizes,
           "class table": describe(val, args.dataset)}
    distributed.agree("data", {key: fingerprint(value) for key, value in own.items()}, ValueError,
                      "give every host the same files")
    return train, val, epoch_lists


def build_network(
    args: argparse.Namespace, num_classes: int, last: Any, class_names: Sequence[str] = ()
) -> nn.Module:
    """The network; at the start of a training with the weights that it is to start from."""
    torch.manual_seed(args.seed)
    given = starting_network(args, last)
    network, notes = build_with_weights(args.arch, num_classes, class_names=class_names, **given)
    if args.checkpoint_activations:
        checkpoint_activations(network)
    for note in notes:
        distributed.say(note)
    return network


def count_pixels(args: argparse.Namespace, train: SegmentationDataset, own: int) -> Tensor | None:
    """Pixels of each class in the `own` labels, counted once, where something depends on them."""
    if args.class_weights == "none" and not args.paste:
        return None
    with distributed.main_first():
        return count_class_pixels(train, args.workers, own)


def mix(
    args: argparse.Namespace, train: SegmentationDataset, lists: EpochLists, pixels: Tensor | None
) -> Dataset:
    """The training samples, some of which are made of several."""
    samples: Dataset = Mosaic(train, lists, args.mosaic) if args.mosaic else train
    if not args.paste or pixels is None:
        return samples
    rare = (pixels < RARE * pixels.sum()).nonzero().flatten().tolist()
    names = ", ".join(train.class_names[train_id] for train_id in rare)
    distributed.say(f"paste: {names or 'nothing, no class is rare'}")
    return Paste(samples, train, lists, args.paste, rare)


def open_teacher(
    args: argparse.Namespace, snapshot: dict[str, Any], val: SegmentationDataset,
    device: torch.device,
) -> Teacher:
    """The network that is imitated; ValueError if it has other classes."""
    channels, own = snapshot["model"]["num_classes"], val.class_names
    if channels != len(own):
        raise ValueError(f"--teacher {args.teacher}: {channels} classes, this training has "
                         f"{len(own)}")
    theirs = dataset_of(snapshot, describe(val, args.dataset))["class_names"]
    if odd := [i for i in range(channels) if theirs[i] != own[i]]:
        raise ValueError(f"--teacher {args.teacher}: its class {odd[0]} is {theirs[odd[0]]!r}, "
                         f"{own[odd[0]]!r} in the data set; give a network of the same classes in "
                         "the same order")
    teacher: Any = from_snapshot(snapshot)
    teacher = teacher.to(device, memory_format=torch.channels_last).requires_grad_(False)
    weight = 0.5 if args.teacher_weight is None else args.teacher_weight
    return Teacher(teacher, weight)


def build_state(
    args: argparse.Namespace, network: nn.Module, settings: Settings, offsets: list[int]
) -> TrainingState:
    """Network, running mean, optimizer, schedule and scaler, at step 0."""
    if args.sync_bn:
        network = distributed.synchronize_batch_norm(network, settings.device)
    groups = optimization.parameter_groups(network, args.lr, args.weight_decay,
                                           args.encoder_lr_factor, args.decay_all)
    return TrainingState(
        network=distributed.wrap(network, args.compile),
        ema=optimization.make_ema(network) if args.ema else None,
        optimizer=optimization.build_optimizer(args.optimizer, groups, args.momentum,
                                               args.nesterov),
        schedule=build_schedule(args, offsets),
        scaler=torch.amp.GradScaler(settings.device.type, enabled=settings.precision == "fp16"),
    )


def main() -> None:
    args, last = parse_args()
    prepare_to_train()
    device = distributed.start(args.device, args.threads, args.patience)
    rank, world = distributed.rank(), distributed.world()
    check_same_options(args, last)
    check_training(args, world, device.type == "cuda", IMAGE_WEIGHTED)

    taught = read_snapshot(args.teacher) if args.teacher else None  # before the data are read
    train, val, lists = build_data(args)
    batch = args.accumulate, world, args.batch_size // (args.accumulate * world)
    sampler = TrainSampler(lists, args.epochs, batch, rank, args.seed, args.max_steps)
    epochs = len(sampler.offsets) - 1
    network = build_network(args, len(train.class_names), last, train.class_names)
    network = network.to(device, memory_format=torch.channels_last)
    optimization.train_mode(network, args.freeze_bn)
    # In args, so that checkpoints say it and a resumed training keeps it.
    args.precision = choose_for_training(
        device, args.precision, network,
        (torch.empty(batch[-1], *args.crop_size, 3, dtype=torch.uint8).permute(0, 3, 1, 2),),
        sampler.offsets[-1] * args.accumulate)
    settings = Settings(device, args.precision, args.accumulate, args.clip, args.ema,
                        args.ema_ramp, args.freeze_bn, args.seed,
                        open_teacher(args, taught, val, device) if taught else None)
    del taught  # the network has its own copy
    losses = LossOptions(**loss_settings(args, train.class_names))
    pixels = count_pixels(args, train, lists.images[0])
    weights = class_weights(args.class_weights, pixels, device)
    state = build_state(args, network, settings, sampler.offsets)
    this = {"optimizer": args.optimizer, "steps": sampler.offsets[-1],
            "samples": lists_digest(train, lists),
            "val": f"{len(val)} images ({fingerprint([each.name for each in val.samples]):08x})"}
    about = {"model": network.config, "dataset": describe(val, args.dataset)}
    training = Run(args, last, state, this, about)
    if training.complete:
        distributed.stop()
        return
    stop = StopRequest()  # until here there is nothing to save
    sampler.start_step = state.step
    samples = mix(args, train, lists, pixels)
    batches = iter(Loader(samples, args.workers, device, batch_sampler=sampler))
    what = f"{len(train)} train and {len(val)} val images"
    with training.until_stopped(what, settings):
        if not last:
            first = build_loss(args.loss, 0, weights, losses)
            training.rehearse(partial(attempt, samples=samples, sampler=sampler, val=val,
                                      loss_function=first, settings=settings))
        # An epoch that --max-steps had cut goes on in a longer training.
        for epoch in range(min(state.epoch, sampler.epoch_at(state.step)), epochs):
            loss_function = build_loss(args.loss, epoch, weights, losses)
            due = epoch + 1 == epochs or (epoch + 1) % args.val_every == 0
            while state.step < (end := sampler.offsets[epoch + 1]):
                until = min(end, (state.step // args.save_every + 1) * args.save_every)
                train_until(until, state, batches, loss_function, settings, stop, training.log)
                if until < end or due:
                    training.save()
            if due:
                distributed.broadcast_buffers(state.validated)
                predictor = Predictor(state.validated.eval(), settings.precision)
                confusion = validate(predictor, val, args.workers, stop, training.log.validating)
                if training.log.validation(state, confusion):
                    training.save_best()
                training.log.pictures(state.step, compare(predictor, val, range(min(3, len(val)))))
            state.epoch = epoch + 1
            if due or state.step % args.save_every == 0:
                training.save(complete=epoch + 1 == epochs)


if __name__ == "__main__":
    run(main)

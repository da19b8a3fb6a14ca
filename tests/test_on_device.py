"""Augmentation on the device: the same as in the loader, up to how pixels are resized."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DRAW, draw_camvid
from make_weights import label_map, photo

from datasets import build_dataset, on_device
from datasets.base import SegmentationDataset
from datasets.loading import load_batches
from datasets.on_device import OnDevice
from datasets.sampler import AllImages, TrainSampler
from datasets.transforms import PADDING, TrainTransform
from utils.images import write_png
from utils.metrics import IGNORE

CPU = torch.device("cpu")
PLAIN = {"flip": 0, "jitter": 0, "hue": 0, "blur": 0}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth pictures with labels of a few blobs, like those of streets; of two sizes."""
    root = draw_camvid(tmp_path_factory.mktemp("smooth"))
    for i, sample in enumerate(build_dataset("camvid", root, "train").samples):
        size = 180 + 20 * (i % 2), 240
        write_png(sample.image, photo(*size, seed=i))
        write_png(sample.truth, label_map(*size, list(range(12)), seed=i))
    return root


def both(dataset: SegmentationDataset, keys: list) -> list[tuple[torch.Tensor, ...]]:
    """Image and target of every key: from the loader, then from the device."""
    images, targets = OnDevice(dataset, CPU).batch(keys)
    return [(*dataset[key], *pair) for key, *pair in zip(keys, images, targets, strict=True)]


@pytest.mark.parametrize("options", [
    {}, {"scale": (0.5, 0.8)}, {"scale": (1.2, 2)}, {"pre_size": 150}, {"blur": 1, "flip": 1},
    {"jitter": 0.8, "hue": 0.5}, PLAIN,
], ids=str)
def test_equals_the_loader(options: dict, root: Path) -> None:
    """Up to less than a gray level, on average; of labels, 1 % where two pixels are as near."""
    transform = TrainTransform((128, 160), seed=3, **options)
    dataset = build_dataset("camvid", root, "train", transform)
    keys = [(1, place, place % 5, (30, 40) if place % 2 else None) for place in range(20)]
    for image, target, image_there, target_there in both(dataset, keys):
        assert image_there.shape == image.shape
        assert image_there.dtype == target_there.dtype == torch.uint8
        assert (image.float() - image_there.float()).abs().mean() < 1
        assert (target == target_there).float().mean() >= 0.99


def test_without_resizing_only_rounding_differs(root: Path) -> None:
    transform = TrainTransform((128, 160), (1, 1), jitter=0.5, hue=0.2, blur=0.7)
    dataset = build_dataset("camvid", root, "train", transform)
    keys = [(0, place, place % 5, None) for place in range(20)]
    differences = []
    for image, target, image_there, target_there in both(dataset, keys):
        assert torch.equal(target, target_there)
        differences.append((image.int() - image_there.int()).abs())
    together = torch.stack(differences)
    assert together.max() <= 2
    assert together.float().mean() < 0.05


def test_plain_crops_are_equal(root: Path) -> None:
    dataset = build_dataset("camvid", root, "train", TrainTransform((96, 96), (1, 1), **PLAIN))
    for image, target, image_there, target_there in both(dataset, [(0, p, p % 5, None)
                                                                   for p in range(20)]):
        assert torch.equal(image, image_there)
        assert torch.equal(target, target_there)


def test_padding(root: Path) -> None:
    dataset = build_dataset("camvid", root, "train", TrainTransform((300, 400), (1, 1), **PLAIN))
    image, target = OnDevice(dataset, CPU).batch([(0, 0, 0, None)])
    outside = target[0] == IGNORE
    assert outside.sum() >= 300 * 400 - 180 * 240
    border = torch.cat([outside[0], outside[-1], outside[:, 0], outside[:, -1]])
    assert border.float().mean() > 0.9
    expected = dataset[0, 0, 0, None]
    assert torch.equal(image[0], expected[0])
    assert torch.equal(target[0], expected[1])
    assert (image[0, 0, 0] == torch.tensor(PADDING)).all()


@pytest.mark.parametrize("name", DRAW)
def test_every_data_set(name: str, data_roots: dict[str, Path]) -> None:
    """Also with images of several sizes; the targets are train ids."""
    dataset = build_dataset(name, data_roots[name], "train", TrainTransform((40, 56), (1, 1),
                                                                            **PLAIN))
    keys = [(0, index, index, None) for index in range(len(dataset))]
    for image, target, image_there, target_there in both(dataset, keys):
        assert torch.equal(image, image_there)
        assert torch.equal(target, target_there)


def test_channels_last(root: Path) -> None:
    dataset = build_dataset("camvid", root, "train", TrainTransform((64, 64)))
    images, _ = OnDevice(dataset, CPU).batch([(0, 0, 0, None), (0, 1, 1, None)])
    assert images.permute(0, 3, 1, 2).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("on_device", [False, True])
def test_batches_of_a_training(on_device: bool, root: Path) -> None:
    """The same batches from either, from any step on."""
    dataset = build_dataset("camvid", root, "train", TrainTransform((96, 96), (1, 1), **PLAIN))

    def batches(start: int, on_device: bool) -> list[tuple[torch.Tensor, torch.Tensor]]:
        sampler = TrainSampler(AllImages((5, 5)), 2, (1, 1, 2), seed=1)
        sampler.start_step = start
        return list(load_batches(dataset, sampler, 0, CPU, on_device))

    expected = batches(0, on_device=False)
    assert len(expected) == 4
    for start in (0, 3):
        for found, wanted in zip(batches(start, on_device), expected[start:], strict=True):
            assert torch.equal(found[0], wanted[0])
            assert torch.equal(found[1], wanted[1])


def test_refuses_what_does_not_fit(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = build_dataset("camvid", root, "train", TrainTransform((64, 64)))
    need = 4 * 240 * (3 * 180 + 2 * 200)
    monkeypatch.setattr(on_device, "free_memory", lambda _: 2 * need - 2)
    with pytest.raises(ValueError, match=r"5 samples are 0\.00 GB, over 50 % .* take --cache raw"):
        OnDevice(dataset, CPU)
    monkeypatch.setattr(on_device, "free_memory", lambda _: 2 * need)
    assert len(OnDevice(dataset, CPU).samples) == 5


def test_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    alone = on_device.free_memory(CPU)
    assert 10**7 < alone < 10**14
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    assert on_device.free_memory(CPU) < alone / 100


def test_labels_are_checked_while_they_are_loaded(tmp_path: Path) -> None:
    root = draw_camvid(tmp_path)
    dataset = build_dataset("camvid", root, "train", TrainTransform((64, 64)))
    write_png(dataset.samples[2].truth, np.full((60, 80), 99, np.uint8))
    with pytest.raises(ValueError, match=rf"{dataset.samples[2].truth}: ids \[99\]"):
        OnDevice(dataset, CPU, threads=2)


@pytest.mark.gpu
def test_on_a_gpu(root: Path) -> None:
    dataset = build_dataset("camvid", root, "train", TrainTransform((128, 160)))
    keys = [(0, place, place % 5, None) for place in range(20)]
    device = torch.device("cuda")
    images, targets = OnDevice(dataset, device).batch(keys)
    expected = OnDevice(dataset, CPU).batch(keys)
    assert images.device.type == "cuda"
    assert (images.cpu().float() - expected[0].float()).abs().mean() < 0.5  # no resizing in bytes
    assert (targets.cpu() == expected[1]).float().mean() >= 0.99


@pytest.mark.parametrize("size", [(60, 80), (400, 40)])
def test_any_crop_of_any_image(size: tuple[int, int], tmp_path: Path) -> None:
    root = draw_camvid(tmp_path, size=size)
    dataset = build_dataset("camvid", root, "train", TrainTransform((33, 77), (0.2, 4)))
    images, targets = OnDevice(dataset, CPU).batch([(0, p, p % 5, None) for p in range(30)])
    assert images.shape == (30, 33, 77, 3)
    assert targets.shape == (30, 33, 77)

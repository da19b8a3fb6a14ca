"""DeepLabV3+: its options, and published files of its networks and encoders."""

import json
from collections.abc import Callable
from pathlib import Path

import make_weights
import numpy as np
import pytest
import torch
from conftest import FIXTURES, draw_camvid
from torch import Tensor, nn
from torchvision.models import resnet18, resnet50

import model
from datasets import cityscapes_labels, dataset_of
from model.published import encoder_weights, looks_like, recognize
from model.snapshot import build_with_weights, load_model, read_snapshot
from utils import checkpoint
from utils.images import read_label, write_png

PUBLISHED = {  # reference -> network
    "nvidia_DeepWV3Plus": "deeplabv3plus_wide_resnet38",
    "nvidia_DeepSRNX50V3PlusD_m1": "deeplabv3plus_se_resnext50",
    "nvidia_DeepSRNX101V3PlusD_m1": "deeplabv3plus_se_resnext101",
    "nvidia_DeepR50V3PlusD_m1": "deeplabv3plus_resnet50",
    "nvidia_DeepV3Plus_resnet50_D16_m2": "deeplabv3plus_resnet50",
    "nvidia_DeepV3Plus_resnet101_D_m1": "deeplabv3plus_resnet101",
}
PLUS = sorted({name for name in PUBLISHED.values() if "101" not in name})
ARCH = "deeplabv3plus_se_resnext50"
TRUNK = ("layer", "mod")  # how names of the encoder begin


def shapes(name: str, num_classes: int = 19) -> dict[str, Tensor]:
    """The tensors of a published network without their values."""
    rows = json.loads((FIXTURES / f"{name}.json").read_text())["keys"]
    weights = {key: torch.empty(shape, device="meta") for key, shape, _ in rows}
    return weights | {"final.6.weight": torch.empty(num_classes, 256, 1, 1, device="meta")}


@pytest.fixture(scope="module")
def published() -> Callable[[int], dict[str, Tensor]]:
    """Makes a published DeepLabV3+ on SE-ResNeXt-50 with so many classes."""
    reference = json.loads((FIXTURES / "nvidia_DeepSRNX50V3PlusD_m1.json").read_text())
    weights = make_weights.fill(reference["keys"], reference["fill_seed"])

    def with_head(num_classes: int) -> dict[str, Tensor]:
        head = make_weights.normals("final.6.weight", (num_classes, 256, 1, 1))
        return weights | {"final.6.weight": torch.from_numpy(head)}

    return with_head


def save_as_published(path: Path, weights: dict[str, Tensor]) -> Path:
    """What that project's training writes."""
    prefixed = {f"module.{key}": tensor for key, tensor in weights.items()}
    torch.save({"state_dict": prefixed, "optimizer": {"state": {}}, "epoch": 174,
                "mean_iu": np.float64(0.8), "command": "train.py"}, path)
    return path


@pytest.mark.parametrize("branch", ["sdcnet", "main"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_name_is_known(name: str, branch: str) -> None:
    weights = shapes(name)
    if branch == "main":
        weights = {f"backbone.{key}" if key.startswith(TRUNK) else key: weights[key]
                   for key in weights}
    snapshot = recognize(weights, "x.pth")
    config = snapshot["model"]
    assert config["arch"] == PUBLISHED[name]
    assert config["options"]["align_corners"] == (branch == "sdcnet")
    with torch.device("meta"):
        network = model.build_model(config["arch"], config["num_classes"], **config["options"])
    expected = {key: tensor.shape for key, tensor in network.state_dict().items()}
    assert {key: tensor.shape for key, tensor in snapshot["weights"].items()} == expected


@pytest.mark.parametrize(("num_classes", "dataset", "first", "last"), [
    (19, "cityscapes", "road", "bicycle"), (11, "camvid", "sky", "bicyclist"),
    (65, "mapillary", "Bird", "Ego Vehicle"),
])
def test_classes_follow_from_their_number(
    num_classes: int, dataset: str, first: str, last: str
) -> None:
    snapshot = recognize(shapes("nvidia_DeepWV3Plus", num_classes), "x.pth")
    known = dataset_of(snapshot)
    assert known["name"] == dataset
    assert (known["class_names"][0], known["class_names"][-1]) == (first, last)
    assert len(known["class_names"]) == len(set(known["class_names"])) == num_classes
    assert len(known["palette"]) == len(known["train_id_to_id"]) == num_classes


def test_other_networks_of_that_project_are_refused() -> None:
    with pytest.raises(ValueError, match="with 7 classes .* is none of the published ones"):
        recognize(shapes("nvidia_DeepWV3Plus", 7), "x.pth")
    shallow = {key: tensor for key, tensor in shapes("nvidia_DeepR50V3PlusD_m1").items()
               if not key.startswith("layer3.5")}
    with pytest.raises(ValueError, match="none of the published ones"):
        recognize(shallow, "x.pth")


@pytest.mark.parametrize("name", PLUS)
def test_skip_is_the_stride_of_the_logits(name: str) -> None:
    for skip in (2, 4, 8) if "wide" in name else (4, 8):
        for output_stride in (8, 16):
            with torch.device("meta"):
                network = model.build_model(name, 5, skip=skip, output_stride=output_stride).eval()
                seen: list[tuple] = []
                network.aspp.register_forward_hook(lambda *a, s=seen: s.append(a[2].shape))
                network.decoder.register_forward_hook(lambda *a, s=seen: s.append(a[2].shape))
                coarse = network(torch.empty(2, 3, 64, 96, dtype=torch.uint8), full_size=False)
            cells = 64 // output_stride, 96 // output_stride
            assert seen == [(2, 256, *cells), (2, 256, 64 // skip, 96 // skip)]
            assert coarse.shape == (2, 5, 64 // skip, 96 // skip)


@pytest.mark.parametrize(("name", "options", "message"), [
    ("deeplabv3plus_resnet50", {"skip": 2}, r"skip 2: .* strides \[4, 8\]"),
    ("deeplabv3plus_wide_resnet38", {"skip": 16}, r"strides \[2, 4, 8\]"),
    ("deeplabv3plus_wide_resnet38", {"output_stride": 32}, "WideResNet38 has 8 or 16"),
])
def test_options_are_checked(name: str, options: dict, message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        model.build_model(name, 5, **options)


def test_demo_needs_only_the_published_file(published, call, tmp_path: Path) -> None:
    """It has the project's prefix, its wrapper, and numbers of numpy."""
    path = save_as_published(tmp_path / "cityscapes_best.pth", published(19))
    image = make_weights.photo(64, 96)
    write_png(tmp_path / "street.png", image)
    done = call("demo.py", "--demo-image", tmp_path / "street.png", "--snapshot", path,
                "--save-dir", tmp_path, "--precision", "fp32", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        logits = load_model(path)(torch.from_numpy(image).permute(2, 0, 1)[None])
    expected = np.array(cityscapes_labels.TABLE.train_id_to_id)[logits.argmax(1)[0].numpy()]
    assert len(np.unique(expected)) > 1
    assert (read_label(tmp_path / "street_id_mask.png") == expected).mean() > 0.999


def fine_tuned(first: Path, second: Path) -> Path:
    """Writes the network of `first` with a new head of 19 classes."""
    network, notes = build_with_weights(ARCH, 19, init=str(first))
    assert notes == [f"weights: {first}; new: classifier.weight"]
    checkpoint.write(second, {"format": checkpoint.FORMAT, "model": network.config,
                              "dataset": {"name": "cityscapes"}, "weights": network.state_dict()})
    return second


def assert_only_the_head_is_new(weights: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    expected = recognize(theirs, "x")["weights"]
    assert weights.keys() == expected.keys()
    assert [name for name in weights if not weights[name].equal(expected[name])] == [
        "classifier.weight"
    ]


def test_fine_tuning_from_65_over_19_to_11_classes(published, tmp_path: Path) -> None:
    first = save_as_published(tmp_path / "mapillary.pth", published(65))
    second = fine_tuned(first, tmp_path / "cityscapes.pth")
    assert_only_the_head_is_new(read_snapshot(second)["weights"], published(65))
    third, notes = build_with_weights(ARCH, 11, init=str(second))
    assert notes == [f"weights: {second}; new: classifier.weight"]
    assert third.classifier.weight.shape == (11, 256, 1, 1)
    assert_only_the_head_is_new(third.state_dict(), published(65))
    with pytest.raises(ValueError, match=r"decoder\.narrow\.weight is \(48, 256, 1, 1\), not"):
        build_with_weights(ARCH, 11, init=str(second), skip=8)


@pytest.mark.slow
def test_fine_tuning_in_training(published, call, tmp_path: Path) -> None:
    first = save_as_published(tmp_path / "mapillary.pth", published(65))
    run, root = tmp_path / "run", draw_camvid(tmp_path / "camvid")
    done = call("train.py", "--init", first, "--arch", ARCH, "--dataset", "camvid", "--data-root",
                root, "--run-dir", run, "--crop-size", 32, 32, "--batch-size", 2, "--max-steps", 1,
                "--lr", 0, "--workers", 0, "--limit", 2, "--checkpoint-activations", "--skip", 4,
                "--freeze-bn", "--precision", "fp32")
    assert done.returncode == 0, done.stderr
    assert f"weights: {first}; new: classifier.weight" in done.stdout + done.stderr
    last = checkpoint.read(run / "last.pth")
    assert last["weights"]["classifier.weight"].shape == (11, 256, 1, 1)
    assert_only_the_head_is_new(last["weights"], published(65))


def test_alignment_of_the_weights_is_kept(published, tmp_path: Path) -> None:
    """Branch main trains without aligned corners, which no shape shows."""
    path = tmp_path / "main.pth"
    torch.save({f"backbone.{k}" if k.startswith(TRUNK) else k: v
                for k, v in published(19).items()}, path)
    network, _ = build_with_weights(ARCH, 11, init=str(path))
    assert not network.align_corners
    assert not network.decoder.align_corners
    network, _ = build_with_weights(ARCH, 11, encoder=str(path))
    assert network.align_corners


def test_files_of_old_pytorch_have_no_counters(published, tmp_path: Path) -> None:
    """Cadene's SE-ResNeXt: names of its own, a classifier, no num_batches_tracked."""
    weights = {key: tensor for key, tensor in published(19).items()
               if key.startswith("layer") and not key.endswith("num_batches_tracked")}
    torch.save(weights | {"last_linear.weight": torch.zeros(1000, 2048),
                          "last_linear.bias": torch.zeros(1000)}, tmp_path / "se.pth")
    path = str(tmp_path / "se.pth")
    network, _ = build_with_weights(ARCH, 19, encoder=path)
    filled = network.encoder.state_dict()
    assert torch.equal(filled["layer4.2.se.fc2.bias"], weights["layer4.2.se_module.fc2.bias"])
    assert torch.equal(filled["bn1.running_var"], weights["layer0.bn1.running_var"])
    del weights["layer0.bn1.running_var"]
    torch.save(weights, path)
    with pytest.raises(ValueError, match=r"not this encoder: .* 1 of 382 .*running_var missing"):
        build_with_weights(ARCH, 19, encoder=path)


def classifier(name: str) -> dict[str, Tensor]:
    """The tensors of a network's encoder as its ImageNet classifier, without their values."""
    return {key: tensor for key, tensor in shapes(name).items() if key.startswith(TRUNK)} | {
        key: torch.empty(1) for key in ("last_linear.weight", "bn_out.0.weight",
                                        "classifier.fc.weight")}


def torchvision(build: Callable) -> dict[str, Tensor]:
    with torch.device("meta"):
        return build().state_dict()


@pytest.mark.parametrize(("arch", "weights"), [
    ("deeplabv3plus_wide_resnet38", classifier("nvidia_DeepWV3Plus")),
    ("deeplabv3plus_se_resnext101", classifier("nvidia_DeepSRNX101V3PlusD_m1")),
    ("deeplabv3plus_resnet50", torchvision(resnet50)),
], ids=lambda value: value if isinstance(value, str) else "")
def test_classifiers_fill_encoders(arch: str, weights: dict[str, Tensor]) -> None:
    with torch.device("meta"):
        network = model.build_model(arch, 19)
    expected = {key: tensor.shape for key, tensor in network.encoder.state_dict().items()}
    found = encoder_weights(weights)
    assert {key: tensor.shape for key, tensor in found.items()} == expected


@pytest.mark.parametrize(("weights", "words"), [
    (torchvision(resnet50), "torchvision's ResNet-50, a classifier; give it to train.py as "
                            "--pretrained-encoder"),
    (classifier("nvidia_DeepSRNX101V3PlusD_m1"), "SE-ResNeXt-101, a classifier"),
    (classifier("nvidia_DeepWV3Plus"), "WideResNet38, a classifier"),
    ({"ocr.cls_head.weight": torch.zeros(1), "backbone.conv1.weight": torch.zeros(1)}, "HRNet-OCR"),
    ({"backbone.conv1.weight": torch.zeros(1), "classifier.0.convs.0.0.weight": torch.zeros(1)},
     "torchvision's DeepLabV3"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_unfit_files_are_named(weights: dict[str, Tensor], words: str) -> None:
    with pytest.raises(ValueError, match=f"x.pth: its .* look like {words}"):
        recognize(weights, "x.pth")


def test_grouped_resnets_are_not_taken_for_plain_ones() -> None:
    weights = torchvision(resnet50)
    assert looks_like(weights | {"layer1.0.conv2.weight": torch.empty(128, 4, 3, 3)}) == ""


def test_squeezed_resnets_are_not_taken_for_resnexts() -> None:
    """SE-ResNet-50 has the same names; its convolutions are not grouped."""
    weights = classifier("nvidia_DeepSRNX50V3PlusD_m1")
    assert "SE-ResNeXt-50" in looks_like(weights)
    assert looks_like(weights | {"layer1.0.conv2.weight": torch.empty(64, 64, 3, 3)}) == ""


def test_published_files_with_tensors_missing() -> None:
    weights = shapes("nvidia_DeepWV3Plus")
    del weights["bot_aspp.weight"]
    with pytest.raises(ValueError, match="x.pth: looks like a network of nvidia, but with tensors"):
        recognize(weights, "x.pth")


def test_dropout_of_wide_resnet38() -> None:
    """As published: 0.3 and 0.5 in the last two stages, of whole channels."""
    with torch.device("meta"):
        network = model.build_model("deeplabv3plus_wide_resnet38", 19)
    found = {name: module.p for name, module in network.named_modules()
             if isinstance(module, nn.Dropout2d) and module.p}
    assert found == {"encoder.stage6.block1.dropout": 0.3, "encoder.stage7.block1.dropout": 0.5}


def test_demo_says_what_a_classifier_is_for(call, tmp_path: Path) -> None:
    torch.save(resnet18().state_dict(), tmp_path / "resnet18.pth")
    write_png(tmp_path / "street.png", make_weights.photo(32, 32))
    done = call("demo.py", "--demo-image", tmp_path / "street.png", "--snapshot",
                tmp_path / "resnet18.pth", "--save-dir", tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "torchvision's ResNet-18, a classifier; give it to train.py as --pretrained-" in (
        done.stderr)

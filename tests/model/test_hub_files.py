"""Folders of the model hub that are not as the usual ones, and what the hub itself says."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_hub import small, transformers_name, write

import model
from datasets import dataset_of
from model import hub
from model.layers import IMAGENET_MEAN, IMAGENET_STD
from model.snapshot import build_with_weights, from_snapshot, load_model, read_snapshot

ALBUMENTATIONS, PROCESSOR = "albumentations_config_eval.json", "preprocessor_config.json"
HALVES = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
NORMALIZE = {"__class_fullname__": "Normalize", "mean": [0.5] * 3, "std": [0.25] * 3,
             "max_pixel_value": 255}


def tell(folder: Path, file: str, content: Any) -> Path:
    """Writes what a package says beside a network."""
    wrapped = content if file == PROCESSOR else {"transform": content}
    (folder / file).write_text(json.dumps(wrapped))
    return folder


@pytest.mark.parametrize(("file", "content", "mean", "std"), [
    (PROCESSOR, HALVES, 127.5, 63.75),
    (PROCESSOR, {"image_mean": 0.5, "image_std": 0.25}, 127.5, 63.75),
    (PROCESSOR, HALVES | {"rescale_factor": 1 / 127.5}, 63.75, 31.875),
    (PROCESSOR, {"image_mean": [120] * 3, "image_std": [60] * 3, "do_rescale": False}, 120, 60),
    (PROCESSOR, HALVES | {"do_normalize": False}, 0, 255),
    (PROCESSOR, {"do_normalize": False, "do_rescale": False}, 0, 1),
    (ALBUMENTATIONS, NORMALIZE, 127.5, 63.75),
    (ALBUMENTATIONS, NORMALIZE | {"mean": 0.5, "max_pixel_value": None}, 127.5, 63.75),
    (ALBUMENTATIONS, {"transforms": [{"__class_fullname__": "Resize"}, {"transforms": [
        NORMALIZE | {"__class_fullname__": "albumentations.transforms.Normalize"}]}]},
     127.5, 63.75),
    (ALBUMENTATIONS, None, None, None),
    (ALBUMENTATIONS, [1], None, None),
    (PROCESSOR, {"do_resize": True}, None, None),
])
def test_pixel_statistics(
    file: str, content: Any, mean: float | None, std: float | None, tmp_path: Path
) -> None:
    expected = (None, None) if mean is None else ((mean,) * 3, (std,) * 3)
    assert hub.read_statistics(tell(tmp_path, file, content)) == expected


@pytest.mark.parametrize(("file", "content", "message"), [
    (PROCESSOR, HALVES | {"rescale_factor": None}, "not as its package writes it"),
    (PROCESSOR, HALVES | {"rescale_factor": 0}, "not as its package writes it"),
    (PROCESSOR, {"image_mean": [0.5] * 3}, "not as its package writes it .*image_std"),
    (PROCESSOR, HALVES | {"image_std": [0.5, 0, 0.5]}, "std above 0"),
    (PROCESSOR, HALVES | {"image_mean": [0.5]}, "one or three finite numbers"),
    (PROCESSOR, HALVES | {"image_mean": ["a", "b", "c"]}, "not as its package writes it"),
    (PROCESSOR, HALVES | {"image_mean": [float("nan")] * 3}, "one or three finite numbers"),
    (ALBUMENTATIONS, NORMALIZE | {"mean": None}, "not as its package writes it"),
    (ALBUMENTATIONS, NORMALIZE | {"normalization": "image"}, "'image', of each image by itself"),
])
def test_refused_pixel_statistics(file: str, content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{file}: .*{message}") as refused:
        hub.read_statistics(tell(tmp_path, file, content))
    assert "\n" not in str(refused.value)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub's networks, and nothing to reach."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.fetch.cache_clear()
    return tmp_path


def test_what_another_tool_has_fetched(cache: Path, capsys: pytest.CaptureFixture) -> None:
    """It keeps no marks of the files that a network does not have."""
    folder = cache / "models--nvidia--tiny"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    with pytest.raises(FileNotFoundError, match="nvidia/tiny: .*not fetched before"):
        read_snapshot("nvidia/tiny")
    config, weights = small(19)
    found = write(folder / "snapshots" / ("0" * 40), config, weights, "pytorch_model.bin")
    assert load_model("nvidia/tiny").normalize.constants == (IMAGENET_MEAN, IMAGENET_STD)
    assert "nvidia/tiny: the hub is not reached, and what its pixels are" in capsys.readouterr().out
    hub.fetch.cache_clear()
    tell(found, PROCESSOR, HALVES)
    assert load_model("nvidia/tiny").normalize.constants[0] == (127.5,) * 3
    assert "is not reached" not in capsys.readouterr().out


@pytest.mark.parametrize(("kind", "words", "expected"), [
    ("RepositoryNotFoundError", "", "there is no such network, or it is private: set HF_TOKEN"),
    ("GatedRepoError", "", "accept its terms on its page there, and set HF_TOKEN"),
    ("", "404 Client Error. (Request ID: 7)\n\nInvalid rev id: x", "Invalid rev id"),
])
def test_why_the_hub_gives_nothing(
    kind: str, words: str, expected: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = pytest.importorskip("huggingface_hub")
    errors = pytest.importorskip("huggingface_hub.errors")
    asked = []

    def refuse(**options: object) -> str:
        asked.append(options)
        error = getattr(errors, kind, OSError)
        raise error.__new__(error, words)

    monkeypatch.setattr(package, "hf_hub_download", refuse)
    with pytest.raises(FileNotFoundError, match=f"owner/name@v1: .*{expected}"):
        read_snapshot("owner/name@v1")
    assert (asked[0]["repo_id"], asked[0]["revision"]) == ("owner/name", "v1")


def test_a_network_is_asked_for_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("huggingface_hub")
    folder, asked = write(cache / "net", *small(5)), []

    def give(filename: str, **options: object) -> str:
        asked.append(filename)
        return str(folder / filename)

    monkeypatch.setattr(package, "hf_hub_download", give)
    read_snapshot("owner/name")
    once = len(asked)
    assert hub.weights_file("owner/name") == folder / "model.safetensors"
    assert len(asked) == once


def test_weights_in_several_files(tmp_path: Path) -> None:
    folder = write(tmp_path, *small(5))
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match="weights are in several files; save it in one"):
        read_snapshot(folder)


@pytest.mark.parametrize(("labels", "message"), [
    ({"a": "road"}, "id2label has 'a'"), ([1], "not as its package writes it")])
def test_odd_names_of_classes(labels: Any, message: str, tmp_path: Path) -> None:
    config, weights = small(5)
    with pytest.raises(ValueError, match=message):
        read_snapshot(write(tmp_path, config | {"id2label": labels}, weights))
    folder = write(tmp_path, config | {"id2label": None}, weights)
    assert read_snapshot(folder)["dataset"] == {"name": None}


def test_one_channel_is_refused(tmp_path: Path) -> None:
    """Its largest logit would be that of class 0 at every pixel."""
    with pytest.raises(ValueError, match=f"{tmp_path}: segformer: one channel, of one"):
        read_snapshot(write(tmp_path, *small(1, ["crack"])))


def test_heads_that_do_not_divide_the_channels(tmp_path: Path) -> None:
    config, weights = small(5)
    folder = write(tmp_path, config | {"num_attention_heads": [3, 3, 3, 3]}, weights)
    with pytest.raises(ValueError, match="8 channels do not go into 3 heads"):
        load_model(folder)


@pytest.mark.parametrize("prefix", ["segformer.", ""])
def test_an_encoder_alone(prefix: str, tmp_path: Path) -> None:
    """Of a classifier of images, or as SegformerModel saves it."""
    config, weights = small(5)
    encoder = {prefix + key.removeprefix("segformer."): tensor for key, tensor in weights.items()
               if key.startswith("segformer.")}
    head = {"classifier.weight": torch.zeros(1000, 32)} if prefix else {}
    folder = write(tmp_path, config, encoder | head)
    with pytest.raises(ValueError, match="give it to train.py as --pretrained-encoder"):
        read_snapshot(folder)
    form = read_snapshot(folder, encoder=True)["model"]["options"]["parts"]
    network, _ = build_with_weights("segformer", 3, encoder=str(folder), parts=form)
    for key, tensor in network.encoder.state_dict().items():
        if ".kv." not in key:
            theirs = transformers_name(f"encoder.{key}").removeprefix("segformer.")
            assert torch.equal(tensor, encoder[prefix + theirs])


def test_classes_that_are_named_win_over_a_guess(tmp_path: Path) -> None:
    snapshot = read_snapshot(write(tmp_path, *small(19)))
    names = [f"c{number}" for number in range(19)]
    own = {"name": "folder", "class_names": names, "palette": [[0, 0, 0]] * 19,
           "train_id_to_id": list(range(19))}
    assert dataset_of(snapshot, own)["class_names"] == names
    for others in (None, {"name": None}, {"name": "camvid"}, own | {"class_names": names[:11]}):
        assert dataset_of(snapshot, others)["name"] == "cityscapes"


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    """Else its form would replace that of --arch."""
    folder = write(tmp_path, *small(5))
    with pytest.raises(ValueError, match=f"{folder} is of segformer, not of segformer_b5; give "
                                         "--arch segformer"):
        build_with_weights("segformer_b5", 5, init=str(folder))
    assert build_with_weights("segformer", 4, init=str(folder))[0].config["num_classes"] == 4
    b0 = model.build_model("segformer_b0", 5)
    torch.save({"format": 1, "model": b0.config, "dataset": {"name": None},
                "weights": b0.state_dict()}, tmp_path / "b0.pth")
    assert build_with_weights("segformer_b0", 5, init=str(tmp_path / "b0.pth"))[1]
    with pytest.raises(ValueError, match="is of segformer_b0, not of segformer_b1"):
        build_with_weights("segformer_b1", 5, init=str(tmp_path / "b0.pth"))


def save(folder: Path, network: Any, **change: object) -> Path:
    """A network of segmentation_models_pytorch, with a changed config."""
    network.save_pretrained(str(folder))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    return folder


@pytest.mark.parametrize(("change", "message"), [
    ({"encoder_depth": 4}, "Segformer: encoder_depth 4; 5 is expected"),
    ({"upsampling": 2}, "Segformer: upsampling 2; 4 is expected"),
    ({"_model_class": "NewNet"}, "NewNet: not in segmentation_models_pytorch .*pip install -U"),
])
def test_refusals_of_the_package_s(change: dict, message: str, tmp_path: Path) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    network = smp.Segformer("mit_b0", encoder_weights=None, classes=3)
    with pytest.raises(ValueError, match=message):
        read_snapshot(save(tmp_path, network, **change))


def test_options_that_enlarge_by_another_factor(tmp_path: Path) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    network = smp.FPN("resnet18", encoder_weights=None, classes=3, upsampling=1)
    with pytest.raises(ValueError, match="choose other options of the package"):
        read_snapshot(save(tmp_path, network))


def test_a_transformer_of_one_size_takes_any(tmp_path: Path) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    network = smp.DPT("tu-vit_tiny_patch16_224", encoder_weights=None, classes=3,
                      dynamic_img_size=True).eval()
    ours = from_snapshot(read_snapshot(save(tmp_path, network, dynamic_img_size=False)))
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), network(ours.normalize(images)))

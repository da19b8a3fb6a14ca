"""What every script does when nothing is said: a change of these is a change of results."""

import importlib
import inspect
import sys
from argparse import Namespace
from typing import Any

import pytest

from datasets.transforms import TrainTransform
from model.losses import ohem
from model.losses.label_relaxation import LossOptions
from model.losses.per_class import focal
from utils.inference.settings import Inference
from utils.options.optimization import build_schedule, loss_settings
from utils.options.prediction import build_inference
from utils.scoring.counts import Scores

INFERENCE = {
    "scales": [1.0], "flip_average": False, "window": None, "overlap": None, "window_batch": 1,
    "average": "logits", "eval_size": None,
}
DEVICE = {"device": "auto", "precision": "auto", "threads": None}
TRAINING = {
    "dataset": "cityscapes", "train_split": "train", "limit": None, "holdout": None,
    "class_uniform": 0.0, "tile": 1024, "coarse_boost": [], "propagated_skip": [3],
    "max_cu_epoch": None, "arch": "deeplabv3_resnet18", "init": None, "pretrained_encoder": None,
    "val_every": 1, "save_every": 500, "log_every": 10, "patience": 120,
    "crop_size": (512, 512), "pre_size": None, "scale": (0.5, 2.0), "flip": 0.5, "jitter": 0.25,
    "hue": 0.05, "blur": 0.5, "mosaic": 0.0, "paste": 0.0, "teacher": None, "teacher_weight": None,
    "loss": "cross_entropy", "class_weights": "none", "class_weight_bound": None,
    "relax_window": None, "relax_until": None,
    "epochs": 200, "max_steps": None, "batch_size": 8, "accumulate": 1, "optimizer": "sgd",
    "lr": 0.01, "encoder_lr_factor": 1.0, "momentum": 0.9, "nesterov": False,
    "weight_decay": 1e-4, "decay_all": False, "clip": 0.0, "ema": 0.0, "ema_ramp": 0,
    "freeze_bn": False, "sync_bn": False, "compile": False, "seed": 0,
    "schedule": "poly", "schedule_per": "step", "warmup_steps": 0, "poly_power": None,
    **DEVICE,
}
SDCNET = {
    "train_split": "train", "val_split": "val", "crop_size": (448, 448),
    "arch": "sdcnet2d_recon", "motion": "dis", "epochs": 500, "batch_size": 4, "lr": 1e-4,
    "schedule": "steps", "seed": 0, "val_every": 1000, "save_every": 500,
    "log_every": 10, "patience": 120, **DEVICE,
}
SCRIPTS: list[tuple[str, list[str], dict[str, Any]]] = [
    ("train", [], TRAINING),
    ("train_sdcnet", [], SDCNET),
    ("evaluate", ["--snapshot", "x"], {
        **INFERENCE, **DEVICE, "dataset": None, "split": "val", "prediction_kind": "auto"}),
    ("test", ["--snapshot", "x", "--save-dir", "y"], {
        **INFERENCE, **DEVICE, "dataset": None, "split": "test", "skip_done": False}),
    ("demo", ["--snapshot", "x", "--demo-image", "y"], {
        **INFERENCE, **DEVICE, "save_dir": "results", "opacity": 0.5, "legend": False,
        "max_pixels": 64_000_000}),
    ("demo_folder", ["--snapshot", "x", "--demo-folder", "y"], {
        **INFERENCE, **DEVICE, "save_dir": "results", "opacity": 0.5, "smooth": 0.0,
        "show": "overlay", "max_pixels": 64_000_000}),
    ("propagate", [], {"split": "train", "save_dir": "data/propagated", "propagate": 5,
                       "motion": "dis", "consistency": None, "device": "auto"}),
    ("export", ["--snapshot", "x", "--output", "y", "--images", "z"], {"limit": 8, "int8": False}),
    ("latency", ["--arch", "sgcpnet"], {
        **DEVICE, "size": (1024, 2048), "batch_sizes": [1], "runs": 30}),
    ("preprocess_data", [], {"dataset": "cityscapes", "split": None, "void_id": 255}),
    ("pixel_percentage", ["--masks", "x"], {"dataset": "cityscapes", "train_ids": False}),
]
OF_THE_MACHINE = {"workers", "threads"}


def parse(script: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *words])
    args = importlib.import_module(script).parse_args()
    return vars(args[0] if isinstance(args, tuple) else args)


def is_figure(value: Any) -> bool:
    """A number, or several."""
    if isinstance(value, list | tuple):
        return bool(value) and all(map(is_figure, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


@pytest.mark.parametrize(("script", "words", "expected"), SCRIPTS, ids=[row[0] for row in SCRIPTS])
def test_defaults(
    script: str, words: list[str], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = parse(script, words, monkeypatch)
    assert {name: found[name] for name in expected} == expected
    figures = {name for name, value in found.items() if is_figure(value)}
    assert figures - OF_THE_MACHINE <= set(expected), "written down here, all of them"


def test_what_is_built_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that the help texts name, of options without a value."""
    args = Namespace(**parse("train", [], monkeypatch))
    losses = LossOptions(**loss_settings(args, ["road"]))
    assert (losses.window, losses.class_weight_bound, losses.strict) == (3, 1.0, ())
    shape = build_schedule(args, [0, 10]).shape
    assert (shape.power, shape.final_factor) == (0.9, 0.01)
    assert (shape.restart_factor, shape.restart_power) == (1.0, 1.5)
    args = Namespace(**parse("demo", ["--snapshot", "x", "--demo-image", "y"], monkeypatch))
    assert build_inference(args) == Inference((1.0,), False, None, 1 / 3, "logits")


def test_defaults_of_functions() -> None:
    """Those that published results are of."""
    def of(function: Any) -> dict[str, Any]:
        return {name: parameter.default
                for name, parameter in inspect.signature(function).parameters.items()
                if parameter.default is not parameter.empty}

    assert of(ohem) == {"class_weights": None, "threshold": 0.7, "least": 1 / 16}
    assert of(focal) == {"class_weights": None, "gamma": 2.0}
    assert Scores([]).trimaps == (1, 3, 5, 9)
    assert LossOptions() == LossOptions(3, (), None, 1.0, False, False, False, False)
    transform = TrainTransform((512, 512))
    for name in ("crop_size", "scale", "flip", "jitter", "hue", "blur", "pre_size", "seed"):
        assert getattr(transform, name) == TRAINING[name], name

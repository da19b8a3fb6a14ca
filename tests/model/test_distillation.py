"""Learning from a teacher: the divergence by hand, and what a training does with it."""

import argparse
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import model
import train
from model.losses.distillation import Teacher, divergence
from utils.training.optimization import Settings


def test_divergence_by_hand() -> None:
    """Of (3/4, 1/4) from (1/2, 1/2) and of equal ones: half of 3/4 ln 3/2 + 1/4 ln 1/2."""
    theirs = torch.tensor([[[[math.log(3.0), 5.0]], [[0.0, 5.0]]]])
    logits = torch.tensor([[[[7.0, -1.0]], [[7.0, -1.0]]]])
    expected = (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2
    assert divergence(logits, theirs).item() == pytest.approx(expected, rel=1e-6)


def test_gradient_leads_to_the_teacher_s_probabilities() -> None:
    torch.manual_seed(0)
    logits, theirs = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randn(2, 3, 4, 5)
    divergence(logits, theirs).backward()
    expected = (logits.detach().softmax(1) - theirs.softmax(1)) / 40  # of 2 x 4 x 5 pixels
    torch.testing.assert_close(logits.grad, expected)


def test_weights_of_labels_and_teacher() -> None:
    network = torch.nn.Conv2d(3, 2, 1)
    images, target = torch.rand(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64)
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    loss = F.cross_entropy(logits, target)
    total = Teacher(network, 0.25)(loss, logits, images)
    expected = 0.75 * loss + 0.25 * divergence(logits, network(images))
    torch.testing.assert_close(total, expected)
    total.backward()
    assert network.weight.grad is None


def test_the_teacher_computes_in_the_student_s_precision() -> None:
    seen = []

    class Seen(torch.nn.Conv2d):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = super().forward(images.float())
            seen.append(logits.dtype)
            return logits

    batch = torch.zeros(1, 8, 8, 3, dtype=torch.uint8), torch.zeros(1, 8, 8, dtype=torch.uint8)
    settings = Settings(torch.device("cpu"), "bf16", 1, 0, False, False, False, 0,
                        Teacher(Seen(3, 2, 1), 0.5))
    train.loss_of(Seen(3, 2, 1), batch, F.cross_entropy, settings)
    assert seen == [torch.bfloat16] * 2


def test_classes_of_the_teacher_are_those_of_the_training() -> None:
    class Data:
        class_names, palette, train_id_to_id = ["road", "sky"], [[0, 0, 0]] * 2, [0, 1]
        exif = bits = class_map = holdout_fraction = cv_split = None

    args = argparse.Namespace(teacher="t.pth", teacher_weight=None, dataset="folder")
    network = model.build_model("sgcpnet", 2)
    snapshot = {"model": network.config, "weights": network.state_dict()}

    def open_teacher(names: list[str] | None) -> Teacher:
        known = {"name": "folder", "class_names": names} if names else {"name": None}
        return train.open_teacher(args, snapshot | {"dataset": known}, Data(), torch.device("cpu"))

    assert open_teacher(["road", "sky"]).weight == 0.5
    assert open_teacher(None).weight == 0.5  # nobody knows better
    with pytest.raises(ValueError, match="t.pth: its class 0 is 'sky', 'road' in the data set; "):
        open_teacher(["sky", "road"])


def test_the_teacher_is_opened_before_the_data(tmp_path: Path, call) -> None:
    done = call("train.py", "--teacher", tmp_path / "t.pth", "--data-root", tmp_path / "no data")
    assert done.returncode == 2
    assert "t.pth: no such checkpoint" in done.stderr

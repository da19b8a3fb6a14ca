"""What README and docs/ show: links lead somewhere, commands parse, the Python lines run."""

import importlib
import re
import shlex
import sys
from pathlib import Path

import cv2
import pytest
import torch
from conftest import CITY, ROOT

from datasets import TABLES
from model import build_model
from utils import checkpoint
from utils.images import read_image

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *ROOT.glob("*/README.md"),
         ROOT / "data/city/README.md"]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The words of `python SCRIPT.py ...` in the blocks of a page, comments and pipes left out."""
    found = []
    for kind, block in BLOCK.findall(page.read_text()):
        for line in block.replace("\\\n", " ").splitlines() if kind != "python" else ():
            if re.match(r"python \w+\.py\b", line):
                line = re.split(r"\s#|[|>&]", line)[0].replace("[", "").replace("]", "")
                found.append(shlex.split(line.replace("--dataset NAME", "--dataset kitti"))[1:])
    return found


COMMANDS = [(page.name, words) for page in PAGES for words in commands(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    scripts = re.findall(r"(?<![\w/])(?:\./)?(scripts/\w+\.(?:sh|py))", text)
    assert [name for name in scripts if not (ROOT / name).exists()] == []


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 15


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda each: " ".join(each)[:60])
def test_commands_have_these_options(
    page: str, words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script, *rest = words
    assert (ROOT / script).exists()
    known = (ROOT / script).read_text()
    known += "".join(path.read_text() for path in (ROOT / "utils/options").glob("*.py"))
    options = [word for word in rest if word.startswith("--")]
    assert [word for word in options if f'"{word}"' not in known
            and f'"--{word[5:]}"' not in known] == []  # the second of --no-X
    if "--resume" not in rest:  # whose folder would have to exist
        monkeypatch.setattr(sys, "argv", words)
        importlib.import_module(script.removesuffix(".py")).parse_args()


def test_python_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """On a photograph and a snapshot of those names."""
    code, = (block for kind, block in BLOCK.findall((ROOT / "README.md").read_text())
             if kind == "python")
    torch.manual_seed(0)
    network = build_model("sgcpnet", 19)
    (tmp_path / "runs/quickstart").mkdir(parents=True)
    checkpoint.write(tmp_path / "runs/quickstart/best.pth", {
        "format": checkpoint.FORMAT, "model": network.config, "weights": network.state_dict(),
        "dataset": {"name": "cityscapes"}})
    image = read_image(next(CITY.glob("leftImg8bit/val/*/*.webp")))
    assert cv2.imwrite(str(tmp_path / "street.jpg"), image[..., ::-1])
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code, names)
    assert names["labels"].shape == image.shape[:2]
    rows = [line.split(" % ") for line in capsys.readouterr().out.splitlines()]
    assert [name for _, name in rows] == TABLES["cityscapes"].class_names
    assert sum(float(share) for share, _ in rows) == pytest.approx(100, abs=1)

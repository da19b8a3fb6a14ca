"""Classes of one's own, each made of some of the data set's: `train.py --class-map`."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import DRAW, draw_folder, draw_original_camvid, run_script

from datasets import DATASETS, build_dataset
from datasets.classes import read_class_map
from utils import checkpoint
from utils.images import read_image, read_label, write_png
from utils.labels import IGNORE

MAP = "# what moves\nsky = up\n\nroad = down\ntraffic light = down\n"


@pytest.mark.parametrize("name", [*DATASETS, "original camvid"])
def test_labels_of_every_data_set(name: str, tmp_path: Path) -> None:
    """As they are without it, and then mapped; in files of ids, of train ids, of colors."""
    root = DRAW[name](tmp_path) if name in DRAW else draw_original_camvid(tmp_path)
    name = name.split()[-1]
    whole, merged = (build_dataset(name, root, "train") for _ in range(2))
    if name == "cityscapes":  # of one sample there are train ids alone
        path = whole.samples[0].label
        write_png(path.with_name(path.name.replace("labelIds", "labelTrainIds")),
                  whole[0][1].numpy())
        path.unlink()
        whole, merged = (build_dataset(name, root, "train") for _ in range(2))
    own = whole.class_names
    merged.merge({own[2]: "b", own[0]: "a", own[1]: "b"})
    assert (merged.class_names, merged.train_id_to_id) == (
        ["b", "a"], [whole.train_id_to_id[2], whole.train_id_to_id[0]])
    assert merged.palette == [whole.palette[2], whole.palette[0]]
    for index in range(len(whole)):
        before, after = (dataset[index][1].numpy() for dataset in (whole, merged))
        expected = np.select([before == 0, (before == 1) | (before == 2)], [1, 0], IGNORE)
        assert np.array_equal(after, expected)


def test_unknown_ids_stay_unknown(tmp_path: Path) -> None:
    dataset = build_dataset("camvid", DRAW["camvid"](tmp_path), "train")
    dataset.merge({"sky": "sky", "road": "ground"})
    write_png(dataset.samples[0].label, np.full((60, 80), 77, np.uint8))
    with pytest.raises(ValueError, match=r"ids \[77\]"):
        dataset[0]


@pytest.mark.parametrize(("text", "message"), [
    ("", "maps no class"), ("sky\n", "line 1: 'sky': expected CLASS = CLASS"),
    ("sky = \n", "line 1"), ("sky = a\n sky = b\n", "line 2.*sky is there twice"),
    ("sky = a # note\n", "line 1.*expected CLASS = CLASS"), ("sky = a = b\n", "line 1"),
])
def test_lines(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "map").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_class_map(str(tmp_path / "map"))


def test_misspelled_classes(tmp_path: Path, data_roots: dict, call: Callable) -> None:
    words = ["train.py", "--dataset", "folder", "--data-root", data_roots["folder"],
             "--run-dir", tmp_path / "run", "--class-map", tmp_path / "map"]
    for text, said in (("trafic light = a\n", "did you mean traffic light?"),
                       ("sky\n", "expected CLASS = CLASS"), (None, "no such class map")):
        (tmp_path / "map").unlink(missing_ok=True)
        if text:
            (tmp_path / "map").write_text(text)
        done = call(*words)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert said in done.stderr
        assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with own data, a class map, and the run folder of a training on both."""
    folder = tmp_path_factory.mktemp("merged")
    (folder / "map").write_text(MAP)
    done = run_script(
        "train.py", "--dataset", "folder", "--data-root", draw_folder(folder / "data"), "--arch",
        "cspsg_n", "--class-map", folder / "map", "--crop-size", 32, 32, "--batch-size", 2,
        "--max-steps", 1, "--workers", 0, "--threads", 1, "--run-dir", folder / "run",
        "--precision", "fp32", "--class-weights", "enet")
    assert done.returncode == 0, done.stderr
    return folder


def test_from_training_to_pictures(trained: Path, call: Callable) -> None:
    """One network: its snapshot says all that evaluation, submission, export and demos need."""
    root, run, out = trained / "data", trained / "run", trained / "out"
    about = checkpoint.read(run / "best.pth")["dataset"]
    assert about == {"name": "folder", "class_names": ["up", "down"], "train_id_to_id": [200, 7],
                     "palette": [[0, 0, 255], [128, 64, 128]],
                     "class_map": {"sky": "up", "road": "down", "traffic light": "down"}}
    words = ["--snapshot", run / "best.pth", "--data-root", root, "--workers", 0, "--threads", 1]
    done = call("evaluate.py", *words, "--json", trained / "scores.json", "--save-dir", out)
    assert done.returncode == 0, done.stderr
    scores = json.loads((trained / "scores.json").read_text())
    truth = np.stack([read_label(path) for path in (root / "labels/val").iterdir()])
    assert [sum(row) for row in scores["confMatrix"]] == [
        (truth == 200).sum(), np.isin(truth, (7, 3)).sum(), (truth == 9).sum()]
    done = call("test.py", *words, "--split", "val", "--save-dir", trained / "test")
    assert done.returncode == 0, done.stderr
    for folder in (out, trained / "test"):
        assert {*np.unique(read_label(folder / "pred/0.png"))} <= {200, 7}
    done = call("demo.py", "--demo-image", root / "images/val/0.png", "--snapshot",
                run / "best.pth", "--save-dir", out, "--outputs", "color_mask")
    assert done.returncode == 0, done.stderr
    assert "%  down" in done.stdout or "%  up" in done.stdout
    colors = {tuple(pixel) for pixel in read_image(out / "0_color_mask.png").reshape(-1, 3)}
    assert colors <= {(0, 0, 255), (128, 64, 128)}


def test_it_goes_on_with_the_same_map_alone(trained: Path, call: Callable) -> None:
    """The snapshot has it, whatever became of the file."""
    words = ["train.py", "--resume", trained / "run", "--max-steps", 2, "--extend"]
    (trained / "map").write_text(MAP.replace("traffic", "# traffic"))  # the same table
    done = call(*words, "--class-map", trained / "map")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--class-map was another one" in done.stderr
    (trained / "map").unlink()
    done = call(*words)
    assert done.returncode == 0, done.stderr
    assert len(checkpoint.read(trained / "run/last.pth")["dataset"]["class_map"]) == 3

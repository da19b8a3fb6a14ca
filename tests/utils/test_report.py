"""evaluate.py --report: one page that holds what was scored, whatever things are called."""

import base64
import json
import re
import sys
from pathlib import Path
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
import torch
from browser import PROGRAM, Browser
from conftest import cut_city, draw_camvid, run_script
from page import Page

import evaluate
from datasets import build_dataset, describe
from datasets.cityscapes_labels import LABELS, TABLE
from model import build_model
from utils import checkpoint
from utils.images import read_image, read_label, write_png
from utils.pictures import class_difference, colorize, difference
from utils.report import pictures
from utils.report.page import percent
from utils.report.pictures import choose
from utils.scoring.counts import Scores

BY_ID = [label for label in LABELS if label.id >= 0]
ODD = "<b>&\"'#%41?"


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven drawn streets with instances, and predictions of them that are wrong in part."""
    root = cut_city(tmp_path_factory.mktemp("city"), 7)
    for i, sample in enumerate(build_dataset("cityscapes", root, "val").samples):
        ids = np.roll(read_label(sample.label), (i, 2 * i), (0, 1))
        ids[ids == 31] = 28  # trains are taken for buses
        ids[:4, 10 * i : 10 * i + 4] = 10  # never scored
        write_png(root / "pred" / f"{sample.name}.png", ids)
    return root


def words(city: Path, folder: Path) -> list[object]:
    return ["--predictions", city / "pred", "--dataset", "cityscapes", "--data-root", city,
            "--report", folder, "--json", folder.with_suffix(".json")]


@pytest.fixture(scope="module")
def folder(city: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on them, compared with others of two images. Read only."""
    folder = tmp_path_factory.mktemp("reports")
    before = {"predictions": "elsewhere", "dataset": "cityscapes", "split": "val", "images": 2,
              "classScores": {label.name: label.id / 40 for label in BY_ID}}
    (folder / "before.json").write_text(json.dumps(before))
    options = [*words(city, folder / "report"), "--compare", "before.json"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["evaluate.py", *map(str, options)])
        evaluate.main()
    return folder / "report"


def read(folder: Path) -> Page:
    """The page, with the pictures in it and the files beside it in order."""
    page = Page((folder / "index.html").read_text())
    assert not page.tags & {"script", "iframe", "object", "embed"}
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        else:
            assert (folder / unquote(link)).is_file(), link
    for image in page.images:
        shape = thumbnail(image).shape
        assert shape[:2] == (int(image["height"]), int(image["width"]))
        assert image["alt"]
    return page


def thumbnail(image: dict[str, str]) -> np.ndarray:
    assert image["src"].startswith("data:image/webp;base64,")
    data = base64.b64decode(image["src"].partition(",")[2], validate=True)
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def test_the_figures_are_those_of_the_evaluation(folder: Path) -> None:
    page, result = read(folder), json.loads(folder.with_suffix(".json").read_text())
    for name, key in {
        "mean IoU": "averageScoreClasses", "mean iIoU": "averageScoreInstClasses",
        "category IoU": "averageScoreCategories", "boundary IoU": "averageBoundaryScore",
        "pixel accuracy": "pixelAccuracy", "mean accuracy": "averageAccuracyClasses",
        "weighted IoU": "frequencyWeightedIoU",
    }.items():
        assert f"{name} {100 * result[key]:.1f} %" in page.text, name
    assert "images 7 " in page.text
    for width, iou in result["trimapScores"].items():
        assert f"within {width} px: {100 * iou:.1f} %" in page.text
    rows = np.array(result["confMatrix"]).sum(1)
    scored = [label.id for label in BY_ID if not label.ignored]
    for label in (BY_ID[number] for number in scored):
        figures = [result[key][label.name] for key in
                   ("classScores", "classInstScores", "boundaryScores", "classAccuracies")]
        figures = [np.nan if figure is None else figure for figure in figures]
        share = rows[label.id] / rows[scored].sum()
        line = " ".join([label.name, *map(percent, figures), percent(share, 2)])
        assert line in page.text
    for name, band in result["boundaryErrors"].items():
        start = name if name == "interior" else f"to {name} px"
        assert f"{start} {percent(band['wrong'] / band['pixels'])} " in page.text


def test_confusion_is_there_as_colors_and_as_text(folder: Path) -> None:
    page, result = read(folder), json.loads(folder.with_suffix(".json").read_text())
    matrix = np.array(result["confMatrix"])
    row = matrix[31]
    assert row[28] > 0
    share = f"{100 * row[28] / row.sum():.2f}\N{NO-BREAK SPACE}%"
    assert f"train taken for bus: {share}, {row[28]:,} pixels" in page.titles
    lost = matrix[23, [label.id for label in BY_ID if label.ignored]].sum()
    share = f"{100 * lost / matrix[23].sum():.2f}"
    assert f"sky taken for not scored: {share}\N{NO-BREAK SPACE}%, {lost:,} pixels" in page.titles
    assert f"not scored {share} %" in page.text
    assert len(page.titles) == 1 + sum(
        (matrix[i, j] > 0 for i in TABLE.train_id_to_id for j in TABLE.train_id_to_id),
        sum(matrix[i, [x.id for x in BY_ID if x.ignored]].sum() > 0 for i in TABLE.train_id_to_id),
    )


def test_change_and_origin(folder: Path) -> None:
    page = read(folder)
    then, now = (json.loads(path.read_text())["classScores"]
                 for path in (folder.parent / "before.json", folder.with_suffix(".json")))
    for name in ("road", "sky", "building"):
        figures = percent(then[name]), percent(now[name]), percent(now[name] - then[name], 2, "+")
        assert f"{name} {' '.join(figures)}" in page.text
    assert "before.json (elsewhere) to this" in page.text
    assert "Not the same: images 2, now 7" in page.text
    assert "evaluate.py --predictions" in page.text
    assert f"PyTorch {torch.__version__}" in page.text


def test_pictures_at_full_size_are_exact(folder: Path, city: Path) -> None:
    dataset = build_dataset("cityscapes", city, "val")
    colors, ignored = [x.color for x in BY_ID], [x.ignored for x in BY_ID]
    found = 0
    for sample in dataset.samples:
        ids, truth = read_label(city / "pred" / f"{sample.name}.png"), read_label(sample.label)
        expected = {
            "prediction": colorize(ids, colors), "label": colorize(truth, colors),
            "difference": difference(ids, truth, colors, ignored),
            "class_28": class_difference(ids, truth, 28, ignored),
        }
        for kind, pixels in expected.items():
            path = folder / "pictures" / f"{sample.name}_{kind}.png"
            if path.exists():
                assert (read_image(path) == pixels).all()
                found += 1
        photo = folder / "pictures" / f"{sample.name}_image.jpg"
        if photo.exists():
            error = read_image(photo).astype(int) - read_image(sample.image)
            assert np.abs(error).mean() < 6
    assert found >= 3 * 6 + 3


def test_names_are_text(tmp_path: Path, call) -> None:
    """Of classes, files and folders; one class is in no label, one in no prediction either."""
    root, name = tmp_path / ODD, f"{ODD} x"
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, (40, 60)).astype(np.uint8)
    write_png(root / "images/val" / f"{name}.png", rng.integers(0, 256, (40, 60, 3), np.uint8))
    write_png(root / "labels/val" / f"{name}.png", label)
    prediction = label.copy()
    prediction[:9] = 2
    write_png(root / "pred" / f"{name}.png", prediction)
    (root / "classes.txt").write_text(f"0 {ODD} 1 2 3\n1 road 9 9 9\n2 said 8 8 8\n3 never 7 7 7\n")
    done = call("evaluate.py", "--predictions", root / "pred", "--dataset", "folder",
                "--data-root", root, "--report", root / "out", "--prediction-kind", "ids")
    assert done.returncode == 0, done.stderr
    page = read(root / "out")
    assert page.text.count(name) >= 3
    assert page.images[0]["alt"] == f"image of {name}"
    assert any(title.startswith(f"{ODD} taken for said: ") for title in page.titles)
    assert "said in no label 0.0" in page.text
    assert "never in no label nor prediction – " in page.text
    assert "of 3 classes" in page.text
    assert "All, the worst first" in page.text  # a single image is not the best too
    assert "Best" not in page.text
    assert len(page.images) == 4 * (1 + 3)  # overall, and for every class that occurs


def snapshot(path: Path, root: Path) -> Path:
    """A network whose weights are random, as train.py saves one."""
    torch.manual_seed(0)
    network = build_model("cspsg_n", 11)
    checkpoint.write(path, {
        "format": checkpoint.FORMAT, "model": network.config, "weights": network.state_dict(),
        "dataset": describe(build_dataset("camvid", root, "val"), "camvid"),
        "step": 1234, "best": 0.5, "args": json.dumps({"crop_size": [352, 480], "lr": 0.01}),
    })
    return path


def test_any_number_of_processes_and_the_snapshot(tmp_path: Path, call) -> None:
    root = draw_camvid(tmp_path / "camvid")
    path = snapshot(tmp_path / "best.pth", root)
    pages = []
    for ranks in (0, 2):
        out = tmp_path / f"report{ranks}"
        options = ["--snapshot", path, "--data-root", root, "--workers", 0, "--threads", 1,
                   "--precision", "fp32", "--report", out]
        done = (run_script("evaluate.py", *options, ranks=ranks) if ranks
                else call("evaluate.py", *options))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(f"report: {out}/index.html\n") == 1
        assert len(list((out / "pred").iterdir())) == 2
        html = (out / "index.html").read_text()
        text = read(out).text
        for fact in ("network cspsg_n", "parameters 1,210,", "trained for 1,234 steps",
                     "best in training 50.00 % val mIoU", "lr 0.01", f"processes {ranks or 1}"):
            assert fact in text
        html = html.replace(re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d", html)[0], "")
        pages.append(html[: html.index('id="origin"')])
    assert pages[0] == pages[1]
    again = call("evaluate.py", *options)
    assert again.returncode == 2
    assert "is there already; choose another folder" in again.stderr


@pytest.mark.parametrize(("spoil", "message"), [
    (lambda folder, _: folder.write_text("x"), "not written (Not a directory)"),
    (lambda _, patch: patch.setitem(sys.modules, "jinja2", None), "pip install jinja2"),
])
def test_refused_before_the_work(
    spoil, message: str, city: Path, tmp_path: Path, call, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(tmp_path / "report", monkeypatch)
    before = sorted(tmp_path.iterdir())
    done = call("evaluate.py", *words(city, tmp_path / "report"))
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def counts(*rights: int) -> Scores:
    """Images of 20 pixels, all of one class, so many of them right."""
    scores = Scores(BY_ID)
    for i, right in enumerate(rights):
        prediction = np.full((4, 5), 8, np.uint8)
        prediction.ravel()[:right] = 7
        scores.add(i, scores.measure(np.full((4, 5), 7, np.uint8), prediction))
    return scores


def test_choice_of_images() -> None:
    choice = choose(counts(20, 3, 9, 0, 15), 2)
    assert choice.worst == [3, 1]
    assert choice.best == [0, 4]
    assert choice.by_class[7] == [3, 1]
    assert choice.by_class[8] == [3, 1]  # all are false: IoU 0, by more wrong pixels
    assert choice.by_class[11] == []
    assert choice.uses() == {3: 3, 1: 3, 0: 1, 4: 1}
    few = choose(counts(20, 3, 9), 2)
    assert (few.worst, few.best) == ([1, 2], [0])
    assert few.by_class[7] == [1, 2]  # not the one without an error
    void = Scores(BY_ID)
    void.add(0, void.measure(np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8)))
    assert choose(void, 2).worst == []


def test_thumbnails_shrink_until_they_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gallery = pictures.Gallery(tmp_path, BY_ID, ["noise"])
    rng = np.random.default_rng(0)
    maps = [rng.integers(0, 34, (300, 500), np.uint8) for _ in range(2)]
    image = rng.integers(0, 256, (300, 500, 3), np.uint8)
    drawn = {0: gallery.draw(pictures.Scored(0, *maps, None, image), [7, 8])}
    first = drawn[0]["image"]
    assert 0.98 * pictures.LARGEST < first.width * first.height <= 51_500
    assert pictures.fit(drawn, {0: 1}) == drawn
    monkeypatch.setattr(pictures, "MOST", 60_000)
    fitting = pictures.fit(drawn, {0: 3})
    lengths = {kind: len(picture.data) for kind, picture in fitting[0].items()}
    total = sum(3 * n if kind in pictures.REPEATED else n for kind, n in lengths.items())
    assert 20_000 < total <= 60_000
    small = thumbnail({"src": fitting[0]["image"].data})
    assert small.shape[:2] == (fitting[0]["image"].height, fitting[0]["image"].width)
    assert small.shape[1] / small.shape[0] == pytest.approx(5 / 3, rel=0.05)


# of every text: its color and what it stands on, as the browser paints them
CONTRASTS = """(() => {
  const context = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
  const light = (...colors) => {
    context.fillStyle = '#fff';
    for (const color of colors) { context.fillStyle = color; context.fillRect(0, 0, 1, 1); }
    const linear = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map(linear);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const low = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(n => n.nodeType == 3 && n.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const under = [];
    for (let up = element; up; up = up.parentElement)
      under.unshift(getComputedStyle(up).backgroundColor);
    const [a, b] = [light(...under), light(...under, getComputedStyle(element).color)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push([element.outerHTML.slice(0, 200), ratio]);
  }
  return low;
})()"""


@pytest.mark.skipif(not PROGRAM, reason="no Chromium")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_in_a_browser(width: int, dark: bool, folder: Path, tmp_path: Path) -> None:
    address = (folder / "index.html").as_uri()
    with Browser(tmp_path) as browser:
        browser.open(address, width, dark=dark)
        browser.run("document.querySelectorAll('details').forEach(part => part.open = true)")
        sizes = browser.run(
            "Promise.all([...document.images].map(async image => {"
            "  await image.decode(); return [image.naturalWidth, image.clientWidth]; }))")
        assert len(sizes) == len(read(folder).images) >= 4 * (3 + 3 + 10)
        assert min(map(min, sizes)) >= 100
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run("document.querySelector('.scroll').scrollWidth") >= 300
        background = browser.run("getComputedStyle(document.body).backgroundColor")
        assert background == ("rgb(17, 21, 26)" if dark else "rgb(255, 255, 255)")
        assert browser.run(CONTRASTS) == []
        assert browser.complaints() == []
        assert browser.requests() == [address]

"""Text files beside the data in the encodings that editors write."""

from pathlib import Path

import pytest
from conftest import draw_camvid, draw_folder

from datasets import build_dataset
from datasets.classes import match_classes
from datasets.folder import read_classes

LINES = "# ids\n7 straße 128 64 128\n3 汽车 250 170 30\n200 sky 0 0 255\n"


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_classes(encoding: str, ends: str, tmp_path: Path) -> None:
    root = draw_folder(tmp_path)
    (root / "classes.txt").write_bytes(LINES.replace("\n", ends).encode(encoding))
    dataset = build_dataset("folder", root, "train")
    assert dataset.class_names == ["straße", "汽车", "sky"]
    assert dataset.train_id_to_id == [7, 3, 200]
    assert dataset.palette == [(128, 64, 128), (250, 170, 30), (0, 0, 255)]


def test_another_encoding_is_refused_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes("0 sky 1 2 3\n7 straße 4 5 6\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"classes\.txt: line 2 .* UTF-8; save it as UTF-8"):
        read_classes(path)
    path.write_bytes(LINES.encode("utf-16")[:-1])
    with pytest.raises(ValueError, match="UTF-8"):
        read_classes(path)


def test_class_maps_and_lists(tmp_path: Path) -> None:
    path = tmp_path / "map.txt"
    path.write_bytes("straße = road\r\n".encode("utf-16"))
    assert match_classes(["straße"], ["road"], "x.pth", str(path))[0] == 0
    root = draw_camvid(tmp_path / "camvid")
    (root / "train.txt").write_text("/a/0001TP_1.png /b/0001TP_1.png\n", encoding="utf-8-sig")
    assert len(build_dataset("camvid", root, "train")) == 1

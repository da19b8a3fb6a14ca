"""What encodes videos: ffmpeg or OpenCV, to a file that is whole."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from test_demo_folder import DATASET
from test_video import SIZE, contents, read_all

from utils import exit_codes, video_file
from utils.disk import write_file
from utils.video_file import VideoFile, find_codec

FRAMES = np.random.default_rng(0).integers(0, 256, (12, *SIZE, 3), np.uint8)


def test_nothing_is_left_of_a_video_that_fails(
    vp8: video_file.Codec, tmp_path: Path
) -> None:
    def write(*sizes: tuple[int, int]) -> None:
        with VideoFile(tmp_path / "x", vp8, 25) as file:
            for size in sizes:
                file.write(np.zeros((*size, 3), np.uint8))

    with pytest.raises(ValueError, match="frame 1: 66x48 among frames of 64x48"):
        write((48, 64), (48, 66))
    assert not contents(tmp_path)
    write()
    assert not contents(tmp_path), "no frames, no file"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for ffmpeg: keeps its last argument's file, or fails as `fail` says."""
    path = tmp_path / "bin/ffmpeg"
    path.parent.mkdir()
    path.write_text(f"""#!/bin/sh
[ "$2" = -encoders ] && echo " V....D libopenh264 x" && exit
[ -f {tmp_path}/fail ] && cat {tmp_path}/fail >&2 && exit 1
for last; do :; done
cat > "${{last#file:}}"
""")
    path.chmod(0o755)
    monkeypatch.setattr(video_file, "_programs", lambda: iter([str(path)]))
    return path


def test_ffmpeg_gets_every_byte(program: Path, tmp_path: Path) -> None:
    codec = find_codec()
    assert codec.name == "H.264 by ffmpeg's libopenh264"
    with VideoFile(tmp_path / "out/x", codec, 25) as file:
        for frame in FRAMES:
            file.write(frame[:, ::-1])
    assert contents(tmp_path / "out") == ["x.mp4"]
    data = np.frombuffer((tmp_path / "out/x.mp4").read_bytes(), np.uint8)
    assert np.array_equal(data.reshape(FRAMES.shape), FRAMES[:, :, ::-1])


def test_ffmpeg_that_fails_says_why(program: Path, tmp_path: Path) -> None:
    (tmp_path / "fail").write_text(f"first\n{os.strerror(errno.ENOSPC)}\n")
    big = np.zeros((1024, 1024, 3), np.uint8)  # more than a pipe holds

    def write() -> None:
        with VideoFile(tmp_path / "out/x", find_codec(), 25) as file:
            for _ in range(3):
                file.write(big)

    with pytest.raises(OSError, match="ffmpeg: No space left on device") as caught:
        write()
    assert caught.value.errno == errno.ENOSPC
    assert not contents(tmp_path / "out")


def test_full_disk_is_no_wrong_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="not written .No space left.*; it needs 1 MB") as caught:
        write_file(tmp_path / "x.png", b"abc")
    assert caught.value.errno in exit_codes.DISK_FAULTS


def test_no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_file, "_programs", lambda: iter(["/nowhere/ffmpeg"]))
    monkeypatch.setattr(video_file, "_works", lambda *_: False)
    with pytest.raises(RuntimeError, match="imageio-ffmpeg"):
        find_codec()


def test_h264_in_a_browsers_dialect(tmp_path: Path) -> None:
    """The index comes first, so that it starts to play while it loads; colors stay."""
    codec = find_codec()
    if "ffmpeg" not in codec.name:
        pytest.skip("no ffmpeg at hand")
    palette = np.array(DATASET["palette"], np.uint8)
    still = np.repeat(np.repeat(palette[None], 32, 0), 32, 1)  # a stripe per class
    with VideoFile(tmp_path / "x", codec, 25) as file:
        for _ in range(5):
            file.write(still)
    data = (tmp_path / "x.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert b"colrnclx\0\1\0\1\0\1" in data, "BT.709"
    middle = read_all(tmp_path / "x.mp4")[1][2, 16, 16::32].astype(int)
    assert np.abs(middle - palette).max() < 12

"""Downloads against a server on this machine: resumed, checked, whole or not at all."""

import errno
import fcntl
import hashlib
import io
import multiprocessing
import os
import random
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT
from file_server import FileServer, running

from utils import disk, transfer

CONTENT = random.Random(0).randbytes(1_000_000)
MD5, SHA256 = hashlib.md5(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "BACKOFF", 0.0)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server() -> Iterator[FileServer]:
    with running(FileServer()) as server:
        server.files = {"/data.bin": CONTENT}
        yield server


@pytest.fixture
def get(call, server: FileServer, tmp_path: Path):
    """Downloads data.bin to out/, with more options."""
    return lambda *words, url="/data.bin": call(
        "utils.download", server.url(url), "--to", tmp_path / "out", *words)


def refused(done: SimpleNamespace, code: int = 2) -> str:
    """The last line of a failure: an error, behind lines that say what goes on."""
    assert done.returncode == code, done.stderr
    *before, last = done.stderr.splitlines()
    assert last.startswith("error: "), done.stderr
    known = ("trying again", "from the beginning", "fetching it anew")
    assert all(any(words in line for words in known) for line in before), done.stderr
    return last


def raising(error: Exception) -> Callable:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


@pytest.mark.parametrize("words", [["--md5", MD5], ["--sha256", SHA256.upper()], []])
def test_whole_and_only_once(words: list, get, server: FileServer, tmp_path: Path) -> None:
    done = get(*words)
    assert done.returncode == 0, done.stderr
    assert "1,000,000 bytes" in done.stdout
    assert (MD5 if "--md5" in words else SHA256) in done.stdout
    assert content_of(tmp_path / "out") == {"data.bin": CONTENT}
    assert server.asked() == [""]
    before = (tmp_path / "out/data.bin").stat()
    server.cuts = [0]  # enough to compare the length
    assert "already there" in get(*words).stdout
    assert len(server.asked()) == (0 if words else 1)
    assert (tmp_path / "out/data.bin").stat() == before


@pytest.mark.parametrize(("words", "said"), [
    (["--md5", MD5], "not of md5"), ([], "5 bytes, the server's has 1000000"),
])
def test_another_file_of_that_name(words: list, said: str, get, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/data.bin").write_bytes(b"other")
    assert said in get(*words).stderr
    assert content_of(tmp_path / "out") == {"data.bin": CONTENT}


def test_finished_file_needs_no_network(call, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(CONTENT)
    for words in (["--md5", MD5], []):
        done = call("utils.download", "http://127.0.0.1:9/data.bin", "--to", tmp_path, *words)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("chunked", [False, True])
def test_goes_on_after_each_break(chunked: bool, get, server: FileServer, tmp_path: Path) -> None:
    server.chunked, server.cuts = chunked, [300_000, 0, 100_000, 500_000]
    server.statuses = [200, 0, 200, 503, 200, 429]
    done = get("--sha256", SHA256)
    assert done.returncode == 0, done.stderr
    assert content_of(tmp_path / "out") == {"data.bin": CONTENT}
    starts = [int(given[6:-1] or 0) for given in server.asked()]
    assert len(starts) == 8
    assert starts == sorted(starts)
    assert starts[-1] == (2 * transfer.CHUNK if chunked else 900_000)  # a cut chunk is lost
    assert done.stderr.count("trying again in 0 s") == 7
    assert ("connection lost after 300,000 of 1,000,000 bytes" in done.stderr) != chunked


def test_gives_up_when_nothing_comes(get, server: FileServer, tmp_path: Path) -> None:
    server.cuts = [400_000] + [0] * 99
    assert "connection lost after 400,000 of 1,000,000 bytes; run it again" in refused(get())
    assert len(server.asked()) == 2 + transfer.RETRIES
    assert content_of(tmp_path / "out")["data.bin.partial"] == CONTENT[:400_000]
    server.cuts = []
    assert get("--md5", MD5).returncode == 0
    assert server.asked() == ["bytes=400000-"]


def test_pauses_grow(get, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(transfer, "BACKOFF", 1.0)
    monkeypatch.setattr(transfer, "time", SimpleNamespace(sleep=pauses.append))
    server.statuses = [500] * 99
    assert "500 Internal Server Error" in refused(get())
    assert pauses == [1, 2, 4, 8, 16, 32]


def test_server_that_cannot_go_on(get, server: FileServer, tmp_path: Path) -> None:
    server.ranges, server.cuts = False, [300_000]
    done = get("--md5", MD5)
    assert "from the beginning" in done.stderr
    assert content_of(tmp_path / "out") == {"data.bin": CONTENT}
    server.cuts = [300_000] * 99  # always the same place: no progress
    (tmp_path / "out/data.bin").unlink()
    refused(get("--md5", MD5))
    assert len(server.cuts) == 99 - 2 - transfer.RETRIES


@pytest.mark.parametrize("etag", ['"2"', 'W/"2"', ""])
def test_another_version_on_the_server(etag: str, get, server: FileServer, tmp_path: Path) -> None:
    """Two halves of two versions must not become one file."""
    server.cuts = [400_000] + [0] * 99
    refused(get())
    server.files["/data.bin"] = newer = CONTENT[::-1]
    server.cuts, server.etag = [], etag
    assert get().returncode == 0
    assert content_of(tmp_path / "out") == {"data.bin": newer}


@pytest.mark.parametrize(("part", "asked"), [
    (CONTENT, ["bytes=1000000-"]), (CONTENT + b"more", ["bytes=1000004-", ""]),
])
def test_part_that_is_all_or_more(part: bytes, asked: list, get, server, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/data.bin.partial").write_bytes(part)
    assert get("--md5", MD5).returncode == 0
    assert server.asked() == asked
    assert content_of(tmp_path / "out") == {"data.bin": CONTENT}


def test_another_range_than_asked_for(get, server: FileServer, tmp_path: Path) -> None:
    server.cuts, server.shift = [400_000] + [0] * 99, 1
    said = refused(get())
    assert "sent 'bytes 400001-999999/1000000' when asked for bytes 400000-" in said
    assert content_of(tmp_path / "out")["data.bin.partial"] == CONTENT[:400_000]


def test_wrong_checksum(get, server: FileServer, tmp_path: Path) -> None:
    server.files["/data.bin"] = CONTENT[:-1] + b"?"
    said = refused(get("--md5", MD5))
    assert MD5 in said
    assert "deleted" in said
    assert content_of(tmp_path / "out") == {}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_refusals_of_the_server(status: int, get, server: FileServer, tmp_path: Path) -> None:
    server.statuses = [status]
    assert f"127.0.0.1: {'' if status in (404, 410) else 'refused: '}{status}" in refused(get())
    assert len(server.asked()) == 1
    assert content_of(tmp_path / "out") == {}


def test_web_page_instead_of_the_file(get, server: FileServer, tmp_path: Path) -> None:
    server.cuts = [400_000] + [0] * 99
    refused(get())
    server.ranges, server.cuts, server.files["/data.bin"] = False, [], b"\n<!DOCTYPE html><p>Log in"
    assert "sent a web page instead of data.bin" in refused(get())
    assert content_of(tmp_path / "out")["data.bin.partial"] == CONTENT[:400_000]


def test_no_network(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = call("utils.download", "http://127.0.0.1:9/x.bin", "--to", tmp_path)
    assert "Connection refused; is the address right" in refused(done)
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    monkeypatch.setattr(socket, "getaddrinfo", raising(error))
    done = call("utils.download", "https://nowhere.invalid/x.bin?token=geheim", "--to", tmp_path)
    assert "nowhere.invalid: [Errno" in refused(done)
    assert "geheim" not in done.stderr
    assert content_of(tmp_path) == {}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the certificate")
def test_encryption_is_verified(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate, out = tmp_path / "key.pem", tmp_path / "cert.pem", tmp_path / "out"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=test",
         "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    server, context = FileServer(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.scheme, server.files = "https", {"/data.bin": CONTENT}
    with running(server):
        words = ["utils.download", server.url("/data.bin"), "--to", out]
        assert "its certificate is not valid (self-signed" in refused(call(*words))
        assert content_of(out) == {}
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert call(*words).returncode == 0
        server.redirect = "http://127.0.0.1:9/data.bin"
        (out / "data.bin").unlink()
        assert "without encryption" in refused(call(*words))


def test_redirection(get, server: FileServer, tmp_path: Path) -> None:
    with running(FileServer()) as other:
        other.files = {"/elsewhere": CONTENT}
        server.redirect = other.url("/elsewhere")
        (tmp_path / "out").mkdir()
        (tmp_path / "out/data.bin.partial").write_bytes(CONTENT[:99])
        assert get("--md5", MD5).returncode == 0
        assert other.asked() == ["bytes=99-"]
    assert content_of(tmp_path / "out") == {"data.bin": CONTENT}
    server.redirect = "file:///etc/passwd"
    assert "127.0.0.1: refused: 302" in refused(get("--md5", "0" * 32))


def test_full_disk_keeps_the_part(get, server: FileServer, tmp_path: Path, monkeypatch) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        said = refused(get(), code=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.strerror(errno.EFBIG) in said
    assert "make room and run it again" in said
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage._replace(free=499_000))
    assert "0.5 MB are to be written, 0.5 MB are free" in refused(get())
    monkeypatch.undo()
    server.asked()
    assert get("--md5", MD5).returncode == 0
    assert server.asked() == ["bytes=500000-"]


def test_kill_in_the_middle(get, server: FileServer, tmp_path: Path) -> None:
    server.cuts = [600_000]
    server.stalled.set()
    part = tmp_path / "out" / "data.bin.partial"
    child = multiprocessing.get_context("fork").Process(target=get)
    child.start()
    while not (part.exists() and part.stat().st_size) and child.is_alive():
        time.sleep(0.01)
    assert "another download into it is running" in refused(get())
    child.kill()
    child.join()
    server.stalled.clear()
    kept = part.read_bytes()
    assert 0 < len(kept) <= 600_000
    assert kept == CONTENT[: len(kept)]
    server.asked()
    assert get("--md5", MD5).returncode == 0
    assert server.asked() == [f"bytes={len(kept)}-"]
    assert content_of(part.parent) == {"data.bin": CONTENT}


def test_does_not_wait_for_torch() -> None:
    code = "import sys, utils.download; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_other_folders(get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be made, and one on a file system without locks."""
    (tmp_path / "out").write_text("a file")
    assert "out: not written (File exists); mend that" in refused(get())
    (tmp_path / "out").unlink()
    monkeypatch.setattr(fcntl, "flock", raising(OSError(errno.ENOLCK, "No locks available")))
    assert get().returncode == 0


@pytest.mark.parametrize(("words", "message"), [
    *(([url], "begins with https://") for url in (
        "file:///etc/passwd", "ftp://h/x", "https://h/ä", "https://h/a b", "http://[x/a",
        "http://h:port/a", "")),
    *((["https://h/" + end], "is no name") for end in ("", "a/..", "%2e%2e", "a%2Fb", "a%0Ab")),
    (["https://h/x", "--name", "../x"], "is no name"),
    (["https://me:geheim@h/x"], "no passwords in addresses"),
    (["https://h/x", "https://h/y", "--name", "z"], "one URL only"),
    (["https://h/x", "https://h/y", "--md5", "0" * 32], "1 checksums for 2 URLs"),
    (["https://h/x", "--md5", "0" * 31], "not 32 hexadecimal"),
    (["https://h/x", "--sha256", "g" * 64], "not 64 hexadecimal"),
    (["https://h/x", "--md5", "0" * 32, "--sha256", "0" * 64], "not allowed with"),
    (["https://h/x", "--only", "a"], "with --unpack"),
    (["https://h/x", "--expect", "a"], "PATTERN=N"),
])
def test_bad_input(words: list, message: str, call, tmp_path: Path) -> None:
    done = call("utils.download", *words, "--to", tmp_path / "out")
    assert message in refused(done)
    assert "geheim" not in done.stderr
    assert content_of(tmp_path) == {}


def archive(files: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


def test_unpacks_and_counts(get, server: FileServer, tmp_path: Path) -> None:
    server.files["/m.zip"] = archive({f"top/train/{i}.png": b"x" for i in range(3)})
    words = ["--unpack", "--only", "top", "--name", "y.zip", "--expect", "train/*.png=3"]
    done = get(*words, url="/m.zip")
    assert "3 files unpacked" in done.stdout
    assert "train/*.png: 3 of 3 files" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"y.zip", "train"}
    assert "was unpacked already" in get(*words, url="/m.zip").stdout
    done = get(*words, "val/*=1", url="/m.zip")
    assert "files are missing, or it is another version" in refused(done)
    assert "val/*: 0 of 1 files" in done.stdout


@pytest.mark.parametrize("content", [b"PK\3\4 cut off", archive({"a": b"x"})[:-9], b"", b"text"],
                         ids=["start", "cut off", "empty", "text"])
def test_what_is_no_archive_is_not_kept(content: bytes, get, server, tmp_path: Path) -> None:
    """A server that names no length may stop anywhere."""
    server.files["/m.zip"], server.chunked = content, True
    assert "not a whole zip archive" in refused(get("--unpack", url="/m.zip"))
    assert content_of(tmp_path / "out") == {}

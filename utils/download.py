"""Fetches files over HTTP into a folder, checks them, and unpacks zip archives there.

examples:
  python -m utils.download https://HOST/weights.pth --to weights --sha256 0123...
  python -m utils.download https://HOST/data.zip --to data/mine --unpack --expect "train/*.png=367"

Each step goes on where an earlier run was interrupted: NAME.partial is the part of a download,
NAME.unpack.partial that of an unpacking. What is there already is not fetched again.
"""

import argparse
import fcntl
import hashlib
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from utils.disk import blaming, size_of
from utils.exit_codes import run
from utils.images import shown
from utils.parser import Parser
from utils.transfer import discard, fetch, publish, remote_size, say
from utils.unpack import unpack


class Checksum(NamedTuple):
    kind: str  # "md5" or "sha256"
    value: str  # hexadecimal, lower case

    def __str__(self) -> str:
        return f"{self.kind} {self.value}"


def checksum(path: Path, kind: str) -> str:
    """The hexadecimal md5 or sha256 of a file."""
    digest = hashlib.new(kind, usedforsecurity=False)
    with blaming(path), open(path, "rb") as file:
        hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def download(url: str, path: Path, expected: Checksum | None = None) -> None:
    """Fetches `path` unless it is there, with the right checksum or else the server's size.

    Raises:
        ValueError: another checksum, not a whole archive; what was fetched is deleted.
        As `fetch` does.
    """
    if path.exists() and _is_the_file(url, path, expected):
        print(f"{shown(path)}: already there")
        return
    part = fetch(url, path)
    kind = expected.kind if expected else "sha256"
    found = checksum(part, kind)
    if expected and found != expected.value:
        discard(path)
        raise ValueError(f"{shown(path)}: {kind} {found}, expected {expected.value}; what came is "
                         "deleted: damaged on the way, or another version")
    if path.suffix == ".zip" and not zipfile.is_zipfile(part):
        discard(path)
        raise ValueError(f"{shown(path)}: what came is not a whole zip archive; deleted, run it "
                         "again")
    publish(path)
    verdict = "as expected" if expected else "none to compare with"
    print(f"{shown(path)}: {size_of(path):,} bytes, {kind} {found} ({verdict})")


def _is_the_file(url: str, path: Path, expected: Checksum | None) -> bool:
    if expected:
        right = checksum(path, expected.kind) == expected.value
        reason = f"not of {expected}"
    else:
        size = remote_size(url)
        right = size in (None, size_of(path))
        reason = f"{size_of(path):,} bytes, the server's has {size}"
    if not right:
        say(f"{shown(path)}: {reason}; fetching it anew")
    return right


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Makes the folder and keeps other downloads out of it.

    Raises:
        ValueError: another one is at work there.
    """
    with blaming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{shown(folder)}: another download into it is running") from None
        except OSError:  # some network file systems have no locks
            pass
        yield
    finally:
        os.close(handle)


def check_counts(folder: Path, expected: Mapping[str, int]) -> None:
    """Says how many files match each pattern.

    Raises:
        ValueError: other numbers than expected.
    """
    wrong = 0
    for pattern, number in expected.items():
        found = sum(not path.name.startswith(".") for path in folder.glob(pattern))
        print(f"{pattern}: {found:,} of {number:,} files")
        wrong += found != number
    if wrong:
        raise ValueError(f"{shown(folder)}: files are missing, or it is another version; what was "
                         "unpacked is kept")


def check_url(url: str) -> None:
    """Refuses what is not an http or https address.

    Raises:
        ValueError: what is expected.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        secret = "@" in parts.netloc
    except ValueError:
        valid, secret = False, "@" in url
    if secret:
        raise ValueError("no passwords in addresses: others see them in the list of processes")
    if not valid or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"{shown(url)}: an address that begins with https:// is expected, other "
                         "letters than ASCII percent-encoded")


def check_name(name: str) -> str:
    """The name, if a file can be called so.

    Raises:
        ValueError: empty, a path, or not printable.
    """
    if not name.strip(".") or "/" in name or "\\" in name or not name.isprintable():
        raise ValueError(f"{ascii(name)} is no name for a file; give --name FILE")
    return name


def _expectation(text: str) -> tuple[str, int]:
    pattern, _, number = text.rpartition("=")
    if not pattern or not number.isdigit() or pattern.startswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r} is not PATTERN=N, for example train/*.png=367")
    return pattern, int(number)


def _checksum(kind: str, digits: int, text: str) -> Checksum:
    if len(text) != digits or not set(text.lower()) <= set("0123456789abcdef"):
        raise argparse.ArgumentTypeError(f"{text!r} is not {digits} hexadecimal digits")
    return Checksum(kind, text.lower())


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.prog = "python -m utils.download"
    parser.add_argument("urls", nargs="+", metavar="URL", help="http or https address of a file")
    parser.add_argument("--to", required=True, metavar="DIR", help="folder of the files; is made")
    parser.add_argument("--name", metavar="FILE",
                        help="name of the file there (default: the end of its URL)")
    checksums = parser.add_mutually_exclusive_group()
    checksums.add_argument("--md5", type=partial(_checksum, "md5", 32), nargs="+",
                           metavar="HEX", help="checksum in 32 hexadecimal digits, one per URL")
    checksums.add_argument("--sha256", type=partial(_checksum, "sha256", 64), nargs="+",
                           metavar="HEX", help="checksum in 64 hexadecimal digits, one per URL")
    parser.add_argument("--unpack", action=argparse.BooleanOptionalAction, default=False,
                        help="unpack zip archives there")
    parser.add_argument("--only", metavar="FOLDER",
                        help="unpack what is under this folder of the archive, without the folder; "
                        "may hold wildcards")
    parser.add_argument("--expect", type=_expectation, nargs="+", metavar="PATTERN=N",
                        help="number of files that match, after unpacking")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    checksums = args.md5 or args.sha256 or [None] * len(args.urls)
    if len(checksums) != len(args.urls):
        raise ValueError(f"{len(checksums)} checksums for {len(args.urls)} URLs: one each")
    if args.name and len(args.urls) > 1:
        raise ValueError("--name: for one URL only")
    if (args.only or args.expect) and not args.unpack:
        raise ValueError("--only and --expect: with --unpack")
    for url in args.urls:
        check_url(url)
    names = [check_name(args.name or unquote(urlsplit(url).path.rpartition("/")[2]))
             for url in args.urls]
    folder = Path(args.to)
    with only_one(folder):
        for url, name, expected in zip(args.urls, names, checksums, strict=True):
            download(url, folder / name, expected)
            if args.unpack:
                unpack_and_say(folder / name, args.only)
        check_counts(folder, dict(args.expect or []))


def unpack_and_say(path: Path, only: str | None = None) -> None:
    """Unpacks an archive beside itself. Raises as `unpack`."""
    count = unpack(path, path.parent, only)
    print(f"{shown(path)}: {f'{count:,} files unpacked' if count else 'was unpacked already'}; "
          "the archive may be deleted")


if __name__ == "__main__":
    run(main)

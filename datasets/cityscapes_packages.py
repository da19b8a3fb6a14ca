"""Fetches packages of Cityscapes with cityscapesScripts' csDownload, checks and unpacks them.

examples:
  python -m datasets.cityscapes_packages
  python -m datasets.cityscapes_packages leftImg8bit_trainextra.zip gtCoarse.zip --to DIR

An account of cityscapes-dataset.com is needed. csDownload itself asks for the login, or reads what
it stored once; nothing else sees it. Each step goes on where an earlier run was interrupted.
`csDownload -l` lists the packages.
"""

import argparse
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from datasets import find_root
from utils import transfer
from utils.disk import size_of
from utils.download import check_counts, checksum, only_one, unpack_and_say
from utils.exit_codes import run
from utils.images import shown
from utils.parser import Parser
from utils.transfer import say

DEFAULT = ("gtFine_trainvaltest.zip", "leftImg8bit_trainvaltest.zip")
MD5 = {
    "gtFine_trainvaltest.zip": "4237c19de34c8a376e9ba46b495d6f66",
    "gtCoarse.zip": "1c7b95c84b1d36cc59a9194d8e5b989f",
    "leftImg8bit_trainvaltest.zip": "0a6e97e94b616a514066c9e2adb0c97f",
    "leftImg8bit_trainextra.zip": "9167a331a158ce3e8989e166c95d56d4",
    "leftImg8bit_sequence.zip": "4348961b135d856c1777f7f1098f7266",
}
COUNTS = {  # of files that a package unpacks to
    "gtFine_trainvaltest.zip": {
        "gtFine/train/*/*_labelIds.png": 2975,
        "gtFine/val/*/*_labelIds.png": 500,
    },
    "leftImg8bit_trainvaltest.zip": {
        "leftImg8bit/train/*/*_leftImg8bit.png": 2975,
        "leftImg8bit/val/*/*_leftImg8bit.png": 500,
        "leftImg8bit/test/*/*_leftImg8bit.png": 1525,
    },
}


def find_program() -> str:
    """The path of csDownload: on PATH, or beside this Python.

    Raises:
        FileNotFoundError: not installed.
    """
    beside = str(Path(sys.executable).parent)
    program = shutil.which("csDownload") or shutil.which("csDownload", path=beside)
    if program is None:
        raise FileNotFoundError("csDownload: not installed; pip install cityscapesscripts")
    return program


def is_whole(path: Path) -> bool:
    """Whether a package is there and needs no more download.

    Raises:
        ValueError: it is as long as it should be, but not what it should be.
    """
    # A zip archive's directory is at its end, so a part has none.
    if size_of(path) < 0 or not zipfile.is_zipfile(path):
        return False
    expected = MD5.get(path.name)
    if expected is None:  # unpacking compares the checksums of its members
        return True
    say(f"{shown(path)}: {size_of(path) / 1e6:,.0f} MB, comparing its md5")
    if (found := checksum(path, "md5")) != expected:
        raise ValueError(f"{shown(path)}: md5 {found}, expected {expected}: damaged, or another "
                         "version; delete it and run this again")
    return True


def download(packages: list[str], folder: Path) -> None:
    """Runs csDownload until the packages are there, or it brings nothing more.

    Raises:
        FileNotFoundError: csDownload is not installed.
        ValueError: a package is damaged.
        RuntimeError: csDownload brought nothing more; its own message is above.
    """
    while packages := [name for name in packages if not is_whole(folder / name)]:
        before = [size_of(folder / name) for name in packages]
        # -r also begins files that are not there; without it, it refuses those that are.
        resume = ["-r"] if max(before) >= 0 else []
        command = [find_program(), "-d", str(folder), *resume, *packages]
        # Its questions need a terminal: a password must not come through a pipe.
        terminal = sys.stdin.isatty()
        code = subprocess.run(command, stdin=None if terminal else subprocess.DEVNULL).returncode
        if before == [size_of(folder / name) for name in packages]:
            hint = "" if terminal else (
                "; without a terminal it needs a stored login: run csDownload -l in one, once")
            raise RuntimeError(f"csDownload brought nothing (exit code {code}), see above{hint}")
        if code:
            say("csDownload stopped before the end; going on where it was")
            time.sleep(transfer.BACKOFF)


def check_package(name: str) -> str:
    """The name of a package, as a file name.

    Raises:
        argparse.ArgumentTypeError: not NAME.zip.
    """
    if not re.fullmatch(r"\w[\w.-]*\.zip", name):
        raise argparse.ArgumentTypeError(f"{name!r} is not NAME.zip; csDownload -l lists them")
    return name


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.prog = "python -m datasets.cityscapes_packages"
    parser.add_argument("packages", nargs="*", type=check_package, metavar="PACKAGE",
                        help=f"NAME.zip (default: {' '.join(DEFAULT)})")
    parser.add_argument("--to", metavar="DIR", help="folder of the data set "
                        "(default: $CITYSCAPES_DATASET, else data/cityscapes)")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    folder = find_root("cityscapes", args.to)
    with only_one(folder):
        packages = args.packages or list(DEFAULT)
        download(packages, folder)
        for name in packages:
            unpack_and_say(folder / name)
            check_counts(folder, COUNTS.get(name, {}))


if __name__ == "__main__":
    run(main)

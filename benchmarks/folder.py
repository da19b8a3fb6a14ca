"""Times the demo of a folder: image after image, in threads, and its network alone, in turns.

examples:
  python -m benchmarks.folder
  python -m benchmarks.folder --arch cspsg_s --size 360 480 --images 100 --outputs overlay
  python -m benchmarks.folder --wait 100

Draws streets as PNGs as large as those of Cityscapes. A turn is all of them: read, segmented by a
network of random weights on `--device`, and written. The network alone has them in memory, and is
waited for. Threads reach the rate of the slower of network and files if both have cores of their
own; on a CPU that both share they cannot. `--wait` has a network that needs none, as on a GPU.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.streets import write_streets
from benchmarks.timing import Times, ratio, table, take_turns
from datasets.cityscapes_labels import TABLE
from model import MODELS, build_model
from model.prediction import open_predictor
from utils import distributed, options
from utils.argument_types import positive
from utils.exit_codes import run
from utils.images import read_image
from utils.inference import Predictor
from utils.picture_options import KINDS
from utils.pipeline import pipeline, synchronize
from utils.predictions import Painter
from utils.sliding import Inference


def random_predictor(arch: str, device: torch.device, precision: str) -> Predictor:
    """A network as a demo has it; what its weights are changes nothing in its speed."""
    torch.manual_seed(0)
    network = build_model(arch, len(TABLE.class_names))
    snapshot = {"model": network.config, "weights": network.state_dict()}
    return open_predictor(snapshot, device, precision, Inference())


class Waiting:
    """In place of a predictor: its network takes some time of another device.

    Args:
        seconds: of an image.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.device, self.precision = seconds, torch.device("cpu"), "no arithmetic"

    def picture(self, image: np.ndarray) -> Tensor:
        time.sleep(self.seconds)
        return torch.from_numpy(image[..., 0] // 16)


class Turns:
    """The alternatives: each takes all images once.

    Args:
        paths: of the images.
        predictor: its network.
        folder: gets the pictures.
        outputs: which.
    """

    def __init__(
        self, paths: list[Path], predictor: Predictor | Waiting, folder: Path, outputs: list[str]
    ) -> None:
        self.paths, self.predictor, self.folder, self.outputs = paths, predictor, folder, outputs
        self.painter = Painter({"class_names": TABLE.class_names, "palette": TABLE.palette,
                                "train_id_to_id": TABLE.train_id_to_id})
        self.images = [read_image(path) for path in paths]

    def write(self, path: Path, image: np.ndarray, prediction: Tensor) -> None:
        self.painter.write(self.folder, path.stem, image, prediction, self.outputs)

    def in_turn(self, _: int) -> None:
        """One image after the other."""
        for path in self.paths:
            image = read_image(path)
            self.write(path, image, self.predictor.picture(image))

    def threaded(self, _: int) -> None:
        """As demo_folder.py does."""
        for each in pipeline(self.paths, read_image, self.predictor.picture, self.write,
                             torch.get_num_threads()):
            if each.fault:
                raise each.fault

    def network(self, _: int) -> None:
        """From pixels in memory to labels on the device."""
        for image in self.images:
            self.predictor.picture(image)
            synchronize(self.predictor.device)

    def files(self, _: int) -> None:
        """All that is not the network, in threads."""
        for _ in pipeline(self.paths, read_image, Waiting(0).picture, self.write,
                          torch.get_num_threads()):
            pass

    def alternatives(self) -> dict[str, Callable[[int], None]]:
        """By the names that are printed."""
        return {"image after image": self.in_turn, "in threads": self.threaded,
                "network alone": self.network, "files alone": self.files}


def per_image(times: Times, images: int) -> Times:
    """Seconds of an image, where those of a turn are given."""
    return {name: [value / images for value in seconds] for name, seconds in times.items()}


def main() -> None:
    parser = options.Parser(__doc__)
    parser.prog = "python -m benchmarks.folder"
    parser.add_argument("--arch", nargs="+", default=["sgcpnet", "cspsg_s"], choices=tuple(MODELS),
                        metavar="NAME", help="networks")
    parser.add_argument("--images", type=positive, default=16, help="images in a turn")
    parser.add_argument("--rounds", type=positive, default=5, help="of which the median is taken")
    parser.add_argument("--size", type=positive, nargs=2, default=(1024, 2048),
                        metavar=("H", "W"), help="pixels of an image")
    parser.add_argument("--outputs", nargs="+", choices=KINDS, default=list(KINDS),
                        help="pictures of an image that are written")
    parser.add_argument("--wait", type=positive, metavar="MS",
                        help="milliseconds that a network takes which computes nothing; replaces "
                        "--arch")
    options.add_device(parser)
    args = parser.parse_args()
    device = distributed.start(args.device, args.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write_streets(folder, args.images, tuple(args.size), None)
        paths = sorted(folder.glob("leftImg8bit/*/*/*.png"))
        print(f"{args.images} PNGs of {args.size[0]}x{args.size[1]}, {size:.2f} MB each, on "
              f"{device} with {torch.get_num_threads()} threads; {', '.join(args.outputs)} written")
        for arch in [f"{args.wait} ms"] if args.wait else args.arch:
            predictor = (Waiting(args.wait / 1000) if args.wait else
                         random_predictor(arch, device, args.precision))
            turns = Turns(paths, predictor, folder / "pictures", args.outputs)
            times = per_image(take_turns(turns.alternatives(), args.rounds, 0), args.images)
            print(f"\n{arch}, {predictor.precision}")
            print(table(times, "images", {"in turn": "image after image",
                                          "network": "network alone"}))
            share = 100 * ratio(times, "network alone", "in threads")
            print(f"in threads {share:.0f} % of the network's own rate")


if __name__ == "__main__":
    run(main)

"""Makes more labelled frames from video: moves labels, and images with them, along the motion.

examples:
  python propagate.py --data-root data/cityscapes --save-dir data/propagated
  python propagate.py --data-root data/cityscapes --save-dir out --motion raft --device cuda
  python propagate.py --data-root data/cityscapes --save-dir out --direct --consistency 1
  python train.py --propagated-root data/propagated --propagated-skip 3

Needs a data set in the layout of Cityscapes with leftImg8bit_sequence/, the frames around each
labelled one. Writes CITY_SEQ_FRAME images and labels in the same layout, to which --propagated-root
of train.py adds those K frames before and after each labelled one. By default image and label are
both warped, so that they fit even where the motion is wrong (joint propagation, Zhu et al., CVPR
2019). What no frame shows becomes 255. Run it again after an interruption: pairs that are there and
whole are kept, and the result is the same.
"""

import argparse
import hashlib
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from datasets import build_dataset, find_root
from datasets.doctor import check_ids
from datasets.video.propagation import Method, Propagation, bytes_needed, check_frames, find_chains
from model.flow import MOTIONS, smallest_side
from utils import distributed, files
from utils.locks import hold_folder
from utils.options.motion import add_propagation, check_propagation
from utils.options.parser import Parser, positive, threads
from utils.processes import count_cores
from utils.stopping import run
from utils.workers import map_in_threads

RECORD, LABELS = "propagation.json", "labels"
DECISIVE = ("motion", "motion_weights", "direct", "consistency", "upstream")


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    group = parser.add_argument_group("data")
    group.add_argument("--data-root", metavar="DIR",
                       help="folder of leftImg8bit, leftImg8bit_sequence and gtFine (default: "
                       "$CITYSCAPES_DATASET, else data/cityscapes)")
    group.add_argument("--split", default="train", choices=("train", "val"),
                       help="part of the data set")
    group.add_argument("--limit", type=positive, metavar="N", help="first N labelled frames only")
    group.add_argument("--save-dir", default="data/propagated", metavar="DIR",
                       help="folder that becomes a data set of the same layout")
    add_propagation(parser, MOTIONS)
    group = parser.add_argument_group("device")
    group.add_argument("--device", default="auto",
                       help="of raft and sdcnet: auto, cpu, cuda, cuda:N or mps")
    group.add_argument("--workers", type=threads, default=count_cores(), metavar="N",
                       help="threads that find motion, read and write")
    return parser.parse_args()


def check_place(
    out: Path, root: Path, settings: dict[str, Any], labels: dict[str, str], made: set[str]
) -> dict[str, Any]:
    """Refuses a folder of other labels, or of frames made in another way. Raises ValueError.

    Returns digests of all `labels` that frames in it are made from, these and those before; of
    those of `made` there are some already.
    """
    if out.resolve() == root.resolve():
        raise ValueError(f"{out}: is --data-root, whose own frames would be among these; choose "
                         "another --save-dir")
    if any(out.glob("gtFine/*/*/*.png")):
        known = files.read_settings(out / RECORD).get(LABELS)
        known = known if isinstance(known, dict) else {}
        files.check_settings(out / RECORD, settings | ({LABELS: known} if known else {}), "frames")
        if odd := sorted(name for name in made if known.get(name, labels[name]) != labels[name]):
            raise ValueError(f"{out}: holds frames made from another label of {odd[0]}; choose "
                             "another --save-dir, or delete this one")
        labels = known | labels
    files.check_folder(out)
    return {LABELS: labels}


def main() -> None:
    args = parse_args()
    check_propagation(args)
    device = distributed.start(args.device)
    root, out = find_root("cityscapes", args.data_root), Path(args.save_dir)
    dataset = build_dataset("cityscapes", root, args.split, limit=args.limit)
    chains = find_chains(dataset, args.split, args.propagate, out)
    check_frames(dataset, chains, smallest_side(args.motion))
    check_ids("cityscapes", dataset, 1, args.workers)
    motion = MOTIONS[args.motion](args.motion_weights, device)
    settings = files.settings_of({key: vars(args)[key] for key in DECISIVE}, (),
                                 ("motion_weights",))
    labels = {sample.name: hashlib.sha256(files.read_file(sample.truth)).hexdigest()[:16]
              for sample in dataset.samples}
    made = {dataset.samples[chain.index].name for chain in chains
            if any(pair.label.exists() for pair in chain.pairs)}
    settings |= check_place(out, root, settings, labels, made)
    lock = hold_folder(out)
    files.begin(out / RECORD, settings)
    need = bytes_needed(dataset, chains)
    files.check_room(out, need)
    count = sum(len(chain.pairs) for chain in chains)
    print(f"{count} frames around {len(dataset)} labelled ones, about {need / 1e6:,.1f} MB to be "
          "written", flush=True)
    cv2.setNumThreads(0)  # the workers are as many as there are cores
    method = Method(args.direct, args.consistency, args.upstream)
    written = 0
    with (closing(map_in_threads(Propagation(dataset, motion, method).write, chains,
                                 args.workers)) as jobs,
          tqdm(total=count, disable=None, unit="frame") as bar):
        for chain, number in zip(chains, jobs, strict=True):
            written += number
            bar.update(len(chain.pairs))
    print(f"{written} frames written, {count - written} were there: {out}")
    lock.release()


if __name__ == "__main__":
    run(main)

"""Every kind of fault that the data set doctor knows, and what is to be done about it.

An error is what stops a training, or lets it learn or score something else than its labels say. A
note is worth knowing: the data can be used as they are.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

RESTORE = "delete it and unpack or copy it again; if that changes nothing, download it again"
EXPORT = "export class numbers: 8-bit PNG, one channel, one number a pixel"
TO_GRAY = (
    'python -c "import sys, numpy as n, PIL.Image as i; '
    '[i.fromarray(n.uint8(i.open(f))).save(f) for f in sys.argv[1:]]" FILES'
)


class Kind(NamedTuple):
    level: str  # "error" or "note"
    what: str
    fix: str


ERRORS = {  # what is wrong, and what to do; {root} is the data set's folder
    # what is there
    "class-table": ("the classes cannot be read", "restore the file, or make it"),
    "no-images": ("no images", "give the folder that holds the data as --data-root"),
    "no-labels": ("images, but no labels", "put the labels there, named as the images"),
    "no-label": ("image without label", "add its label, or take the image away"),
    "no-image": ("label without image", "add its image, or take the label away"),
    "same-name": ("two files of one name", "delete or rename one of each two"),
    "listed-only": ("a list names an image that is not there",
                    "add the image, or take its line out of the list"),
    # files that cannot be read
    "unreadable": ("file cannot be opened", "mend the link or the right to read it: "
                   "chmod -R u+rX {root}"),
    "empty-file": ("file is empty", RESTORE),
    "not-an-image": ("file is not an image", RESTORE),
    "damaged": ("file is truncated or damaged", RESTORE),
    "refused": ("image of a kind that is not read", "save it as PNG or JPEG, 8 bits a channel, at "
                "most 64 million pixels"),
    # labels that hold no ids
    "swapped": ("label is a photo, and its image holds ids", "exchange the folders of images and "
                "labels"),
    "color-label": ("label is a picture in color, not ids", f"{EXPORT}; color_ids() of "
                    "utils/labels.py finds them by color"),
    "palette-label": ("label has a palette; gray ids are expected", TO_GRAY),
    "deep-label": ("label has 16 bits; 8 are expected", f"{EXPORT}; if it is an instance map, take "
                   "the label"),
    "shallow-label": ("label has fewer than 8 bits, whose values some writers scale", EXPORT),
    "lossy-label": ("label is not a PNG", f"{EXPORT}; JPEG changes numbers"),
    "other-colors": ("label has other colors than the classes", RESTORE),
    "palettes": ("palettes of labels differ, so their indices may too",
                 "give the classes the colors of the labels, or export gray PNGs of ids"),
    # labels whose ids are wrong
    "size": ("label has another size than its image", "export it at the size of the image; to "
             "resize it, take the nearest pixel"),
    "exif": ("EXIF turns the image, and its label has the size of both",
             "train with --exif apply if the labels were drawn on the pictures as they are seen, "
             "--exif ignore if on the stored pixels"),
    "unknown-ids": ("label has ids that the data set does not have", "restore it; or give the data "
                    "set it is of as --dataset, where `folder` takes any ids"),
    "train-ids": ("label has train ids where ids are expected", "write ids: train id 0 is the "
                  "first class, whatever its id"),
    "not-train-ids": ("label has ids where train ids are expected", "write train ids"),
    "binary": ("label has 0 and 255 alone, and 255 is ignored", "write the id of the class in "
               "place of 255"),
    "nothing-counts": ("all pixels of all labels are ignored", "give the labels' ids a class"),
    "one-class": ("one class alone, which any network finds everywhere", "give what is not of it "
                  "a class too, for example the background"),
    "same-color": ("two classes of one color, which no picture shows apart", "give each a color "
                   "of its own"),
    "instances": ("instance map disagrees with its label", "make both from the same polygons, or "
                  "unpack both again"),
    "leak": ("image is in train and in val, so that scores are too high",
             "take it out of one of them"),
}
NOTES = {
    "dark-image": ("16-bit image of fewer bits", "nothing: training takes the fewest bits that "
                   "hold all images, and readers what its snapshot says, or --bits"),
    "ignored-label": ("all pixels of the label are ignored", "look at it: nothing is learned from "
                      "it"),
    "unlisted-ids": ("ids without a class, which are ignored", "if one is to count, add its line "
                     "to {root}/classes.txt"),
    "absent-class": ("classes that never occur", "nothing, or more images; here, their IoU is not "
                     "counted"),
    "count": ("another number of images than published", "nothing, or unpack what is missing"),
    "same-image": ("images of equal pixels", "keep one of them"),
    "no-instances": ("label without instance map, where others have one", "restore it; iIoU needs "
                     "all of them"),
    "unused-file": ("file that is not read, since its name has another form", "rename it if it "
                    "belongs to the data"),
    "unused-folder": ("folder of files that are not read", "put them where the others are, if they "
                      "belong to the data"),
    "hidden-file": ("hidden file, left by a Mac or an interrupted copy; not read", "find {root} "
                    "'(' -name '._*' -o -name .DS_Store ')' -delete"),
}
KINDS = {name: Kind("error", *words) for name, words in ERRORS.items()} | {
    name: Kind("note", *words) for name, words in NOTES.items()
}
GT_FINE = "take *_gtFine_labelIds.png of gtFine_trainvaltest.zip"
FIXES = {  # (kind, data set) -> what to do in place of the general advice
    ("no-labels", "cityscapes"): "unpack gtFine_trainvaltest.zip (train_extra: gtCoarse.zip) there",
    ("no-label", "cityscapes"): "unpack gtFine_trainvaltest.zip again, over what is there",
    ("no-image", "cityscapes"): "unpack leftImg8bit_trainvaltest.zip again, over what is there",
    ("color-label", "cityscapes"): f"{GT_FINE}, not *_color.png",
    ("deep-label", "cityscapes"): f"{GT_FINE}, not *_instanceIds.png",
    ("train-ids", "cityscapes"): "name it *_labelTrainIds.png instead of *_labelIds.png",
    ("not-train-ids", "cityscapes"): "name it *_labelIds.png instead of *_labelTrainIds.png",
    ("color-label", "kitti"): "take semantic/ of data_semantics.zip, not semantic_rgb/",
    ("train-ids", "kitti"): "unpack data_semantics.zip again; its ids are those of Cityscapes",
    ("instances", "kitti"): "unpack data_semantics.zip again, semantic/ and instance/",
    ("color-label", "camvid"): "take the labels of the 480x360 version (0 to 11), or the whole "
                               "original: 701_StillsRaw_full/ and LabeledApproved_full/",
    ("unknown-ids", "camvid"): "take labels of 11 classes: 0 to 10, where 11 is void",
    ("swapped", "camvid"): "exchange the names of SPLIT/ and SPLITannot/",
    ("other-colors", "folder"): "give the classes in {root}/classes.txt the colors of the labels, "
                                "or export gray PNGs of ids",
    ("one-class", "folder"): "add a line for the id of what is not of it to {root}/classes.txt, "
                             "for example: 0 background 0 0 0",
    ("nothing-counts", "folder"): "add a line for each id to {root}/classes.txt",
    ("train-ids", "folder"): "write 0, 1, ... as the ids in {root}/classes.txt",
    ("class-table", "folder"): "write one line per class into {root}/classes.txt: id name r g b",
    ("class-table", "mapillary"): "take config_v1.2.json of the archive; or --dataset mapillary_v2",
    ("class-table", "mapillary_v2"): "take config_v2.0.json of the archive; or --dataset mapillary",
    ("color-label", "mapillary"): "take v1.2/labels/ as it is in the archive, with its palette",
    ("color-label", "mapillary_v2"): "take v2.0/labels/ as it is in the archive, with its palette",
}


@dataclass(frozen=True)
class Fault:
    """A fault of one file, or of a whole split where `path` is None."""

    kind: str  # of KINDS
    path: Path | None = None
    detail: str = ""


def fix_of(kind: str, dataset: str, root: Path) -> str:
    """What to do about a kind of fault in a data set of this name."""
    advice = FIXES.get((kind, dataset), KINDS[kind].fix)
    return advice.replace("{root}", shlex.quote(str(root)))

"""Where images lie: named sets, folders, Parquet files, Python objects.

Labels are read at once; pictures are fetched by row, when it is known which are wanted.
"""

import glob
import json
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from raynas.data.pictures import Picture, wrong
from raynas.errors import UserError, unknown

SPLITS = ("train", "validation", "test")
_WORDS = {"val": "validation", "valid": "validation"} | {split: split for split in SPLITS}


@dataclass(frozen=True)
class Rows:
    """A split whose images are not read yet: `fetch` gives those of some rows."""

    labels: list[Any]  # as stored: numbers or strings
    fetch: Callable[[np.ndarray], np.ndarray | list[Picture]]  # arrays are [N, C, H, W]


@dataclass(frozen=True)
class Source:
    """The splits that some data brings; train is one of them."""

    name: str
    splits: dict[str, Rows]
    class_names: tuple[str, ...] = ()


def find(dataset: Any, root: Path, download: bool) -> Source:
    """What `dataset` names or is; `root` and `download` are for named sets."""
    if not isinstance(dataset, str | os.PathLike):
        return _objects(dataset)
    if (name := str(dataset).lower()) in DATASETS:
        return _digits() if name == "digits" else _torchvision(name, root, download)
    path = Path(dataset).expanduser()
    if path.is_dir():
        files = sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))
        return _parquet(path.resolve().name, files) if files else _folders(path)
    files = [path] if path.is_file() else [Path(file) for file in sorted(glob.glob(str(path)))]
    if files:
        return _parquet(path.name.removesuffix(".parquet").rstrip("-_.*"), files)
    near = unknown("dataset", dataset, list(DATASETS))
    raise UserError(f"{near} Or give a folder or Parquet files: nothing is at {path.absolute()}.")


# Named sets: class in torchvision.datasets, its arguments for each split, and whether it lists
# files. Those take a loader, and with `str` for one their items are (path, label), undecoded.

_ONE: dict[str, dict[str, Any]] = {"train": {}}
_FLAG: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
_WORD: dict[str, dict[str, Any]] = {"train": {"split": "train"}, "test": {"split": "test"}}
_WORD_VAL = _WORD | {"validation": {"split": "val"}}

_TORCHVISION = {
    "cifar10": ("CIFAR10", _FLAG, False),
    "cifar100": ("CIFAR100", _FLAG, False),
    "country211": ("Country211", _WORD | {"validation": {"split": "valid"}}, True),
    "dtd": ("DTD", _WORD_VAL, True),
    "emnist": ("EMNIST", {s: {"split": "balanced"} | flag for s, flag in _FLAG.items()}, False),
    "eurosat": ("EuroSAT", _ONE, True),
    "fashionmnist": ("FashionMNIST", _FLAG, False),
    "fgvcaircraft": ("FGVCAircraft", _WORD_VAL, True),
    "flowers102": ("Flowers102", _WORD_VAL, True),
    "food101": ("Food101", _WORD, True),
    "imagenette": ("Imagenette", _ONE | {"test": {"split": "val"}}, True),
    "kmnist": ("KMNIST", _FLAG, False),
    "mnist": ("MNIST", _FLAG, False),
    "semeion": ("SEMEION", _ONE, False),
    "stl10": ("STL10", _WORD, False),
    "svhn": ("SVHN", _WORD, False),
    "usps": ("USPS", _FLAG, False),
}

DATASETS = ("digits", *_TORCHVISION)


def _digits() -> Source:
    from sklearn.datasets import load_digits

    digits = load_digits()  # values from 0 to 16
    rows = _arrays(digits.images.astype(np.uint8), digits.target, "train")
    return Source("digits", {"train": rows})


def _torchvision(name: str, root: Path, download: bool) -> Source:
    import torchvision.datasets

    kind, splits, lists_files = _TORCHVISION[name]
    make = getattr(torchvision.datasets, kind)
    common = {"root": root, "download": download} | ({"loader": str} if lists_files else {})
    try:
        with warnings.catch_warnings():  # numpy's, about the age of CIFAR's own files
            warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
            sets = {split: make(**common, **given) for split, given in splits.items()}
    except (RuntimeError, OSError) as error:
        do = "Pass --download (download=True) to fetch it or --data-root (root=) to look elsewhere."
        got, do = (error, "Try again later.") if download else ("none or not all of them", do)
        raise wrong(name, f"its files under {root}", got, do) from error
    rows = {}
    for split, part in sets.items():
        if lists_files:
            files, labels = zip(*(part[row] for row in range(len(part))), strict=True)
            rows[split] = _files(files, labels)
        else:
            labels = part.targets if hasattr(part, "targets") else part.labels
            rows[split] = _arrays(part.data, labels, split)
    names = getattr(sets["train"], "classes", ())  # Imagenette has tuples of synonyms
    return Source(name, rows, tuple(x if isinstance(x, str) else x[0] for x in names))


# Folders of image files.

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def _folders(path: Path) -> Source:
    parts = {split: path / word for word, split in _WORDS.items() if (path / word).is_dir()}
    if "train" not in parts:
        parts = {"train": path}
    splits = {split: _class_folders(folder) for split, folder in parts.items()}
    return Source(path.resolve().name, splits)


def _class_folders(folder: Path) -> Rows:
    files: dict[str, list[Path]] = {}
    for part in sorted(folder.iterdir()):
        if part.is_dir() and not part.name.startswith("."):
            files[part.name] = sorted(f for f in part.rglob("*") if f.suffix.lower() in _SUFFIXES)
            if not files[part.name]:
                raise wrong(part, "images", "none", "Add some or remove the folder.")
    if not files:
        expected = "a folder of images for each class, train/ (val/, test/) of those, or *.parquet"
        raise wrong(folder, expected, "no folders", "Give another path.")
    labels = [name for name, of_class in files.items() for _ in of_class]
    return _files([*chain(*files.values())], labels)


def _files(files: Sequence[str | Path], labels: Sequence[Any]) -> Rows:
    return Rows(list(labels), lambda rows: [(str(files[row]), files[row]) for row in rows])


# Parquet files in the Hugging Face hub's layout.

_IMAGES = ("img", "image")
_LABELS = ("label", "labels", "fine_label")


def _parquet(name: str, files: list[Path]) -> Source:
    by_split: dict[str, list[Path]] = {}
    for file in files:
        words = re.split("[^a-z]+", file.stem.lower()) if len(files) > 1 else []
        split = next((_WORDS[word] for word in words if word in _WORDS), "train")
        by_split.setdefault(split, []).append(file)
    if "train" not in by_split:
        got = ", ".join(file.name for file in files)
        raise wrong(name, "a file of training images", got, "Add it, or give a single file.")
    tables = {split: _table(of_split) for split, of_split in by_split.items()}
    return Source(name, {s: rows for s, (rows, _) in tables.items()}, tables["train"][1])


def _table(files: list[Path]) -> tuple[Rows, tuple[str, ...]]:
    """The rows of all files, in order, and the class names if the first file tells them."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    what = ", ".join(map(str, files[:3]))
    try:
        table = ds.dataset([str(file) for file in files], format="parquet")
        kinds = {field.name: str(field.type) for field in table.schema}
        image = next((column for column in _IMAGES if column in kinds), "")
        label = next((column for column in _LABELS if column in kinds), "")
        if not label or not kinds.get(image, "").startswith("struct"):
            got = ", ".join(f"{column} of {kind}" for column, kind in kinds.items())
            expected = f"column {' or '.join(_IMAGES)} with image files and {' or '.join(_LABELS)}"
            raise wrong(what, expected, got, "Rename or convert the columns.")
        labels = table.to_table(columns=[label]).column(0).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise wrong(what, "Parquet files of one layout", error, "Fetch them again.") from error

    def fetch(rows: np.ndarray) -> list[Picture]:
        taken = table.take(pa.array(rows), columns=[image, "__filename"])
        cells, paths = taken.column(0).to_pylist(), taken.column(1).to_pylist()
        return [_cell(*row) for row in zip(rows, cells, map(Path, paths), strict=True)]

    return Rows(labels, fetch), _hub_names(table.schema.metadata, label)


def _hub_names(metadata: Mapping[bytes, bytes] | None, label: str) -> tuple[str, ...]:
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(map(str, features[label]["names"]))
    except (KeyError, TypeError, ValueError):
        return ()  # optional there, and so is every level above


def _cell(row: int, cell: dict[str, Any] | None, file: Path) -> Picture:
    name = f"{file}, row {row}"
    content, path = (cell or {}).get("bytes"), (cell or {}).get("path")
    if content is not None or not path:
        return name, content or b""  # nothing at all is reported with what does not decode
    found = (file.parent / path).resolve()
    if not found.is_relative_to(file.parent.resolve()):
        expected = f"bytes or a path inside {file.parent}"
        raise wrong(name, expected, repr(path), "Move the file or store its bytes.")
    return name, found


# Arrays, tensors and Datasets.


def _objects(dataset: Any) -> Source:
    parts = dataset if isinstance(dataset, Mapping) else {"train": dataset}
    if "train" not in parts or not set(parts) <= set(SPLITS):
        got = ", ".join(map(str, parts)) or "none"
        raise wrong("dataset", f"the keys {', '.join(SPLITS)}", got, "Only train is required.")
    name = "arrays" if isinstance(parts["train"], tuple) else type(parts["train"]).__name__
    return Source(name, {split: _object(part, split) for split, part in parts.items()})


def _object(part: Any, split: str) -> Rows:
    if isinstance(part, tuple) and len(part) == 2:
        return _arrays(*part, split)
    if hasattr(part, "__len__") and hasattr(part, "__getitem__"):
        return _items(part, split)
    expected = "a name, a path, a pair (images, labels) or a Dataset with a length"
    raise wrong(split, expected, type(part).__name__, "Collect it into arrays.")


def _arrays(images: Any, labels: Any, split: str) -> Rows:
    images, labels = _numpy(images), _numpy(labels)
    if images.ndim not in (3, 4) or labels.shape != images.shape[:1]:
        expected = "images [N, H, W], [N, H, W, C] or [N, C, H, W] and labels [N]"
        raise wrong(split, expected, f"{images.shape} and {labels.shape}", "Make them match.")
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise wrong(f"{split} images", "uint8 or floats", images.dtype, "Convert them.")
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[1] not in (1, 3, 4) and images.shape[3] in (1, 3, 4):
        images = images.transpose(0, 3, 1, 2)
    bad = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))
    if len(bad):
        got = f"NaN or infinity in {len(bad)}, rows {', '.join(map(str, bad[:5]))}"
        raise wrong(f"{split} images", "finite numbers", got, "Repair or remove them.")
    kind = np.uint8 if images.dtype == np.uint8 else np.float32
    return Rows(labels.tolist(), lambda rows: np.ascontiguousarray(images[rows], kind))


def _numpy(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):  # a torch tensor; numpy has no bfloat16
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
    return np.asarray(values)


def _items(dataset: Any, split: str) -> Rows:
    """Reads each item once: what a Dataset does on the way may be slow or random."""
    from PIL import Image

    images: list[Any] = []
    labels: list[Any] = []
    for row in range(len(dataset)):
        try:
            item = dataset[row]
            if not isinstance(item, tuple | list) or len(item) != 2:
                raise TypeError(type(item).__name__)
            image, label = item
            images.append(image.copy() if isinstance(image, Image.Image) else _numpy(image))
            labels.append(label.item() if hasattr(label, "item") else label)
        except (OSError, SyntaxError, TypeError) as error:  # Pillow's and the above
            what, do = f"{split} item {row}", "Repair the item or wrap the Dataset."
            raise wrong(what, "a pair (image, label)", repr(error), do) from error
    if all(isinstance(image, Image.Image) for image in images):
        return Rows(labels, lambda rows: [(f"{split} item {row}", images[row]) for row in rows])
    shapes = sorted({str(np.shape(image)) for image in images})
    if len(shapes) > 1:
        got, do = ", ".join(shapes[:5]), "Resize them in the Dataset."
        raise wrong(f"{split} images", "Pillow images, or arrays of one shape", got, do)
    return Rows(labels, _arrays(np.stack(images), np.zeros(len(images)), split).fetch)

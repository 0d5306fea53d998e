"""Image classification data, from wherever it lies, as arrays in memory.

Rows are chosen by their labels first; only what was chosen is decoded.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raynas.data.pictures import unify, wrong
from raynas.data.sources import DATASETS, SPLITS, Source, find

__all__ = ["DATASETS", "SPLITS", "ImageData", "Split", "load"]

ROOT = "~/.cache/raynas/data"
SHARE = 0.2  # of the training images, cut off for each split that the data does not bring
MOST_CLASSES = 100_000  # a higher label is taken for a mistake
UNFLIPPABLE = ("mnist", "digits", "gtsrb", "semeion", "svhn", "usps")  # they can be read


@dataclass(frozen=True)
class Split:
    """Images and the class of each."""

    images: np.ndarray  # [N, C, H, W], uint8 as stored or float32
    labels: np.ndarray  # [N], int64 in [0, num_classes)


@dataclass(frozen=True)
class ImageData:
    """Three disjoint splits. Strategies see `validation`; `test` is for the final report."""

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    flips: bool  # whether a mirrored image keeps its label
    mean: np.ndarray  # [C], float32, of the training images in their own unit (uint8: 0 to 255)
    std: np.ndarray  # [C], likewise; 1 for a constant channel, so that it can be divided by
    notes: tuple[str, ...]  # what a person should know about how this was loaded

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)"""
        _, channels, height, width = self.train.images.shape
        return channels, height, width


def load(
    dataset: Any,
    *,
    root: str | os.PathLike[str] | None = None,
    download: bool = False,
    image_size: int | None = None,
    subset: int | None = None,
    seed: int = 0,
    num_classes: int | None = None,
    input_shape: Sequence[int] | None = None,
) -> ImageData:
    """Load `dataset`, check it, and cut off the splits that it does not bring.

    Args:
        dataset: a name in `DATASETS`; a folder of class folders, or of `train/` and optionally
            `val/`, `test/` with those; a Parquet file in the Hugging Face hub's layout, a folder
            of them or a pattern such as "cifar10-*.parquet"; a pair (images `[N, H, W]`,
            `[N, H, W, C]` or `[N, C, H, W]`, labels `[N]`); a map-style PyTorch Dataset; or a
            dict of pairs or Datasets with the keys train and optionally validation, test.
        root: where named sets lie; `ROOT` if None.
        download: fetch a named set that is not under `root`.
        image_size: side in pixels to bring all images to: short side fitted, centre cropped. If
            None they stay as they are, or become 64 when their sizes differ.
        subset: use at most so many training images, before splits are cut off them, and at most
            so many of a split that the data brings; stratified by label.
        seed: of the subset and of the cuts.
        num_classes: if None, the number of class names or one more than the highest label.
        input_shape: the (C, H, W) that the caller needs, if any.

    Raises:
        UserError: the data is not there, does not decode, or is not what was asked for.
    """
    if image_size is not None and image_size < 1:
        raise wrong("image_size", "at least 1", image_size, "Raise it.")
    source = find(dataset, Path(root or ROOT).expanduser(), download)
    labels, names = _classes(source, num_classes)
    chosen, cut_notes = _choose(labels, names, subset, seed)
    stored = {split: split if split in labels else "train" for split in SPLITS}
    fetched = {s: source.splits[stored[s]].fetch(rows) for s, rows in chosen.items()}
    images, size_notes = unify(fetched, image_size)
    shape = images["train"].shape[1:]
    if input_shape is not None and tuple(input_shape) != shape:
        expected = f"images of shape (C, H, W) = {tuple(input_shape)}"
        raise wrong(source.name, expected, shape, "Set image_size or expect this shape.")
    mean, std = _statistics(images["train"])
    sizes = ", ".join(f"{split} {len(images[split])}" for split in SPLITS)
    return ImageData(
        name=source.name,
        **{s: Split(images[s], labels[stored[s]][chosen[s]]) for s in SPLITS},
        class_names=names,
        flips=shape[0] == 3 and not any(word in source.name.lower() for word in UNFLIPPABLE),
        mean=mean,
        std=std,
        notes=(*cut_notes, *size_notes, f"Images: {sizes}."),
    )


def _classes(source: Source, limit: int | None) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The labels of each split in [0, classes), and a name for each class."""
    words = sorted({label for label in source.splits["train"].labels if isinstance(label, str)})
    names = source.class_names or tuple(words)
    below = limit or MOST_CLASSES
    places = {name: place for place, name in enumerate(names[:below])}
    listed = ", ".join([*places][:20])
    expected = f"one of {listed}" if words else f"whole numbers from 0 to {below - 1}"
    labels = {}
    for split, rows in source.splits.items():
        if not rows.labels:
            raise wrong(split, "images", "none", "Add some or give another path.")
        found = [places.get(v) if words else _whole(v, below) for v in rows.labels]
        bad = [f"{rows.labels[row]!r} in row {row}" for row, n in enumerate(found) if n is None]
        if bad:
            got = f"{', '.join(bad[:5])} ({len(bad)} such rows)"
            raise wrong(f"{split} labels", expected, got, "Correct or remove them.")
        labels[split] = np.array(found, np.int64)
    if len(np.unique(labels["train"])) < 2:
        raise wrong(source.name, "at least two classes", "one", "Add images of another.")
    count = limit or max(len(names), *(int(part.max()) + 1 for part in labels.values()))
    return labels, (*names[:count], *map(str, range(len(names), count)))


def _whole(label: Any, below: int) -> int | None:
    whole = isinstance(label, int | float) and 0 <= label < below and label == int(label)
    return int(label) if whole else None


def _choose(
    labels: dict[str, np.ndarray], names: tuple[str, ...], subset: int | None, seed: int
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Rows of each split, those of a missing split being rows of train; notes for a person."""
    rng = np.random.default_rng(seed)
    cuts = [split for split in ("test", "validation") if split not in labels]
    least = 1 + len(cuts)
    present, counts = np.unique(labels["train"], return_counts=True)
    if counts.min() < least:
        what = f"class {names[present[counts.argmin()]]!r}"
        expected = f"at least {least} training images, as {' and '.join(cuts)} are cut off them"
        raise wrong(what, expected, counts.min(), "Add images or remove the class.")
    if subset is not None and subset < least * len(present):
        expected = f"at least {least} images for each of {len(present)} classes"
        raise wrong("subset", f"{expected}: {least * len(present)}", subset, "Raise it.")
    chosen: dict[str, np.ndarray] = {}
    notes = []
    for split, values in labels.items():
        chosen[split] = np.arange(len(values))
        if subset is not None and subset < len(values):
            kept = least if split == "train" else 0
            chosen[split] = _draw(chosen[split], values, subset, kept, rng)
            notes.append(f"{subset} of {len(values)} {split} images are used, seed {seed}.")
    for split in cuts:
        rows = chosen["train"]
        chosen[split] = _draw(rows, labels["train"], round(SHARE * len(rows)), 1, rng)
        chosen["train"] = np.setdiff1d(rows, chosen[split])
        notes.append(f"{SHARE:.0%} of the training images were cut off for {split}, seed {seed}.")
    return chosen, notes


def _draw(
    rows: np.ndarray, labels: np.ndarray, total: int, least: int, rng: np.random.Generator
) -> np.ndarray:
    """About `total` of the rows, the same share of each class but `least` at least; ascending."""
    order = np.argsort(labels[rows], kind="stable")
    counts = np.unique(labels[rows], return_counts=True)[1]
    exact = counts * total / len(rows)
    quotas = np.maximum(np.floor(exact).astype(np.int64), least)
    while quotas.sum() < total:
        quotas[np.argmax(exact - quotas)] += 1
    while quotas.sum() > total and quotas.max() > least:
        quotas[np.argmax(quotas)] -= 1
    groups = np.split(rows[order], np.cumsum(counts)[:-1])
    drawn = [rng.choice(g, n, replace=False) for g, n in zip(groups, quotas, strict=True)]
    return np.sort(np.concatenate(drawn))


def _statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, [C]."""
    count = images.size / images.shape[1]
    mean = images.sum(axis=(0, 2, 3), dtype=np.float64) / count
    squares = np.einsum("nchw,nchw->c", images, images, dtype=np.float64) / count
    std = np.sqrt(np.maximum(squares - mean**2, 0))
    constant = std <= 1e-6 * np.abs(mean)  # rounding alone gives that much
    return mean.astype(np.float32), np.where(constant, 1, std).astype(np.float32)

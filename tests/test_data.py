import json
import pickle
import struct
import subprocess
import sys
from io import BytesIO
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torchvision
from PIL import Image

from raynas.data import DATASETS, SPLITS, load
from raynas.errors import UserError

CIFAR = Path(__file__).parents[2] / "shared/data/cifar10-train.parquet"
RNG = np.random.default_rng(7)
LABELS = np.arange(60) % 3
IMAGES = RNG.integers(0, 256, (60, 8, 8, 3), np.uint8)
IMAGES[:, 0, 0, 0] = np.arange(60)  # by which a test knows an image again


def ids(data):
    return {split: getattr(data, split).images[:, 0, 0, 0].tolist() for split in SPLITS}


def everything(data):
    return sorted(chain(*ids(data).values()))


def encoded(pixels, kind="PNG"):
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def write_parquet(path, images=IMAGES, labels=LABELS, columns=("img", "label"), names=None):
    cells = [
        {"bytes": encoded(x), "path": None} if isinstance(x, np.ndarray) else x for x in images
    ]
    table = pa.table(dict(zip(columns, (cells, pa.array(labels)), strict=True)))
    if names:
        info = {"info": {"features": {columns[1]: {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, path, row_group_size=7)
    return path


def write_folders(path, classes=("cat", "dog"), each=6, kind="png"):
    for number, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for i in range(each):
            image = Image.fromarray(np.full((8, 8, 3), 40 * number + i, np.uint8))
            image.save(path / name / f"{i}.{kind}")
    return path


# Splits.


def test_splits_are_disjoint_complete_and_stratified():
    data = load((IMAGES, LABELS))
    parts = ids(data)
    assert everything(data) == list(range(60))
    assert [len(parts[split]) for split in SPLITS] == [38, 10, 12]
    for split in SPLITS:
        part = getattr(data, split)
        assert (part.labels == part.images[:, 0, 0, 0] % 3).all()
        assert np.ptp(np.bincount(part.labels)) <= 1
        assert part.labels.dtype == np.int64


def test_the_seed_alone_decides():
    first = ids(load((IMAGES, LABELS), seed=1))
    np.random.seed(3)  # noqa: NPY002
    assert ids(load((IMAGES, LABELS), seed=1)) == first
    assert ids(load((IMAGES, LABELS), seed=2)) != first


def test_given_splits_stay():
    data = load({"train": (IMAGES[:30], LABELS[:30]), "test": (IMAGES[30:], LABELS[30:])})
    assert ids(data)["test"] == list(range(30, 60))
    assert len(data.validation.labels) == 6
    parts = {split: (IMAGES[i : i + 20], LABELS[i : i + 20]) for i, split in enumerate(SPLITS)}
    assert [len(part) for part in ids(load(parts)).values()] == [20, 20, 20]


def test_subset_limits_training_and_test_images():
    splits = {"train": (IMAGES[:40], LABELS[:40]), "test": (IMAGES[40:], LABELS[40:])}
    data = load(splits, subset=12)
    assert len(data.train.labels) + len(data.validation.labels) == 12
    assert len(data.test.labels) == 12
    assert set(np.bincount(np.r_[data.train.labels, data.validation.labels])) == {4}
    assert "12 of 40 train images are used, seed 0." in data.notes
    assert len(load(splits, subset=1000).test.labels) == 20


@pytest.mark.parametrize("seed", range(20))
def test_every_class_is_in_every_split(seed):
    rng = np.random.default_rng(seed)
    counts = 3 + rng.integers(0, 40, rng.integers(2, 9)) * rng.integers(0, 2)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    images = np.zeros((len(labels), 2, 2), np.uint8)
    for subset in (None, 3 * len(counts), 4 * len(counts) + 1):
        data = load((images, labels), subset=subset, seed=seed)
        parts = [getattr(data, split).labels for split in SPLITS]
        assert all(set(part) == set(labels) for part in parts)
        assert sum(map(len, parts)) == min(subset or len(labels), len(labels))


def test_scarce_classes():
    data = load((IMAGES[:6], [0, 0, 0, 1, 1, 1]))
    assert [len(getattr(data, split).labels) for split in SPLITS] == [2, 2, 2]
    with pytest.raises(UserError, match=r"class '1': expected at least 3 .* test and validation"):
        load((IMAGES[:5], [0, 0, 0, 1, 1]))
    with pytest.raises(UserError, match=r"subset: expected at least 3 images for each of 3 .*: 9"):
        load((IMAGES, LABELS), subset=8)


# Arrays and Datasets.


@pytest.mark.parametrize(
    ("images", "shape"),
    [
        (IMAGES, (3, 8, 8)),
        (IMAGES.transpose(0, 3, 1, 2), (3, 8, 8)),
        (IMAGES[..., 0], (1, 8, 8)),
        (IMAGES[..., :1], (1, 8, 8)),
        (torch.from_numpy(IMAGES).permute(0, 3, 1, 2).bfloat16(), (3, 8, 8)),
        (IMAGES / 255, (3, 8, 8)),
    ],
)
def test_array_layouts(images, shape):
    data = load((images, torch.from_numpy(LABELS)), input_shape=shape)
    assert data.input_shape == shape
    assert data.train.images.dtype == (np.uint8 if images.dtype == np.uint8 else np.float32)
    assert data.num_classes == 3
    assert data.class_names == ("0", "1", "2")
    assert data.flips == (shape[0] == 3)


def test_statistics_are_of_the_training_images():
    images = IMAGES.copy()
    images[..., 2] = 9
    data = load((images, LABELS))
    pixels = data.train.images.transpose(1, 0, 2, 3).reshape(3, -1).astype(np.float64)
    np.testing.assert_allclose(data.mean, pixels.mean(1), rtol=1e-6)
    np.testing.assert_allclose(data.std, [*pixels.std(1)[:2], 1], rtol=1e-6)
    assert data.mean.dtype == data.std.dtype == np.float32


@pytest.mark.parametrize("images", [IMAGES, IMAGES[:, :6], IMAGES.astype(np.float32)[:, :, :5]])
def test_arrays_are_resized(images):
    data = load((images, LABELS), image_size=4)
    assert data.input_shape == (3, 4, 4)
    assert data.train.images.dtype == images.dtype
    assert "Images were brought to 4x4 pixels." in data.notes
    assert abs(float(data.mean.mean()) - images.mean()) < 5


class Items(torch.utils.data.Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        if isinstance(self.items[row], Exception):
            raise self.items[row]
        return self.items[row]


@pytest.mark.parametrize(
    "make",
    [Image.fromarray, lambda x: torch.from_numpy(x).permute(2, 0, 1), lambda x: x],
    ids=["pillow", "tensor", "numpy"],
)
def test_datasets(make):
    data = load(Items([(make(x), int(y)) for x, y in zip(IMAGES, LABELS, strict=True)]))
    assert data.name == "Items"
    assert everything(data) == list(range(60))
    assert (data.test.labels == data.test.images[:, 0, 0, 0] % 3).all()


def test_dataset_errors():
    pairs = [(x, int(y)) for x, y in zip(IMAGES, LABELS, strict=True)]
    with pytest.raises(UserError, match=r"train item 2: expected a pair .*; got OSError\(.broken"):
        load(Items([*pairs[:2], OSError("broken"), *pairs[2:]]))
    with pytest.raises(UserError, match=r"arrays of one shape; got \(4, 4, 3\), \(8, 8, 3\)"):
        load(Items([*pairs, (IMAGES[0, :4, :4], 1)]))
    with pytest.raises(UserError, match=r"item 0: expected a pair \(image, label\); got .*dict"):
        load(Items([{"img": 1}]))
    with pytest.raises(UserError, match=r"labels: expected whole .* got None in row 60"):
        load(Items([*pairs, (IMAGES[0], None)]))
    with pytest.raises(UserError, match="train: expected images; got none"):
        load(Items([]))
    with pytest.raises(UserError, match=r"expected a name, a path, a pair .* got int"):
        load(3)
    with pytest.raises(UserError, match="the keys train, validation, test; got val, train"):
        load({"val": pairs, "train": pairs})


# What may be wrong with images and labels.


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([-1, *LABELS[1:]], r"labels: expected whole numbers from 0 .* got -1 in row 0 \(1 such"),
        ([0, 1.5, *LABELS[2:]], "got 1.5 in row 1"),
        ([0, 1, float("nan"), *LABELS[3:]], "got nan in row 2"),
        ([0, 10**9, *LABELS[2:]], "got 1000000000 in row 1"),
        ([0] * 60, "expected at least two classes; got one"),
        (LABELS[:59], r"Make them match"),
        (LABELS[:, None], r"got \(60, 8, 8, 3\) and \(60, 1\)"),
    ],
)
def test_bad_labels(labels, message):
    with pytest.raises(UserError, match=message):
        load((IMAGES, np.array(labels)))


def test_the_number_of_classes():
    with pytest.raises(UserError, match=r"from 0 to 1; got 2 in row 2, .* row 14 \(20 such rows\)"):
        load((IMAGES, LABELS), num_classes=2)
    assert load((IMAGES, LABELS), num_classes=5).num_classes == 5


def test_bad_images():
    with_nan = IMAGES.astype(np.float32)
    with_nan[[4, 9], 0, 0, 0] = np.nan, np.inf
    with pytest.raises(UserError, match="finite numbers; got NaN or infinity in 2, rows 4, 9"):
        load((with_nan, LABELS))
    with pytest.raises(UserError, match="train: expected images; got none"):
        load((IMAGES[:0], LABELS[:0]))
    with pytest.raises(UserError, match="expected uint8 or floats; got int64"):
        load((IMAGES.astype(np.int64), LABELS))
    with pytest.raises(UserError, match=r"expected images of .* = \(1, 8, 8\); got \(3, 8, 8\)"):
        load((IMAGES, LABELS), input_shape=(1, 8, 8))
    with pytest.raises(UserError, match=r"splits of one .* uint8 and "):
        load({"train": (IMAGES, LABELS), "test": (IMAGES[:, :4, :4], LABELS)})
    with pytest.raises(UserError, match="image_size: expected at least 1; got 0"):
        load((IMAGES, LABELS), image_size=0)


# Named sets.


def idx(array):
    return struct.pack(f">HBB{array.ndim}i", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST", "EMNIST"])
def test_mnist_files(tmp_path, name):
    raw = tmp_path / name / "raw"
    raw.mkdir(parents=True)
    prefix, test = ("emnist-balanced-", "test") if name == "EMNIST" else ("", "t10k")
    for part, count in (("train", 60), (test, 20)):
        for kind, array in (
            ("images-idx3", IMAGES[:count, ..., 0]),
            ("labels-idx1", LABELS[:count]),
        ):
            (raw / f"{prefix}{part}-{kind}-ubyte").write_bytes(idx(array.astype(np.uint8)))
    data = load(name.upper(), root=tmp_path)
    assert data.name == name.lower()
    assert data.input_shape == (1, 8, 8)
    assert data.test.images[:, 0, 0, 0].tolist() == list(range(20))
    assert not data.flips
    assert data.num_classes == (47 if name == "EMNIST" else 10)


def test_cifar_files(tmp_path, monkeypatch):
    cifar = torchvision.datasets.CIFAR10
    folder = tmp_path / cifar.base_folder
    folder.mkdir()
    for number, (file, _) in enumerate(cifar.train_list + cifar.test_list):
        pixels = np.full((20, 3, 1024), number, np.uint8)
        batch = {"data": pixels.reshape(20, -1), "labels": [row % 10 for row in range(20)]}
        (folder / file).write_bytes(pickle.dumps(batch))
    names = torchvision.datasets.CIFAR10.meta
    (folder / names["filename"]).write_bytes(pickle.dumps({"label_names": [*"abcdefghij"]}))
    for lists in ("train_list", "test_list"):
        monkeypatch.setattr(cifar, lists, [[file, None] for file, _ in getattr(cifar, lists)])
    monkeypatch.setattr(cifar, "meta", names | {"md5": None})
    data = load("CIFAR10", root=tmp_path, subset=30)
    assert data.class_names == tuple("abcdefghij")
    assert data.input_shape == (3, 32, 32)
    assert len(data.train.labels) == 20
    assert (data.test.images == 5).all()
    assert data.flips


def test_sets_that_list_files(tmp_path):
    meta = tmp_path / "food-101" / "meta"
    meta.mkdir(parents=True)
    write_folders(tmp_path / "food-101" / "images", ("cake", "soup"), kind="jpg")
    listing = {name: [f"{name}/{i}" for i in range(6)] for name in ("cake", "soup")}
    for split in ("train", "test"):
        (meta / f"{split}.json").write_text(json.dumps(listing))
    data = load("food101", root=tmp_path)
    assert data.class_names == ("cake", "soup")
    assert data.test.labels.tolist() == [0] * 6 + [1] * 6
    assert abs(int(data.test.images[11, 0, 0, 0]) - 45) < 4


@pytest.mark.parametrize("name", sorted({*DATASETS} - {"digits"}))
def test_absent_sets_are_not_fetched(tmp_path, name):
    with pytest.raises(
        UserError, match=f"{name}: .* under {tmp_path}; .* --download .* --data-root"
    ):
        load(name, root=tmp_path)


def test_a_failed_download_says_so(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torchvision.datasets, "SVHN", fail)
    with pytest.raises(UserError, match=r"svhn: expected its files under .*; got no network"):
        load("svhn", root=tmp_path, download=True)


def test_digits():
    data = load("digits")
    assert data.input_shape == (1, 8, 8)
    assert data.train.images.max() == 16
    assert sum(len(getattr(data, split).labels) for split in SPLITS) == 1797
    assert not data.flips


def test_unknown_names(tmp_path):
    with pytest.raises(UserError, match=r"Did you mean 'cifar10'\? Or give a folder"):
        load("cifar-10")
    with pytest.raises(UserError, match=r"nothing is at .*nowhere"):
        load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="nothing is at"):
        load(str(tmp_path / "*.parquet"))


# Folders.


def test_folders_with_and_without_splits(tmp_path):
    data = load(write_folders(tmp_path / "pets"))
    assert data.name == "pets"
    assert data.class_names == ("cat", "dog")
    assert data.input_shape == (3, 8, 8)
    for split in ("train", "val", "test"):
        write_folders(tmp_path / "split" / split, kind="jpeg")
    data = load(str(tmp_path / "split"))
    assert [len(getattr(data, split).labels) for split in SPLITS] == [12, 12, 12]
    assert (data.test.images[data.test.labels == 1] > 30).all()


def test_sizes_and_modes(tmp_path):
    write_folders(tmp_path)
    Image.new("RGBA", (300, 200), (200, 0, 0, 9)).save(tmp_path / "cat" / "wide.png")
    Image.new("L", (30, 60), 7).convert("P").save(tmp_path / "dog" / "palette.gif")
    Image.fromarray(np.full((9, 9), 2560, np.uint16)).save(tmp_path / "dog" / "deep.png")
    data = load(tmp_path)
    assert data.input_shape == (3, 64, 64)
    assert "Images were brought to 64x64 pixels." in data.notes
    images = np.concatenate([getattr(data, split).images for split in SPLITS])
    seen = {tuple(x) for x in images[:, :, 32, 32].tolist()}
    assert {(200, 0, 0), (7, 7, 7), (10, 10, 10)} <= seen
    assert load(tmp_path, image_size=16).input_shape == (3, 16, 16)


def test_grey_stays_one_channel(tmp_path):
    write_parquet(tmp_path / "a.parquet", IMAGES[..., 0])
    data = load(tmp_path / "a.parquet")
    assert data.input_shape == (1, 8, 8)
    assert everything(data) == list(range(60))


def test_all_broken_images_are_listed(tmp_path, monkeypatch):
    write_folders(tmp_path)
    noise = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    for i in range(5):
        (tmp_path / "cat" / f"truncated{i}.jpg").write_bytes(encoded(noise, "JPEG")[:900])
    (tmp_path / "dog" / "text.png").write_text("not an image")
    with pytest.raises(UserError, match=r"6 that do not decode: .*truncated0.*; .* Repair or remo"):
        load(tmp_path)
    for file in tmp_path.rglob("t*.*"):
        file.unlink()
    Image.new("RGB", (90, 90)).save(tmp_path / "cat" / "bomb.png")
    for limit in (8000, 1000):  # Pillow warns at the first, refuses at the second
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(UserError, match=r"1 that do not decode: .*bomb.png \(Decompression"):
            load(tmp_path)


def test_folder_errors(tmp_path):
    with pytest.raises(UserError, match="expected a folder of images for each class"):
        load(tmp_path)
    write_folders(tmp_path / "train")
    write_folders(tmp_path / "test", ("cat", "bird"))
    with pytest.raises(
        UserError, match="test labels: expected one of cat, dog; got 'bird' in row 0"
    ):
        load(tmp_path)
    (tmp_path / "train" / "emu").mkdir()
    with pytest.raises(UserError, match="emu: expected images; got none"):
        load(tmp_path)


# Parquet.


@pytest.mark.parametrize("columns", [("img", "label"), ("image", "labels"), ("img", "fine_label")])
def test_parquet_columns(tmp_path, columns):
    path = write_parquet(tmp_path / "tiny.parquet", columns=columns, names=["a", "b", "c", "d"])
    data = load(path)
    assert data.name == "tiny"
    assert data.class_names == ("a", "b", "c", "d")
    assert everything(data) == list(range(60))
    assert (data.train.labels == data.train.images[:, 0, 0, 0] % 3).all()
    assert "20% of the training images were cut off for test, seed 0." in data.notes


def test_parquet_splits(tmp_path):
    (tmp_path / "data").mkdir()
    names = ("train-0-of-2", "train-1-of-2", "validation-0", "test-0")
    for i, name in enumerate(names):
        rows = slice(15 * i, 15 * i + 15)
        write_parquet(tmp_path / "data" / f"{name}.parquet", IMAGES[rows], LABELS[rows])
    for source in (tmp_path, tmp_path / "data" / "*.parquet"):
        assert ids(load(source)) == {
            "train": list(range(30)),
            "validation": list(range(30, 45)),
            "test": list(range(45, 60)),
        }
    with pytest.raises(UserError, match=r"a file of training images; got test-0.*, validation-0"):
        load(str(tmp_path / "data" / "*n-0.parquet").replace("*n", "[tv]*[tn]"))


@pytest.mark.parametrize("names", [None, ["c", "b", "a"]])
def test_parquet_words(tmp_path, names):
    words = pa.array(np.array(["a", "b", "c"])[LABELS]).dictionary_encode()
    data = load(write_parquet(tmp_path / "a.parquet", labels=words, names=names))
    assert data.class_names == tuple(names or "abc")
    expected = np.array([2, 1, 0] if names else [0, 1, 2])[data.train.images[:, 0, 0, 0] % 3]
    assert (data.train.labels == expected).all()


def test_parquet_paths(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.png").write_bytes(encoded(IMAGES[1]))
    for i in range(6):
        (tmp_path / "in" / f"{i}.png").write_bytes(encoded(IMAGES[i]))
    cells = [{"bytes": None, "path": f"{i}.png"} for i in range(6)]
    path = write_parquet(tmp_path / "in" / "a.parquet", cells, [0, 1] * 3)
    assert everything(load(path)) == list(range(6))
    for outside in ("../secret.png", str(tmp_path / "secret.png")):
        write_parquet(path, [*cells, {"bytes": None, "path": outside}], [0, 1] * 3 + [0])
        with pytest.raises(
            UserError, match=r"row 6: expected bytes or a path inside .* got .*secret.png"
        ):
            load(path)


def test_only_chosen_rows_are_decoded(tmp_path):
    cells = [{"bytes": encoded(x), "path": None} for x in IMAGES]
    good = load(write_parquet(tmp_path / "a.parquet", cells), subset=20)
    used = everything(good)
    broken = [c if i in used else {"bytes": b"?", "path": None} for i, c in enumerate(cells)]
    write_parquet(tmp_path / "a.parquet", broken)
    assert ids(load(tmp_path / "a.parquet", subset=20)) == ids(good)
    with pytest.raises(UserError, match=r"40 that do not decode: .*a.parquet, row \d+ .*; \.\.\."):
        load(tmp_path / "a.parquet")


def test_parquet_errors(tmp_path):
    (tmp_path / "a.parquet").write_text("not parquet")
    with pytest.raises(UserError, match=r"a.parquet: expected Parquet files"):
        load(tmp_path / "a.parquet")
    write_parquet(tmp_path / "a.parquet", columns=("picture", "y"))
    with pytest.raises(
        UserError, match=r"img or image .* label or .* got picture of .*, y of int64"
    ):
        load(tmp_path / "a.parquet")
    write_parquet(tmp_path / "a.parquet", labels=[None, *LABELS[1:].tolist()])
    with pytest.raises(UserError, match=r"train labels: .* got None in row 0"):
        load(tmp_path / "a.parquet")


@pytest.mark.skipif(not CIFAR.exists(), reason="the data is not there")
def test_real_cifar():
    data = load(CIFAR, subset=200)
    assert data.input_shape == (3, 32, 32)
    assert data.class_names[0] == "airplane"
    assert [len(getattr(data, split).labels) for split in SPLITS] == [128, 32, 40]
    assert 100 < data.mean.mean() < 140


def test_importing_is_light():
    heavy = {"torch", "torchvision", "sklearn", "pyarrow", "PIL"}
    code = f"import sys, raynas.data; print({heavy} & {{*sys.modules}})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"

"""Pictures and arrays, as they come, to images of one shape. Pillow alone decodes."""

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import chain
from typing import Any

import numpy as np

from raynas.errors import UserError

SIZE = 64  # side in pixels that pictures of different sizes are brought to
_THREADS = 4  # more gain little: the interpreter's lock is held between pictures
_GREY = {"1", "L", "LA", "I;16", "I;16B", "I;16L"}  # Pillow's modes without colour

Picture = tuple[str, Any]  # its name in errors; bytes, a path or a Pillow image


def wrong(what: object, expected: str, got: object, do: str) -> UserError:
    return UserError(f"{what}: expected {expected}; got {got}. {do}")


def unify(
    parts: dict[str, np.ndarray | list[Picture]], side: int | None
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The images of each split, all of one shape and type; notes for a person.

    Args:
        parts: arrays `[N, C, H, W]` or pictures.
        side: pixels to bring all to; if None, only pictures of different sizes are, to `SIZE`.
    """
    pictures = {split: part for split, part in parts.items() if isinstance(part, list)}
    images, mixed = _decode(pictures, side) if pictures else ({}, False)
    arrays = {split: part for split, part in parts.items() if not isinstance(part, list)}
    images |= {split: _resize(part, side) if side else part for split, part in arrays.items()}
    kinds = sorted({f"{array.shape[1:]} {array.dtype}" for array in images.values()})
    if len(kinds) > 1:
        do = "Convert them, or set image_size where only that differs."
        raise wrong("images", "splits of one (C, H, W) and type", " and ".join(kinds), do)
    reached = side or SIZE
    note = f"Images were brought to {reached}x{reached} pixels."
    return images, [note] if side or mixed else []


def _decode(
    pictures: dict[str, list[Picture]], side: int | None
) -> tuple[dict[str, np.ndarray], bool]:
    """uint8, C being 1 if all pictures of all splits are grey, else 3; whether sizes differ."""
    from PIL import Image

    named = [*chain(*pictures.values())]
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # a bomb does not decode
        heads = _each(named, lambda _, image: (image.size, image.mode in _GREY))
        read = [head for head in heads if not isinstance(head, Exception)]
        sizes = {size for size, _ in read}
        width, height = sizes.pop() if len(sizes) == 1 and not side else [side or SIZE] * 2
        channels = 1 if all(grey for _, grey in read) else 3
        pixels = np.empty((len(named), channels, height, width), np.uint8)

        def fill(row: int, image: Any) -> None:
            values = np.asarray(_convert(image, channels, (width, height)))
            pixels[row] = values.reshape(height, width, channels).transpose(2, 0, 1)

        done = _each(named, fill)
    faults = [(name, error) for (name, _), error in zip(named, done, strict=True) if error]
    if faults:
        listed = "; ".join(f"{name} ({type(e).__name__}: {e})" for name, e in faults[:5])
        got = f"{len(faults)} that do not decode: {listed}{'; ...' if len(faults) > 5 else ''}"
        raise wrong("images", "image files", got, "Repair or remove them.")
    ends = np.cumsum([len(part) for part in pictures.values()])
    return dict(zip(pictures, np.split(pixels, ends[:-1]), strict=True)), len(sizes) > 1


def _each(pictures: list[Picture], work: Callable[[int, Any], Any]) -> list[Any]:
    """What `work` gives for each row and opened picture, or the exception that it met."""
    from PIL import Image

    def attempt(row: int) -> Any:
        source = pictures[row][1]
        try:
            if isinstance(source, Image.Image):
                return work(row, source)
            with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
                return work(row, image)
        except Exception as error:  # Pillow meets a broken file with any of a dozen kinds
            return error

    def block(start: int) -> list[Any]:  # one task for each picture would cost more than it gives
        return [attempt(row) for row in range(start, min(start + 64, len(pictures)))]

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(chain(*pool.map(block, range(0, len(pictures), 64))))


def _convert(image: Any, channels: int, size: tuple[int, int]) -> Any:
    """A Pillow image in 8 bits: short side fitted to `size`, centre cropped."""
    from PIL import Image, ImageOps

    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError("32-bit pixels; store 8 or 16 bits")
    if "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow's advice, against a warning
    image = image.convert("RGB" if channels == 3 else "L")
    return image if image.size == size else ImageOps.fit(image, size, Image.Resampling.BILINEAR)


def _resize(images: np.ndarray, side: int) -> np.ndarray:
    """The middle square of `[N, C, H, W]`, brought to `[N, C, side, side]`; the type stays."""
    import torch

    square = min(images.shape[2:])
    top, left = ((length - square) // 2 for length in images.shape[2:])
    middle = torch.from_numpy(images[:, :, top : top + square, left : left + square])
    resized = torch.nn.functional.interpolate(middle, (side, side), mode="bilinear", antialias=True)
    return resized.numpy()

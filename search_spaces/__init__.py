"""Ready-made search spaces: one file each, with `SPACE` and `build`."""

import importlib
import pkgutil
from types import ModuleType

from raynas.errors import unknown


def names() -> list[str]:
    """The names of all ready-made spaces."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> ModuleType:
    """The module of a ready-made space.

    Raises:
        UserError: there is none of this name.
    """
    if name not in names():
        raise unknown("space", name, names())
    return importlib.import_module(f"{__name__}.{name}")

"""Ready-made search spaces: one file each, with `SPACE` and `build`.

A file whose networks can be adjusted has a function `space(**settings)` as well, and `SPACE` is
what it returns without settings.
"""

import importlib
import inspect
import pkgutil

from raynas.errors import unknown
from raynas.named import settings_in
from raynas.space import Space


def names() -> list[str]:
    """The names of all ready-made spaces."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(text: str) -> Space:
    """A ready-made space by its name, with settings by option: `nasbench201:channels=8,cells=1`.

    Raises:
        UserError: there is none of this name, or it has no such setting.
    """
    name, _, given = text.partition(":")
    if name not in names():
        raise unknown("space", name, names())
    module = importlib.import_module(f"{__name__}.{name}")
    space: Space = module.SPACE
    if not given:
        return space
    parameters = inspect.signature(module.space).parameters if hasattr(module, "space") else {}
    settings = settings_in("space", text, {p.name: p.default for p in parameters.values()})
    adjusted: Space = module.space(**settings)
    return adjusted

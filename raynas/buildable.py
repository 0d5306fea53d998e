"""Whether a space's code makes a network of its own of an option, found by building it.

Code may know more than its space asks for (any kernel size, say) or less. It may also take a word
that it does not know for another without a complaint. So a few designs are built with the new
option and with every other one: it must work, and answer otherwise than they do.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from raynas.architecture import Architecture, Decision, Option
from raynas.objective import COUNTS
from raynas.space import Shape, Space

if TYPE_CHECKING:
    from torch import nn

TRIED = 4  # designs in which an option is built, beside the one under discussion
IMAGES = 4  # that each network is shown while it trains, when batch norm needs several


def fault_in(
    space: Space, path: str, option: Option, shape: Shape, classes: int, given: Architecture | None
) -> str:
    """What is wrong with networks that have an option; '' if nothing is."""
    decision = space.by_name[path]
    if type(option) is not type(decision.options[0]):
        kind = type(decision.options[0]).__name__
        return f"its options are of the type {kind}, and this is {type(option).__name__}"
    if any(d.when and d.when[0] == path for d in space.decisions):
        return f"other decisions depend on it, and nothing says which of them {option} would have"
    wide = space.with_options(path, [option])
    if space.build is None:
        return ""
    unlike = matters = works = False
    cause = ""
    for base in _bases(wide, path, given):
        others = [o for o in decision.options if o != option]
        seen = {o: _output(wide, _put(wide, base, path, o), shape, classes) for o in others}
        if all(isinstance(output, str) for output in seen.values()):
            cause = cause or str(next(iter(seen.values()), ""))
            continue  # the option is not to blame
        works = True
        own = _output(wide, _put(wide, base, path, option), shape, classes)
        if isinstance(own, str):
            unknown_word = own == f"KeyError: {option!r}"
            return "its code does not know it" if unknown_word else f"networks do not work ({own})"
        unlike |= not any(_same(own, output) for output in seen.values())
        matters |= _differ(list(seen.values()))
    if unlike:
        return ""
    if not works:
        return f"none of the designs that were tried works anyway ({cause})"
    if not matters:
        return "in no design that was tried does it change the network"
    return "its code makes the same network of it as of another option"


def known_words(
    space: Space, path: str, wanted: Sequence[str], shape: Shape, classes: int
) -> list[str]:
    """Those of some words that the code knows as options, by one small design each."""
    if space.build is None:
        return []
    decision, wide = space.by_name[path], space.with_options(path, wanted)
    for base in _bases(wide, path, None):
        seen = {
            o: _output(wide, _put(wide, base, path, o), shape, classes) for o in decision.options
        }
        if _differ(list(seen.values())):
            break
    else:
        return []
    seen |= {w: _output(wide, _put(wide, base, path, w), shape, classes) for w in wanted}
    return [
        w
        for w in wanted
        if not isinstance(seen[w], str)
        and not any(_same(seen[w], seen[o]) for o in decision.options)
    ]


def _bases(space: Space, path: str, given: Architecture | None) -> Iterator[Architecture]:
    """Designs in which a decision is active: the one under discussion, and small ones drawn."""
    if given is not None and path in (fitted := space.fit(given)):
        yield fitted
    path_up: dict[str, frozenset[Option]] = {}
    above = space.by_name[path].when
    while above is not None:
        path_up[above[0]] = above[1]
        above = space.by_name[above[0]].when
    for seed in range(TRIED):
        rng = np.random.default_rng(seed)

        def pick(d: Decision, rng: np.random.Generator = rng) -> Option:
            options = [o for o in d.options if o in path_up.get(d.name, d.options)]
            options = options[:2] if d.ordered else options
            return options[rng.integers(len(options))]

        yield space.answer(pick)


def _put(space: Space, base: Architecture, path: str, option: Option) -> Architecture:
    """The design with an option; parts that become active by it are as `Space.fit` has them."""
    return space.narrow({path: option}).fit(base)


def _output(space: Space, design: Architecture, shape: Shape, classes: int) -> Any:
    """What the network answers, evaluated and in training; a text says why there is none."""
    import torch

    from raynas.costs import costs_of

    assert space.build is not None, "seen to by the caller"
    try:
        plain = space.plainest(design)
        space.check(plain)
        space.identity(design)
        next(space.neighbours(design), None)
        if space.graphs:
            space.graphs(design)
        costs_of(space, design, shape, classes, COUNTS)
        with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of options that make no sense
            torch.manual_seed(0)
            model = _filled(space.build(design, shape, classes))
            images = torch.randn(IMAGES, *shape)
            found = [model.eval()(images[:1]), model.train()(images)]
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if tuple(found[0].shape) != (1, classes):
        return f"an answer of shape {tuple(found[0].shape)} in place of (1, {classes})"
    return found


def _filled(model: nn.Module) -> nn.Module:
    """The network with other weights than its own: those that begin at zero would hide parts."""
    import torch

    for p in model.parameters():
        spread = 0.5 / np.sqrt(max(p[0].numel(), 1)) if p.dim() > 1 else 0.3
        p.add_(spread * torch.randn_like(p))
    return model


def _same(a: Any, b: Any) -> bool:
    """Whether two networks answer the same, so that they are one."""
    import torch

    if isinstance(b, str):
        return False
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def _differ(outputs: Sequence[Any]) -> bool:
    """Whether some of the networks that work are not the same."""
    work = [output for output in outputs if not isinstance(output, str)]
    return any(not _same(work[0], output) for output in work[1:])


def words(space: Space) -> list[str]:
    """Names of operations that some code here knows."""
    from raynas import blocks, cells, operations

    tables: tuple[Any, ...] = (
        operations.OPERATIONS,
        operations.ACTIVATIONS,
        blocks.NONLINEARITIES,
        blocks.GATES,
        cells.OPERATIONS,
    )
    own = (str(o) for d in space.decisions for o in d.options if isinstance(o, str))
    named = dict.fromkeys([*own, *(word for table in tables for word in table)])
    return [word for word in named if word]

"""Options and leaves under all their spellings: `sep_conv_3x3` is a separable convolution of 3.

An option's name is read as marks (`conv`, `separable`, `3x3`); words are read the same way, and
mean every option that bears all their marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from raynas.architecture import Decision, Option, option_text, parse_option

# a word, in an option's name or in speech -> the marks that it bears
MARKS: dict[str, frozenset[str]] = {
    word: frozenset(marks.split())
    for words, marks in {
        "conv convs convolution convolutions convolutional": "conv",
        "nor normal plain standard regular ordinary vanilla": "conv plain",
        "sep separable sepconv sepconvs dsconv": "conv separable",
        "dil dilated atrous dilconv dilconvs": "conv dilated",
        "depthwise dw dwconv": "conv depthwise",
        "pointwise": "conv plain 1x1",
        "pool pools pooling poolings": "pool",
        "max maxpool maxpools maxpooling": "pool max",
        "avg average mean avgpool avgpools avgpooling": "pool avg",
        "skip skips shortcut shortcuts identity identities residual residuals": "skip",
        "none zero zeroize": "none",
        "bottleneck bottlenecks": "bottleneck",
        "mbconv mbconvs": "mbconv",
        "transformer transformers": "transformer",
        "relu": "relu",
        "swish silu": "swish",
        "gelu": "gelu",
        "hswish hardswish": "hard_swish",
    }.items()
    for word in words.split()
}
EMPTY = frozenset(
    [
        "connect",
        "connection",
        "connections",
        "op",
        "ops",
        "operation",
        "operations",
        "layer",
        "layers",
        "block",
        "blocks",
        "size",
        "kernel",
        "kernels",
        "filter",
        "filters",
        "function",
        "functions",
        "activation",
        "activations",
        "nonlinearity",
    ]
)
_SIZE = re.compile(r"(\d+)x(\d+)\Z")

# what a leaf is called -> leaves of spaces, the first of which a space has is meant
LEAVES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("kernel", "kernels", "kernel size", "kernel sizes", "kernel_size"),
        ("kernel_size", "kernel"),
    ),
    **dict.fromkeys(
        ("channel", "channels", "filters", "output channels", "number of channels", "width",
         "number of filters", "widths"),
        ("filter_size", "width"),
    ),
    "wide": ("filter_size", "width", "embedding", "initial_width"),
    **dict.fromkeys(("depth", "number of layers", "number of blocks"), ("num_layers", "depth")),
    **dict.fromkeys(
        ("expansion", "expansion ratio", "expansion factor", "expansion rate"), ("expansion",)
    ),
    **dict.fromkeys(
        ("heads", "head count", "attention heads", "number of heads", "number of attention heads"),
        ("heads",),
    ),
    **dict.fromkeys(("mlp ratio", "mlp_ratio", "mlp expansion"), ("mlp_ratio",)),
    **dict.fromkeys(
        ("activation", "activations", "activation function", "activation functions",
         "nonlinearity", "nonlinearities"),
        ("activation",),
    ),
    **dict.fromkeys(
        ("skip connection", "skip connections", "skip", "skips", "residual connection",
         "residual connections", "residual", "residuals", "shortcut", "shortcuts",
         "shortcut connection", "shortcut connections", "residual skip"),
        ("skip_connection",),
    ),
    **dict.fromkeys(
        ("squeeze excite", "squeeze and excite", "squeeze and excitation", "squeeze excitation",
         "se", "se block", "se blocks", "se module", "se modules", "squeeze_excite",
         "squeeze and excitation blocks", "squeeze and excitation modules"),
        ("squeeze_excite",),
    ),
    **dict.fromkeys(("type", "operation type", "layer type"), ("type",)),
    **dict.fromkeys(("stride", "strides"), ("stride",)),
    **dict.fromkeys(("patch size", "patches", "patch"), ("patch_size",)),
    **dict.fromkeys(("embedding", "embedding size", "embedding dimension"), ("embedding",)),
    **dict.fromkeys(("group width",), ("group_width",)),
    **dict.fromkeys(("bits", "bit"), ("bits",)),
}  # fmt: skip


def marks(text: str) -> frozenset[str] | None:
    """The marks of a name such as `depthwise_separable_conv`; None if a word bears none."""
    found: set[str] = set()
    words = [w for w in re.split(r"[\s_\-]+", text.lower().replace("h-swish", "hswish")) if w]
    joined = "_".join(words)
    if joined in ("hard_swish", "h_swish"):
        return frozenset({"hard_swish"})
    for word in words:
        glued = re.fullmatch(r"([a-z]+)(\d+x\d+)", word)  # conv3x3
        for piece in glued.groups() if glued else (word,):
            size = _SIZE.match(piece)
            if size and size[1] == size[2]:
                found.add(piece)
            elif piece in MARKS:
                found |= MARKS[piece]
            elif piece not in EMPTY:
                return None
    if "separable" in found:  # a depthwise separable convolution is the separable one
        found.discard("depthwise")
    return frozenset(found) or None


def marks_of(option: Option) -> frozenset[str]:
    """The marks of an option; a plain `conv` is told from what has more to its name."""
    found = marks(option) if isinstance(option, str) else None
    if found is None:
        return frozenset({f"={option_text(option)}"})
    bare = "conv" in found and not found & {"separable", "dilated", "depthwise"}
    return found | {"plain"} if bare else found


def bearing(wanted: frozenset[str], options: Sequence[Option]) -> list[Option]:
    """The options that bear all marks; a lone depthwise one may stand for the separable one."""
    found = [o for o in options if wanted <= marks_of(o)]
    if not found and "depthwise" in wanted:
        near = (wanted - {"depthwise"}) | {"separable"}
        found = [o for o in options if near <= marks_of(o)]
    return found


def spelled(decision: Decision, given: object) -> tuple[Option, ...]:
    """The options of a decision that `given` may mean: one, several (`separable_conv` of two
    sizes), or none."""
    options = decision.options
    kind = type(options[0])
    if isinstance(given, str) and given not in options:
        word = re.sub(r"[\s\-]+", "_", given.strip().lower())
        same = [o for o in options if option_text(o).lower() == word]
        if same:
            return (same[0],)
        if kind is bool and word in ("yes", "on", "no", "off"):
            return (word in ("yes", "on"),)
        if kind is str:
            wanted = marks(given)
            return tuple(bearing(wanted, options)) if wanted else ()
        size = _SIZE.match(word)
        parsed = int(size[1]) if size and size[1] == size[2] else parse_option(word)
        return spelled(decision, parsed) if not isinstance(parsed, str) else ()
    if kind is not bool and isinstance(given, bool):
        return ()
    if kind is float and isinstance(given, int):
        given = float(given)
    if kind is int and isinstance(given, float) and given == int(given):
        given = int(given)
    return tuple(o for o in options if type(o) is type(given) and o == given)


def leaf_called(name: str, leaves: Iterable[str]) -> str | None:
    """The leaf that a name means, of those that there are."""
    have = set(leaves)
    word = re.sub(r"[\s\-_]+", " ", name.strip().lower())
    if word.replace(" ", "_") in have:
        return word.replace(" ", "_")
    return next((leaf for leaf in LEAVES.get(word, ()) if leaf in have), None)

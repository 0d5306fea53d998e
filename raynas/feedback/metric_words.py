"""What metrics and forms of a design are called, units, and numbers in words."""

from __future__ import annotations

from raynas.feedback.splitting import phrases as _phrases

# how a metric is called; `size`, `speed` and `efficiency` depend on what the run knows
METRICS: dict[str, tuple[str, ...]] = {
    "accuracy": _phrases("accuracy; acc; validation accuracy; classification accuracy; accuracies"),
    "loss": _phrases("loss; validation loss"),
    "params": _phrases(
        "params; parameters; param; parameter; parameter count; number of parameters; param "
        "count; number of params; number of weights; trainable parameters; parameter number; "
        "parameter budget; weights"
    ),
    "flops": _phrases(
        "flops; flop; compute; computation; computations; computational cost; computational "
        "effort; number of flops; floating point operations; compute cost"
    ),
    "latency_ms": _phrases(
        "latency; inference time; inference latency; response time; latency_ms; run time; "
        "runtime; latencies; inference speed of"
    ),
    "peak_memory_mb": _phrases(
        "memory; ram; peak memory; memory use; memory usage; memory footprint; memory "
        "consumption; peak_memory_mb; peak ram; working memory"
    ),
    "model_size_kb": _phrases(
        "flash; disk; storage; disk space; file size; model_size_kb; flash memory; model file "
        "size; weights file; storage size; on disk"
    ),
    "train_seconds": _phrases("training time; train time; train_seconds"),
    "size": _phrases("size; model size; network size; compactness; smallness"),
    "speed": _phrases("speed; inference speed"),
    "efficiency": _phrases("efficiency; cost; costs"),
}

# wishes about metrics in one word
WISHES: dict[str, tuple[str, ...]] = {
    "size": _phrases(
        "smaller; shrink it; shrink the network; shrink the model; shrink the design; "
        "downsize it; downsize; slim it down; lighter; more compact; compact; lightweight; "
        "more lightweight; too big; too large; too heavy; less big; tinier; slimmer; leaner; "
        "smaller network; smaller model; a smaller network; a smaller model; small; half the "
        "size; half as big; half as large"
    ),
    "speed": _phrases(
        "faster; quicker; too slow; speed up; speed it up; less slow; quick; fast; speedier; "
        "speed things up; speed the network up; speed the model up; twice as fast"
    ),
    "efficiency": _phrases(
        "more efficient; cheaper; too expensive; less expensive; less costly; too costly; "
        "more efficiency; efficient; edge deployment; deployment on the edge; deployment at "
        "the edge; edge devices; edge device; edge ready; edge friendly; more efficiency for "
        "edge deployment; more efficient for edge deployment; suitable for edge deployment; "
        "edge; more edge friendly; efficiency for edge deployment; cheap; more efficient for "
        "edge devices; suitable for edge devices; for the edge; suitable for the edge; "
        "deployable on the edge; deploy on the edge; more efficient for the edge; resource "
        "efficient; more resource efficient"
    ),
    "accuracy": _phrases(
        "more accurate; better accuracy; higher accuracy; more accuracy; accuracy is too low; "
        "accurate; not accurate enough; improve accuracy; improve the accuracy; increase "
        "accuracy; increase the accuracy; greater accuracy; raise accuracy; raise the "
        "accuracy; boost accuracy; boost the accuracy; less error prone; better accuracies; "
        "improve on accuracy"
    ),
}

# wishes about the form of a design: what they are about, and whether more of it
_FORMS: dict[tuple[str, bool], tuple[str, ...]] = {
    ("depth", True): _phrases(
        "deeper; more depth; more deep; too shallow; deepen; more layers; too few layers; "
        "additional layers"
    ),
    ("depth", False): _phrases(
        "shallower; less deep; too deep; simpler; less complex; simplify; too complex; too "
        "complicated; less complicated; less depth; fewer layers; too many layers"
    ),
    ("wide", True): _phrases(
        "wider; broader; too narrow; widen; more width; more channels; more filters; too few "
        "channels"
    ),
    ("wide", False): _phrases(
        "narrower; thinner; too wide; less wide; fewer channels; less width; fewer filters; "
        "too many channels; slim down"
    ),
    ("kernel", True): _phrases(
        "larger receptive field; bigger receptive field; wider receptive field; greater "
        "receptive field; larger receptive fields; bigger receptive fields; wider receptive "
        "fields; more receptive field; larger kernels; bigger kernels; larger kernel; bigger "
        "kernel; larger filters; larger kernel size; bigger kernel size; larger kernel sizes; "
        "bigger kernel sizes; wider kernels; increase the receptive field; enlarge the "
        "receptive field; receptive field is too small; increase receptive field; larger "
        "field of view; widen the receptive field; expand the receptive field; grow the "
        "receptive field; extend the receptive field"
    ),
    ("kernel", False): _phrases(
        "smaller receptive field; smaller receptive fields; smaller kernels; smaller kernel; "
        "smaller kernel size; smaller kernel sizes; narrower receptive field; reduce the "
        "receptive field; receptive field is too large; shrink the receptive field"
    ),
}
FORMS = {said: form for form, phrases in _FORMS.items() for said in phrases}

# (dimension, how many of its base one is) -> units
_UNITS: dict[tuple[str, float], tuple[str, ...]] = {
    ("count", 1000.0): _phrases("k; thousand"),
    ("count", 1000000.0): _phrases("m; million; mio"),
    ("count", 1000000000.0): _phrases("g; billion"),
    ("flops", 1000.0): _phrases("kflops; kflop"),
    ("flops", 1000000.0): _phrases("mflops; mflop; megaflops"),
    ("flops", 1000000000.0): _phrases("gflops; gflop; gigaflops"),
    ("kB", 1.0): _phrases("kb; kilobytes; kilobyte"),
    ("kB", 1000.0): _phrases("mb; megabytes; megabyte"),
    ("kB", 1.024): _phrases("kib"),
    ("kB", 1048.576): _phrases("mib"),
    ("kB", 1000000.0): _phrases("gb"),
    ("kB", 1073741.824): _phrases("gib"),
    ("ms", 1.0): _phrases("ms; msec; msecs; millisecond; milliseconds"),
    ("ms", 0.001): _phrases("us; µs; microseconds"),
    ("s", 1000.0): _phrases("s; sec; secs; second; seconds"),
    ("%", 0.01): _phrases("%; percent; per cent; pct"),
    ("points", 0.01): _phrases("percentage points; percentage point; points; pp; point"),
    ("times", 1.0): _phrases("times"),
}
UNITS = {unit: base for base, units in _UNITS.items() for unit in units}

# numbers in words; "one" counts only beside a noun ("layer one"), as it also stands for things
NUMBERS = {
    word: n
    for n, word in enumerate(
        _phrases(
            "one; two; three; four; five; six; seven; eight; nine; ten; eleven; twelve; "
            "thirteen; fourteen; fifteen; sixteen; seventeen; eighteen; nineteen; twenty"
        ),
        start=1,
    )
}

# parts of a whole in words; "third" alone is also a place, so that it needs an "a"
PARTS = {
    "a half": 1 / 2, "one half": 1 / 2,
    "a quarter": 1 / 4, "one quarter": 1 / 4, "three quarters": 3 / 4,
    "a third": 1 / 3, "one third": 1 / 3, "two thirds": 2 / 3,
    "a fifth": 1 / 5, "one fifth": 1 / 5, "a tenth": 1 / 10, "one tenth": 1 / 10,
}  # fmt: skip

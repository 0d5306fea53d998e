"""The grammar: patterns of kinds of words (`lexicon.WORDS`), and what each comes to.

A rule must match a whole clause, so that no word of it is left over. `o` is a list of options,
`p` a list of places. The table `RULES` is read from top to bottom; its examples are the forms
that a refusal suggests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from raynas.directives import Directive
from raynas.feedback.clauses import Clause
from raynas.feedback.context import Context
from raynas.feedback.lexing import Token
from raynas.feedback.metric_rules import (
    between,
    bound,
    bound_loosely,
    limit_dropped,
    loss,
    lowered,
    no_worse,
    order,
    runs,
    share,
    wished,
)
from raynas.feedback.option_rules import (
    added,
    fewer_of,
    forbidden,
    kept,
    kept_option,
    more_of,
    preferred,
    replaced,
    set_to,
    tried,
    used,
)
from raynas.feedback.step_rules import formed, leaf_bound, leaf_compared, leaf_stepped


@dataclass(frozen=True)
class Rule:
    """A pattern, what it comes to, what it is about, and examples."""

    about: str
    pattern: re.Pattern[str]
    read: Callable[[Clause], list[Directive]]
    examples: tuple[str, ...]


_OS = r"O(?:[,&|]{1,2}[ON])*"
_PS = r"P(?:[,&]{1,2}P)*"
_MS = r"M(?:[,&]{1,2}M)*"


def _rule(
    about: str, pattern: str, read: Callable[[Clause], list[Directive]], *examples: str
) -> Rule:
    lists = {"o": _OS, "m+": _MS, "w+": _MS, "p": _PS, "p2": _PS, "p3": _PS}
    text = re.sub(
        r"(?<!\?P)<([a-z]\d?\+?)>",
        lambda m: f"(?P<{m[1].rstrip('+')}>{lists[m[1]]})",
        pattern,
    )
    return Rule(about, re.compile(rf"(?:{text})\Z"), read, examples)


RULES: tuple[Rule, ...] = (
    _rule(
        "option",
        r"(?:<p>,?)?(?P<v>[UY]*)(?P<v2>U?)Y?<o><p2>?(?P<v3>Y?)",
        used,
        "kernel 5 at layer 3",
        "use swish in layer 2",
        "gelu everywhere",
    ),
    _rule("option", r"(?P<v>U?)<p>[Wi]<o>|(?P<v2>U)<p2>(?P<o2>O)", used, "layer 3 with kernel 5"),
    _rule("option", r"R<p>[WiI]<o>", used, "replace layer 3 by a separable convolution"),
    _rule(
        "option",
        r"(?:<p>,?)?(?P<v>[UR+-]?)U?(?P<l>L)<p2>?(?:f(?P<b>N))?[WU=]*(?P<n>[NO])<p3>?",
        set_to,
        "change the kernel size of layer 3 to 5",
    ),
    _rule(
        "option",
        r"(?P<v>[UR+-]?)<p>(?:f(?P<b>N))?[WU=]+(?P<n>[NO])",
        set_to,
        "set layer3.kernel_size to 5",
    ),
    _rule(
        "option", r"R(?P<a>O)<p>?[WiI](?P<o>O)<p2>?", replaced, "replace relu with swish in layer 1"
    ),
    _rule(
        "option",
        r"(?:<p>,?)?U?(?P<o>O)<p2>?I(?P<a>[ON])<p3>?",
        replaced,
        "use swish instead of relu in layer 1",
    ),
    _rule("option", r"TU?<p>?i?<o><p2>?", tried, "try a 5x5 kernel in layer 3"),
    _rule(
        "option",
        r"T(?P<l>L)<p>?[WU=]*(?P<n>[NO])|T(?P<p2>P)[WU=]+(?P<n2>[NO])",
        tried,
        "try kernel size 5 in layer 3",
    ),
    _rule("keep", r"K<p>(?:d?Z)?|<p2>U?K?d?Z", kept, "keep layer 2", "leave layer 1 as it is"),
    _rule(
        "keep",
        r"K(?P<l>L(?:[,&]{1,2}L)*)<p>?Z?|K(?P<p2>P)(?P<l2>L)Z?",
        kept,
        "keep the kernel size of layer 3",
    ),
    _rule("keep", r"K<o><p>Z?|K<p2>(?P<o2>O)", kept_option, "keep the skip connection of layer 1"),
    _rule(
        "option",
        r"(?:<p>,?)?U?d?(?P<v>X)<o>d?<p2>?d?",
        forbidden,
        "no separable convolutions after layer 4",
        "avoid 7x7 kernels",
    ),
    _rule("option", r"J<o><p>?", added, "add a skip connection to layer 2"),
    _rule("option", r"j<o><p>?", forbidden, "turn off squeeze-and-excitation in stage 2"),
    _rule(
        "option",
        r"(?:<p>,?)?(?P<h>[hw]?)F(?P<h2>[hw]?)U?m?<o>(?:[VI](?P<a>O))?<p2>?",
        preferred,
        "strongly prefer separable convolutions",
        "prefer swish over relu in layer 2",
    ),
    _rule("option", r"H?(?:<p>,?)?[UF]*m<o><p2>?H?", more_of, "more skip connections"),
    _rule("option", r"H?(?:<p>,?)?[UF]*l<o><p2>?H?", fewer_of, "fewer 7x7 kernels"),
    _rule(
        "option",
        r"H?(?:<p>,?)?[UF]*(?P<c>c(?:[,&]{1,2}c)*)<p2>?H?|U(?P<p3>P)(?P<c2>c)",
        formed,
        "deeper",
        "a larger receptive field in layer 3",
        "wider",
    ),
    _rule(
        "option",
        r"H?(?:<p>,?)?[UF]*(?P<v>[mgls+-])(?P<l>L)<p2>?H?",
        leaf_stepped,
        "more channels in layer 2",
    ),
    _rule(
        "option",
        r"(?:<p>,?)?(?P<u>[UF]?)(?P<l>L)<p2>?(?P<x>U?)(?P<v>[gs])<p3>?",
        leaf_compared,
        "make the kernels larger in layer 2",
    ),
    _rule(
        "metric",
        r"(?P<h>H?)[UK]?(?P<g>G?)(?P<s>[ABVb])(?P<q>[QN%])(?P<m>M?)(?P<h2>H?)",
        bound,
        "at most 50k parameters",
        "under 2 ms",
        "fits in 256 kB",
    ),
    _rule(
        "metric",
        r"U?(?P<s>[AB])(?P<m>M)[WiU=]?(?P<q>[QN%])|(?P<q2>[QN%])(?P<m2>M?)(?P<s2>[AB])",
        bound_loosely,
        "max params 40k",
    ),
    _rule(
        "metric",
        r"(?P<h>H?)[UKy]?(?P<m>M)U?(?P<s>[ABV])(?P<q>[QN%])(?P<h2>H?)",
        bound,
        "latency under 2 ms",
        "accuracy at least 95 %",
    ),
    _rule(
        "metric",
        r"(?P<g>G)(?P<s>[AB]?)(?P<q>[Q%])(?P<m>M?)|(?P<g2>G)(?P<m2>M)W?(?P<s2>[AB]?)(?P<q2>[Q%])",
        bound,
        "aim for 95 % accuracy",
    ),
    _rule("metric", r"U(?P<q>[Q%])(?P<m>M)", bound, "I need 95 % accuracy"),
    _rule("metric", r"rA?(?P<q>Q)(?P<m>M?)", runs, "it must run in 3 ms"),
    _rule("metric", r"U?(?P<q>Q)(?P<m>M)(?P<s>n)", bound, "a 2 ms latency limit"),
    _rule(
        "metric",
        r"(?P<s>n)(?P<m>M)W(?P<q>[QN])|U?(?P<m2>M)(?P<s2>n)[WiU=]?(?P<q2>[QN])",
        bound,
        "limit the parameters to 50k",
    ),
    _rule("metric", r"(?P<s>-)(?P<m>M)[WA](?P<q>[Q])", bound, "reduce latency to 2 ms"),
    _rule(
        "metric",
        r"[UK]?q(?P<x>[QN])&(?P<y>[QN])(?P<m>M?)|(?P<m2>M)[UK]?q(?P<x2>[QN])&(?P<y2>[QN])",
        between,
        "between 10k and 20k parameters",
    ),
    _rule("option", r"(?:<p>,?)?[UK]?(?P<s>[AB])(?P<o>O)<p2>?", leaf_bound, "at most 8 layers"),
    _rule(
        "option",
        r"(?:<p>,?)?(?P<l>L)<p2>?[UK]?(?P<s>[AB])(?P<n>N)<p3>?",
        leaf_bound,
        "kernels of at most 5 in layer 2",
    ),
    _rule(
        "metric",
        r"H?U?(?:(?P<q>[%9Q])(?P<m>C)|(?P<q2>[%9])[ls-](?P<m2>M)|(?P<t>[/9])(?P<m3>M)"
        r"|(?P<m4>C)i(?P<q4>[%9]))H?",
        share,
        "20 % smaller",
        "30 % fewer parameters",
    ),
    _rule(
        "metric",
        r"H?U?(?:[-l](?P<m>M)(?:i?(?P<q>%)|i(?P<q4>9)|(?P<q2>/))|(?P<q3>/)-?(?P<m2>M)"
        r"|-(?P<m3>M)W(?P<t>[/9])|-(?P<r>[%9])(?P<m4>M))H?",
        share,
        "reduce the flops by 25 %",
        "half the parameters",
    ),
    _rule(
        "metric",
        r"H?[UF]*(?P<c>C(?:[,&]{1,2}C)*)H?|r(?P<c2>C)|(?P<e>v)(?P<c3>C)",
        wished,
        "smaller",
        "faster",
        "more efficient for edge deployment",
        "more accurate",
    ),
    _rule(
        "metric", r"H?[UF]*(?P<v>[mlgs+-])(?P<m>M)H?", lowered, "lower latency", "fewer parameters"
    ),
    _rule(
        "metric",
        r"(?P<v>[EyF])a?<m+>(?:[VI]a?<w+>)?|(?P<m2>M)V(?P<w2>M)|(?P<w3>M)2(?P<m3>M)",
        order,
        "prioritize accuracy over size",
        "accuracy over size",
    ),
    _rule("metric", r"(?P<m>M)[1(]", order, "accuracy first"),
    _rule("metric", r"t(?P<q>%)(?P<m>M)", loss, "don't lose more than 1 % accuracy"),
    _rule("metric", r"u(?P<m>M)|(?P<k>k)", no_worse, "without losing accuracy"),
    _rule("metric", r"[X0](?P<m>M)n|[X0]na?(?P<m2>M)", limit_dropped, "remove the parameter limit"),
)

FORMS: tuple[str, ...] = tuple(example for rule in RULES for example in rule.examples)


def code(tokens: Sequence[Token]) -> str:
    """The clause as letters; a share (%) and a part (9) are told from other quantities."""
    return "".join(
        {"%": "%", "points": "%", "part": "9"}.get(t.value[1], "Q") if t.kind == "Q" else t.kind
        for t in tokens
    )


def read(tokens: Sequence[Token], words: str, context: Context) -> tuple[Rule, Clause] | None:
    """The first rule that matches all of a clause."""
    text = code(tokens)
    for rule in RULES:
        match = rule.pattern.match(text)
        if match:
            groups: dict[str, tuple[Token, ...]] = {}
            for name in match.groupdict():
                if match[name]:
                    start, end = match.span(name)
                    base = re.fullmatch(r"(.+?)[2-4]?", name)
                    key = name if name in ("p2", "p3", "h2", "v3") else base[1] if base else name
                    groups[key] = tuple(tokens[start:end])
            verb = next((k for k in text if k in "UYKXFTRJj+-mlc"), "")
            return rule, Clause(groups, words, context, verb)
    return None

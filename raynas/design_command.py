"""What `raynas continue`, `undo` and `design` do: what a person says to a search, at a terminal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from raynas import continuing
from raynas.answering import Answer
from raynas.architecture import parse_option
from raynas.design_session import CollaborativeDesignSession
from raynas.errors import UserError
from raynas.files import place
from raynas.result import SearchResult

HELP = """\
Say what should be different, in words: "under 30k parameters", "no separable convolutions after
layer 2", "keep layer 0", "more accurate". It is shown back, and acts with the next proposal. Or:
  refine [TRIALS]              search on with what was said, and propose again
  modify LAYER NAME=OPTION...  change a layer of the design: modify 1 kernel_size=5
  explain LAYER                what is known of a layer of the design
  compare TRIAL TRIAL          why the one design and not the other
  show                         the design under discussion, and the others of the front
  undo                         take back what was said or proposed last
  history                      all turns so far
  final                        train the design fully, and end
  quit                         end; the session can be opened again"""
AHEAD = "Acts with the next proposal (refine); undo takes it back."


class OnceEach(yaml.SafeLoader):
    """A safe loader that refuses a key that stands twice, of which YAML's would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            text = yaml.serialize(key)
            if text in seen:
                line = key.start_mark.line + 1
                raise yaml.YAMLError(f"in line {line}, {key.value} stands for the second time")
            seen.add(text)
        return super().construct_mapping(node, deep)


def feedback_of(a: argparse.Namespace) -> str | Mapping[str, Any]:
    """What was said with --say, or stands in the file of --feedback.

    Raises:
        UserError: the file is not there or no YAML.
    """
    if a.say is not None:
        return str(a.say)
    try:
        found = yaml.load(Path(a.feedback).read_text(), OnceEach)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        cause = str(error).splitlines()[0]
        raise UserError(f"--feedback {a.feedback}: expected a file of YAML; {cause}.") from None
    if not isinstance(found, str | Mapping):
        raise UserError(
            f"--feedback {a.feedback}: expected words or a mapping such as `layer_3: {{suggestion: "
            f"{{kernel_size: 5}}}}`; got {type(found).__name__}."
        )
    return found


def continued(a: argparse.Namespace, console: Console, display: Any) -> SearchResult | None:
    """Goes on with a run by what was said; None if nothing was changed."""
    done = True

    def confirm(answer: Answer) -> bool:
        nonlocal done
        console.print(str(answer), highlight=False, soft_wrap=True)
        done = not a.dry_run and (a.yes or not sys.stdin.isatty() or _agrees())
        return done

    result = continuing.continue_with_feedback(
        a.run_folder,
        feedback_of(a),
        trials=a.trials,
        time_budget_hours=None if a.time_budget is None else a.time_budget / 3600,
        confirm=confirm,
        space=a.space,
        address=a.address,
        display=display,
    )
    if not done:
        console.print("Nothing was changed.", highlight=False)
    return result if done else None


def _agrees() -> bool:
    return input("Go on? [Y/n] ").strip().lower() in ("", "y", "yes")


def undo(a: argparse.Namespace) -> int:
    turn = continuing.undo(place(a.run_folder))
    print(f"taken back: turn {turn.number} ({turn.said!r})")
    return 0


def talk(session: CollaborativeDesignSession, console: Console) -> int:
    """Holds a session: reads lines until `final`, `quit` or their end; returns the exit code."""

    def say(text: object) -> None:
        console.print(str(text), highlight=False, soft_wrap=True)

    say(session.get_initial_proposal())
    say('What should be different? "help" says what can be said.')
    commands = _commands(session, say)
    for line in _lines(console):
        word, _, rest = line.strip().partition(" ")
        try:
            if word in ("quit", "exit"):
                break
            if word == "final":
                session.finalize()
                say(session.final())
                number = session.history["trial"].iloc[-1]
                say(f"weights {session.path / f'models/{number:.0f}.safetensors'}")
                return 0
            if word in commands:
                commands[word](rest.split())
            elif line.strip():
                answer = session.provide_feedback(line.strip())
                say(answer)
                if answer.directives:
                    say(AHEAD)
        except UserError as error:
            say(error)
    say(f"To go on: raynas design --run {session.path}")
    return 0


def _commands(
    session: CollaborativeDesignSession, say: Callable[[object], None]
) -> dict[str, Callable[[list[str]], None]]:
    """What is no feedback, by its first word."""

    def refine(words: list[str]) -> None:
        say(session.get_refined_proposal(_number(words[0]) if words else None))

    def modify(words: list[str]) -> None:
        edits = [word.partition("=") for word in words[1:]]
        if not edits or not all(equals for _, equals, _ in edits):
            raise UserError("expected such as: modify 1 kernel_size=5 type=conv.")
        options = {name: parse_option(option) for name, _, option in edits}
        say(session.modify_layer(_number(words[0]), options))
        say(AHEAD)

    def explain(words: list[str]) -> None:
        say(session.explain(_number(words[0] if words else "")))

    def compare(words: list[str]) -> None:
        if len(words) != 2:
            raise UserError("expected the numbers of two trials, such as: compare 3 17.")
        say(session.compare(*map(_number, words)))

    def history(words: list[str]) -> None:
        del words
        for _, row in session.history.iterrows():
            about = {"undo": ("turn", row["undoes"])}.get(row["move"], ("trial", row["trial"]))
            what = row["said"] or (f"{about[0]} {about[1]:.0f}" if about[1] == about[1] else "")
            gone = "" if row["holds"] or row["move"] == "undo" else "(undone) "
            say(f"{row['number']:>3}  {row['move']:<9}{gone}{what}")

    return {
        "refine": refine,
        "modify": modify,
        "explain": explain,
        "compare": compare,
        "history": history,
        "show": lambda _: say(session.get_initial_proposal()),
        "undo": lambda _: say(session.undo()),
        "help": lambda _: say(HELP),
    }


def _number(word: str) -> int:
    if not word.isdigit():
        raise UserError(f"expected a number; got {word or 'nothing'!r}.")
    return int(word)


def _lines(console: Console) -> Iterator[str]:
    """What is typed, line by line; shown as well where it comes from a file or a pipe."""
    typed = sys.stdin.isatty()
    while True:
        try:
            line = input("> " if typed else "")
        except EOFError:
            return
        if not typed:
            console.print(f"> {line}", highlight=False, soft_wrap=True)
        yield line

"""The one family of errors that a person can act on; the command line prints them bare."""


class UserError(ValueError):
    """What was asked cannot be done as asked: says what was expected, what came, what to do."""


def unknown(kind: str, name: object, known: list[str]) -> UserError:
    """An error for a name that is not in a table, with the nearest that is."""
    from difflib import get_close_matches

    near = get_close_matches(str(name), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UserError(f"{kind}: expected one of {', '.join(known)}; got {name!r}.{hint}")

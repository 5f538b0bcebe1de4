"""The nearest of the names there are, for messages about a name there is not."""

import difflib
from collections.abc import Iterable


def near_names(name: str, names: Iterable[str]) -> list[str]:
    """Up to three of `names` that are close to `name`, the closest first."""
    by_lower = {other.lower(): other for other in names}
    # Long inputs come from strangers and difflib's time grows with their square.
    close = difflib.get_close_matches(name[:100].lower(), list(by_lower), n=3, cutoff=0.6)
    return [by_lower[other] for other in close]


def nearest(name: str, names: Iterable[str]) -> str:
    """' Did you mean X?' when some name is close to `name`, else ''."""
    close = near_names(name, names)
    return f" Did you mean {close[0]}?" if close else ""

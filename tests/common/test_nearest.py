"""The names that a misspelt name may have meant."""

from chatsafe_common.nearest import near_names, nearest


def test_the_closest_name_is_suggested_whatever_its_capitals() -> None:
    assert near_names("PRT", ["host", "port", "parts"])[0] == "port"
    assert nearest("Hots", ["host", "port"]) == " Did you mean host?"


def test_nothing_is_suggested_for_a_name_like_no_other() -> None:
    assert nearest("zzz", ["host", "port"]) == ""
    assert near_names("x" * 1_000_000, ["host"]) == []

"""Answer: bytes, stops and labels in one line."""

from chatsafe_runtime.worker.answer import Answer


def run(pieces: list[bytes], stops: tuple[str, ...], *, clean_labels: bool) -> tuple[str, bool]:
    answer = Answer(stops, clean_labels=clean_labels)
    shown = "".join(map(answer.push, pieces))
    return shown + answer.finish(), answer.is_stopped


def test_a_stop_over_the_border_of_tokens_and_characters() -> None:
    pieces = [b"caf\xc3", b"\xa9 ", b"\xf0\x9f", b"\x98\x80EN", b"D more"]
    assert run(pieces, ("\U0001f600END",), clean_labels=False) == ("caf\xe9 ", True)


def test_a_half_character_at_the_end_is_shown_as_missing() -> None:
    assert run([b"a\xf0\x9f"], ("END",), clean_labels=False) == ("a\ufffd", False)


def test_a_stop_that_only_the_end_decides() -> None:
    assert run([b"abc"], ("bc", "abcd"), clean_labels=False) == ("a", True)


def test_stops_come_before_labels() -> None:
    assert run([b"AI: yes", b"\nUser: no"], ("\nUser:",), clean_labels=True) == ("yes", True)
    assert run([b"AI: yes", b"\nUser: no"], (), clean_labels=True) == ("yes", True)
    assert run([b"AI: yes", b"\nUser: no"], (), clean_labels=False) == ("AI: yes\nUser: no", False)

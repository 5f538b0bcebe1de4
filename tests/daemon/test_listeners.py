"""Binding: clear refusals, one port for all addresses of a name."""

import pytest

from chatsafe_daemon.listeners import BindError, bind, url_of


def test_a_free_port() -> None:
    (listener,) = bind("127.0.0.1", 0, only_loopback=True)
    with listener:
        assert url_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_all_addresses_of_a_name_share_the_port() -> None:
    listeners = bind("localhost", 0, only_loopback=True)
    assert len({listener.getsockname()[1] for listener in listeners}) == 1
    for listener in listeners:
        listener.close()


def test_a_port_in_use_is_said_clearly() -> None:
    (taken,) = bind("127.0.0.1", 0, only_loopback=True)
    with taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BindError, match=f"Port {port} on 127.0.0.1 is in use"):
            bind("127.0.0.1", port, only_loopback=True)


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("192.0.2.1", "does not belong to this machine"),
        ("no-such-name.invalid", "is not known"),
    ],
)
def test_addresses_that_cannot_be_used(host: str, reason: str) -> None:
    with pytest.raises(BindError, match=reason):
        bind(host, 0, only_loopback=False)


def test_a_name_that_leads_elsewhere_is_refused() -> None:
    with pytest.raises(BindError, match="other machines can reach"):
        bind("0.0.0.0", 0, only_loopback=True)


def test_the_url_of_all_interfaces_is_one_to_type() -> None:
    (listener,) = bind("0.0.0.0", 0, only_loopback=False)
    with listener:
        assert url_of(listener).startswith("http://127.0.0.1:")

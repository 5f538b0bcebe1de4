"""Keys: what each header opens."""

import pytest

from chatsafe_common.errors import Forbidden, InvalidApiKey
from chatsafe_local_api.keys import Headers, Keys, Right


def bearer(key: bytes) -> Headers:
    return [(b"authorization", b"Bearer " + key)]


@pytest.mark.parametrize(
    ("headers", "right"),
    [
        ([], Right.NOTHING),
        (bearer(b"api"), Right.CHAT),
        ([(b"x-api-key", b"api")], Right.CHAT),
        (bearer(b"admin"), Right.ADMIN),
        (bearer(b"apix"), Right.NOTHING),
        (bearer(b"ap"), Right.NOTHING),
        (bearer(b""), Right.NOTHING),
        ([(b"authorization", b"Basic api")], Right.NOTHING),
        ([(b"authorization", b"api")], Right.NOTHING),
        ([(b"x-api-key", b"wrong"), *bearer(b"admin")], Right.ADMIN),
        (bearer(b"\xff"), Right.NOTHING),
    ],
)
def test_rights(headers: Headers, right: Right) -> None:
    assert Keys(api_key="api", admin_key="admin").right(headers) is right


def test_without_an_api_key_everybody_chats_and_only_the_admin_administrates() -> None:
    keys = Keys(api_key=None, admin_key="admin")
    keys.check_chat(bearer(b"anything"))
    keys.check_admin(bearer(b"admin"))
    with pytest.raises(InvalidApiKey):
        keys.check_admin(bearer(b"anything"))


def test_a_good_key_without_the_scope_is_forbidden() -> None:
    with pytest.raises(Forbidden) as caught:
        Keys(api_key="api", admin_key="admin").check_admin(bearer(b"api"))
    assert caught.value.code == "insufficient_scope"


def test_repr_and_object_hold_no_key() -> None:
    keys = Keys(api_key="secretkey", admin_key="secretadmin")
    assert "secret" not in repr(keys) + repr(vars(keys))

"""Who may do what: an optional key for everybody, and the admin key for routes that change state.

Keys are kept and compared as SHA-256 digests in constant time: neither the time taken nor a
memory dump of this object tells a key.
"""

import hashlib
import hmac
from collections.abc import Sequence
from enum import Enum

from chatsafe_common.errors import Forbidden, InvalidApiKey

Headers = Sequence[tuple[bytes, bytes]]


class Right(Enum):
    """What a caller may do; each includes the one before."""

    NOTHING = 0
    CHAT = 1
    ADMIN = 2


class Keys:
    """The keys that open this daemon; `api_key` None: chatting needs none."""

    def __init__(self, *, api_key: str | None, admin_key: str) -> None:
        self._api = _digest(api_key.encode()) if api_key is not None else None
        self._admin = _digest(admin_key.encode())

    def __repr__(self) -> str:
        return f"Keys({'api key set' if self._api else 'no api key'})"

    @property
    def has_api_key(self) -> bool:
        return self._api is not None

    def right(self, headers: Headers) -> Right:
        """What the caller of a request with these headers may do."""
        given = [_digest(key) for key in _given_keys(headers)]
        if any(hmac.compare_digest(key, self._admin) for key in given):
            return Right.ADMIN
        if self._api is None or any(hmac.compare_digest(key, self._api) for key in given):
            return Right.CHAT
        return Right.NOTHING

    def check_chat(self, headers: Headers) -> None:
        """Raises InvalidApiKey unless the caller may chat and look."""
        if self.right(headers) is Right.NOTHING:
            raise InvalidApiKey(
                "The API key is missing or wrong. Send the key of setting server.api_key as "
                "'Authorization: Bearer KEY'."
            )

    def check_admin(self, headers: Headers) -> None:
        """Raises InvalidApiKey or Forbidden unless the caller holds the admin key."""
        right = self.right(headers)
        if right is Right.ADMIN:
            return
        text = (
            "This route needs the admin key: send the text of the file admin.key in ChatSafe's "
            "configuration folder as 'Authorization: Bearer KEY'. The chatsafe command does so."
        )
        if right is Right.CHAT and self._api is not None:
            raise Forbidden(text)
        raise InvalidApiKey(text)


def _given_keys(headers: Headers) -> list[bytes]:
    found = [value.strip() for name, value in headers if name == b"x-api-key"]
    for name, value in headers:
        scheme, _, key = value.strip().partition(b" ")
        if name == b"authorization" and scheme.lower() == b"bearer":
            found.append(key.strip())
    return found[:4]


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()

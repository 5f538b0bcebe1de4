"""One HTTP server that speaks our dialect: its address, keys, time limits and failures.

Everything this package asks goes through here, so the privacy rules stand here once: no redirect
is followed, and an address of this machine is never reached through a proxy, whatever the
environment says, because a proxy would read what must not leave the machine.
"""

import ipaddress
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import httpx

from chatsafe_common.errors import ChatSafeError, InvalidRequest, NotReachable, PeerFailed
from chatsafe_common.openai_reply import error_from_reply

CONNECT_TIMEOUT_S = 5.0
# A question may wait for its turn and for a model to load; the official clients allow as much.
READ_TIMEOUT_S = 600.0
# What is there, and what it is doing, is told without a model.
LOOK_TIMEOUT_S = 15.0
# What a server of something else says to our paths and methods.
_NOT_SPOKEN = (404, 405, 501)
# The largest replies are model lists and metrics, far below this.
MAX_REPLY_BYTES = 8 * 1024 * 1024


class Connection:
    """An address to ask, as an async context manager.

    `url` may lack its scheme and may end in `/v1`. Raises InvalidRequest when it is no http(s)
    address, or `api_key` cannot be one.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str = "",
        read_timeout_s: float = READ_TIMEOUT_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._address = _parse(url)
        if not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise InvalidRequest(
                "The access key holds a character that no key has: keys are visible ASCII, "
                "without blanks.",
                param="api_key",
            )
        headers = {"accept-encoding": "identity"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        self._look_timeout = httpx.Timeout(
            min(read_timeout_s, LOOK_TIMEOUT_S), connect=CONNECT_TIMEOUT_S
        )
        self._client = httpx.AsyncClient(
            base_url=self._address,
            headers=headers,
            timeout=httpx.Timeout(read_timeout_s, connect=CONNECT_TIMEOUT_S),
            trust_env=not self.is_local,
            follow_redirects=False,
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"Connection({self.address})"

    @property
    def address(self) -> str:
        """Scheme, host and port, as shown to people."""
        return str(self._address).rstrip("/")

    @property
    def is_local(self) -> bool:
        """Does what is sent here stay on this computer?"""
        return is_this_machine(self._address.host)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hangs up."""
        await self._client.aclose()

    async def get(self, path: str) -> bytes:
        """The body of a successful reply. Raises ChatSafeError as the server reports it."""
        async with self.open("GET", path) as response:
            return await read_body(response)

    async def post(
        self, path: str, body: bytes, *, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """The body of a successful reply. Raises ChatSafeError as the server reports it."""
        async with self.open("POST", path, body, headers) as response:
            return await read_body(response)

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[httpx.Response, None]:
        """A successful reply whose body is still to be read; leaving hangs up.

        What goes wrong while the caller reads is translated like everything before it.
        """
        sent = dict(headers or {})
        if body is not None:
            sent["content-type"] = "application/json"
        try:
            async with self._client.stream(
                method,
                path,
                content=body,
                headers=sent,
                timeout=self._look_timeout if method == "GET" else self._client.timeout,
            ) as response:
                if not response.is_success:
                    raise await self._refusal(response)
                yield response
        except httpx.HTTPError as error:
            raise self._translate(error) from error

    async def _refusal(self, response: httpx.Response) -> ChatSafeError:
        if response.is_redirect:
            return PeerFailed(
                f"{self.address} points to another address, and redirects are not followed, "
                "so that text goes only where you sent it. Give the final address."
            )
        body = await read_body(response)
        if response.status_code in _NOT_SPOKEN and not body.lstrip().startswith(b"{"):
            return PeerFailed(
                f"What answers at {self.address} does not speak this dialect "
                f"(HTTP status {response.status_code}). Another program may have the port."
            )
        return error_from_reply(response.status_code, body, _retry_after_s(response.headers))

    def _translate(self, error: httpx.HTTPError) -> ChatSafeError:
        match error:
            case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.UnsupportedProtocol():
                return NotReachable(f"Nothing answers at {self.address}.")
            case httpx.TimeoutException():
                return NotReachable(f"{self.address} accepted the connection but does not answer.")
            case _:
                return PeerFailed(f"{self.address} closed the connection before the answer's end.")


def _parse(url: str) -> httpx.URL:
    text = url.strip()
    if "://" not in text:
        text = f"http://{text}"
    try:
        address = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise InvalidRequest(f"{url!r} is no address: {error}.", param="url") from error
    if address.scheme not in ("http", "https") or not address.host:
        raise InvalidRequest(
            f"{url!r} is no address: it must look like http://127.0.0.1:8081.", param="url"
        )
    if not 0 < (address.port or 80) < 65536:
        raise InvalidRequest(f"{url!r} is no address: there is no such port.", param="url")
    if address.userinfo or address.query or address.fragment:
        raise InvalidRequest(
            "An address holds no user name, key, query or fragment; keys go into CHATSAFE_API_KEY.",
            param="url",
        )
    path = address.path.rstrip("/").removesuffix("/v1")
    return address.copy_with(path=f"{path}/")


def is_this_machine(host: str) -> bool:
    """Does `host`, a name or an address, belong to this machine?

    Only `localhost` and literal addresses can: any other name is looked up on a network first.
    """
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    if address.is_loopback:
        return True
    # Towards one of its own addresses a machine takes that very address as the source. Connecting
    # a datagram socket sends nothing, it only asks the routing table.
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            source: str = probe.getsockname()[0]
    except OSError:
        return False
    return source == str(address) and not address.is_unspecified


def _retry_after_s(headers: httpx.Headers) -> float | None:
    text = headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else None


async def read_body(response: httpx.Response) -> bytes:
    """All of a reply. Raises PeerFailed when it is over `MAX_REPLY_BYTES`."""
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > MAX_REPLY_BYTES:
            raise PeerFailed("The server's reply is absurdly long. Check the address.")
    return bytes(body)

"""What the API is told by whoever plugs it in: plain values, no `Settings`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiOptions:
    """Limits and switches; durations in seconds, sizes in bytes, a rate limit of 0 is off."""

    version: str
    admin_key: str
    api_key: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    max_body_bytes: int = 32 * 1024 * 1024
    body_timeout_s: float = 30.0
    stream_default: bool = False
    strict: bool = False
    system_fingerprint: bool = False
    per_ip_per_minute: int = 60
    max_concurrent_per_ip: int = 5
    global_per_minute: int = 600
    queue_size: int = 32
    max_choices: int = 8
    keep_alive_comment_s: float = 15.0

    def __repr__(self) -> str:
        return f"ApiOptions(version={self.version})"

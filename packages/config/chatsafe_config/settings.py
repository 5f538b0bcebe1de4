"""What the user can choose: one frozen dataclass per section, one field per option.

These fields are the only place where an option is defined; its TOML key, environment variable,
flag, help and its lines in `config.toml` are derived from here. `loading.py` fills them.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from chatsafe_config.option import Option, option

_HOST = r"[A-Za-z0-9._\-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?"
_ORIGIN = r"[a-z][a-z0-9+.\-]*://[^/\s?#@*]+"


@dataclass(frozen=True, slots=True)
class Server:
    """Where the daemon listens and what it lets in."""

    host: str = option(
        "127.0.0.1",
        "Address to listen on. Anything but loopback also needs allow_remote and api_key.",
        kind="str",
        pattern=r"[A-Za-z0-9._:%\-]+",
        wanted="a host name or an IP address",
    )
    port: int = option(
        8081,
        "Port to listen on; 0 lets the system choose one.",
        kind="int",
        minimum=0,
        maximum=65535,
    )
    allow_remote: bool = option(
        False, "Let other machines connect. Needs api_key too.", kind="bool"
    )
    api_key: str | None = option(
        None,
        "Key every caller must send as 'Authorization: Bearer KEY'. A flag is visible in the "
        "process list: prefer a settings file (mode 0600) or the variable.",
        kind="str",
        unset="no key is asked for on loopback",
        pattern=r"[!-~]{1,512}",
        wanted="1 to 512 visible ASCII characters without blanks",
        secret=True,
    )
    allowed_hosts: tuple[str, ...] = option(
        (),
        "Names other than loopback that the Host header may hold.",
        kind="list",
        pattern=_HOST,
        wanted='a host name like "box.lan" or "box.lan:8081" (no wildcard, no http://)',
    )
    allowed_origins: tuple[str, ...] = option(
        (),
        "Web pages that may talk to the daemon from a browser.",
        kind="list",
        pattern=_ORIGIN,
        wanted='an origin like "http://localhost:3000" (no wildcard, no path)',
    )
    max_connections: int = option(
        256, "Connections open at once.", kind="int", minimum=1, maximum=256
    )
    max_body_bytes: int = option(
        33554432,
        "Largest request body (32 MiB, which is also the most a model worker takes).",
        kind="int",
        minimum=1024,
        maximum=33554432,
    )
    head_timeout_s: float = option(
        10.0,
        "Seconds a client may take to send a request's head.",
        kind="float",
        minimum=0.1,
        maximum=10,
    )
    body_timeout_s: float = option(
        30.0,
        "Seconds a client may take to send a request's body.",
        kind="float",
        minimum=0.1,
        maximum=30,
    )
    shutdown_grace_s: float = option(
        30.0,
        "Seconds that running answers get to finish when the daemon stops; 0 cancels them.",
        kind="float",
        minimum=0,
        maximum=3600,
    )
    stream_default: bool = option(
        False,
        "Stream when a request says nothing about it (OpenAI clients expect false).",
        kind="bool",
    )
    strict: bool = option(False, "Refuse request fields that ChatSafe does not know.", kind="bool")
    system_fingerprint: bool = option(False, "Send OpenAI's system_fingerprint field.", kind="bool")


@dataclass(frozen=True, slots=True)
class Runtime:
    """How models run."""

    model_dir: Path | None = option(  # noqa: RUF009 - it is a field
        None,
        "Folder of the GGUF files.",
        kind="path",
        unset="~/.local/share/chatsafe/models or what your system uses instead",
        alias="models.directory",
    )
    context_window: int | None = option(
        None,
        "Tokens one chat may hold, question and answer together.",
        kind="int",
        unset="the registry's or the model's own",
        minimum=128,
        maximum=1048576,
    )
    threads: int | None = option(
        None,
        "CPU threads of a model.",
        kind="int",
        unset="all physical cores",
        minimum=1,
        maximum=1024,
    )
    gpu_layers: int | None = option(
        None,
        "Model layers on the GPU, when the engine was built for one; -1 is all, 0 none.",
        kind="int",
        unset="the registry's, usually all",
        minimum=-1,
        maximum=100000,
    )
    parallel: int = option(
        8, "Chats that one model answers at once.", kind="int", minimum=1, maximum=64
    )
    batch_size: int = option(
        512, "Tokens that one step reads at most.", kind="int", minimum=16, maximum=8192
    )
    keep_alive_s: float = option(
        300.0,
        "Seconds of rest after which a model leaves memory; 0 is at once, -1 never.",
        kind="float",
        minimum=-1,
        maximum=31536000,
    )
    load_timeout_s: float = option(
        120.0,
        "Seconds a model may take to load.",
        kind="float",
        minimum=1,
        maximum=86400,
    )
    stall_timeout_s: float = option(
        30.0,
        "Seconds without a new token after which an answer is given up.",
        kind="float",
        minimum=1,
        maximum=86400,
    )
    prefill_timeout_s: float = option(
        120.0,
        "The same while the model still reads the question.",
        kind="float",
        minimum=1,
        maximum=86400,
    )


@dataclass(frozen=True, slots=True)
class Models:
    """Which models there are."""

    registry_file: Path | None = option(  # noqa: RUF009 - it is a field
        None, "A model registry of your own (JSON).", kind="path", unset="the built-in one"
    )
    default_model: str | None = option(
        None,
        "Model that answers when a request names none.",
        kind="str",
        unset="the best one that is there",
        pattern=r"[^\s/\\](?:[^/\\\x00-\x1f]{0,254}[^\s/\\])?",
        wanted="a model id; `chatsafe list` shows them",
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is too much. Callers on loopback without a key have no rate limits."""

    per_ip_per_minute: int = option(
        60, "Chats a minute from one address; 0 is off.", kind="int", minimum=0, maximum=1000000
    )
    max_concurrent_per_ip: int = option(
        5, "Chats at once from one address; 0 is off.", kind="int", minimum=0, maximum=10000
    )
    global_per_minute: int = option(
        600, "Chats a minute in all; 0 is off.", kind="int", minimum=0, maximum=1000000
    )
    queue_size: int = option(
        32,
        "Chats that may wait for a model; 0 refuses at once when all places are taken.",
        kind="int",
        minimum=0,
        maximum=4096,
    )
    queue_timeout_s: float = option(
        30.0,
        "Seconds a chat may wait for its turn; 0 waits as long as it takes.",
        kind="float",
        minimum=0,
        maximum=86400,
    )
    max_choices: int = option(
        8, "Largest `n`, the answers one request may ask for.", kind="int", minimum=1, maximum=64
    )


@dataclass(frozen=True, slots=True)
class Logging:
    """What the daemon says. No level ever shows a question or an answer."""

    level: str = option(
        "info",
        "How much the daemon says on stderr; never any chat text.",
        kind="str",
        choices=("debug", "info", "warning", "error"),
        flag="--log-level",
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All sections."""

    server: Server = Server()
    runtime: Runtime = Runtime()
    models: Models = Models()
    limits: Limits = Limits()
    logging: Logging = Logging()

    def value(self, name: str) -> object:
        """The value of "section.key"."""
        section, key = name.split(".")
        found: object = getattr(getattr(self, section), key)
        return found


SECTIONS: dict[str, type] = {
    "server": Server,
    "runtime": Runtime,
    "models": Models,
    "limits": Limits,
    "logging": Logging,
}


@cache
def options() -> Sequence[Option]:
    """Every option there is, in the order of `config.toml`."""
    found = []
    for section, kind in SECTIONS.items():
        for item in dataclasses.fields(kind):
            described = dict(item.metadata["option"])
            described["flag"] = described["flag"] or "--" + item.name.replace("_", "-")
            found.append(Option(section, item.name, default=item.default, **described))
    return tuple(found)

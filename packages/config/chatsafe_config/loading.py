"""Flags, environment and files become `Settings`, and each value says where it came from.

Strongest first: flag, environment variable, project file, user file, default. A file named with
`--config` or `$CHATSAFE_CONFIG` takes the place of both files.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatsafe_common.nearest import nearest
from chatsafe_config.config_file import read_config_file
from chatsafe_config.errors import ConfigError
from chatsafe_config.option import Option, variable
from chatsafe_config.paths import user_config_file
from chatsafe_config.settings import SECTIONS, Settings, options

# Variables of ours that are no settings of the daemon: which file to read, what the client of
# another daemon needs, and what set-up reads.
OTHER_VARIABLES = frozenset(
    {"CHATSAFE_CONFIG", "CHATSAFE_URL", "CHATSAFE_API_KEY", "CHATSAFE_LLAMA_WHEELS"}
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, and for each "section.key" where its value came from."""

    settings: Settings
    origins: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Given:
    option: Option
    value: object
    origin: str


def load_settings(
    argv_overrides: Mapping[str, object],
    environ: Mapping[str, str],
    *,
    config_file: Path | None,
    cwd: Path,
) -> Loaded:
    """What holds for this start.

    `argv_overrides` maps "section.key" to a text as typed or to a value of the option's own type.
    `config_file` is what `--config` named. Relative paths start at the file's own folder when a
    file names them, else at `cwd`. Raises ConfigError naming the source, the key and the fix.
    """
    given: dict[str, _Given] = {}
    # Weakest first, so that the stronger source overwrites.
    for path, origin in _files(environ, config_file, cwd):
        given |= {item.option.name: item for item in _from_file(path, origin)}
    given |= {item.option.name: item for item in _from_environment(environ, cwd)}
    given |= {item.option.name: item for item in _from_flags(argv_overrides, cwd)}

    sections: dict[str, Any] = {}
    for section, kind in SECTIONS.items():
        values = {g.option.key: g.value for g in given.values() if g.option.section == section}
        sections[section] = kind(**values)
    settings = Settings(**sections)
    _check_reach(settings)
    origins = {o.name: given[o.name].origin if o.name in given else "default" for o in options()}
    return Loaded(settings, origins)


def _files(
    environ: Mapping[str, str], config_file: Path | None, cwd: Path
) -> Iterator[tuple[Path, str]]:
    named = config_file or (Path(found) if (found := environ.get("CHATSAFE_CONFIG")) else None)
    if named is not None:
        yield (cwd / named.expanduser()), f"config file {named}"
        return
    user = user_config_file(environ)
    if user.is_file():
        yield user, f"user file {user}"
    project = cwd / "config.toml"
    # Started inside the folder of the user file, there is one file, not two.
    if project.is_file() and not (user.is_file() and project.samefile(user)):
        yield project, "project file ./config.toml"


def _from_file(path: Path, origin: str) -> Iterator[_Given]:
    seen: dict[str, str] = {}
    for section, table in read_config_file(path).items():
        if section not in SECTIONS and not isinstance(table, dict) and _elsewhere(section):
            raise ConfigError(
                f"{path}: {section} stands outside of a section.{_elsewhere(section)}"
            )
        if section not in SECTIONS:
            raise ConfigError(
                f"{path}: there is no section [{section}].{nearest(section, SECTIONS)} "
                "(If this file is not ChatSafe's, name yours with --config FILE.)"
            )
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: [{section}] must be a section, not a single value.")
        for key, value in table.items():
            name = f"{section}.{key}"
            found = _by_name().get(name)
            if found is None:
                near = nearest(key, _keys_of(section)) or _elsewhere(key)
                raise ConfigError(f"{path}: there is no option {key} in [{section}].{near}")
            if found.name in seen:
                raise ConfigError(
                    f"{path}: {seen[found.name]} and {name} are the same option. Keep one of them."
                )
            seen[found.name] = name
            base = path.absolute().parent
            yield _Given(found, found.check(value, str(path), base), origin)


def _from_environment(environ: Mapping[str, str], cwd: Path) -> Iterator[_Given]:
    variables = {variable(name): found for name, found in _by_name().items()}
    seen: dict[str, str] = {}
    for name, text in sorted(environ.items()):
        if not name.startswith("CHATSAFE_") or name in OTHER_VARIABLES:
            continue
        found = variables.get(name)
        if found is None:
            near = nearest(name, [*variables, *OTHER_VARIABLES])
            raise ConfigError(f"environment: there is no variable {name}.{near} Unset it.")
        if not text.strip():
            continue  # `NAME= command` is how a shell user takes a variable away
        if found.name in seen:
            raise ConfigError(f"environment: {seen[found.name]} and {name} are the same option.")
        seen[found.name] = name
        yield _Given(found, found.parse(text, name, cwd), f"environment {name}")


def _from_flags(overrides: Mapping[str, object], cwd: Path) -> Iterator[_Given]:
    by_name = {option.name: option for option in options()}
    for name, value in overrides.items():
        found = by_name.get(name)
        if found is None:
            raise ConfigError(f"flags: there is no option {name}.{nearest(name, by_name)}")
        if isinstance(value, str):
            value = found.parse(value, found.flag, cwd)
        else:
            value = found.check(value, found.flag, cwd)
        yield _Given(found, value, "flag")


def _by_name() -> dict[str, Option]:
    names = {option.name: option for option in options()}
    return names | {option.alias: option for option in options() if option.alias}


def _keys_of(section: str) -> list[str]:
    return [name.split(".")[1] for name in _by_name() if name.startswith(section + ".")]


def _elsewhere(key: str) -> str:
    """Where the same key lives when it was only put into the wrong section."""
    for option in options():
        if option.key == key:
            return f" It belongs to [{option.section}]."
    return ""


def _check_reach(settings: Settings) -> None:
    """Fail closed: whoever opens the daemon to other machines must have said so, with a key."""
    server = settings.server
    if is_loopback(server.host):
        return
    missing = []
    if not server.allow_remote:
        missing.append("server.allow_remote = true")
    if server.api_key is None:
        missing.append("server.api_key (a long random text)")
    if missing:
        raise ConfigError(
            f"server.host = {server.host} lets other machines connect, which needs "
            f"{' and '.join(missing)} as well. Set that, or keep server.host = 127.0.0.1."
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to `host`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False

"""The options: one definition each, documented everywhere, and `config.toml` says the same."""

import argparse
from pathlib import Path

import pytest
import tomli

from chatsafe_config.command_line import add_arguments, overrides
from chatsafe_config.config_file import MAX_CONFIG_BYTES, read_config_file, render_config_toml
from chatsafe_config.errors import ConfigError
from chatsafe_config.loading import load_settings
from chatsafe_config.option import Option
from chatsafe_config.settings import SECTIONS, Settings, options

ROOT = Path(__file__).resolve().parents[2]


def by_name(name: str) -> Option:
    return next(option for option in options() if option.name == name)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="chatsafe-server")
    add_arguments(made)
    return made


def test_names_flags_and_variables_are_unique() -> None:
    for attribute in ("name", "flag", "env"):
        values = [getattr(option, attribute) for option in options()]
        assert len(set(values)) == len(values), attribute


def test_every_option_is_documented_and_its_default_allowed() -> None:
    for option in options():
        assert option.help.endswith("."), option.name
        assert bool(option.unset) is (option.default is None), option.name
        if option.default is not None:
            assert option.check(option.default, "default", Path()) == option.default


def test_the_documented_defaults() -> None:
    settings = Settings()
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8081)
    assert settings.server.max_body_bytes == 32 * 1024 * 1024
    assert settings.runtime.keep_alive_s == 300
    assert settings.limits.queue_size == 32
    assert settings.limits.max_choices == 8
    assert settings.logging.level == "info"


def test_flags_and_variables_follow_from_the_names() -> None:
    port = by_name("server.port")
    assert (port.flag, port.env) == ("--port", "CHATSAFE_SERVER_PORT")
    assert by_name("runtime.model_dir").flag == "--model-dir"
    assert by_name("logging.level").flag == "--log-level"


def test_config_toml_in_the_repository_is_the_generated_one() -> None:
    assert (ROOT / "config.toml").read_text(encoding="utf-8") == render_config_toml()


def test_config_toml_changes_nothing_as_it_is_and_is_right_uncommented(tmp_path: Path) -> None:
    text = render_config_toml()
    assert all(table == {} for table in tomli.loads(text).values())
    lines = [
        line.removeprefix("#")
        for line in text.splitlines()
        if line.startswith("[") or (line.startswith("#") and line[1:2] not in ("", " "))
    ]
    tables = tomli.loads("\n".join(line for line in lines if not line.endswith("= ...")))
    assert set(tables) == set(SECTIONS)
    for option in options():
        assert option.flag in text
        assert option.env in text
        if option.default is None:
            assert f"\n#{option.key} = ..." in text
        else:
            value = option.check(tables[option.section][option.key], "config.toml", tmp_path)
            assert value == option.default


def test_a_secret_is_not_shown() -> None:
    key = by_name("server.api_key")
    assert key.shown("hunter2hunter2") == "(set)"
    assert key.shown(None) == "(unset: no key is asked for on loopback)"
    assert by_name("server.port").shown(8081) == "8081"
    assert by_name("server.allowed_hosts").shown(("a", 'b"')) == '["a", "b\\""]'
    assert by_name("runtime.keep_alive_s").shown(300.0) == "300"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], {}),
        (["--port", "9"], {"server.port": "9"}),
        (["--allow-remote"], {"server.allow_remote": True}),
        (["--no-allow-remote"], {"server.allow_remote": False}),
        (["--gpu-layers", "-1"], {"runtime.gpu_layers": "-1"}),
        (["--keep-alive-s=-1"], {"runtime.keep_alive_s": "-1"}),
        (
            ["--model-dir", "m", "--log-level", "debug"],
            {"runtime.model_dir": "m", "logging.level": "debug"},
        ),
    ],
)
def test_flags(argv: list[str], expected: dict[str, object]) -> None:
    given = overrides(parser().parse_args(argv))
    assert given == expected
    loaded = load_settings(given, {"HOME": "/no"}, config_file=None, cwd=Path("/no"))
    assert {name for name, origin in loaded.origins.items() if origin == "flag"} == set(expected)


def test_help_names_every_flag_and_the_file() -> None:
    text = parser().format_help()
    assert "--config FILE" in text
    for option in options():
        assert option.flag in text
    assert parser().parse_args(["--config", "a.toml"]).config == Path("a.toml")


def test_every_option_can_be_given_as_a_flag() -> None:
    for option in options():
        match option.kind:
            case "bool":
                argv: list[str] = [option.flag]
                expected: object = True
            case "int" | "float":
                low = option.minimum or 0
                argv, expected = [f"{option.flag}={low:g}"], low
            case "list":
                argv, expected = [option.flag, "box.lan"], ("box.lan",)
            case "path":
                argv, expected = [option.flag, "/there"], Path("/there")
            case "str":
                word = option.choices[0] if option.choices else "localhost"
                argv, expected = [option.flag, word], word
        given = overrides(parser().parse_args(argv))
        if option.name == "server.allowed_origins":
            given = {option.name: "http://box"}
            expected = ("http://box",)
        if option.name == "server.allow_remote":
            given["server.api_key"] = "correct-horse"
        loaded = load_settings(given, {"HOME": "/no"}, config_file=None, cwd=Path("/no"))
        assert loaded.settings.value(option.name) == expected
        assert loaded.origins[option.name] == "flag"


@pytest.mark.parametrize(
    ("data", "name", "said"),
    [
        (b"\xff\xfe", "a.toml", "line 1: is not UTF-8"),
        (b"# fine\nx = '\xff'", "a.toml", "line 2: is not UTF-8"),
        (b"#" * (MAX_CONFIG_BYTES + 1), "a.toml", "is no settings file"),
        (b"x = " + b"[" * 100_000, "a.toml", "a.toml"),
        (b'{"server": {"port": 1,}}', "a.json", "line 1: is not valid JSON"),
        (b"[1]", "a.json", "must hold an object"),
        (b"[" * 100_000, "a.json", "a.json"),
    ],
)
def test_a_file_that_is_no_settings_file(tmp_path: Path, data: bytes, name: str, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ConfigError) as refused:
        read_config_file(path)
    assert said in str(refused.value)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config_file(tmp_path)


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[server]\nport = 1\n", encoding="utf-8-sig")
    assert read_config_file(path) == {"server": {"port": 1}}

"""Where settings come from, in which order, and what is said about mistakes."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatsafe_config.errors import ConfigError
from chatsafe_config.loading import OTHER_VARIABLES, Loaded, is_loopback, load_settings
from chatsafe_config.settings import Settings, options


class Place:
    """A user's home and the folder they stand in."""

    def __init__(self, root: Path) -> None:
        self.cwd = root / "work"
        self.user_file = root / "config" / "chatsafe" / "config.toml"
        self.project_file = self.cwd / "config.toml"
        self.cwd.mkdir()
        self.user_file.parent.mkdir(parents=True)
        self.environ = {"HOME": str(root), "XDG_CONFIG_HOME": str(root / "config")}

    def load(
        self,
        flags: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        config_file: Path | None = None,
    ) -> Loaded:
        return load_settings(
            flags or {},
            {**self.environ, **(environ or {})},
            config_file=config_file,
            cwd=self.cwd,
        )

    def refusal(
        self,
        text: str = "",
        flags: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> str:
        self.project_file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError) as refused:
            self.load(flags, environ)
        return str(refused.value)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_defaults(place: Place) -> None:
    loaded = place.load()
    assert loaded.settings == Settings()
    assert set(loaded.origins) == {option.name for option in options()}
    assert set(loaded.origins.values()) == {"default"}


def test_the_stronger_source_wins_and_is_named(place: Place) -> None:
    def port() -> tuple[int, str]:
        loaded = place.load(flags, environ)
        return loaded.settings.server.port, loaded.origins["server.port"]

    flags: dict[str, object] = {}
    environ: dict[str, str] = {}
    assert port() == (8081, "default")
    place.user_file.write_text("[server]\nport = 1\n")
    assert port() == (1, f"user file {place.user_file}")
    place.project_file.write_text("[server]\nport = 2\n")
    assert port() == (2, "project file ./config.toml")
    environ["CHATSAFE_SERVER_PORT"] = "3"
    assert port() == (3, "environment CHATSAFE_SERVER_PORT")
    flags["server.port"] = "4"
    assert port() == (4, "flag")


def test_files_add_up_key_by_key(place: Place) -> None:
    place.user_file.write_text("[server]\nport = 1\nstrict = true\n")
    place.project_file.write_text("[server]\nport = 2\n")
    server = place.load().settings.server
    assert (server.port, server.strict) == (2, True)


@pytest.mark.parametrize("through", ["flag", "environment"])
def test_a_named_file_replaces_the_others(place: Place, through: str) -> None:
    place.user_file.write_text("[server]\nport = 1\n")
    place.project_file.write_text("[server]\nport = 2\n")
    named = place.cwd / "mine.toml"
    named.write_text("[server]\nstrict = true\n")
    if through == "flag":
        loaded = place.load(
            config_file=Path("mine.toml"), environ={"CHATSAFE_CONFIG": "ignored.toml"}
        )
    else:
        loaded = place.load(environ={"CHATSAFE_CONFIG": "mine.toml"})
    assert (loaded.settings.server.port, loaded.settings.server.strict) == (8081, True)
    assert loaded.origins["server.strict"] == "config file mine.toml"


def test_a_named_file_must_exist(place: Place) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: there is no such file"):
        place.load(config_file=Path("absent.toml"))


def test_in_the_folder_of_the_user_file_it_is_read_once(place: Place) -> None:
    place.user_file.write_text("[server]\nport = 5\n")
    loaded = load_settings({}, place.environ, config_file=None, cwd=place.user_file.parent)
    assert loaded.origins["server.port"] == f"user file {place.user_file}"


def test_an_old_json_file_has_the_same_keys(place: Place) -> None:
    old = place.cwd / "old.json"
    old.write_text(
        json.dumps(
            {
                "server": {"port": 9000, "api_key": None},
                "models": {"directory": "models"},
                "limits": {"queue_timeout_s": 5},
            }
        )
    )
    settings = place.load(config_file=old).settings
    assert settings.server.port == 9000
    assert settings.server.api_key is None
    assert settings.runtime.model_dir == place.cwd / "models"
    assert settings.limits.queue_timeout_s == 5.0


def test_paths_start_where_they_are_written(place: Place) -> None:
    place.user_file.write_text('[runtime]\nmodel_dir = "models"\n')
    assert place.load().settings.runtime.model_dir == place.user_file.parent / "models"
    flags = {"runtime.model_dir": "models"}
    assert place.load(flags).settings.runtime.model_dir == place.cwd / "models"
    loaded = place.load(environ={"CHATSAFE_RUNTIME_MODEL_DIR": "/somewhere"})
    assert loaded.settings.runtime.model_dir == Path("/somewhere")
    home = place.load(environ={"CHATSAFE_RUNTIME_MODEL_DIR": "~/models"}).settings.runtime.model_dir
    assert home == Path.home() / "models"


def test_the_alias_of_the_model_directory(place: Place) -> None:
    place.project_file.write_text('[models]\ndirectory = "/m"\n')
    assert place.load().settings.runtime.model_dir == Path("/m")
    place.project_file.unlink()
    loaded = place.load(environ={"CHATSAFE_MODELS_DIRECTORY": "/n"})
    assert loaded.settings.runtime.model_dir == Path("/n")
    assert loaded.origins["runtime.model_dir"] == "environment CHATSAFE_MODELS_DIRECTORY"


def test_both_names_of_one_option_are_one_too_many(place: Place) -> None:
    message = place.refusal('[models]\ndirectory = "/m"\n[runtime]\nmodel_dir = "/n"\n')
    assert "models.directory and runtime.model_dir are the same option" in message
    both = {"CHATSAFE_MODELS_DIRECTORY": "/m", "CHATSAFE_RUNTIME_MODEL_DIR": "/n"}
    assert "are the same option" in place.refusal(environ=both)


def test_every_kind_of_value_from_every_source(place: Place) -> None:
    place.project_file.write_text(
        '[server]\nallowed_hosts = ["box.lan", "box.lan:80"]\nhead_timeout_s = 2\n'
        '[logging]\nlevel = "debug"\n[runtime]\nkeep_alive_s = -1\ngpu_layers = -1\n'
    )
    settings = place.load().settings
    assert settings.server.allowed_hosts == ("box.lan", "box.lan:80")
    assert settings.server.head_timeout_s == 2.0
    assert settings.logging.level == "debug"
    assert settings.runtime.keep_alive_s == -1
    assert settings.runtime.gpu_layers == -1
    settings = place.load(
        environ={
            "CHATSAFE_SERVER_ALLOWED_HOSTS": " a.lan , b.lan ",
            "CHATSAFE_SERVER_STRICT": "yes",
            "CHATSAFE_RUNTIME_KEEP_ALIVE_S": "1.5",
        },
    ).settings
    assert settings.server.allowed_hosts == ("a.lan", "b.lan")
    assert settings.server.strict is True
    assert settings.runtime.keep_alive_s == 1.5
    flags = {"server.strict": False, "server.allowed_hosts": "", "runtime.threads": 3}
    settings = place.load(flags, environ={"CHATSAFE_SERVER_STRICT": "1"}).settings
    assert settings.server.strict is False
    assert settings.server.allowed_hosts == ()
    assert settings.runtime.threads == 3


def test_an_empty_variable_is_no_variable(place: Place) -> None:
    assert place.load(environ={"CHATSAFE_SERVER_PORT": " "}).origins["server.port"] == "default"


def test_variables_that_are_no_settings_are_left_alone(place: Place) -> None:
    for name in OTHER_VARIABLES - {"CHATSAFE_CONFIG"}:
        assert place.load(environ={name: "anything"}).settings == Settings()
    assert place.load(environ={"OTHER_PROGRAM": "x"}).settings == Settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[server]\nport = "8081"', "server.port must be a whole number, not the text '8081'"),
        ('[server]\nport = "8081"', "For example: port = 8081"),
        ("[server]\nport = true", "server.port must be a whole number, not true"),
        ("[server]\nport = 80.0", "server.port must be a whole number, not the number 80.0"),
        ("[server]\nport = 65536", "server.port is 65536; it must be between 0 and 65535"),
        ("[server]\nport = -1", "it must be between 0 and 65535"),
        ("[server]\nstrict = 1", "server.strict must be true or false, not the number 1"),
        ("[server]\nhead_timeout_s = nan", "head_timeout_s is nan"),
        ("[server]\nhead_timeout_s = inf", "head_timeout_s is inf"),
        ("[server]\nhead_timeout_s = 11", "must be between 0.1 and 10"),
        ("[server]\nmax_body_bytes = 33554433", "must be between 1024 and 33554432"),
        ('[server]\nallowed_hosts = "box"', "must be a list of texts"),
        ("[server]\nallowed_hosts = [1]", "must be a list of texts"),
        ('[server]\nallowed_hosts = ["*"]', "has '*', which is not a host name"),
        ('[server]\nallowed_hosts = ["http://box"]', "not a host name"),
        ('[server]\nallowed_origins = ["*"]', "not an origin"),
        ('[server]\nallowed_origins = ["http://a/b"]', "not an origin"),
        ("[server]\nhost = []", "server.host must be a text in quotes, not a list"),
        ('[server]\nhost = ""', "not a host name"),
        ("[server]\nport = 2026-01-01", "not date 2026-01-01"),
        ("[server.port]\nx = 1", "server.port must be a whole number, not a table"),
        ("[server]\nprot = 1", "there is no option prot in [server]. Did you mean port?"),
        ("[server]\nlevel = 1", "there is no option level in [server]. It belongs to [logging]."),
        ("[sever]\nport = 1", "there is no section [sever]. Did you mean server?"),
        ("port = 1", "port stands outside of a section. It belongs to [server]."),
        ("prot = 1", "there is no section [prot]."),
        ("server = 1", "[server] must be a section, not a single value"),
        ("[limits]\nmax_choices = 0", "limits.max_choices is 0"),
        ("[runtime]\nparallel = 0", "runtime.parallel is 0"),
        ("[runtime]\nkeep_alive_s = -2", "runtime.keep_alive_s is -2"),
        ('[runtime]\nmodel_dir = ""', "runtime.model_dir must be a path in quotes"),
        ('[logging]\nlevel = "loud"', "must be one of debug, info, warning or error"),
        ("[server\nport = 1", "config.toml, line 1: is not valid TOML"),
        ("[server]\nport = 1\nport = 2", "line 3: is not valid TOML"),
        ("[server]\nhost = localhost", "line 2: is not valid TOML"),
    ],
)
def test_a_mistake_in_a_file_names_file_key_and_fix(place: Place, text: str, said: str) -> None:
    message = place.refusal(text)
    assert said in message
    assert "config.toml" in message


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("CHATSAFE_SERVER_PORT", "many", "server.port must be a whole number, not 'many'"),
        ("CHATSAFE_SERVER_PORT", "8081.0", "server.port must be a whole number"),
        ("CHATSAFE_SERVER_PORT", "70000", "server.port is 70000"),
        ("CHATSAFE_SERVER_STRICT", "maybe", "server.strict must be true or false"),
        ("CHATSAFE_RUNTIME_KEEP_ALIVE_S", "long", "must be a number, not 'long'"),
        ("CHATSAFE_RUNTIME_KEEP_ALIVE_S", "nan", "keep_alive_s is nan"),
        ("CHATSAFE_SERVER_PROT", "1", "Did you mean CHATSAFE_SERVER_PORT?"),
        ("CHATSAFE_PORT", "1", "there is no variable CHATSAFE_PORT"),
        ("CHATSAFE_APIKEY", "1", "Did you mean CHATSAFE_API_KEY?"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(
    place: Place, name: str, text: str, said: str
) -> None:
    message = place.refusal(environ={name: text})
    assert said in message
    if "For example" in message:
        assert f"For example: {name}=" in message
    assert name in message


def test_a_mistake_on_the_command_line_names_the_flag(place: Place) -> None:
    message = place.refusal(flags={"server.port": "x"})
    assert message.startswith("--port: server.port must be a whole number")
    assert message.endswith("For example: --port 8081.")
    assert "Did you mean server.port?" in place.refusal(flags={"server.prot": "1"})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "box.lan"])
def test_other_machines_need_a_switch_and_a_key(place: Place, host: str) -> None:
    remote: dict[str, object] = {"server.host": host}
    both = place.refusal(flags=remote)
    assert "server.allow_remote = true and server.api_key" in both
    assert "keep server.host = 127.0.0.1" in both
    remote["server.allow_remote"] = True
    assert "needs server.api_key" in place.refusal(flags=remote)
    del remote["server.allow_remote"]
    remote["server.api_key"] = "correct-horse"
    assert "needs server.allow_remote = true as well" in place.refusal(flags=remote)
    remote["server.allow_remote"] = True
    assert place.load(remote).settings.server.allow_remote is True


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("LocalHost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.nip.io", False),
        ("", False),
    ],
)
def test_what_counts_as_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_the_key_is_never_shown(place: Place) -> None:
    secret = "correct-horse-battery"
    loaded = place.load(environ={"CHATSAFE_SERVER_API_KEY": secret})
    assert loaded.settings.server.api_key == secret
    assert secret not in repr(loaded)
    wrong = place.refusal(flags={"server.api_key": secret + " with blanks"})
    assert secret not in wrong
    assert "server.api_key" in wrong
    assert "123454321" not in place.refusal("[server]\napi_key = 123454321")


@pytest.mark.parametrize("key", ["per_ip_per_minute", "max_concurrent_per_ip", "global_per_minute"])
def test_zero_switches_a_limit_off(place: Place, key: str) -> None:
    place.project_file.write_text(f"[limits]\n{key} = 0\n")
    assert place.load().settings.value(f"limits.{key}") == 0


@given(name=st.sampled_from([option.name for option in options()]), text=st.text(max_size=20))
def test_any_text_is_taken_or_refused_with_the_key(name: str, text: str) -> None:
    try:
        loaded = load_settings(
            {name: text}, {"HOME": "/nowhere"}, config_file=None, cwd=Path("/nowhere")
        )
    except ConfigError as error:
        said, loaded = str(error), None
    if loaded is None:
        # A host of other machines is refused for what is missing beside it.
        assert name in said
    else:
        assert loaded.origins[name] == "flag"

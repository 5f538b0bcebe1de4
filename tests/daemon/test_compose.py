"""The composition root: every setting arrives where it belongs."""

import dataclasses
import logging
from pathlib import Path

import pytest

from chatsafe_config.errors import ConfigError
from chatsafe_config.settings import Settings
from chatsafe_daemon.compose import _api_options, _runtime_options, _server_limits, compose


def environ(home: Path) -> dict[str, str]:
    return {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_DATA_HOME": str(home / "data"),
    }


def with_values(**values: object) -> Settings:
    settings = Settings()
    for name, value in values.items():
        section, key = name.split("__")
        changed = dataclasses.replace(getattr(settings, section), **{key: value})
        settings = dataclasses.replace(settings, **{section: changed})
    return settings


def test_every_setting_of_the_server_and_limits_has_an_effect() -> None:
    settings = with_values(
        server__api_key="k",
        server__allowed_hosts=("h",),
        server__allowed_origins=("http://o",),
        server__max_connections=3,
        server__max_body_bytes=2000,
        server__head_timeout_s=1.0,
        server__body_timeout_s=2.0,
        server__shutdown_grace_s=3.0,
        server__stream_default=True,
        server__strict=True,
        server__system_fingerprint=True,
        limits__per_ip_per_minute=1,
        limits__max_concurrent_per_ip=2,
        limits__global_per_minute=3,
        limits__queue_size=4,
        limits__queue_timeout_s=5.0,
        limits__max_choices=6,
    )
    api = _api_options(settings, "admin", "1.0")
    assert (api.version, api.admin_key, api.api_key) == ("1.0", "admin", "k")
    assert (api.allowed_hosts, api.allowed_origins) == (("h",), ("http://o",))
    assert (api.max_body_bytes, api.body_timeout_s) == (2000, 2.0)
    assert (api.stream_default, api.strict, api.system_fingerprint) == (True, True, True)
    assert (api.per_ip_per_minute, api.max_concurrent_per_ip, api.global_per_minute) == (1, 2, 3)
    assert (api.queue_size, api.max_choices) == (4, 6)
    limits = _server_limits(settings)
    assert (limits.max_connections, limits.head_timeout_s) == (3, 1.0)
    assert (limits.body_timeout_s, limits.shutdown_grace_s) == (2.0, 3.0)
    assert _runtime_options(settings).queue_timeout_s == 5.0


def test_every_runtime_setting_has_an_effect() -> None:
    given = {
        "context_window": 1024,
        "threads": 3,
        "gpu_layers": 0,
        "parallel": 2,
        "batch_size": 64,
        "keep_alive_s": 1.0,
        "load_timeout_s": 2.0,
        "stall_timeout_s": 3.0,
        "prefill_timeout_s": 4.0,
    }
    options = _runtime_options(
        with_values(**{f"runtime__{name}": value for name, value in given.items()})
    )
    assert {name: getattr(options, name) for name in given} == given


def test_the_admin_key_is_made_once_for_this_user_only(tmp_path: Path) -> None:
    compose(Settings(), environ(tmp_path), "1.0")
    key = tmp_path / "config" / "chatsafe" / "admin.key"
    text = key.read_text()
    assert key.stat().st_mode & 0o777 == 0o600
    compose(Settings(), environ(tmp_path), "1.0")
    assert key.read_text() == text
    key.chmod(0o644)
    with pytest.raises(ConfigError):
        compose(Settings(), environ(tmp_path), "1.0")


def test_a_default_model_without_its_file_is_said_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = with_values(models__default_model="llama-3.2-3b-instruct-q4_k_m")
    with caplog.at_level(logging.WARNING):
        compose(settings, environ(tmp_path), "1.0")
    assert "llama-3.2-3b-instruct-q4_k_m has no sound file" in caplog.text


def test_an_unknown_default_model_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="default_model"):
        compose(with_values(models__default_model="nonsense"), environ(tmp_path), "1.0")

"""Reading the registry: aliases, defaults, and a refusal with the entry's name for each mistake."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatsafe_config.errors import ConfigError
from chatsafe_config.registry import (
    MAX_REGISTRY_BYTES,
    Registry,
    default_registry,
    load_registry,
    parse_registry,
)

Tables = dict[str, Any]


def tables(**model: Any) -> Tables:
    return {
        "version": "1.0",
        "templates": [
            {"id": "plain", "user_prefix": "Q: ", "assistant_prefix": "A: "},
            {"id": "ended", "assistant_prefix": "<a>", "assistant_suffix": "<end>\n"},
        ],
        "models": [
            {
                "id": "one",
                "path": "one.gguf",
                "ctx_window": 4096,
                "template_id": "ended",
                **model,
            }
        ],
    }


def parse(found: Tables) -> Registry:
    return parse_registry(json.dumps(found), "registry.json")


def refusal(found: Tables) -> str:
    with pytest.raises(ConfigError) as refused:
        parse(found)
    return str(refused.value)


def test_the_shipped_registry() -> None:
    registry = default_registry()
    assert registry.version == "1.0"
    assert registry.warnings == ()
    assert len(registry.models) >= 10
    for spec in registry.models:
        assert spec.path == f"{spec.id}.gguf"
        assert spec.max_tokens is None
        assert spec.fact("license")
        assert spec.fact("source")
        assert spec.est_disk_gb
        assert spec.stop_sequences


def test_the_default_entry_is_the_published_one() -> None:
    spec = default_registry().default()
    assert spec.id == "llama-3.2-3b-instruct-q4_k_m"
    assert spec.path == "llama-3.2-3b-instruct-q4_k_m.gguf"
    assert spec.context_window == 8192
    assert spec.template_id == "llama3"
    assert spec.stop_sequences == ("<|eot_id|>", "<|end_of_text|>", "<|start_header_id|>")
    assert spec.eos_token == "<|eot_id|>"
    sampling = spec.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.6, 0.9, 40)
    assert sampling.repeat_penalty == 1.15
    assert (spec.min_ram_gb, spec.est_disk_gb, spec.gpu_layers) == (3.0, 2.0, -1)


def test_the_guide_answers_greedily_and_says_no_more_than_it_is_told() -> None:
    registry = default_registry()
    guide = registry.model("chatsafe-guide")
    assert guide is not None
    assert guide.sampling.temperature == 0
    assert guide.context_window == 2048
    template = registry.template(guide.template_id)
    assert template is not None
    assert template.default_system_prompt == ""


def test_labels_are_cleaned_for_plain_text_templates_only() -> None:
    for spec in default_registry().models:
        assert spec.clean_labels is (spec.template_id == "alpaca")


def test_no_checksum_is_made_up() -> None:
    for spec in default_registry().models:
        checksum = spec.fact("sha256")
        assert checksum is None or spec.id == "chatsafe-guide"


def test_the_least_entry_gets_the_documented_defaults() -> None:
    spec = parse(tables()).models[0]
    assert spec.name == "one"
    assert spec.stop_sequences == ("<end>",)
    assert spec.eos_token == "<end>"
    assert spec.max_tokens is None
    assert spec.gpu_layers == -1
    assert spec.threads is None
    assert spec.min_ram_gb is None
    assert spec.clean_labels is False
    assert spec.metadata == {}
    assert spec.sampling.temperature == 0.6


def test_values_of_an_entry_are_taken() -> None:
    spec = parse(
        tables(
            name="One",
            stop_sequences=["X", "Y"],
            eos_token="Z",
            defaults={"temperature": 0, "max_tokens": 256, "top_k": 7},
            resources={"min_ram_gb": 1, "est_disk_gb": 2.5, "gpu_layers": 0, "threads": 3},
            clean_labels=True,
            metadata={"license": "mit", "anything": [1]},
        )
    ).models[0]
    assert (spec.name, spec.stop_sequences, spec.eos_token) == ("One", ("X", "Y"), "Z")
    assert (spec.sampling.temperature, spec.sampling.top_k, spec.max_tokens) == (0.0, 7, 256)
    assert (spec.min_ram_gb, spec.est_disk_gb, spec.gpu_layers, spec.threads) == (1.0, 2.5, 0, 3)
    assert spec.clean_labels is True
    assert spec.fact("license") == "mit"
    assert spec.fact("anything") is None


def test_older_names_are_accepted() -> None:
    found = tables(file_name="old.gguf", template="plain", size_gb=1.5, gpu_layers=3, threads=2)
    del found["models"][0]["path"], found["models"][0]["template_id"]
    spec = parse(found).models[0]
    assert (spec.path, spec.template_id, spec.est_disk_gb) == ("old.gguf", "plain", 1.5)
    assert (spec.gpu_layers, spec.threads) == (3, 2)


def test_a_plain_template_ends_at_the_next_question() -> None:
    assert parse(tables(template_id="plain")).models[0].stop_sequences == ("Q:",)


def test_the_template_of_the_file_needs_no_entry() -> None:
    spec = parse(tables(template_id="gguf")).models[0]
    assert spec.stop_sequences == ()
    assert parse(tables(template_id="gguf")).template("gguf") is None


def test_unknown_fields_are_kept_and_warned_about_once() -> None:
    found = tables(colour="blue", defaults={"mirostat": 2}, resources={"disks": 1})
    found["templates"][0]["shape"] = "round"
    found["comment"] = "mine"
    registry = parse(found)
    exported = json.loads(registry.export())
    assert exported["comment"] == "mine"
    assert exported["templates"][0]["shape"] == "round"
    assert exported["models"][0]["colour"] == "blue"
    assert exported["models"][0]["defaults"]["mirostat"] == 2
    assert exported["models"][0]["resources"]["disks"] == 1
    for word in ("colour", "mirostat", "disks", "shape", "comment"):
        assert sum(word in warning for warning in registry.warnings) == 1
    assert any("models[0] (one)" in warning for warning in registry.warnings)
    again = parse_registry(registry.export(), "registry.json")
    assert again == registry


def test_the_first_model_is_the_default_when_none_is_marked() -> None:
    found = tables()
    found["models"].append({**found["models"][0], "id": "two"})
    assert parse(found).default().id == "one"
    found["models"][1]["default"] = True
    assert parse(found).default().id == "two"


def test_the_export_holds_everything_and_loads_again() -> None:
    registry = default_registry()
    text = registry.export()
    exported = json.loads(text)
    assert exported["version"] == "1.0"
    assert len(exported["models"]) == len(registry.models)
    assert len(exported["templates"]) == len(registry.templates)
    assert parse_registry(text, "export") == registry


def on_model(change: Callable[[Tables], None]) -> Tables:
    found = tables()
    change(found["models"][0])
    return found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": "a b"}, "'a b' may hold letters"),
        ({"id": ""}, "id must not be empty"),
        ({"id": 3}, "id must be a text, not the number 3"),
        ({"path": "one.bin"}, "models[0] (one): path 'one.bin' must be the name of a .gguf file"),
        ({"path": "../one.gguf"}, "leaves the model directory"),
        ({"path": "/tmp/one.gguf"}, "leaves the model directory"),
        ({"path": "a\\..\\one.gguf"}, "leaves the model directory"),
        ({"path": None}, "path must be a text, not null"),
        ({"ctx_window": 0}, "ctx_window is 0; it must be between 1"),
        ({"ctx_window": "4096"}, "ctx_window must be a whole number, not a text"),
        ({"ctx_window": True}, "ctx_window must be a whole number, not true or false"),
        ({"ctx_window": 4096.5}, "ctx_window must be a whole number"),
        ({"template_id": "endet"}, "there is no template 'endet'. Did you mean ended?"),
        ({"stop_sequences": []}, "stop_sequences must hold at least one text"),
        ({"stop_sequences": ["a", ""]}, "stop_sequences must hold at least one text, and no empty"),
        ({"stop_sequences": "x"}, "stop_sequences must be a list of texts, not a text"),
        ({"stop_sequences": [1]}, "stop_sequences must be a list of texts"),
        ({"eos_token": 5}, "eos_token must be a text"),
        ({"defaults": {"temperature": 2.5}}, "temperature is 2.5; it must be between 0 and 2"),
        ({"defaults": {"temperature": "hot"}}, "models[0] (one), defaults: temperature must be a"),
        ({"defaults": {"top_p": -0.1}}, "top_p is -0.1"),
        ({"defaults": {"top_k": -1}}, "top_k is -1"),
        ({"defaults": {"repeat_penalty": 0}}, "repeat_penalty is 0"),
        ({"defaults": {"max_tokens": 0}}, "max_tokens is 0"),
        ({"defaults": []}, "defaults must be an object, not a list"),
        ({"resources": {"gpu_layers": -2}}, "gpu_layers is -2"),
        ({"resources": {"threads": 0}}, "threads is 0"),
        ({"resources": {"min_ram_gb": -1}}, "min_ram_gb is -1"),
        ({"default": "yes"}, "default must be true or false, not a text"),
        ({"clean_labels": 1}, "clean_labels must be true or false, not the number 1"),
        ({"metadata": "x"}, "metadata must be an object, not a text"),
    ],
)
def test_a_wrong_field_is_refused_with_its_name(change: Tables, said: str) -> None:
    message = refusal(tables(**change))
    assert said in message
    assert message.startswith("registry.json: ")


@pytest.mark.parametrize("field", ["id", "path", "ctx_window", "template_id"])
def test_a_missing_field_is_named(field: str) -> None:
    assert f"{field} is missing" in refusal(on_model(lambda model: model.pop(field)))


def test_two_defaults_are_refused() -> None:
    found = tables(default=True)
    found["models"].append({**found["models"][0], "id": "two"})
    assert "one and two are all marked default" in refusal(found)


def test_duplicate_ids_are_refused() -> None:
    found = tables()
    found["models"].append(found["models"][0])
    assert "model 'one' occurs twice" in refusal(found)
    found = tables()
    found["templates"].append(found["templates"][0])
    assert "template 'plain' occurs twice" in refusal(found)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ({"id": "gguf", "jinja": "x"}, 'the id "gguf" means'),
        ({"id": "empty"}, "needs either jinja or prefixes"),
        ({"id": "t", "jinja": 4}, "jinja must be a text"),
        ("text", "templates[2] must be an object, not a text"),
    ],
)
def test_a_wrong_template_is_refused(template: object, said: str) -> None:
    found = tables()
    found["templates"].append(template)
    assert said in refusal(found)


def test_a_template_without_an_end_needs_stops() -> None:
    found = tables(template_id="bare")
    found["templates"].append({"id": "bare", "jinja": "{{ messages }}"})
    assert "needs stop_sequences" in refusal(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: is not valid JSON"),
        ('{"version": "1.0",\n}', "line 2: is not valid JSON"),
        ("[]", "must be an object with version"),
        ('{"models": [], "models": []}', "key 'models' occurs twice"),
        ('{"x": NaN}', "NaN is no number"),
        ('{"version": "2.0", "templates": [], "models": []}', 'reads version "1.0"'),
        ('{"templates": []}', "models is missing"),
        ('{"templates": [], "models": []}', "has no models"),
        ('{"templates": {}, "models": []}', "templates must be a list of objects"),
        ("[" * 100_000, "is not a model registry"),
    ],
)
def test_a_file_that_is_no_registry(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_registry(text, "registry.json")
    assert said in str(refused.value)


def test_loading_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    with pytest.raises(ConfigError, match=r"mine\.json: the model registry cannot be read"):
        load_registry(path)
    path.write_bytes(b'{"version": "\xff"}')
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_registry(path)
    path.write_bytes(b" " * (MAX_REGISTRY_BYTES + 1))
    with pytest.raises(ConfigError, match="is over"):
        load_registry(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.json, line 1: .* models\.registry_file"):
        load_registry(path)
    path.write_text(json.dumps(tables()), encoding="utf-8-sig")
    assert load_registry(path).models[0].id == "one"


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


_FIELDS = (
    "id path ctx_window template_id stop_sequences defaults resources default metadata "
    "eos_token name something"
)


@given(field=st.sampled_from(_FIELDS.split()), value=_json)
def test_any_value_is_either_refused_by_name_or_survives_export(field: str, value: object) -> None:
    text = json.dumps(tables(**{field: value}))
    try:
        registry = parse_registry(text, "registry.json")
    except ConfigError as error:
        registry, said = None, str(error)
    if registry is None:
        assert said.startswith("registry.json")
    else:
        assert parse_registry(registry.export(), "registry.json") == registry

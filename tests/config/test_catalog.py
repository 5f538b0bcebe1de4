"""The catalog: which models can be named, which one is the default, what is refused."""

import json
import os
from pathlib import Path

import pytest
from tests.config.gguf_writer import CONTEXT, UINT32, good_draft, uint32, write_good

from chatsafe_common.errors import ModelNotFound
from chatsafe_config import catalog as catalog_module
from chatsafe_config.catalog import GUIDE_ID, MAX_FOUND_CONTEXT, Catalog
from chatsafe_config.errors import ConfigError, GgufError
from chatsafe_config.gguf import Header, read_header
from chatsafe_config.registry import Registry, default_registry, parse_registry

DEFAULT_ID = "llama-3.2-3b-instruct-q4_k_m"
QWEN_ID = "qwen2.5-0.5b-instruct-q4_k_m"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    directory = tmp_path / "models"
    directory.mkdir()
    return directory


@pytest.fixture
def guide(tmp_path: Path) -> Path:
    (tmp_path / "guide").mkdir()
    return write_good(tmp_path / "guide" / "built-in.gguf")


def ids(catalog: Catalog) -> list[str]:
    return [entry.id for entry in catalog.entries()]


def available(catalog: Catalog) -> list[str]:
    return [entry.id for entry in catalog.entries() if entry.is_available]


def registry_with(**model: object) -> Registry:
    entry = {"id": "mine", "path": "mine.gguf", "ctx_window": 64, "template_id": "gguf", **model}
    return parse_registry(json.dumps({"templates": [], "models": [entry]}), "registry.json")


def test_without_any_file_the_guide_answers(models: Path, guide: Path) -> None:
    catalog = Catalog(default_registry(), models, guide)
    assert catalog.default().id == GUIDE_ID
    assert available(catalog) == [GUIDE_ID]
    registered = [spec.id for spec in default_registry().models]
    assert ids(catalog) == [GUIDE_ID, *(name for name in registered if name != GUIDE_ID)]
    assert catalog.default().path == guide
    assert catalog.default().size_bytes == guide.stat().st_size


def test_an_absent_directory_is_an_empty_one(tmp_path: Path, guide: Path) -> None:
    assert available(Catalog(default_registry(), tmp_path / "absent", guide)) == [GUIDE_ID]


def test_the_order_of_defaults(models: Path, guide: Path) -> None:
    catalog = Catalog(default_registry(), models, guide)
    seen = [catalog.default().id]
    for name in ("zebra", "apple", QWEN_ID, DEFAULT_ID):
        write_good(models / f"{name}.gguf")
        seen.append(catalog.default().id)
    assert seen == [GUIDE_ID, "zebra", "apple", QWEN_ID, DEFAULT_ID]
    configured = Catalog(default_registry(), models, guide, default_model="zebra")
    assert configured.default().id == "zebra"
    assert ids(configured)[0] == "zebra"
    assert sorted(ids(configured)) == sorted(ids(catalog))
    (models / "zebra.gguf").unlink()
    assert configured.default().id == DEFAULT_ID


def test_a_configured_default_may_be_absent_but_must_be_known(models: Path, guide: Path) -> None:
    assert Catalog(default_registry(), models, guide, DEFAULT_ID).default().id == GUIDE_ID
    with pytest.raises(ConfigError, match=rf"models\.default_model .* Did you mean {DEFAULT_ID}\?"):
        Catalog(default_registry(), models, guide, "llama-3.2-3b-instruct-q4")


def test_the_model_directory_must_be_one(tmp_path: Path) -> None:
    file = tmp_path / "models"
    file.touch()
    with pytest.raises(ConfigError, match=r"runtime\.model_dir is .*, which is no directory"):
        Catalog(default_registry(), file)


def test_a_file_dropped_in_is_served_without_a_restart(models: Path, guide: Path) -> None:
    catalog = Catalog(default_registry(), models, guide)
    with pytest.raises(ModelNotFound):
        catalog.resolve("fresh")
    write_good(models / "fresh.gguf")
    entry = catalog.resolve("fresh")
    assert entry.is_available
    assert entry.spec.name == "Tiny"
    assert entry.spec.context_window == CONTEXT
    assert entry.spec.template_id == "gguf"
    assert catalog.template_source(entry) is None
    assert entry.header is not None
    assert entry.header.architecture == "llama"
    (models / "fresh.gguf").unlink()
    with pytest.raises(ModelNotFound):
        catalog.resolve("fresh")


def test_a_found_file_does_not_choose_its_own_memory(models: Path) -> None:
    draft = good_draft().with_field("llama.context_length", UINT32, uint32(1_000_000))
    (models / "long.gguf").write_bytes(draft.encode())
    entry = Catalog(default_registry(), models).resolve("long")
    assert entry.spec.context_window == MAX_FOUND_CONTEXT


def test_half_a_default_model_does_not_silence_the_guide(models: Path, guide: Path) -> None:
    good = good_draft().encode()
    file = models / f"{DEFAULT_ID}.gguf"
    file.write_bytes(good[:200])
    catalog = Catalog(default_registry(), models, guide)
    assert catalog.default().id == GUIDE_ID
    file.write_bytes(good)
    assert catalog.default().id == DEFAULT_ID


def test_resolving_names(models: Path, guide: Path) -> None:
    catalog = Catalog(default_registry(), models, guide)
    assert catalog.resolve("").id == GUIDE_ID
    assert catalog.resolve(QWEN_ID).is_available is False
    with pytest.raises(ModelNotFound) as refused:
        catalog.resolve("qwen2.5-0.5b-instruct")
    assert QWEN_ID in refused.value.message
    assert refused.value.param == "model"
    assert refused.value.details["available"] == available(catalog)
    with pytest.raises(ModelNotFound) as refused:
        catalog.resolve("x" * 100_000)
    assert len(refused.value.message) < 400


def test_the_template_of_an_entry(models: Path) -> None:
    catalog = Catalog(default_registry(), models)
    source = catalog.template_source(catalog.resolve(DEFAULT_ID))
    assert source is not None
    assert "start_header_id" in source


def test_publishers_capitals_are_the_same_file(models: Path) -> None:
    write_good(models / "Llama-3.2-3B-Instruct-Q4_K_M.gguf")
    catalog = Catalog(default_registry(), models)
    assert available(catalog) == [DEFAULT_ID]
    assert catalog.default().path.name == "Llama-3.2-3B-Instruct-Q4_K_M.gguf"


def test_a_broken_file_is_listed_with_its_reason_and_never_the_default(
    models: Path, guide: Path
) -> None:
    (models / "broken.gguf").write_bytes(b"<html>not found</html>")
    catalog = Catalog(default_registry(), models, guide)
    entry = catalog.resolve("broken")
    assert not entry.is_available
    assert entry.problem is not None
    assert "no GGUF file" in entry.problem
    assert catalog.default().id == GUIDE_ID


def test_other_names_are_no_models(models: Path, guide: Path) -> None:
    (models / "notes.txt").write_text("x")
    (models / "half.gguf.part").write_text("x")
    write_good(models / "new\nline.gguf")
    (models / "folder.gguf").mkdir()
    catalog = Catalog(default_registry(), models, guide)
    assert available(catalog) == [GUIDE_ID]
    assert catalog.resolve("folder").problem == "it is not a regular file"


def test_a_link_out_of_the_model_directory_is_refused(models: Path, tmp_path: Path) -> None:
    outside = write_good(tmp_path / "outside.gguf")
    (models / f"{DEFAULT_ID}.gguf").symlink_to(outside)
    (models / "link.gguf").symlink_to(outside)
    catalog = Catalog(default_registry(), models)
    for name in (DEFAULT_ID, "link"):
        entry = catalog.resolve(name)
        assert not entry.is_available
        assert entry.problem == "it lies outside the model directory"


def test_a_link_inside_the_model_directory_is_followed(models: Path) -> None:
    write_good(models / "real.gguf")
    (models / "link.gguf").symlink_to("real.gguf")
    assert set(available(Catalog(default_registry(), models))) == {"real", "link"}


def test_the_model_directory_itself_may_be_a_link(models: Path, tmp_path: Path) -> None:
    write_good(models / "real.gguf")
    (tmp_path / "linked").symlink_to(models)
    assert available(Catalog(default_registry(), tmp_path / "linked")) == ["real"]


def test_links_in_a_circle_do_no_harm(models: Path) -> None:
    (models / "a.gguf").symlink_to("b.gguf")
    (models / "b.gguf").symlink_to("a.gguf")
    assert available(Catalog(default_registry(), models)) == []


def test_an_own_registry_keeps_the_guide_as_the_last_resort(models: Path, guide: Path) -> None:
    catalog = Catalog(registry_with(), models, guide)
    assert ids(catalog) == [GUIDE_ID, "mine"]
    assert catalog.default().spec.context_window == CONTEXT
    write_good(models / "mine.gguf")
    write_good(models / "other.gguf")
    assert ids(catalog) == ["mine", GUIDE_ID, "other"]


def test_a_registered_model_in_a_folder_of_its_own(models: Path) -> None:
    (models / "sub").mkdir()
    write_good(models / "sub" / "mine.gguf")
    entry = Catalog(registry_with(path="sub/mine.gguf"), models).default()
    assert entry.is_available


def test_a_file_cannot_take_the_name_of_another_entry(models: Path, guide: Path) -> None:
    write_good(models / "chatsafe-guide.gguf")
    write_good(models / "mine.gguf")
    catalog = Catalog(registry_with(path="else.gguf"), models, guide)
    assert ids(catalog) == [GUIDE_ID, "mine"]
    assert catalog.resolve(GUIDE_ID).path == guide
    assert not catalog.resolve("mine").is_available


def test_a_header_is_read_once_until_the_file_changes(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []

    def counted(path: Path) -> Header:
        reads.append(path.name)
        return read_header(path)

    monkeypatch.setattr(catalog_module, "read_header", counted)
    path = write_good(models / "a.gguf")
    catalog = Catalog(default_registry(), models)
    for _ in range(3):
        catalog.entries()
    assert reads == ["a.gguf"]
    path.write_bytes(b"broken")
    os.utime(path, ns=(1, 1))
    for _ in range(2):
        assert catalog.resolve("a").problem is not None
    assert reads == ["a.gguf", "a.gguf"]


def test_the_header_of_an_absent_file(models: Path) -> None:
    catalog = Catalog(default_registry(), models)
    with pytest.raises(GgufError, match="cannot be opened"):
        catalog.header(catalog.resolve(DEFAULT_ID))

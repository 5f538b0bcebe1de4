"""Every malformed model file, through the whole daemon: a typed answer, and the daemon lives on."""

from pathlib import Path

from tests.config.gguf_corpus import cases, write_good
from tests.support.daemon import running_daemon

# What a caller may be told about a model that cannot be served, or a template that refuses.
REFUSALS = {"model_load_failed", "invalid_value", "worker_died", "insufficient_memory"}


def test_no_model_file_ends_the_daemon(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    corpus = list(cases(models))
    assert len(corpus) >= 60
    write_good(models / "sound.gguf")
    with running_daemon(tmp_path / "home", "--model-dir", str(models)) as daemon:
        answered = []
        for _, path, header_rejects in corpus:
            reply = daemon.chat("Hi", model=path.stem, max_tokens=4)
            if reply.status_code == 200:
                assert not header_rejects, path.stem
                answered.append(path.stem)
                continue
            error = reply.json()["error"]
            assert error["code"] in REFUSALS, (path.stem, error)
            assert str(models) not in error["message"], path.stem
            if header_rejects:
                assert error["code"] == "model_load_failed", path.stem
        # Some traps only make the model talk nonsense; most must be refused.
        assert len(answered) <= 10, answered
        assert daemon.process.poll() is None
        assert daemon.client.get("/healthz").status_code == 200
        assert daemon.chat("Hello!", model="chatsafe-guide").status_code == 200
        assert daemon.chat("Hi", model="sound", max_tokens=4).status_code == 200

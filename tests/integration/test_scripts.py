"""What a newcomer's machine can lack, and what the scripts say then; the wheels they build."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """As much of a fresh clone as set-up reads before it installs anything."""
    for path in [*ROOT.glob("scripts/*"), *ROOT.glob("packages/*/pyproject.toml")]:
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run(checkout: Path, script: str, **env: str) -> "subprocess.CompletedProcess[str]":
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in {"CXX", "CC", "PYTHON", "CHATSAFE_LLAMA_WHEELS", "CMAKE_ARGS"}
    }
    return subprocess.run(
        [str(checkout / "scripts" / script)],
        env={**inherited, **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("script", ["start", "test"])
def test_no_compiler_names_the_package(checkout: Path, script: str) -> None:
    result = run(checkout, script, CXX="no-such-compiler")
    assert result.returncode == 1
    assert "build-essential" in result.stderr
    assert "CHATSAFE_LLAMA_WHEELS" in result.stderr
    assert not (checkout / ".venv").exists()


def test_no_python(checkout: Path) -> None:
    result = run(checkout, "start", PYTHON="no-such-python")
    assert result.returncode == 1
    assert "python3" in result.stderr


def test_old_python(checkout: Path) -> None:
    old = checkout / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && { echo Python 3.9.2; exit 0; }\nexit 1\n')
    old.chmod(0o755)
    result = run(checkout, "start", PYTHON=str(old))
    assert result.returncode == 1
    assert "Python 3.11 or newer" in result.stderr
    assert "3.9.2" in result.stderr


def test_wheels_bring_the_commands_and_the_data(tmp_path: Path) -> None:
    """Built from the members, installed apart from this checkout, the commands run."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    members = [str(path.parent) for path in ROOT.glob("packages/*/pyproject.toml")]
    dist = tmp_path / "dist"
    site = tmp_path / "site"
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(dist)]
    subprocess.run([*pip, *build, str(ROOT), *members], check=True)
    wheels = [str(path) for path in dist.glob("*.whl")]
    assert len(wheels) == len(members) + 1
    install = ["install", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*pip, *install, *wheels], check=True)
    assert (site / "chatsafe_guide_model" / "chatsafe-guide.gguf").stat().st_size > 100_000
    for command in ("chatsafe", "chatsafe-server"):
        result = subprocess.run(
            [str(site / "bin" / command), "--version"],
            env={"PYTHONPATH": str(site), "PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "0.1.0" in result.stdout
    where = subprocess.run(
        [sys.executable, "-c", "import chatsafe_config.registry as r; print(r.__file__)"],
        env={"PYTHONPATH": str(site)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(site))

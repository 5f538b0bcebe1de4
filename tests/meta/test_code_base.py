"""Facts about the code base itself: versions, declared dependencies, locks, privacy of logs."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEMBERS = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
SOURCES = sorted(ROOT.glob("packages/*/chatsafe_*/**/*.py"))
# Distribution names where they differ from the import name.
DISTRIBUTIONS = {
    "prometheus_client": "prometheus-client",
    "prompt_toolkit": "prompt-toolkit",
    "llama_cpp": "llama-cpp-python",
}


def project(member: Path) -> dict[str, object]:
    with (member / "pyproject.toml").open("rb") as file:
        table = tomllib.load(file)["project"]
    assert isinstance(table, dict)
    return table


def requirement_name(requirement: str) -> str:
    return re.split(r"[\[=<>~! ;]", requirement, maxsplit=1)[0].lower()


def test_there_is_one_version() -> None:
    versions = {str(project(path)["version"]) for path in [ROOT, *MEMBERS]}
    assert len(versions) == 1
    (version,) = versions
    for path in [ROOT, *MEMBERS]:
        for requirement in project(path)["dependencies"]:  # type: ignore[attr-defined]
            if requirement.startswith("chatsafe-"):
                assert requirement.endswith(f"=={version}"), (path.name, requirement)


@pytest.mark.parametrize("member", MEMBERS, ids=lambda path: path.name)
def test_members_declare_what_they_import(member: Path) -> None:
    table = project(member)
    extras = table.get("optional-dependencies", {})
    assert isinstance(extras, dict)
    dependencies = table["dependencies"]
    assert isinstance(dependencies, list)
    declared = {requirement_name(line) for line in dependencies}
    declared |= {requirement_name(line) for lines in extras.values() for line in lines}
    own = f"chatsafe_{member.name}"
    imported = {
        name
        for path in (member / own).rglob("*.py")
        for name in imported_packages(path)
        if name not in sys.stdlib_module_names and name != own
    }
    missing = {
        name
        for name in imported
        if DISTRIBUTIONS.get(name, name.replace("_", "-")).lower() not in declared
    }
    assert not missing


def imported_packages(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def test_the_pip_lists_are_the_lock() -> None:
    with (ROOT / "uv.lock").open("rb") as file:
        packages = tomllib.load(file)["package"]
    locked = {(entry["name"], entry["version"]) for entry in packages}
    listed = set()
    for path in ROOT.glob("scripts/requirements*.lock"):
        for name, version in re.findall(r"(?m)^([a-z0-9-]+)==([^ ;]+)", path.read_text()):
            listed.add((name, version))
    assert len(listed) > 40
    assert listed <= locked


def test_packages_have_a_docstring_and_nothing_else_in_init() -> None:
    for path in ROOT.glob("packages/*/chatsafe_*/**/__init__.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert len(body) == 1, path
        assert isinstance(body[0], ast.Expr), path


def test_modules_say_what_they_are() -> None:
    for path in SOURCES:
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


# Attributes and names under which text of users travels.
TEXT_NAMES = {"content", "text", "messages", "prompt", "pieces", "stop", "body"}
LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log", "event"}


def test_no_log_call_is_given_text_of_users() -> None:
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in LOG_METHODS
                and isinstance(node.func.value, ast.Name)
                and "log" in node.func.value.id.lower()
            ):
                arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
                names = {
                    part.attr if isinstance(part, ast.Attribute) else part.id
                    for argument in arguments
                    for part in ast.walk(argument)
                    if isinstance(part, ast.Attribute | ast.Name)
                }
                found += [(path.name, node.lineno, name) for name in names & TEXT_NAMES]
    assert not found


BANNED = re.compile(r"\bpickle\b|\beval\(|shell=True|os\.system\(|except Exception:\s*pass")


def test_banned_words() -> None:
    for path in SOURCES:
        assert not BANNED.search(path.read_text(encoding="utf-8")), path


def test_the_engine_is_met_in_one_file() -> None:
    """Also where it is named in a string, which import contracts do not see."""
    naming = [path.name for path in SOURCES if '"llama_cpp' in path.read_text(encoding="utf-8")]
    importing = [path.name for path in SOURCES if "llama_cpp" in imported_packages(path)]
    # The first two locate the package on disk, no more.
    assert naming == ["machine_checks.py", "memory.py", "bindings.py"]
    assert importing == []

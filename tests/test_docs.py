"""The documentation is complete, every public name and page once, every figure there; and its code runs."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import jsnn

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *DOCS.glob("tutorials/*.py")])
PACKAGES = ["jsnn", "jsnn.compat", "jsnn.conversion", "jsnn.encode", "jsnn.neurons", "jsnn.plot"]
NAMES = [f"{package}.{name}" for package in PACKAGES for name in importlib.import_module(package).__all__]


def resolve(path: str) -> object:
    """What a name on an API page stands for, as mkdocstrings sees it: of two, the module, not what hides it."""
    module, _, name = path.rpartition(".")
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        return getattr(importlib.import_module(module), name)


def public(module: object) -> list[str]:
    """The names that a module shows: its `__all__`, or what it defines with a docstring."""
    return getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
        and (inspect.isfunction(value) or inspect.isclass(value))
    ]


def documented(pages: list[str]) -> list[object]:
    """Everything that the API pages document, modules among it."""
    found: list[object] = []
    for path in re.findall(r"^::: (\S+)$", "\n".join(pages), re.MULTILINE):
        value = resolve(path)
        found.append(value)
        if inspect.ismodule(value):
            found += {id(getattr(value, name)): getattr(value, name) for name in public(value)}.values()  # less aliases
    return found


@pytest.fixture(scope="module")
def api() -> list[object]:
    return documented([page.read_text("utf-8") for page in sorted((DOCS / "reference").glob("*.md"))])


def missing(name: str, api: list[object]) -> list[str]:
    """The public names that stand on no API page: `name` itself, or those in it, if it is a module."""
    value = getattr(importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2])
    if not inspect.ismodule(value):
        return [] if any(value is one for one in api) else [name]
    if value.__name__ in PACKAGES:  # whose names are cases of their own
        return []
    return [f"{name}.{one}" for one in public(value) if not any(getattr(value, one) is known for known in api)]


def test_every_public_name_is_documented(api):
    assert [gap for name in NAMES for gap in missing(name, api)] == []


def test_nothing_is_documented_twice(api):
    identities = [id(one) for one in api if inspect.isclass(one) or inspect.isroutine(one) or inspect.ismodule(one)]
    twice = [one for one in api if identities.count(id(one)) > 1]
    assert twice == []


def test_missing_names_are_found():
    api = documented(["::: jsnn.LIF", "::: jsnn.losses"])
    assert missing("jsnn.LIF", api) == missing("jsnn.neurons.LIF", api) == missing("jsnn.losses", api) == []
    assert missing("jsnn.IF", api) == ["jsnn.IF"]
    assert missing("jsnn.metrics", api) == [f"jsnn.metrics.{name}" for name in jsnn.metrics.__all__]


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    listed = re.findall(r"(\S+\.(?:md|py))$", text.partition("\nnav:\n")[2].partition("\n\n")[0], re.MULTILINE)
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 1000


def broken_links(page: Path) -> list[str]:
    lines = page.read_text("utf-8").splitlines()
    text = "\n".join(line for line in lines if page.suffix == ".md" or line.startswith("# "))
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"https?:|#", link)]
    return [link for link in links if not (page.parent / link.partition("#")[0]).exists()]


def test_links_lead_somewhere():
    broken = {page.relative_to(ROOT).as_posix(): broken_links(page) for page in [ROOT / "README.md", *PAGES]}
    assert {page: links for page, links in broken.items() if links} == {}


@pytest.mark.slow
@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda page: page.name)
def test_code_runs_from_the_top_of_the_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where some of it writes
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        exec(block, names)

"""The documentation: generated pages are up to date, links lead somewhere, commands exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from docs.generate import PAGES, REFERENCE
from edgevirt.__main__ import edgevirt

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TEXTS = sorted(
    [*ROOT.glob("docs/**/*.md"), *EXAMPLES.glob("**/*.md"), *ROOT.glob("*.md")],
    key=lambda path: str(path),
)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
BLOCK = re.compile(r"^ *```\w*\n(.*?)^ *```|((?:^(?: {4,}|\t).*\n)+)", re.MULTILINE | re.DOTALL)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_says_what_the_code_says(name: str) -> None:
    assert (REFERENCE / name).read_text() == PAGES[name](), "run `make docs`, and commit"


def test_no_generated_page_has_lost_its_maker() -> None:
    assert {path.name for path in REFERENCE.iterdir()} == set(PAGES)


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_a_link_leads_somewhere(path: Path) -> None:
    for target in LINK.findall(path.read_text()):
        assert (path.parent / target).exists(), target


def test_each_example_has_a_page_that_is_listed_and_says_what_proves_it() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    for example in {path.parent for path in EXAMPLES.glob("*/*.yaml")}:
        assert f"({example.name}/README.md)" in listed
        tests = re.findall(r"`(tests/\S+\.py)`", (example / "README.md").read_text())
        assert tests
        assert all((ROOT / test).exists() for test in tests)


def commands(path: Path) -> list[str]:
    """Calls of `edgevirt` in the blocks of a page, continued lines joined."""
    found = []
    for fenced, indented in BLOCK.findall(path.read_text()):
        text = (fenced or indented).replace("\\\n", " ")
        for line in text.splitlines():
            called = re.match(r"\s*(?:[$#] )?(?:[A-Z]+=\S+ )?(edgevirt .*)", line)
            if called:
                found.append(re.split(r" [|>#] | && ", called[1])[0])
    return found


@pytest.mark.parametrize("path", [path for path in TEXTS if commands(path)], ids=name_of)
def test_a_command_in_a_page_exists_with_its_options(path: Path) -> None:
    for line in commands(path):
        command: click.Command = edgevirt
        context = click.Context(edgevirt, info_name="edgevirt")
        words = shlex.split(line)[1:]
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            found = command.get_command(context, words.pop(0))
            assert found is not None, line
            command = found
        options = {name for option in command.params for name in option.opts} | {"--help", "-h"}
        given = {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"}
        assert given <= options, line

"""What README and docs promise: commands parse, snippets import, links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

from flows.cli.commands import ALIASES, COMMANDS, GROUPS, parsed
from tests.paths import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "docker").glob("*.md")])
GUIDES = [page for page in (ROOT / "docs").rglob("*.md") if "benchmarks" not in page.parts]
MAX_WORDS, MAX_WORDS_OF_A_PAGE = 30_000, 2_500
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)#\s]+)")
IDS = {"ids": lambda value: str(getattr(value, "name", value))}


def blocks(text: str, language: str) -> list[str]:
    """Contents of the fenced blocks of a language."""
    return [content for found, content in BLOCK.findall(text) if found == language]


def program_lines(text: str, program: str) -> list[list[str]]:
    """Arguments of every call of a program, in shell blocks and in inline code."""
    shell = "\n".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    inline = INLINE.findall(BLOCK.sub("", text))
    calls = []
    for line in [*shell, *inline]:
        words = shlex.split(line.split("&&")[0].split(" | ")[0], comments=True)
        if words[:1] == [program]:
            calls.append(words[1:])
    return calls


NAMES = {*COMMANDS, *GROUPS, *ALIASES}


def parses(words: list[str]) -> bool:
    """Whether the program takes the words; a command's or group's bare name in a sentence is taken too."""
    if not words or "COMMAND" in (words[0], words[-1]) or " ".join(words) in NAMES:
        return True
    try:
        parsed(words)
    except SystemExit as end:
        return end.code == 0
    return True


@pytest.mark.parametrize("page", PAGES, **IDS)
def test_commands_parse(page, capsys):
    """Every `splatyard ...` of a page is one that the program takes."""
    wrong = [words for words in program_lines(page.read_text(), "splatyard") if not parses(words)]
    assert not wrong, capsys.readouterr().err


def test_wrong_command_is_noticed():
    """The check above can fail."""
    assert not parses(["build", "photos", "--no-such-option"])
    assert not parses(["buidl", "photos"])
    assert not parses(["registry", "check", "hall"])
    assert parses(["bundle", "check", "hall"]) and parses(["check", "hall"]) and parses(["help", "bundle", "check"])
    assert program_lines("```sh\nsplatyard check a b # two\n```\nand `splatyard doctor`", "splatyard") == [
        ["check", "a", "b"],
        ["doctor"],
    ]


OLDER = re.compile(rf"\bsplatyard ({'|'.join(map(re.escape, ALIASES))})(?![\w-])")
"""A command without its group."""
KINDS = (".py", ".html", ".md", ".yaml")


def texts(file: Path) -> str:
    """What a file of a package may show: of Python all literals, those that stand beside each other in one piece."""
    content = file.read_text()
    if file.suffix != ".py":
        return content
    known = (node for node in ast.walk(ast.parse(content)) if isinstance(node, ast.Constant | ast.JoinedStr))
    return "\n".join(
        "".join(str(getattr(part, "value", "")) for part in getattr(node, "values", [node])) for node in known
    )


@pytest.mark.parametrize("package", ["splatyard", "pipeline", "sim", "train", "flows", "examples", "docs"])
def test_texts_name_commands_with_their_group(package):
    """Errors, logs, docstrings, pages and cards name no command by its name of the time before there were groups."""
    files = [path for path in (ROOT / package).rglob("*") if path.suffix in KINDS]
    assert files
    assert not {str(path): found for path in files if (found := OLDER.findall(texts(path)))}


def test_a_command_without_its_group_is_noticed(tmp_path):
    """The check above can fail; a word that only begins so is none."""
    file = tmp_path / "module.py"
    file.write_text('rule, remedy = f"a {1} b", ("run `splatyard "\n  f"publish {2}`")\n')
    assert {*OLDER.findall(texts(file))} == {"publish"}
    assert not OLDER.findall("`splatyard registry publish x` and splatyard lists, splatyard check-up")


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_of_help_parse(name):
    """Every example in a command's --help is one that the program takes, in the names that help shows."""
    lines = [re.split(r"\s{3,}|&&", line.strip())[0] for line in COMMANDS[name].examples.splitlines()]
    assert lines
    for line in lines:
        words = shlex.split(line, comments=True)
        assert words[0] == "splatyard"
        assert words[1] not in ALIASES
        assert parses(words[1:]), line


@pytest.mark.parametrize("page", PAGES, **IDS)
def test_make_targets_exist(page):
    """Every `make ...` of a page is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for words in program_lines(page.read_text(), "make") for word in words if "=" not in word}
    assert named <= targets


def test_the_demo_is_no_matter_of_the_machines_speed():
    """What `make demo-train`, README and docs train ends by iterations; the preset's, where none are named."""
    demo = (ROOT / "Makefile").read_text().partition("\ndemo-train:")[2].partition("\n\n")[0]
    calls = [line.split() for line in demo.splitlines() if "splatyard train" in line]
    calls += [
        words for page in PAGES for words in program_lines(page.read_text(), "splatyard") if words[:1] == ["train"]
    ]
    assert len(calls) > 3
    assert [words for words in calls if "--minutes" in words] == []


@pytest.mark.parametrize("page", PAGES, **IDS)
def test_links_lead_somewhere(page):
    """Every relative link and image of a page is there."""
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, **IDS)
def test_snippets_compile_and_import(page):
    """Every Python block is valid, and what it imports exists."""
    for block in blocks(page.read_text(), "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)


def test_every_reader_has_a_page_that_says_what_was_met():
    """Variants of each format: app versions, missing files, other axes, and what happens with them."""
    from pipeline.capture.detect import READERS

    for reader in READERS:
        page = (ROOT / f"docs/captures/{reader.kind}.md").read_text()
        _, _, met = page.partition("## Seen in the wild\n")
        assert met.count("\n| ") >= 5, reader.kind


def test_guides_are_short():
    """Results and history have pages of their own, among the benchmarks."""
    words = {str(page.relative_to(ROOT)): len(page.read_text().split()) for page in GUIDES}
    assert sum(words.values()) <= MAX_WORDS
    assert {name: count for name, count in words.items() if count > MAX_WORDS_OF_A_PAGE} == {}

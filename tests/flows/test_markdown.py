"""Text of others in Markdown: shown as it is, whatever it holds; and nothing reaches a page in another way."""

from __future__ import annotations

import ast
import html
import re

import numpy as np
import pytest
from markdown_it import MarkdownIt

from flows.markdown import UNBROKEN, Markdown, code, markdown, markdown_table, target
from tests.paths import ROOT

SINKS = {"add_markdown", "create_markdown_artifact"}
SAFE = {"markdown", "code", "markdown_table", "quality_markdown", "joined"}
PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
"""A parser that, as viser's, lets raw HTML through."""
ORDINARY = "Ann's 3-D scan (v2, 50% done): sofa & table, 2 * 3 m, see a_b_c.txt - #1 [new] <5 cm | 20 \N{DEGREE SIGN}C!"
HOSTILE = (
    '<img src=x onerror="alert(1)">',
    '</p><script>alert(1)</script>\n\n<iframe srcdoc="&lt;script&gt;">',
    "![x](http://leak.example/i.png)",
    "[x](javascript:alert(1))",
    "[x]: http://leak.example\n\n![x]",
    "<http://leak.example>",
    "    <b>indented</b>\n```\ncode\n```",
    "# title\n\n- list\n1. list\n> quote\n---\n===",
    "`<b>`\\`<b>x</b>`",
    "\\<b>\\\\<b>",
    "| a | b |\n| - | - |\n| <b> | \\|",
    "~~x~~ **y** __z__ *a* _b_",
    "&lt;b&gt; &#60;b&#62; &amp;",
    "a\u202eb\u0000c\u001b[31m\u2028<b>",
    "{} {0.__class__}",
)


def rendered(text: str) -> str:
    """What a page shows of Markdown; nothing in it but paragraphs and text, or it fails."""
    found = re.findall(r"<(?!/?p>)[^>]*>", out := PARSER.render(text))
    assert found == [], found
    return html.unescape(re.sub(r"</?p>", "", out)).strip()


def plain(text: str) -> str:
    """A text on one line, without what can't be printed."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


@pytest.mark.parametrize("text", [ORDINARY, *HOSTILE])
def test_text_of_others_is_shown_as_it_is(text: str):
    """No element but its paragraph, and every letter of it."""
    assert rendered(markdown("{}", text)) == plain(text)
    assert rendered(markdown("seen: {}", text)) == f"seen: {plain(text)}"


def test_any_text_is_shown_as_it_is():
    """Two thousand random texts of whatever means something in Markdown or HTML."""
    rng = np.random.default_rng(0)
    pieces = [*"\\`*_{}[]()#+-.!|~<>&;:/=\"'@^$%?, \n\t1ab", "<b>", "&lt;", "http://", "](", "![", "```", "\\\\"]
    for _ in range(2000):
        text = "".join(rng.choice(pieces, rng.integers(1, 30)))
        assert rendered(markdown("{}", text)) == plain(text), text


@pytest.mark.parametrize("text", [ORDINARY, *HOSTILE])
def test_cells_and_code_hold_text_only(text: str):
    """A table keeps its columns, code its place."""
    table = PARSER.render(markdown_table(["a", ">b"], [(text, "1"), (code(text), "2")]))
    assert set(re.findall(r"</?(\w+)", table)) <= {"table", "thead", "tbody", "tr", "th", "td", "code"}
    cells = [html.unescape(re.sub("</?code>", "", cell)) for cell in re.findall(r"<td.*?>(.*?)</td>", table)]
    assert cells == [plain(text), "1", plain(text).replace("`", "'").replace("|", "/"), "2"]


def test_markdown_in_markdown_stays():
    """What was made here is made once; values stay with their units."""
    assert markdown("**{}** {}", "a*b", markdown("_{}_", "c")) == "**a\\*b** _c_"
    assert markdown("{}", f"1{UNBROKEN}m") == f"1{UNBROKEN}m"


def test_targets_of_links_end_where_they_end():
    """A bracket, a space or a quote in an address ends nothing."""
    out = PARSER.render(markdown("[report]({}) {}", target("http://a/b c(d)'\"<d>.html"), "next)"))
    assert out == '<p><a href="http://a/b%20c%28d%29%27%22%3Cd%3E.html">report</a> next)</p>\n'
    data = "data:image/jpeg;base64,aB+/1="
    assert target(data) == data


def test_nothing_reaches_a_page_in_another_way():
    """Markdown of viser's and of Prefect's is a constant, or made here; what is passed on is typed as such."""
    seen = 0
    for file in sorted((ROOT / "flows").rglob("*.py")):
        tree = ast.parse(file.read_text())
        typed = {
            arg.arg
            for arg in ast.walk(tree)
            if isinstance(arg, ast.arg) and arg.annotation and ast.unparse(arg.annotation) == "Markdown"
        }
        for node in ast.walk(tree):
            given = None
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in SINKS:
                given = node.args[0]
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    targets = target.elts if isinstance(target, ast.Tuple) else [target]
                    values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
                    for one, value in zip(targets, values, strict=False):
                        if isinstance(one, ast.Attribute) and one.attr == "content":
                            given = value
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "Markdown":
                assert file.name == "markdown.py", f"{file.name}:{node.lineno} vouches for a text"
            if given is None:
                continue
            seen += 1
            made = isinstance(given, ast.Call) and ast.unparse(given.func) in SAFE
            passed = isinstance(given, ast.Name) and (given.id.isupper() or given.id in typed)
            assert made or passed or isinstance(given, ast.Constant), (
                f"{file.name}:{given.lineno}: {ast.unparse(given)}"
            )
    assert seen >= 12
    assert isinstance(markdown("a"), Markdown)

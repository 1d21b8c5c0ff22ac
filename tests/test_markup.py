"""Names of strangers in Markdown and HTML are shown literally, and misspelt names get a suggestion."""

import pytest

from prolab_hf.markup import escape_html, escape_markdown, one_line
from prolab_hf.suggestions import did_you_mean


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("water tower (old), night-time", "water tower (old), night-time"),
        ("~~gone~~", r"\~\~gone\~\~"),
        ("*a* _b_ `c` [d](e) | #1 !x $y$", r"\*a\* \_b\_ \`c\` \[d\](e) \| \#1 \!x \$y\$"),
        ("<script>&", "&lt;script&gt;&amp;"),
        ("a\n\n# b", r"a \# b"),
        ("- list", r"\- list"),
        ("1. list", r"1\. list"),
        ("see https://evil.example/x", "see https:<!-- -->//evil.example/x"),
        ("HTTP://evil", "HTTP:<!-- -->//evil"),
        ("www.evil.example", "www<!-- -->.evil.example"),
        ("me@evil.example", "me<!-- -->@evil.example"),
        ("mailto:me", "mailto<!-- -->:me"),
        ("safe\u202egnp.exe", "safegnp.exe"),
        ("\u2066a\u2069\u200b\ufeff\x1b[0m", r"a\[0m"),
        ("\u06af\u200c\u0627", "\u06af\u200c\u0627"),
    ],
)
def test_markdown_shows_a_text_as_it_is(text, expected):
    assert escape_markdown(text) == expected


def test_html_shows_a_text_as_it_is():
    assert escape_html('<b a="\'">\u202e&') == "&lt;b a=&quot;&#x27;&quot;&gt;&amp;"
    assert one_line("a\n b\t\x00c") == "a b c"


def test_the_nearest_name_is_suggested():
    assert did_you_mean("raod", ["sky", "road"]) == "; did you mean 'road'?"
    assert did_you_mean("ROAD", ["sky", "Road"]) == "; did you mean 'Road'?"
    assert did_you_mean("zzz", ["sky", "road"]) == ""
    assert did_you_mean("road", []) == ""

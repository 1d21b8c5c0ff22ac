"""Texts of strangers (class names, file names, fields of a run) in Markdown and HTML, shown as they are."""

import html
import re
import unicodedata

# Overrides, isolates and marks that reorder or hide what stands around them, and characters without a shape.
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_MARKUP = re.compile(r"([\\`*_{}\[\]|!#~$])")
_LIST_OR_RULE = re.compile(r"^(\d*)([-+=.)])")
_ADDRESS = re.compile(
    r"(?<=:)(?=//)|(?<=\bwww)(?=\.)|(?<=\w)(?=@)|(?<=\bmailto)(?=:)|(?<=\bxmpp)(?=:)", re.IGNORECASE
)
_NOTHING = "<!-- -->"


def one_line(text: object) -> str:
    """A text on one line, without characters that control or hide how the rest is shown.

    Args:
        text: Any value.
    """
    visible = _INVISIBLE.sub("", " ".join(str(text).split()))
    return "".join(
        character for character in visible if unicodedata.category(character) not in ("Cc", "Cs", "Co")
    )


def escape_html(text: object) -> str:
    """A text as HTML shows it literally, also inside of a quoted attribute.

    Args:
        text: Any value.
    """
    return html.escape(one_line(text), quote=True)


def escape_markdown(text: object) -> str:
    """A text as Markdown shows it literally, in a paragraph or one table cell.

    No emphasis, no strike-through, no link (a bare address is none either), no HTML, no line break, no reordering.

    Args:
        text: Any value.
    """
    plain = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = _LIST_OR_RULE.sub(r"\1\\\2", _MARKUP.sub(r"\\\1", plain))
    # GitHub's dialect makes links of bare addresses. Some of its readers decode entities and escapes before they
    # look for them, but none looks across a comment.
    return _ADDRESS.sub(_NOTHING, plain)

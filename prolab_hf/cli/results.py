"""Results of a command: sentences on the output, numbers into files."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from prolab_hf.cli.options import require_writable
from prolab_hf.files import write_json, write_text

JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write all numbers as JSON; - prints them.")
]


def require_places(*files: Path | None) -> None:
    """Say now, not after a long run, that a file cannot be written.

    Args:
        files: The files; `None` and `-` are none.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    for file in files:
        if file is not None and file != Path("-"):
            require_writable(file)


def tell(
    results: Sequence[Any], text: str, json_file: Path | None, csv_file: Path | None, *, several: bool
) -> None:
    """Sentences on the output, numbers into files; numbers alone where JSON goes to the output.

    Args:
        results: What has `to_dict()` and `to_rows()`.
        text: The sentences.
        json_file: File for the numbers, `-` for the output.
        csv_file: File for the table.
        several: Whether the JSON is a list.
    """
    content: Literal[""] | list[Any] | dict[str, Any] = ""
    if json_file is not None:
        content = [each.to_dict() for each in results] if several else results[0].to_dict()
    if json_file == Path("-"):
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        Console().print(text, markup=False, highlight=False, soft_wrap=True)
        if json_file is not None and content != "":
            write_json(json_file, content)
            typer.echo(f"Wrote {json_file}", err=True)
    if csv_file is not None:
        rows = [row for each in results for row in each.to_rows()]
        buffer = io.StringIO()
        table = csv.DictWriter(buffer, list(rows[0]) if rows else [], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        write_text(csv_file, buffer.getvalue())
        typer.echo(f"Wrote {csv_file}", err=True)

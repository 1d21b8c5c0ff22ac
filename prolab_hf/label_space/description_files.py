"""What a user writes into files: descriptions (words.json), lists of classes, names of properties, super-categories."""

from pathlib import Path

from prolab_hf.files import read_json, read_json_object, read_lines

MAX_JSON_BYTES = 64 * 2**20


def read_descriptions(path: str | Path) -> dict[str, list[str]]:
    """Reads descriptions: one JSON object, class name -> list of descriptions.

    Args:
        path: The JSON file.

    Returns:
        The descriptions, names and sentences trimmed (the published files hold names such as `"bed "`), empty
        sentences left out.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no such object.
    """
    path = Path(path)
    if path.is_file() and path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"{path}: larger than {MAX_JSON_BYTES} bytes, which no descriptor file is.")
    content = read_json_object(path, what="descriptor file")
    if not content:
        raise ValueError(f"{path}: must hold an object of class names, it is empty.")
    clean: dict[str, list[str]] = {}
    for key, texts in content.items():
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(
                f"{path}: the descriptions of {key!r} must be a list of strings, got {texts!r:.80}."
            )
        if key.strip() in clean:
            raise ValueError(f"{path}: the class {key.strip()!r} occurs twice.")
        clean[key.strip()] = [text.strip() for text in texts if text.strip()]
    return clean


def read_class_names(path: str | Path) -> list[str]:
    """Class names from a text file (one a line) or a JSON list.

    Args:
        path: The file; `.json` is read as JSON.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no names, or is JSON of another shape.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file {path}; give a text file with one class a line or a JSON list."
        )
    if path.suffix.lower() == ".json":
        names = read_json(path, what="class list")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{path} is not a JSON list of names.")
    else:
        names = read_lines(path, what="class list")
    if not names:
        raise ValueError(f"{path} holds no class names.")
    return names


def read_property_names(path: str | Path) -> list[str] | dict[str, str]:
    """Names of properties: a JSON list, or an object default name -> name.

    Args:
        path: The JSON file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds something else.
    """
    content = read_json(path, what="file of property names")
    names = list(content.values()) if isinstance(content, dict) else content
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: must hold a list of names, or an object default name -> name.")
    return content


def read_taxonomy(path: str | Path) -> dict[str, str]:
    """Super-categories: a JSON object, class name -> super-category.

    Args:
        path: The JSON file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds something else.
    """
    content = read_json(path, what="taxonomy")
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise ValueError(f"{path}: must hold one object, class name -> super-category.")
    return content

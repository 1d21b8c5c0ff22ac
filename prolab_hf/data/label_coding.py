"""How the numbers or colors of a mask file become class ids: declared by the user, never guessed.

Four codings cover the masks that are in use:

- `ids`: the file holds class ids; one or more declared values mean void (255 unless said otherwise).
- `shifted`: 0 means void and k means class k - 1 (ADE20K, Pascal Context 59).
- `table`: raw id -> class, for files with their own numbering (Cityscapes `labelIds`, COCO-Stuff).
- `palette`: RGB color -> class.

Everything that a coding does not declare is an error that names the file; it never becomes a class or void
by accident, because a silently wrong coding costs a whole training run before it is noticed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prolab_hf.data import coding_text

Color = coding_text.Color
CodingKind = Literal["ids", "shifted", "table", "palette"]
KINDS = coding_text.KINDS

# Raw ids up to here are decoded by one table look-up; wider ones (packed instance ids) by a sorted search.
_LOOKUP_LIMIT = 1 << 16
_NOT_ALLOWED = -1
_SHOWN_IDS = 12


@dataclass(frozen=True)
class LabelCoding:
    """Declared meaning of the values in mask files.

    Args:
        kind: `"ids"`, `"shifted"`, `"table"` or `"palette"`.
        ignore_index: Value that void pixels get in the decoded map; use one that is no class id (for sets
            with more than 254 classes for example 65535, the model's `semantic_loss_ignore_index`).
        void_values: Raw values that mean void. `None` means the default of the kind: `ignore_index` for
            `ids`, nothing beyond 0 for `shifted`, nothing beyond the listed entries for `table`.
        table: Raw id -> class id, or `None` for void. Required for `table`.
        palette: RGB color -> class id, or `None` for void. Required for `palette`.
        unlisted: What a raw id or color outside `table`/`palette` is: an error (default) or void.

    Raises:
        ValueError: If the declaration is incomplete or contradicts itself.
    """

    kind: CodingKind = "ids"
    ignore_index: int = 255
    void_values: tuple[int, ...] | None = None
    table: Mapping[int, int | None] | None = None
    palette: Mapping[Color, int | None] | None = None
    unlisted: Literal["error", "void"] = "error"
    _lookups: dict[int, NDArray[np.int32]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"label coding {self.kind!r} is unknown; choose one of {', '.join(KINDS)}")
        if self.unlisted not in ("error", "void"):
            raise ValueError(f"unlisted={self.unlisted!r} is unknown; choose 'error' or 'void'")
        if self.kind == "table" and not self.table:
            raise ValueError("label coding 'table' needs a table of raw id -> class id; it is empty")
        if self.kind == "palette" and not self.palette:
            raise ValueError("label coding 'palette' needs a palette of RGB color -> class id; it is empty")
        if self.kind == "palette" and self.void_values:
            raise ValueError(
                "label coding 'palette' takes void colors as entries (color -> null), not void values"
            )
        for name, kind in (("table", "table"), ("palette", "palette")):
            if getattr(self, name) is not None and self.kind != kind:
                raise ValueError(f"label coding {self.kind!r} would ignore its {name}; use kind {kind!r}")
        if self.unlisted == "void" and self.kind not in ("table", "palette"):
            raise ValueError(
                f"label coding {self.kind!r} lists nothing, so that unlisted='void' means nothing; name the void values"
            )
        self._check_numbers()

    def _check_numbers(self) -> None:
        """Whole numbers everywhere: 1.5, true and "255" would be read as something else than was meant."""
        _require_whole(self.ignore_index, "ignore_index")
        void = self.void_values
        if void is not None and (isinstance(void, str) or not isinstance(void, Sequence)):
            raise ValueError(
                f"void_values is {void!r}; it must be a list of whole numbers, for example [255]"
            )
        for value in void or ():
            _require_whole(value, "void_values")
        for color in self.palette or ():
            if len(color) != 3 or not all(_is_whole(channel) and 0 <= channel <= 255 for channel in color):
                raise ValueError(f"palette color {color!r} is not three numbers from 0 to 255")
        for raw in self.table or ():
            _require_whole(raw, "table")
        for raw, target in [*(self.table or {}).items(), *(self.palette or {}).items()]:
            if target is None:
                continue
            _require_whole(target, f"the class id of {raw!r}")
            if target < 0:
                raise ValueError(f"class id {target} of {raw!r} is negative; use null (None) for void")

    def __getstate__(self) -> dict[str, Any]:
        # The look-up tables are a cache: rebuilding them is cheaper than sending them to every worker.
        return {**self.__dict__, "_lookups": {}}

    # -- decoding ---------------------------------------------------------------------------------------

    def decode(self, array: NDArray[Any], *, num_classes: int, name: str) -> NDArray[np.int32]:
        """Turn the raw values of a mask into class ids.

        Args:
            array: `(height, width)` integers; for `palette` `(height, width, 3)` RGB.
            num_classes: Size of the class space; decoded ids are 0 ... `num_classes - 1`.
            name: File or row that the mask comes from, for messages.

        Returns:
            `(height, width)` class ids, void pixels hold `ignore_index`.

        Raises:
            ValueError: If a value is not declared or a class id is outside the space.
        """
        self.check_classes(num_classes)
        array = np.asarray(array)
        if self.kind == "palette":
            return self._decode_colors(array, name)
        if array.ndim != 2:
            raise ValueError(
                f"mask {name} has shape {array.shape}, but label coding {self.kind!r} reads one number per "
                "pixel; declare a palette for color masks"
            )
        if array.dtype == bool:
            array = array.astype(np.uint8)
        if not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"mask {name} holds {array.dtype} values; masks must hold whole numbers")
        if array.size == 0:
            raise ValueError(f"mask {name} is empty (shape {array.shape})")
        lookup = self._lookup(num_classes)
        if array.dtype != np.uint8 or len(lookup) < 256:
            low, high = int(array.min()), int(array.max())
            if low < 0 or high >= len(lookup):
                return self._decode_wide(array, num_classes, name)
        decoded = lookup[array]
        if decoded.min() < 0:
            self._refuse(np.unique(array[decoded < 0]).tolist(), num_classes, name)
        return decoded

    def check_classes(self, num_classes: int) -> None:
        """Check that the coding fits a class space of `num_classes` classes.

        Raises:
            ValueError: If void collides with a class id or a listed class is outside the space.
        """
        if num_classes in self._lookups:
            return
        if num_classes < 1:
            raise ValueError(f"the class space has {num_classes} classes; at least one is needed")
        if 0 <= self.ignore_index < num_classes:
            raise ValueError(
                f"ignore_index {self.ignore_index} is a class id in a space of {num_classes} classes; "
                f"declare another value, for example ignore=65535"
            )
        targets = [*(self.table or {}).items(), *(self.palette or {}).items()]
        outside = sorted({target for _, target in targets if target is not None and target >= num_classes})
        if outside:
            raise ValueError(
                f"label coding {self.kind!r} lists class {_shorten(outside)}, but the space has the classes "
                f"0 to {num_classes - 1}"
            )
        self._lookups[num_classes] = self._build_lookup(num_classes)

    def check_names(self, class_names: Sequence[str]) -> None:
        """Check that as many classes are named as a table or palette tells apart.

        Raises:
            ValueError: If there are more or fewer names.
        """
        if self.kind not in ("table", "palette"):
            return
        targets = [*(self.table or {}).values(), *(self.palette or {}).values()]
        listed = sorted({target for target in targets if target is not None})
        if len(listed) != len(class_names):
            raise ValueError(
                f"label coding {self.kind!r} lists {len(listed)} classes ({_ranges(listed)}), but there are "
                f"{len(class_names)} class names; list every class in both, in the same order"
            )

    def raw_classes(self, num_classes: int) -> dict[int, int | None]:
        """Every declared raw id and the class it means (`None` for void); for all kinds but `palette`."""
        if self.kind == "ids":
            void = (self.ignore_index,) if self.void_values is None else self.void_values
            meaning: dict[int, int | None] = {k: k for k in range(num_classes)}
        elif self.kind == "shifted":
            void = (0, *(self.void_values or ()))
            meaning = {k + 1: k for k in range(num_classes)}
        else:
            void = self.void_values or ()
            meaning = dict(self.table or {})
        for value in void:
            if meaning.get(value) is not None and self.kind != "ids":
                raise ValueError(f"raw id {value} is declared both as void and as class {meaning[value]}")
            # `ids` with void=k, k < num_classes: the declaration says that this number is not that class.
            meaning[value] = None
        return meaning

    def _build_lookup(self, num_classes: int) -> NDArray[np.int32]:
        if self.kind == "palette":
            return np.empty(0, dtype=np.int32)
        meaning = self.raw_classes(num_classes)
        small = [raw for raw in meaning if 0 <= raw < _LOOKUP_LIMIT]
        lookup = np.full(max([255, *small]) + 1, self._default, dtype=np.int32)
        for raw in small:
            target = meaning[raw]
            lookup[raw] = self.ignore_index if target is None else target
        return lookup

    def _lookup(self, num_classes: int) -> NDArray[np.int32]:
        self.check_classes(num_classes)
        return self._lookups[num_classes]

    @property
    def _default(self) -> int:
        return (
            self.ignore_index
            if self.unlisted == "void" and self.kind in ("table", "palette")
            else _NOT_ALLOWED
        )

    def _decode_wide(self, array: NDArray[Any], num_classes: int, name: str) -> NDArray[np.int32]:
        """Values that are negative or too large for the look-up table: one look-up per distinct value."""
        meaning = self.raw_classes(num_classes)
        values, inverse = np.unique(array, return_inverse=True)
        missing = [int(value) for value in values if int(value) not in meaning]
        if missing and self._default == _NOT_ALLOWED:
            self._refuse(missing, num_classes, name)
        targets = [meaning.get(int(value)) for value in values]
        classes = np.array(
            [self.ignore_index if target is None else target for target in targets], dtype=np.int32
        )
        return classes[inverse].reshape(array.shape)

    def _decode_colors(self, array: NDArray[Any], name: str) -> NDArray[np.int32]:
        if array.ndim != 3 or array.shape[2] != 3:
            raise ValueError(
                f"mask {name} has shape {array.shape}, but label coding 'palette' reads RGB colors; "
                "declare 'ids', 'shifted' or 'table' for masks with one number per pixel"
            )
        palette = self.palette or {}
        packed = {(r << 16) | (g << 8) | b: target for (r, g, b), target in palette.items()}
        keys = np.array(sorted(packed), dtype=np.int32)
        classes = np.array(
            [self.ignore_index if packed[key] is None else packed[key] for key in keys.tolist()],
            dtype=np.int32,
        )
        wide = array.astype(np.int32)
        pixels = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
        position = np.minimum(np.searchsorted(keys, pixels), len(keys) - 1)
        known = keys[position] == pixels
        decoded = classes[position]
        if not known.all():
            if self._default == _NOT_ALLOWED:
                unknown = [(v >> 16, (v >> 8) & 255, v & 255) for v in np.unique(pixels[~known]).tolist()]
                raise ValueError(
                    f"mask {name} holds colors that the palette does not list: {_shorten(unknown)}; "
                    f"it lists {len(palette)} colors; add them, map them to null or declare unlisted=void"
                )
            decoded[~known] = self._default
        return decoded

    def _refuse(self, raw_ids: Sequence[int], num_classes: int, name: str) -> None:
        meaning = self.raw_classes(num_classes)
        classes = sorted(raw for raw, target in meaning.items() if target is not None)
        void = sorted(raw for raw, target in meaning.items() if target is None)
        raise ValueError(
            f"mask {name} holds {_shorten(list(raw_ids))}, outside the space of {num_classes} classes; "
            f"label coding {self.kind!r} allows {_ranges(classes)} as classes and {_ranges(void)} as void; "
            "declare another coding or more void values (for example void="
            f"{raw_ids[0]}), or correct the file"
        )

    # -- reading ----------------------------------------------------------------------------------------

    def read_mask(self, image: Image.Image, *, name: str) -> NDArray[Any]:
        """The raw values of a mask image, as this coding reads them.

        Args:
            image: Mask of mode 1, L, P, I or I;16 (`palette`: any mode that has colors).
            name: File or row, for messages.

        Returns:
            `(height, width)` integers, or `(height, width, 3)` for `palette`.

        Raises:
            ValueError: If the mode cannot hold what the coding declares.
        """
        if self.kind == "palette":
            return np.asarray(image.convert("RGB"))
        if image.mode in ("RGB", "RGBA", "LA"):
            # Some tools store the id in all color channels; that much is certain when they are equal.
            channels = np.asarray(image)[..., : 1 if image.mode == "LA" else 3]
            if (channels == channels[..., :1]).all():
                return channels[..., 0]
            raise ValueError(
                f"mask {name} is a color image (mode {image.mode}), but label coding {self.kind!r} reads "
                "one number per pixel; declare a palette (color -> class)"
            )
        if image.mode == "F":
            values = np.asarray(image)
            if not np.isfinite(values).all() or (values != np.round(values)).any():
                raise ValueError(f"mask {name} holds fractions (mode F); masks must hold whole numbers")
            return values.astype(np.int64)
        return np.asarray(image)

    # -- declaration as data ----------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """The declaration as JSON-ready data; `from_dict` reads it back equal."""
        data: dict[str, Any] = {"kind": self.kind, "ignore_index": self.ignore_index}
        if self.void_values is not None:
            data["void_values"] = list(self.void_values)
        if self.table is not None:
            data["table"] = {str(raw): target for raw, target in self.table.items()}
        if self.palette is not None:
            data["palette"] = {"#{:02x}{:02x}{:02x}".format(*c): target for c, target in self.palette.items()}
        if self.unlisted != "error":
            data["unlisted"] = self.unlisted
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "LabelCoding":
        """Read a declaration.

        Args:
            data: `kind` and the fields of this class. `table` maps raw ids (as text, for JSON) to a class id
                or null; `palette` maps `"#rrggbb"` or `"r,g,b"` to a class id or null, or is a list of
                colors in class order.

        Raises:
            ValueError: If a field is unknown or malformed.
        """
        return cls(**coding_text.read_fields(data))

    @classmethod
    def parse(cls, text: str) -> "LabelCoding":
        """Read a declaration as given on the command line.

        Accepts `ids`, `shifted`, `ids:void=11`, `ids:void=254+255,ignore=255`, `shifted:void=255`,
        `table:FILE.json`, `palette:FILE.json,unlisted=void`, a JSON file or JSON text with the fields of
        `from_dict`. The file of `table:`/`palette:` may hold only the mapping itself.

        Raises:
            ValueError: If the text cannot be read as a declaration.
            FileNotFoundError: If a named file does not exist.
        """
        return cls.from_dict(coding_text.split_declaration(text))


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _require_whole(value: object, field: str) -> None:
    if not _is_whole(value):
        raise ValueError(f"label coding: {field} holds {value!r}; it must be a whole number")


def _shorten(values: Sequence[Any]) -> str:
    shown = ", ".join(str(value) for value in values[:_SHOWN_IDS])
    return shown if len(values) <= _SHOWN_IDS else f"{shown}, ... ({len(values)} in all)"


def _ranges(values: Sequence[int]) -> str:
    """Sorted numbers as short text: `0-10, 255`."""
    if not values:
        return "nothing"
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return _shorten([str(a) if a == b else f"{a}-{b}" for a, b in runs])

"""`prolab add-class`: a class more in a model, from words that are approved one by one."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from prolab_hf.cli.data_options import CodingOption
from prolab_hf.cli.describe_command import chat_model
from prolab_hf.cli.edit_command import (
    EncoderOption,
    ImagesOption,
    MasksOption,
    OverlaysOption,
    print_session,
    save_model,
    write_overlays,
)
from prolab_hf.cli.edit_tables import add_images, open_editor, print_effect, print_placements
from prolab_hf.cli.options import (
    DeviceOption,
    ModelOption,
    require_file,
    require_model,
    require_model_place,
    require_writable,
)

if TYPE_CHECKING:
    from prolab_hf.editing.editor import SpaceEditor
    from prolab_hf.editing.effects import EditEffect
    from prolab_hf.label_space.description_writer import ChatModel
    from prolab_hf.label_space.placement import Placement

MOST_OFFERED = 10
ALTERNATIVES = 3


def add_class(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new class.")],
    model: ModelOption,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the new model; by default MODEL-NAME.")
    ] = None,
    phrase: Annotated[
        list[str] | None, typer.Option("--phrase", help="What can be seen of the class; repeat.")
    ] = None,
    words: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="JSON file, class -> descriptions.")
    ] = None,
    tick: Annotated[
        list[str] | None, typer.Option("--tick", metavar="PROPERTY", help="A property of the class; repeat.")
    ] = None,
    describe: Annotated[
        bool,
        typer.Option("--describe", help="Ask a language model, which chooses among the model's properties."),
    ] = False,
    language_model: Annotated[
        str | None, typer.Option("--language-model", help="With --describe: its name, folder or Hub id.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="With --describe: OpenAI-compatible address of the language model.")
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="With --describe: run it here with transformers.")
    ] = False,
    gguf_file: Annotated[str | None, typer.Option(help="With --local: the GGUF file in the folder.")] = None,
    api_key_env: Annotated[
        str, typer.Option(help="Environment variable that holds the endpoint's key.")
    ] = "OPENAI_API_KEY",
    attempts: Annotated[int, typer.Option(min=1, help="Tries for a usable answer.")] = 5,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for one reply.")] = 60.0,
    budget: Annotated[
        float | None,
        typer.Option(
            help="Share of known pixels that the class may take; default: the model's own, or 0.01."
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask nothing: take every sentence that fits a property.")
    ] = False,
    images: ImagesOption = None,
    masks: MasksOption = None,
    coding: CodingOption = "ids",
    overlays: OverlaysOption = None,
    patch_out: Annotated[
        Path | None, typer.Option("--patch-out", help="Also write the edit into this JSON file.")
    ] = None,
    encoder: EncoderOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model in --out.")] = False,
    device: DeviceOption = "auto",
) -> None:
    """Add a class to a model by describing it: no image is labeled, nothing is trained.

    Every sentence falls into one of the model's own properties; the nearest are offered, and you approve. Before
    anything is written you see which known classes the new one takes pixels from, and whether it can be told apart.
    Without sentences you are asked for them.

    Examples:
      prolab add-class rickshaw --model runs/street

      prolab add-class rickshaw --model runs/street --phrase "three wheels" --phrase "canvas roof" --yes

      prolab add-class rickshaw --model runs/street --describe --language-model NAME --endpoint http://127.0.0.1:8000/v1
    """
    target = out if out is not None else _default_out(model, name)
    _check_options(describe, language_model, endpoint, local, budget)
    _check_places(images, masks, overlays, words, patch_out)
    sentences = [*(phrase or ()), *_from_file(words, name)]
    if yes and not (sentences or tick or describe):
        raise ValueError(
            f"Nothing says what can be seen of {name!r}: give --phrase, --from, --tick or --describe, or leave out "
            "--yes to be asked."
        )
    require_model_place(target, overwrite)
    require_model(model)
    key = os.environ.get(api_key_env)
    chat = chat_model(language_model or "", endpoint, local, gguf_file, key, timeout) if describe else None

    console = Console()
    editor = open_editor(model, device, encoder)
    if name.strip() in editor.space.class_names:
        raise ValueError(
            f"The class {name.strip()!r} exists already; describe it anew with prolab edit --describe-class."
        )
    if images is not None:
        add_images(editor, images, masks, coding)
    if budget is not None:
        editor.set_claim_budget(budget)
    chosen = _Choice(console, editor, name.strip(), yes)
    chosen.tick(tick or ())
    chosen.ask_language_model(chat, attempts)
    chosen.place(sentences or chosen.ask_for_sentences())
    print_effect(console, chosen.apply())
    print_session(console, editor)
    _say_whether_found(console, editor, name.strip())
    _write(console, editor, target, overlays, patch_out, yes)


def _write(
    console: Console, editor: "SpaceEditor", out: Path, overlays: Path | None, patch: Path | None, yes: bool
) -> None:
    if overlays is not None:
        write_overlays(editor, overlays)
        console.print(f"Overlays before and after are in {escape(str(overlays))}.", highlight=False)
    if not yes and not _agrees(f"Write the model to {out}?", default=True):
        console.print("No model was written.")
        return
    if patch is not None:
        editor.patch().save(patch)
    save_model(console, editor, out)


@dataclass
class _Choice:
    """The words of the new class, as they are approved."""

    console: Console
    editor: "SpaceEditor"
    name: str
    yes: bool
    pairs: dict[tuple[str, str], None] = field(default_factory=dict)
    """Sentences with their properties, in order."""

    def tick(self, properties: Sequence[str]) -> None:
        """Properties that were named as such."""
        from prolab_hf.editing.edits import named_properties

        for name in named_properties(self.editor.space, list(properties)) if properties else ():
            self.pairs[name, name] = None

    def ask_language_model(self, chat: "ChatModel | None", attempts: int) -> None:
        """Properties that a language model chose, and its own descriptions where nothing in the space says them."""
        if chat is None:
            return
        from prolab_hf.label_space.description_writer import DescribeSettings, describe_in_vocabulary

        space = self.editor.space
        vocabulary = list(space.property_names)
        if (
            self.editor.encoder.available
        ):  # the likeliest first, so that a long list is cut where it matters least
            vocabulary = [
                name for name, _ in self.editor.encoder.nearest(space, self.name, space.num_properties)
            ]
        answer = describe_in_vocabulary(
            self.name,
            vocabulary,
            chat,
            class_names=space.class_names,
            settings=DescribeSettings(max_attempts=attempts),
        )
        self.console.print(
            f"{chat.name} chose {len(answer.properties)} properties for {self.name!r}.", markup=False
        )
        for name in answer.properties:
            if self.yes or _agrees(f"  Does {self.name!r} show {name!r}?", default=True):
                self.pairs[name, name] = None
        if answer.new and not self.editor.encoder.available:
            self.console.print(
                f"Left out, because the text encoder is not here (--encoder): {'; '.join(answer.new)}",
                markup=False,
            )
            return
        self.place(answer.new)

    def ask_for_sentences(self) -> list[str]:
        """Sentences that are typed in where nothing is known yet; without any, properties near its name are offered."""
        if self.pairs or self.yes:
            return []
        self.console.print(
            f"What can be seen of {self.name!r}? One thing a line; an empty line ends.", markup=False
        )
        sentences = []
        while text := _typed("  "):
            sentences.append(text)
        if not sentences and self.editor.encoder.available:
            near = self.editor.encoder.nearest(self.editor.space, self.name, MOST_OFFERED)
            self.console.print("The properties nearest to its name:")
            for name, cosine in near:
                if _agrees(f"  Does {self.name!r} show {name!r} ({cosine:.2f})?", default=False):
                    self.pairs[name, name] = None
        elif not sentences:
            self._ask_what_it_is_like()
        return sentences

    def _ask_what_it_is_like(self) -> None:
        """Without a text encoder, which knows what is near: the properties of a class that looks alike are offered."""
        from prolab_hf.suggestions import did_you_mean

        names = self.editor.space.class_names
        while like := _typed("Which known class looks most like it? An empty line ends. "):
            if like not in names:
                self.console.print(f"  There is no class {like!r}{did_you_mean(like, names)}", markup=False)
                continue
            space = self.editor.space
            for index in space.class_properties[names.index(like)]:
                name = space.property_names[index]
                if _agrees(f"  Does {self.name!r} show {name!r}?", default=True):
                    self.pairs[name, name] = None
            return

    def place(self, sentences: Sequence[str]) -> None:
        """Finds the property of each sentence, and has it approved."""
        from prolab_hf.label_space.conflicts import BUILT_IN
        from prolab_hf.label_space.placement import place_phrases
        from prolab_hf.label_space.space_content import checked_descriptions

        if not sentences:
            return
        space = self.editor.space
        texts = checked_descriptions({self.name: list(sentences)}, None)
        encoder = self.editor.encoder.for_sentences(space, texts)
        placed = place_phrases(space, texts, encoder, BUILT_IN)
        print_placements(self.console, space, placed)
        for item in placed:
            if self.yes or item.sureness == "known":
                self._take(item, item.fits)
            else:
                self._ask_where(item)

    def _take(self, item: "Placement", fits: bool) -> None:
        if fits:
            self.pairs[item.phrase, item.property_name] = None
            for index in item.also:
                also = self.editor.space.property_names[index]
                self.pairs[also, also] = None

    def _ask_where(self, item: "Placement") -> None:
        """Yes, no, or one of the nearest properties by its number."""
        near = self.editor.encoder.nearest(self.editor.space, item.phrase, ALTERNATIVES + 1)
        others = [pair for pair in near if pair[0] != item.property_name][:ALTERNATIVES]
        listed = "; ".join(
            f"{number}: {name!r} ({cosine:.2f})" for number, (name, cosine) in enumerate(others, start=1)
        )
        default = "y" if item.fits else "n"
        question = f"  {item.phrase!r} means {item.property_name!r}? y, n, or {listed}"
        while True:
            reply = _typed(f"{question} [{default}] ").lower() or default
            if reply in ("y", "yes", "n", "no"):
                return self._take(item, reply.startswith("y"))
            if reply.isdigit() and 1 <= int(reply) <= len(others):
                self.pairs[item.phrase, others[int(reply) - 1][0]] = None
                return None
            self.console.print(f"  Answer y, n or a number from 1 to {len(others)}.")

    def apply(self) -> "EditEffect":
        """Adds the class.

        Raises:
            ValueError: Nothing was approved, or it cannot be added so.
        """
        from prolab_hf.editing.edits import AddClass

        if not self.pairs:
            raise ValueError(
                f"No word of {self.name!r} was left, so there is nothing to know it by. Word it as the space does "
                "(prolab space show MODEL), tick properties (--tick), or make a new one (prolab edit --add-property)."
            )
        sentences = tuple(dict.fromkeys(sentence for sentence, _ in self.pairs))
        return self.editor.apply(AddClass(self.name, sentences, (), tuple(self.pairs)))


def _check_options(
    describe: bool, language_model: str | None, endpoint: str | None, local: bool, budget: float | None
) -> None:
    for option, given in (
        ("--language-model", language_model),
        ("--endpoint", endpoint),
        ("--local", local or None),
    ):
        if given is not None and not describe:
            raise ValueError(f"{option} goes with --describe.")
    if describe and language_model is None:
        raise ValueError("--describe asks a language model; name it with --language-model.")
    if budget is not None and not 0 <= budget < 1:
        raise ValueError(f"--budget is {budget}; give a share from 0 to below 1.")


def _check_places(
    images: Path | None, masks: Path | None, overlays: Path | None, words: Path | None, patch: Path | None
) -> None:
    for option, given in (("--masks", masks), ("--overlays", overlays)):
        if given is not None and images is None:
            raise ValueError(f"{option} goes with --images FOLDER.")
    for place in (words, images, masks):
        if place is not None:
            require_file(place, "file or folder")
    if patch is not None:
        require_writable(patch)


def _from_file(words: Path | None, name: str) -> list[str]:
    if words is None:
        return []
    from prolab_hf.label_space.description_files import read_descriptions
    from prolab_hf.suggestions import did_you_mean

    described = read_descriptions(words)
    if name.strip() not in described:
        raise ValueError(f"{words} does not describe {name.strip()!r}{did_you_mean(name, described)}")
    return described[name.strip()]


def _default_out(model: str, name: str) -> Path:
    """Beside the model where it is a folder, else here."""
    suffix = re.sub(r"[^\w.-]+", "-", name.strip()).strip("-.") or "class"
    folder = Path(model)
    parent = folder.resolve().parent if folder.is_dir() else Path()
    return parent / f"{folder.resolve().name if folder.is_dir() else folder.name}-{suffix}"


def _say_whether_found(console: Console, editor: "SpaceEditor", name: str) -> None:
    """What to do where the class wins no pixel of the session's images."""
    if not len(editor.images):
        return
    shares = [dict(editor.segment(image).shares()).get(name, 0.0) for image in editor.images.names]
    found = sum(share > 0 for share in shares)
    text = f"{name} is found in {found} of {len(shares)} images"
    if not found:
        text += (
            ": if it is there, describe what only it shows, remove what it shares with its surroundings, or allow more "
            "(--budget)"
        )
    console.print(escape(f"{text}."), highlight=False, soft_wrap=True)


def _typed(question: str) -> str:
    """A line that is typed in.

    Raises:
        ValueError: There is nobody to type.
    """
    try:
        return input(question).strip()
    except EOFError:
        raise ValueError(
            "There is no terminal to ask in: add --yes to take every sentence that fits a property."
        ) from None


def _agrees(question: str, *, default: bool) -> bool:
    while True:
        reply = _typed(f"{question} [{'Y/n' if default else 'y/N'}] ").lower()
        if not reply:
            return default
        if reply in ("y", "yes", "n", "no"):
            return reply.startswith("y")

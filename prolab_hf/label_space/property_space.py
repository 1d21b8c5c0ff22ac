"""The property space: what words hand to the model, with everything that can be done to it."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from prolab_hf.label_space import operations, space_files
from prolab_hf.label_space.space_content import Descriptions, SpaceContent

if TYPE_CHECKING:
    from prolab_hf.label_space.conflicts import ConflictRules
    from prolab_hf.label_space.placement import Placement
    from prolab_hf.label_space.report.health import HealthReport


class PropertySpace(SpaceContent):
    """Classes described by shared properties: names, property embeddings and the class-property matrix.

    A space is immutable: every operation returns a new one. Class k of a model is row k here.

    Args:
        class_names: Names of the classes, unique; surrounding white space is removed.
        property_names: Names of the properties, unique.
        property_embeddings: `(num_properties, embedding_dim)`, finite, no zero row; rows that are not of unit
            length are scaled to it.
        class_property_matrix: `(num_classes, num_properties)` of 0 and 1.
        descriptions: Class name -> the sentences it was described by; classes may be absent.
        assignments: Class name -> property index of each of its descriptions, together exactly the class's row.
        name: Short name of the space.
        encoder: Facts about the text encoder (JSON values).
        clustering: Facts about the clustering (JSON values).
        provenance: Who wrote the descriptions, license (JSON values).

    Raises:
        ValueError: Shapes, names or values do not fit together; the message names the field.
    """

    # ------------------------------------------------------------------------------------ making a space

    @classmethod
    def build(
        cls,
        descriptions: Descriptions,
        *,
        encoder: object,
        num_properties: int | str = "auto",
        seed: int = 0,
        algorithm: str = "constrained",
        conflicts: "ConflictRules | Mapping[str, object] | str | os.PathLike[str] | None" = None,
        allow_conflicts: bool = False,
        property_names: Sequence[str] | Mapping[str, str] | None = None,
        name: str = "",
        provenance: Mapping[str, Any] | None = None,
        show_progress: bool = False,
    ) -> Self:
        """Builds a space from class descriptions: encode, cluster, mark which class uses which cluster.

        Args:
            descriptions: Class name -> sentences; the order of the classes is kept.
            encoder: A `TextEncoder`, the name or folder of a transformers or sentence-transformers model, a
                loaded `SentenceTransformer`, or a function from a list of N texts to an `(N, embedding_dim)`
                array.
            num_properties: `"auto"` merges only descriptions that mean the same, and the number falls out; a
                number asks for that many properties, at most the number of different descriptions; `"knee"`
                looks for the bend of the clustering error.
            seed: Seed of the clustering.
            algorithm: For a number: `"constrained"` never puts two descriptions that contradict each other
                into one property, `"kmeans"` is the paper's clustering, which does.
            conflicts: What contradicts what: `conflicts.ConflictRules`, or a mapping or JSON file with words
                of your own (`ConflictRules.extended`). The built-in rules by default.
            allow_conflicts: Whether a number that cannot be met without a contradiction is met with one.
            property_names: Names in the order of the properties, or a mapping from default names (the
                description that most classes of the property use) to better ones.
            name: Short name of the space.
            provenance: Who wrote the descriptions, prompt version, license.
            show_progress: Whether encoding shows a progress bar.

        Returns:
            A space whose `assignments` say which property each description fell into.

        Raises:
            ValueError: A class without description, more properties than descriptions, fewer than contradictions
                allow (the message says the smallest number), two classes with equal rows, or vectors that are
                not finite.
        """
        from prolab_hf.label_space.building import BuildOptions, build_space
        from prolab_hf.label_space.conflicts import ConflictRules

        return build_space(
            cls,
            descriptions,
            encoder=encoder,
            options=BuildOptions(
                num_properties, seed, algorithm, ConflictRules.load(conflicts), allow_conflicts
            ),
            property_names=property_names,
            facts={"name": name, "provenance": provenance},
            show_progress=show_progress,
        )

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        subfolder: str = "",
    ) -> Self:
        """Loads a space: a bundled name, else a local folder, else a Hub repository.

        Args:
            name: Bundled name (`"ade20k"`, any case, `-` or `_`), folder or `owner/name`.
            revision: Branch, tag or commit of the Hub repository.
            token: Hub token.
            cache_dir: Where downloads are kept.
            local_files_only: Whether to use only what is on this machine.
            force_download: Whether to download even what is cached.
            subfolder: Folder inside the folder or repository.

        Raises:
            FileNotFoundError: Nothing of that name exists.
            ValueError: It exists and is no valid property space; the message names file and field.
        """
        json_path, tensors_path = space_files.find_space_files(
            name,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            force_download=force_download,
            subfolder=subfolder,
        )
        fields = space_files.read_space_files(json_path, tensors_path)
        fingerprint = fields.pop("fingerprint")
        if json_path.parent == space_files.bundled_folder(str(name)):
            fields["name"] = space_files.alias_of(name) or fields["name"]
        try:
            space = cls(**fields)
        except ValueError as error:
            raise ValueError(f"{json_path.parent}: {error}") from error
        if space.fingerprint != fingerprint:
            raise ValueError(
                f"{json_path}: the field 'fingerprint' does not match the content of {json_path.name} and "
                f"{tensors_path.name}; a file was damaged, edited by hand or comes from another space. "
                "Change spaces with PropertySpace's operations and save them."
            )
        return space

    # ------------------------------------------------------------------------------------ disk and Hub

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        push_to_hub: bool = False,
        write_card: bool = True,
        **push_options: Any,
    ) -> None:
        """Writes `property_space.json`, `property_space.safetensors` and a `README.md` card.

        Args:
            save_directory: Folder, made if absent. A README.md that is not a property space's card is kept.
            push_to_hub: Whether to upload too.
            write_card: Whether to write the card.
            **push_options: Arguments of `push_to_hub`; `repo_id` defaults to the folder's name.

        Raises:
            NotADirectoryError: `save_directory` is a file.
            TypeError: Arguments for an upload were given without `push_to_hub`.
        """
        if push_options and not push_to_hub:
            raise TypeError(
                f"save_pretrained() got {', '.join(push_options)}; add push_to_hub=True to use that."
            )
        folder = Path(save_directory)
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"{folder} is a file; a property space is saved into a folder.")
        folder.mkdir(parents=True, exist_ok=True)
        space_files.write_space_files(self, folder)
        if write_card:
            from prolab_hf.label_space.views.card import write_card_unless_foreign

            write_card_unless_foreign(self, folder / space_files.CARD_NAME)
        if push_to_hub:
            self.push_to_hub(push_options.pop("repo_id", folder.name), **push_options)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        token: str | bool | None = None,
        commit_message: str | None = None,
    ) -> str:
        """Uploads the space to a model repository on the Hub, in one commit.

        Args:
            repo_id: `owner/name`; made if absent.
            private: Whether a newly made repository is private.
            revision: Branch to commit to.
            create_pr: Whether to open a pull request instead of committing.
            token: Hub token; the logged-in user's by default.
            commit_message: Title of the commit.

        Returns:
            Address of the commit, or of the pull request.

        Raises:
            ValueError: An option contradicts another or the repository (`private` of a public one).
            huggingface_hub.errors.HfHubHTTPError: The Hub refused; see `prolab_hf.uploading.upload_folder`.
        """
        from prolab_hf.uploading import upload_folder

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            message = commit_message or f"Upload property space {self.name}".strip()
            return upload_folder(
                Path(folder),
                repo_id,
                commit_message=message,
                private=private,
                revision=revision,
                create_pr=create_pr,
                token=token,
                card=space_files.CARD_NAME,
            )

    # --------------------------------------------------------------------------------------- operations

    def add_classes(
        self,
        descriptions: Descriptions,
        *,
        encoder: object = None,
        conflicts: "ConflictRules | Mapping[str, object] | str | os.PathLike[str] | None" = None,
        new_properties: bool = False,
    ) -> Self:
        """Adds classes: each description goes to the nearest property that does not contradict it.

        Nothing is trained. Without new properties a model's learned weights stay valid.

        Args:
            descriptions: New class name -> sentences.
            encoder: The encoder the space was built with, in any form that `build` takes. `None` is enough
                where every sentence is a property name or already describes another class.
            conflicts: What contradicts what, as in `build`.
            new_properties: Whether a description that fits no property becomes one. A trained model does not
                know it: use the space for training.

        Warns:
            UserWarning: A description fits no property and was left out.

        Raises:
            ValueError: A name exists already, no description of a class fits a property, the encoder does not fit
                or is needed, or a new row equals an existing one.
        """
        from prolab_hf.label_space.conflicts import ConflictRules

        return operations.add_classes(
            self, descriptions, encoder, ConflictRules.load(conflicts), new_properties
        )

    def place(
        self,
        descriptions: Descriptions,
        *,
        encoder: object = None,
        conflicts: "ConflictRules | Mapping[str, object] | str | os.PathLike[str] | None" = None,
    ) -> "list[Placement]":
        """Says for each sentence of new classes which property it would fall into, and how sure that is.

        Args:
            descriptions: New class name -> sentences.
            encoder: As in `add_classes`.
            conflicts: What contradicts what, as in `build`.

        Raises:
            ValueError: As `add_classes`.
        """
        from prolab_hf.label_space.conflicts import ConflictRules
        from prolab_hf.label_space.placement import place_phrases

        texts = operations.checked_new_classes(self, descriptions)
        return place_phrases(self, texts, encoder, ConflictRules.load(conflicts))

    def add_property(self, phrase: str, class_names: Sequence[str], *, encoder: object) -> Self:
        """Adds a property, a new column, and gives it to classes. A model has to be trained with it.

        Args:
            phrase: What can be seen, as in a description; also its name.
            class_names: Classes that show it.
            encoder: The encoder the space was built with, in any form that `build` takes.

        Raises:
            ValueError: A class is unknown, the phrase is in the space already, or the encoder does not fit.
        """
        return operations.add_property(self, phrase, class_names, encoder)

    def select_classes(self, class_names: Sequence[str]) -> Self:
        """Keeps the named classes, in the order given; all properties stay.

        Args:
            class_names: Names out of `self.class_names`.
        """
        return operations.select_classes(self, class_names)

    def remove_classes(self, class_names: str | Sequence[str]) -> Self:
        """Drops classes; all properties stay.

        Args:
            class_names: One name or several.
        """
        return operations.remove_classes(self, class_names)

    def rename_classes(self, names: Mapping[str, str]) -> Self:
        """Renames classes.

        Args:
            names: Present name -> new name.
        """
        return operations.rename_classes(self, names)

    def set_row(self, class_name: str, properties: Sequence[str | int]) -> Self:
        """Replaces the properties of one class; its assignments, no longer true, are dropped.

        Args:
            class_name: The class.
            properties: Names or indices of its properties, at least one.
        """
        return operations.set_row(self, class_name, properties)

    def complete(self, answers: Mapping[str, Sequence[str]], *, answered_by: str | None = None) -> Self:
        """Fills the gaps of the descriptions: asked of every class, a property is ticked wherever it shows.

        Each class keeps what it has; a further tick reads as the property's name. A model that was solved in closed
        form takes the completed space without another image (`set_property_space`).

        Args:
            answers: Property name -> all classes that typically show it; other properties stay as they are.
                `prolab_hf.label_space.completion.ask_properties` asks a language model.
            answered_by: Who answered, for the space's provenance.

        Raises:
            ValueError: A property or class is unknown, or two classes would have equal rows.
        """
        from prolab_hf.label_space.completion import complete

        return complete(self, answers, answered_by=answered_by)

    def merge_classes(self, groups: Mapping[str, Sequence[str]]) -> Self:
        """Merges classes; the new one stands where the first of its group stood and has all their properties.

        Args:
            groups: New name -> names of the classes that become it.
        """
        return operations.merge_classes(self, groups)

    def shuffled(self, seed: int = 0) -> Self:
        """Control: the same rows dealt out to the wrong classes, so that words and rows no longer agree.

        Args:
            seed: Seed of the permutation.
        """
        from prolab_hf.label_space.building import shuffled_space

        return shuffled_space(self, seed)

    # ------------------------------------------------------------------------------------------ judging

    def check(
        self,
        *,
        taxonomy: Mapping[str, str] | None = None,
        encoder: object = None,
        seed: int = 0,
        num_trials: int = 100,
        conflicts: "ConflictRules | Mapping[str, object] | str | os.PathLike[str] | None" = None,
    ) -> "HealthReport":
        """Judges the space: findings with what to do, and the figures of `prolab_hf.label_space.report.health`.

        Args:
            taxonomy: Class name -> super-category, to compare row similarity with.
            encoder: The encoder the space was built with; given, the stability over clustering seeds is
                measured too (it needs the vectors of the descriptions).
            seed: Seed of the random trials.
            num_trials: Noisy copies per class for each noise level.
            conflicts: What contradicts what, as in `build`.
        """
        from prolab_hf.label_space.conflicts import ConflictRules
        from prolab_hf.label_space.report.health import check_space

        rules = ConflictRules.load(conflicts)
        return check_space(
            self, taxonomy=taxonomy, encoder=encoder, seed=seed, num_trials=num_trials, rules=rules
        )

    # ----------------------------------------------------------------------------------------- controls

    @classmethod
    def random_codes(
        cls, class_names: Sequence[str], num_properties: int, density: float, seed: int = 0
    ) -> Self:
        """Control: rows drawn at random, all different, with the given share of ones.

        Args:
            class_names: Names of the classes.
            num_properties: Number of columns.
            density: Share of ones in (0, 1).
            seed: Seed of the draw.
        """
        from prolab_hf.label_space.building import random_codes_space

        return random_codes_space(cls, class_names, num_properties, density, seed)

    def _repr_html_(self) -> str:
        from prolab_hf.label_space.views.notebook import space_html

        return space_html(self)

    @classmethod
    def one_hot(cls, class_names: Sequence[str]) -> Self:
        """Control: every class is its own single property.

        Args:
            class_names: Names of the classes.
        """
        from prolab_hf.label_space.building import one_hot_space

        return one_hot_space(cls, class_names)

    @classmethod
    def class_name_embeddings(cls, class_names: Sequence[str], encoder: object) -> Self:
        """Control: every class is one property, whose embedding is that of the class's name.

        Args:
            class_names: Names of the classes.
            encoder: Anything that `build` takes.
        """
        from prolab_hf.label_space.building import class_name_space

        return class_name_space(cls, class_names, encoder)

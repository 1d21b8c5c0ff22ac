"""A model whose words are exchanged without touching the one that it was made from: it shares all weights."""

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch
from torch import Tensor

from prolab_hf.editing.response_cache import NetworkAnswer, ResponseCache
from prolab_hf.model.closed_form_prolab import class_sources, dequantized, label_names
from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation, ProLabSemanticSegmenterOutput

if TYPE_CHECKING:
    from prolab_hf.label_space.property_space import PropertySpace

Model = TypeVar("Model", bound=ProLabForSemanticSegmentation)

_SERIALS = itertools.count()
_OWN_TABLES = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")
_LEAST_SCORE = 0.5 / 255  # what the sample rounds to 0, for the inverse of the sigmoid


class EditableModel(ProLabForSemanticSegmentation):
    """A ProLab model with words of its own over the weights of another, which caches what the network says.

    It is used like any other: `segment`, `explain` and `evaluate` take it, and an image that was seen before costs no
    pass of the network, whatever the words are by now. Made by `sharing_weights` and `with_space`, never changed.

    Attributes:
        cache: Answers of the network.
        serial: Another number for every such model.
    """

    cache: ResponseCache
    serial: int
    _successor_sources: list[list[int]] | None
    _sample_cache: dict[str, Any]
    _sample_kept: tuple[Tensor, Tensor, Tensor] | None

    @classmethod
    def sharing_weights(cls, model: ProLabForSemanticSegmentation, cache: ResponseCache) -> Self:
        """A view of a model, with the same words.

        Args:
            model: The model; nothing of it changes.
            cache: Where answers of the network are kept.
        """
        view = _view(model, cls)
        view.cache, view.serial = cache, next(_SERIALS)
        view._successor_sources, view._sample_cache = None, {}
        view._sample_kept = model._sample_kept if isinstance(model, EditableModel) else None
        if view.config.trained_classes is None and view.config.class_properties is not None:
            # Nothing is known about its training: the classes that it has now are those that it knows.
            view.config.trained_classes = label_names(view.config)
        return view

    def to_model(self) -> ProLabForSemanticSegmentation:
        """An ordinary model with these words; it shares the weights, too."""
        return _view(self, ProLabForSemanticSegmentation)

    # ---- other words --------------------------------------------------------------------------------------

    @torch.no_grad()
    def with_space(
        self,
        space: "PropertySpace",
        successors: Mapping[str, str],
        *,
        claim_budget: float | None,
        mixed: Mapping[str, Sequence[str]] | None = None,
    ) -> "EditableModel":
        """The model with another space.

        Args:
            space: The space.
            successors: Class of now -> class of the space that goes on with what was learned of it.
            claim_budget: As for `set_property_space`.
            mixed: Name of a merged property -> names of those of now that it is the mean of.
        """
        view = EditableModel.sharing_weights(self, self.cache)
        view._successor_sources = self._sources_after(space, successors)
        is_solved = self.config.similarity == "linear_cosine"
        sample = None
        if not is_solved and self.calibration_scores is not None:
            sample = self._carried_sample(space, mixed or {})
            view.restore_calibration_sample(None, None)
        view.set_property_space(space, claim_budget=None if sample is not None else claim_budget)
        if sample is not None:
            view.restore_calibration_sample(sample, self.calibration_labels)
            view.set_claim_budget(claim_budget)
        return view

    def with_claim_budget(self, claim_budget: float | None) -> "EditableModel":
        """The model with other offsets.

        Args:
            claim_budget: As for `set_property_space`.
        """
        view = EditableModel.sharing_weights(self, self.cache)
        view.set_claim_budget(claim_budget)
        return view

    def _sources_in(self, space: "PropertySpace") -> list[list[int]] | None:
        """What an edit says about its classes, not what their words look like."""
        if self._successor_sources is None:
            return super()._sources_in(space)
        return self._successor_sources

    def _sources_after(self, space: "PropertySpace", successors: Mapping[str, str]) -> list[list[int]]:
        trained = list(self.config.trained_classes or ())
        found: dict[str, list[int]] = {name: [] for name in space.class_names}
        for name, sources in zip(label_names(self.config), class_sources(self.config)):
            if name in successors:
                found[successors[name]].extend(sources)
        taken = {source for sources in found.values() for source in sources}
        for name, sources in found.items():
            if not sources and name in trained and name not in successors.values():
                source = trained.index(name)  # it was removed before, and is there again
                if source not in taken:
                    sources.append(source)
        return [sorted(sources) for sources in found.values()]

    def _carried_sample(self, space: "PropertySpace", mixed: Mapping[str, Sequence[str]]) -> Tensor | None:
        """The calibration sample in other properties; `None` where a property is new to the network."""
        scores = self.calibration_scores
        if scores is None:
            return None
        old = self.property_embeddings.float().cpu()
        position = {row.tobytes(): index for index, row in enumerate(old.numpy())}
        names = {name: index for index, name in enumerate(self.config.property_names or ())}
        columns = []
        for name, row in zip(space.property_names, space.property_embeddings):
            index = position.get(row.numpy().tobytes())
            if index is not None:
                columns.append(scores[:, index])
            elif name in mixed:
                parts = [names[part] for part in mixed[name]]
                columns.append(self._mixed_column(scores[:, parts], old[parts]))
            else:
                return None
        return torch.stack(columns, dim=1)

    def _mixed_column(self, scores: Tensor, embeddings: Tensor) -> Tensor:
        """Scores of a property whose embedding is the mean of others', as integers `(pixels,)`.

        Logits are linear in the embedding; scores are turned into logits and back, up to their rounding.
        """
        length = embeddings.sum(dim=0).norm()
        if self.config.similarity == "cosine":
            return (scores.float().sum(dim=1) / length).round().clamp(-32767, 32767).to(scores.dtype)
        values = (scores.float() / 255).clamp(_LEAST_SCORE, 1 - _LEAST_SCORE)
        return (torch.sigmoid(torch.logit(values).sum(dim=1) / length) * 255).round().to(scores.dtype)

    # ---- answers ------------------------------------------------------------------------------------------

    def forward(self, pixel_values: Tensor | None = None, **kwargs: Any) -> ProLabSemanticSegmenterOutput:
        """As of any ProLab model; cached where neither loss, gradients nor hidden states are wanted.

        Args:
            pixel_values: `(batch_size, num_channels, height, width)`.
            kwargs: See `ProLabForSemanticSegmentation.forward`.
        """
        wanted = any(value is not None and value is not False for value in kwargs.values())
        is_plain = not wanted and "return_dict" not in kwargs
        if pixel_values is None or not is_plain or self.training or torch.is_grad_enabled():
            return super().forward(pixel_values=pixel_values, **kwargs)
        self._require_classes()
        return self.output_of(self.answer(pixel_values))

    def responses(self, pixel_values: Tensor) -> Tensor:
        """As of any ProLab model; cached where no gradients are wanted.

        Args:
            pixel_values: `(batch_size, num_channels, height, width)`.
        """
        found = None if torch.is_grad_enabled() or self.training else self.answer(pixel_values).responses
        return super().responses(pixel_values) if found is None else found

    def answer(self, pixel_values: Tensor) -> NetworkAnswer:
        """What the network says about prepared images, asked once.

        Args:
            pixel_values: `(batch_size, num_channels, height, width)`.
        """
        return self.cache.get(pixel_values, lambda: NetworkAnswer(self, pixel_values))

    def output_of(self, answer: NetworkAnswer) -> ProLabSemanticSegmenterOutput:
        """The model's output in the words of now.

        Args:
            answer: What the network said.
        """
        unspoken = None
        if answer.responses is not None:
            logits, unspoken = self._with_and_without_words(answer.solved_logits(self))
        else:
            logits = answer.property_logits(self)
        return ProLabSemanticSegmenterOutput(
            logits=self.class_logits(logits, unspoken), property_logits=logits, unspoken_logits=unspoken
        )

    # ---- the calibration sample ---------------------------------------------------------------------------

    def sample_labels(self) -> Tensor:
        """Class of each pixel of the calibration sample, -1 where it is not among the classes, `(pixels,)`."""
        if self.calibration_labels is None:
            return torch.zeros(0, dtype=torch.int64)
        label_of_source = torch.full((max(1, len(self.config.trained_classes or ())),), -1)
        for label, sources in enumerate(class_sources(self.config)):
            label_of_source[sources] = label
        return label_of_source[self.calibration_labels.long().cpu()]

    @torch.no_grad()
    def sample_class_scores(self) -> Tensor:
        """Class scores of every pixel of the sample, without offsets, `(pixels, num_labels)`."""
        if "scores" not in self._sample_cache:
            if self.calibration_scores is None:
                return torch.zeros(0, int(self.config.num_labels or 0))
            values = self._sample_properties(self.calibration_scores)
            self._sample_cache["properties"] = values[0, :, :, 0].t()
            # Classes of a pixel side by side: they are compared many times.
            self._sample_cache["scores"] = self.similarity_of_scores(values)[0, :, :, 0].t().contiguous()
        scores: Tensor = self._sample_cache["scores"]
        return scores

    def _sample_properties(self, sample: Tensor) -> Tensor:
        """Scores of the sample's properties `(1, channels, pixels, 1)`; most edits leave them as they are."""
        if self.config.similarity != "linear_cosine":
            return dequantized(sample).t()[None, :, :, None]
        kept = self._sample_kept
        if kept is None or kept[0] is not sample or not torch.equal(kept[1], self.response_targets):
            values = dequantized(sample).t()[None, :, :, None]
            kept = sample, self.response_targets, self._scores(*self._logits_of_responses(values))
            self._sample_kept = kept
        return kept[2]

    @torch.no_grad()
    def sample_predictions(self) -> Tensor:
        """The class that each pixel of the sample is given, `(pixels,)` on the CPU."""
        if "offsets" not in self._sample_cache:
            scores = self.sample_class_scores()
            offsets = self.class_offsets.to(scores)
            self._sample_cache["offsets"] = (scores + offsets).argmax(dim=1).cpu() if len(scores) else (
                torch.zeros(0, dtype=torch.int64)
            )  # fmt: skip
        predictions: Tensor = self._sample_cache["offsets"]
        return predictions

    def forget_sample_scores(self) -> None:
        """Frees what is only needed to solve; predictions stay."""
        for name in ("properties", "scores"):
            self._sample_cache.pop(name, None)

    def calibration_property_scores(self) -> tuple[Tensor, Tensor]:
        """As of any ProLab model; computed once."""
        labels = self.sample_labels()
        if len(labels) and bool((labels >= 0).all()):
            self.sample_class_scores()
            return self._sample_cache["properties"], labels.to(self.property_embeddings.device)
        return super().calibration_property_scores()

    def calibration_class_scores(self) -> tuple[Tensor, Tensor] | None:
        """As of any ProLab model; computed once."""
        labels = self.sample_labels()
        if len(labels) and bool((labels >= 0).all()):
            return self.sample_class_scores(), labels.to(self.property_embeddings.device)
        return super().calibration_class_scores()

    def _rebuild_derived_buffers(self) -> None:
        super()._rebuild_derived_buffers()
        self._sample_cache = {}

    def restore_calibration_sample(self, scores: Tensor | None, trained_labels: Tensor | None) -> None:
        """As of any ProLab model."""
        super().restore_calibration_sample(scores, trained_labels)
        self._sample_cache = {}


def _view(model: ProLabForSemanticSegmentation, kind: type[Model]) -> Model:
    """Another object over the same weights, whose buffers and configuration can be exchanged."""
    view = kind.__new__(kind)
    view.__dict__.update(model.__dict__)
    for table in _OWN_TABLES:
        view.__dict__[table] = copy.copy(model.__dict__[table])
    for name in ("cache", "serial", "_successor_sources", "_sample_cache", "_sample_kept"):
        view.__dict__.pop(name, None)
    # Its values are replaced, never changed in place; a deep copy of 150 described classes takes 20 ms.
    view.config = copy.copy(model.config)
    return view

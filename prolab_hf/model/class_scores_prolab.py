"""From property logits to class scores: the one place where the formula lives."""

import torch
from torch import Tensor, nn

from .configuration_prolab import ProLabConfig

EPSILON = 1e-8  # of torch.nn.CosineSimilarity


def logits_of_targets(responses: Tensor, targets: Tensor) -> Tensor:
    """What the last layer's responses say about properties, `(batch_size, num_targets, height, width)`.

    Args:
        responses: `(batch_size, num_responses, height, width)`.
        targets: `(num_responses, num_targets)` of the same type.
    """
    with torch.autocast(device_type=responses.device.type, enabled=False):
        return nn.functional.conv2d(responses, targets.t()[:, :, None, None])


class ClassScoresMixin(nn.Module):
    """The part of `ProLabForSemanticSegmentation` that compares every pixel's properties with the classes' rows.

    Buffers (see `DescribedClassesMixin`, which registers them): `class_property_matrix`, `class_rows`,
    `response_targets`, `class_offsets`.
    """

    config: ProLabConfig
    class_property_matrix: Tensor
    class_rows: Tensor
    response_targets: Tensor
    class_offsets: Tensor

    def property_scores(self, property_logits: Tensor) -> Tensor:
        """What a class row is compared with.

        `sigmoid(logits / T)`; the logits themselves for `"cosine"`; `max(0, (logits + 1) / 2)` for
        `"linear_cosine"`.

        Args:
            property_logits: `(batch_size, num_properties, height, width)`.

        Returns:
            The same shape; in [0, 1] for the sigmoid modes, about so for `"linear_cosine"`.
        """
        if self.config.similarity == "cosine":
            return property_logits
        if self.config.similarity == "linear_cosine":
            return ((property_logits + 1) / 2).clamp_min(0)
        return torch.sigmoid(property_logits / self.config.temperature)

    def unspoken_scores(self, unspoken_logits: Tensor) -> Tensor:
        """Scores of the properties without words, `(batch_size, trained classes, height, width)`, weighted.

        Args:
            unspoken_logits: Of the model's output.
        """
        return ((unspoken_logits + self.config.unspoken_weight) / 2).clamp_min(0)

    def _logits_of_responses(self, responses: Tensor) -> tuple[Tensor, Tensor | None]:
        """Property logits, and those without words where the model has any, of the last layer's responses."""
        return self._with_and_without_words(
            logits_of_targets(responses, self.response_targets.to(responses.dtype))
        )

    def _with_and_without_words(self, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        named = self.config.num_properties
        return logits[:, :named], logits[:, named:] if logits.shape[1] > named else None

    def _scores(self, property_logits: Tensor, unspoken_logits: Tensor | None) -> Tensor:
        scores = self.property_scores(property_logits)
        if unspoken_logits is None:
            return scores
        return torch.cat([scores, self.unspoken_scores(unspoken_logits)], dim=1)

    def logits_of_responses(self, responses: Tensor) -> Tensor:
        """Class logits `(batch_size, num_labels, height, width)` of the last layer's responses (`"linear_cosine"`).

        Args:
            responses: `(batch_size, num_responses, height, width)`.
        """
        return self.class_logits(*self._logits_of_responses(responses))

    def class_logits(self, property_logits: Tensor, unspoken_logits: Tensor | None = None) -> Tensor:
        """Similarity of each pixel's property scores to the row of each class (section 3 of the paper), plus offsets.

        Args:
            property_logits: `(batch_size, num_properties, height, width)`.
            unspoken_logits: `(batch_size, trained classes, height, width)`, where the model gave any.

        Returns:
            `(batch_size, num_labels, height, width)`, in at least float32.
        """
        # In half precision EPSILON would be 0 and the division give NaN.
        dtype = torch.promote_types(property_logits.dtype, torch.float32)
        unspoken = None if unspoken_logits is None else unspoken_logits.to(dtype)
        logits = self.similarity_of_scores(self._scores(property_logits.to(dtype), unspoken))
        if self.config.class_offsets is None:
            return logits
        return logits + self.class_offsets.to(logits.dtype)[:, None, None]

    def spoken_share(
        self, property_logits: Tensor, unspoken_logits: Tensor | None = None, logits: Tensor | None = None
    ) -> Tensor:
        """Part of the winning class's score at each pixel that named properties make up, offsets aside.

        Args:
            property_logits: `(batch_size, num_properties, height, width)`.
            unspoken_logits: Of the same output; without them words make up everything.
            logits: Class logits of the same output, where they are known already.

        Returns:
            `(batch_size, height, width)`; 1 where words make up everything.
        """
        if unspoken_logits is None:
            return torch.ones_like(property_logits[:, 0])
        if logits is None:
            logits = self.class_logits(property_logits, unspoken_logits)
        winner = logits.argmax(dim=1)
        scores = self._scores(property_logits, unspoken_logits).movedim(1, 0).flatten(1)
        # Of each pixel only the row of its own class: a product with all rows costs several times as much.
        parts = (
            self.class_rows.to(scores.dtype).t().contiguous().index_select(1, winner.flatten()).mul_(scores)
        )
        spoken = parts[: self.class_property_matrix.shape[1]].sum(dim=0)
        return (spoken / parts.sum(dim=0).clamp_min(EPSILON)).view_as(winner)

    def _rows(self, width: int) -> Tensor:
        """Rows of the classes for scores with or without the part that has no words."""
        rows = self.class_property_matrix
        return rows if rows.shape[1] == width else self.class_rows

    def _norms(self, scores: Tensor, rows: Tensor) -> Tensor:
        """What the products with the rows are divided by, `(batch_size, 1 or num_labels, height * width)`."""
        norm = torch.linalg.vector_norm(scores, dim=1).flatten(1).clamp_min(EPSILON)
        named = self.class_property_matrix.shape[1]
        if not self.config.described_by_words or rows.shape[1] == named:
            return norm[:, None]
        shorter = torch.linalg.vector_norm(scores[:, :named], dim=1).flatten(1).clamp_min(EPSILON)
        has_words_only = (rows[:, named:] == 0).all(dim=1).long()
        return torch.stack((norm, shorter), dim=1)[:, has_words_only]

    def similarity_of_scores(self, scores: Tensor) -> Tensor:
        """Class scores without offsets `(batch_size, num_labels, height, width)`.

        Args:
            scores: `(batch_size, num_properties, height, width)`, with the properties without words at the end.
        """
        rows = self._rows(scores.shape[1]).to(scores.dtype)
        batch_size, num_properties, height, width = scores.shape
        with torch.autocast(device_type=scores.device.type, enabled=False):
            if self.config.similarity == "sigmoid_l2":
                dot = rows @ scores.flatten(2)
                squared = scores.square().sum(dim=1).flatten(1)[:, None] - 2 * dot + rows.sum(dim=1)[:, None]
                distance = squared.clamp_min(EPSILON**2).sqrt()
                similarity = 1 - distance / num_properties**0.5
            else:
                # Normalizing after the product is cheaper: num_labels < num_properties.
                rows = nn.functional.normalize(rows, dim=1, eps=EPSILON)
                similarity = (rows @ scores.flatten(2)) / self._norms(scores, rows)
        return similarity.view(batch_size, -1, height, width)

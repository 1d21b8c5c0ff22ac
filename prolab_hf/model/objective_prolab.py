"""What a head is trained on: property loss, class losses, and what the loss of a pixel counts for."""

from typing import Any

import torch
from torch import Tensor, nn

from .configuration_prolab import ProLabConfig
from .loss_plain_prolab import (
    plain_class_cross_entropy_loss,
    plain_property_cosine_loss,
    plain_property_regression_loss,
)
from .loss_prolab import class_cross_entropy_loss, property_cosine_loss, property_regression_loss
from .loss_regions_prolab import dice_loss, lovasz_loss
from .pixel_weights_prolab import HardPixels, boundary_map, class_weight_map

# By `loss_implementation`: losses with one signature and, up to rounding, one result.
PROPERTY_COSINE_LOSS = {"streamed": property_cosine_loss, "plain": plain_property_cosine_loss}
PROPERTY_REGRESSION_LOSS = {"streamed": property_regression_loss, "plain": plain_property_regression_loss}
CLASS_CROSS_ENTROPY_LOSS = {"streamed": class_cross_entropy_loss, "plain": plain_class_cross_entropy_loss}


class ObjectiveMixin(nn.Module):
    """The training objective of a model, as its configuration says; every head is trained on the same.

    Attributes:
        loss_parts: Who wants to watch the parts of the loss sets an empty dictionary: every forward pass with labels
            then adds what `property`, `class` and `auxiliary` losses, with their weights, contribute to the loss.
    """

    config: ProLabConfig
    loss_parts: dict[str, Tensor] | None = None

    def _note_part(self, name: str, value: Tensor) -> None:
        if self.loss_parts is not None:
            self.loss_parts[name] = self.loss_parts.get(name, 0) + value.detach()

    def pixel_weights(self, labels: Tensor) -> Tensor | None:
        """What the loss of each pixel is multiplied by `(batch_size, label_height, label_width)`; `None` = 1.

        Args:
            labels: `(batch_size, label_height, label_width)` class ids.
        """
        config, weights = self.config, None
        ignore_index = config.semantic_loss_ignore_index
        if config.class_weights is not None:
            by_class = torch.tensor(config.class_weights, dtype=torch.float32, device=labels.device)
            weights = class_weight_map(labels, by_class, ignore_index=ignore_index)
        if config.boundary_weight != 1:
            near = boundary_map(labels, width=config.boundary_width, ignore_index=ignore_index)
            factor = torch.where(near, float(config.boundary_weight), 1.0)
            weights = factor if weights is None else weights * factor
        return weights

    def class_loss(
        self, scaled_logits: Tensor, labels: Tensor, *, pixel_weights: Tensor | None = None
    ) -> Tensor:
        """Weighted sum of the class losses: cross-entropy or focal loss, Dice and Lovasz loss.

        Args:
            scaled_logits: `(batch_size, num_labels, height, width)`, divided by their temperature.
            labels: `(batch_size, label_height, label_width)` class ids.
            pixel_weights: Of `pixel_weights`; the Dice and the Lovasz loss, which weigh all classes alike, do not
                read them.
        """
        config, loss = self.config, scaled_logits.new_zeros((), dtype=torch.float32)
        ignore_index = config.semantic_loss_ignore_index
        if config.class_loss_weight > 0:
            value = CLASS_CROSS_ENTROPY_LOSS[config.loss_implementation](
                scaled_logits,
                labels,
                ignore_index=ignore_index,
                focal_gamma=config.focal_gamma,
                pixel_weights=pixel_weights,
                hard_pixels=self._hard_pixels(),
            )
            loss = loss + config.class_loss_weight * value
        if config.dice_loss_weight > 0:
            loss = loss + config.dice_loss_weight * dice_loss(
                scaled_logits, labels, ignore_index=ignore_index
            )
        if config.lovasz_loss_weight > 0:
            value = lovasz_loss(scaled_logits, labels, ignore_index=ignore_index)
            loss = loss + config.lovasz_loss_weight * value
        return loss

    def _hard_pixels(self) -> HardPixels | None:
        config = self.config
        if config.hard_pixel_share == 1:
            return None
        return HardPixels(config.hard_pixel_share, config.hard_pixel_threshold)

    def _has_class_loss(self) -> bool:
        config = self.config
        return bool(config.class_loss_weight or config.dice_loss_weight or config.lovasz_loss_weight)

    def _auxiliary_loss(
        self, logits: Tensor, embeddings: Tensor | None, labels: Tensor, *, weight: float
    ) -> Tensor:
        """What an auxiliary head adds to the loss."""
        loss = weight * self._head_loss(logits, embeddings, labels, noted=False)
        self._note_part("auxiliary", loss)
        return loss

    def _head_loss(
        self,
        logits: Tensor,
        embeddings: Tensor | None,
        labels: Tensor,
        class_logits: Tensor | None = None,
        *,
        noted: bool = True,
    ) -> Tensor:
        """Weighted property and class losses of one head (equation 3 of the paper, and the optional class terms).

        `class_logits` are computed where they are needed and not given.
        """
        config: ProLabConfig = self.config
        model: Any = self
        weights = self.pixel_weights(labels)
        rows = model.class_property_matrix
        if config.similarity == "linear_cosine":
            named, unspoken = model._logits_of_responses(logits)
            logits = model._scores(named, unspoken)  # what is compared, clamped before it is upsampled
            rows = model._rows(logits.shape[1])
            if class_logits is None and self._has_class_loss():
                class_logits = model.similarity_of_scores(logits)
        loss = logits.new_zeros(())
        if config.property_loss_weight > 0:
            shared: dict[str, Any] = {
                "temperature": config.temperature,
                "ignore_index": config.semantic_loss_ignore_index,
                "void_pixels": config.void_pixels,
                "pixel_embeddings": embeddings,
                "apply_sigmoid": config.similarity not in ("cosine", "linear_cosine"),
                "pixel_weights": weights,
                "hard_pixels": self._hard_pixels(),
            }
            if config.property_loss == "cosine":
                value = PROPERTY_COSINE_LOSS[config.loss_implementation](logits, labels, rows, **shared)
            else:
                regression_loss = PROPERTY_REGRESSION_LOSS[config.loss_implementation]
                value = regression_loss(logits, labels, rows, kind=config.property_loss, **shared)
            loss = loss + config.property_loss_weight * value
            if noted:
                self._note_part("property", loss)
        if self._has_class_loss():
            if class_logits is None:
                class_logits = model.class_logits(normalized_logits(logits, embeddings))
            scaled = class_logits / config.class_temperature
            of_classes = self.class_loss(scaled, labels, pixel_weights=weights)
            loss = loss + of_classes
            if noted:
                self._note_part("class", of_classes)
        return loss


def normalized_logits(property_logits: Tensor, pixel_embeddings: Tensor | None) -> Tensor:
    """Logits of normalized pixel embeddings (equation 1): division by the norm commutes with the projection.

    Args:
        property_logits: `(batch_size, num_properties, height, width)`.
        pixel_embeddings: `(batch_size, embedding_dim, height, width)`; `None` where they are not normalized.
    """
    if pixel_embeddings is None:
        return property_logits
    norm = torch.linalg.vector_norm(pixel_embeddings, dim=1, keepdim=True)
    return property_logits / norm.clamp_min(1e-12)

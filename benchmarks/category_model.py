"""The category-level baseline: the network of ProLab with a plain classifier and cross-entropy behind it."""

import torch
from torch import Tensor
from torch.nn import functional as F

from prolab_hf import ProLabForSemanticSegmentation, PropertySpace
from prolab_hf.model.loss_prolab import class_cross_entropy_loss


class CategoryModel(ProLabForSemanticSegmentation):
    """One channel per class, no properties: `property_logits` are the class logits themselves.

    A one-hot space makes the projection the identity, so backbone, decoder and auxiliary head are the very same
    modules as in the property model.
    """

    @classmethod
    def from_backbone(cls, backbone, space: PropertySpace, **config_kwargs) -> "CategoryModel":
        return super().from_backbone(backbone, PropertySpace.one_hot(space.class_names), **config_kwargs)

    def class_logits(self, property_logits: Tensor, unspoken_logits: Tensor | None = None) -> Tensor:
        return property_logits

    def _head_loss(
        self, logits: Tensor, embeddings: Tensor | None, labels: Tensor, class_logits=None, *, noted=True
    ) -> Tensor:
        return class_cross_entropy_loss(logits, labels, ignore_index=self.config.semantic_loss_ignore_index)

    def property_scores(self, property_logits: Tensor) -> Tensor:
        return torch.softmax(property_logits, dim=1)


class PlainCategoryModel(CategoryModel):
    """The same with the loss as it is usually written: all class channels at label resolution."""

    def _head_loss(
        self, logits: Tensor, embeddings: Tensor | None, labels: Tensor, class_logits=None, *, noted=True
    ) -> Tensor:
        wide = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
        return F.cross_entropy(wide, labels, ignore_index=self.config.semantic_loss_ignore_index)

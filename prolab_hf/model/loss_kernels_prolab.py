"""Losses of single pixels with their analytic gradients, written for blocks of pixels in reused memory.

A kernel receives the logits `(pixels, channels)` of a block and answers three things: the loss of each pixel,
and the gradient of each pixel's loss as `factor[:, None] * direction`. Handing out the factor apart from the
direction saves a pass over the block, because the caller multiplies by other factors per pixel as well.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

COSINE_EPS = 1e-8  # of torch.nn.CosineSimilarity
BCE_EPS = 1e-12  # of torch's binary cross-entropy gradient
FOCAL_EPS = 1e-12  # smallest 1 - p of the focal loss
BCE_MIN_LOG = -100.0  # where torch's binary cross-entropy cuts its logarithms off


class Scratch:
    """Named buffers that live as long as a stream of blocks.

    Fresh memory costs more than the arithmetic done on it (page faults), so every block writes into the same
    buffers.
    """

    def __init__(self, capacity: int, channels: int, like: Tensor) -> None:
        self._shape = capacity, channels
        self._like = like
        self._buffers: dict[str, Tensor] = {}

    def take(self, name: str, pixels: int) -> Tensor:
        """The first `pixels` rows of the buffer `name`, contents undefined."""
        if name not in self._buffers:
            self._buffers[name] = self._like.new_empty(self._shape)
        return self._buffers[name][:pixels]


class PixelBlock(NamedTuple):
    """What a kernel works on.

    Attributes:
        logits: `(pixels, channels)`, after temperature and normalization.
        rows: `(pixels,)` row of `table` per pixel.
        table: `(num_labels + 1, channels)` targets per class, zeros last for void; `(num_labels, 0)` where
            the classes are the channels.
        scratch: Memory to work in.
        keep_logits: Whether `logits` must survive; otherwise a kernel may overwrite them.
        need_gradient: Whether a gradient is wanted.
        focusing: Exponent of the focal factor of `cross_entropy`; 0 = none.
    """

    logits: Tensor
    rows: Tensor
    table: Tensor
    scratch: Scratch
    keep_logits: bool
    need_gradient: bool
    focusing: float = 0.0

    def buffer(self, name: str) -> Tensor:
        """A scratch buffer of the shape of `logits`."""
        return self.scratch.take(name, self.logits.shape[0])

    def sigmoid(self) -> Tensor:
        """Sigmoid of the logits, in place where that is allowed."""
        return torch.sigmoid(self.logits, out=self.buffer("scores") if self.keep_logits else self.logits)

    def targets(self) -> Tensor:
        """The row of the table for each pixel."""
        return torch.index_select(self.table, 0, self.rows, out=self.buffer("targets"))


class PixelLoss(NamedTuple):
    """Answer of a kernel.

    Attributes:
        losses: `(pixels,)`.
        direction: `(pixels, channels)`, `None` where no gradient was wanted.
        factor: `(pixels,)`; the gradient is `factor[:, None] * direction`.
    """

    losses: Tensor
    direction: Tensor | None
    factor: Tensor


def _through_sigmoid(gradient: Tensor, scores: Tensor, out: Tensor) -> Tensor:
    """`gradient * scores * (1 - scores)` in one pass."""
    return torch.ops.aten.sigmoid_backward.grad_input(gradient, scores, grad_input=out)


def _cosine(block: PixelBlock, scores: Tensor, through_sigmoid: bool) -> PixelLoss:
    """One minus the cosine to a unit target row; a zero row (void) has loss 1 and gradient 0."""
    targets, product = block.targets(), block.buffer("product")
    norms = torch.linalg.vector_norm(scores, dim=1).clamp_min_(COSINE_EPS)
    cosines = torch.mul(scores, targets, out=product).sum(dim=1).div_(norms)
    factor = norms.reciprocal_().neg_()
    if not block.need_gradient:
        return PixelLoss(1 - cosines, None, factor)
    # d cos / d s = (t - cos s / |s|) / |s|
    direction = torch.addcmul(targets, scores, (cosines * factor)[:, None], out=targets)
    if through_sigmoid:
        direction = _through_sigmoid(direction, scores, out=product)
    return PixelLoss(1 - cosines, direction, factor)


def sigmoid_cosine(block: PixelBlock) -> PixelLoss:
    """One minus the cosine between the sigmoids and the (unit) target row."""
    return _cosine(block, block.sigmoid(), through_sigmoid=True)


def cosine(block: PixelBlock) -> PixelLoss:
    """One minus the cosine between the raw logits and the (unit) target row."""
    return _cosine(block, block.logits, through_sigmoid=False)


def _squared_error(block: PixelBlock, scores: Tensor, through_sigmoid: bool) -> PixelLoss:
    targets, product = block.targets(), block.buffer("product")
    error = torch.sub(scores, targets, out=targets)
    losses = torch.mul(error, error, out=product).sum(dim=1)
    direction = _through_sigmoid(error, scores, out=product) if through_sigmoid else error
    return PixelLoss(losses, direction if block.need_gradient else None, torch.full_like(losses, 2.0))


def sigmoid_squared_error(block: PixelBlock) -> PixelLoss:
    """Sum over channels of the squared difference between the sigmoids and the target row."""
    return _squared_error(block, block.sigmoid(), through_sigmoid=True)


def squared_error(block: PixelBlock) -> PixelLoss:
    """Sum over channels of the squared difference between the raw logits and the target row."""
    return _squared_error(block, block.logits, through_sigmoid=False)


def sigmoid_binary_cross_entropy(block: PixelBlock) -> PixelLoss:
    """Sum over channels of torch's `binary_cross_entropy` on the sigmoids.

    It equals the published training, including its limits: a channel whose sigmoid rounds to 0 or 1 on the
    wrong side costs 100 and has next to no gradient (unlike `binary_cross_entropy_with_logits`).
    """
    scores, targets, product = block.sigmoid(), block.targets(), block.buffer("product")
    positive = torch.log(scores, out=product).clamp_min_(BCE_MIN_LOG)
    losses = torch.mul(positive, targets, out=product).sum(dim=1).neg_()
    negative = torch.neg(scores, out=product).log1p_().clamp_min_(BCE_MIN_LOG)
    losses -= torch.addcmul(negative, negative, targets, value=-1, out=product).sum(dim=1)
    factor = torch.ones_like(losses)
    if not block.need_gradient:
        return PixelLoss(losses, None, factor)
    # (s - t) / max(s (1 - s), eps) times the sigmoid's own s (1 - s)
    slope = torch.addcmul(scores, scores, scores, value=-1, out=product)
    cut = (slope / BCE_EPS).clamp_max_(1)
    return PixelLoss(losses, torch.sub(scores, targets, out=product).mul_(cut), factor)


def cross_entropy(block: PixelBlock) -> PixelLoss:
    """Cross-entropy of the softmax over channels, which are the rows; void gives some finite value.

    With `focusing` g it is the focal loss `-(1 - p)^g log p` of the probability p of the pixel's class, whose gradient
    has the direction of the cross-entropy's and a factor per pixel of its own: it costs no more.
    """
    channels = block.rows.clamp_max(block.logits.shape[1] - 1)[:, None]
    top = block.logits.amax(dim=1, keepdim=True)
    picked = (block.logits.gather(1, channels) - top)[:, 0]
    exponentials = torch.sub(block.logits, top, out=block.buffer("product")).exp_()
    sums = exponentials.sum(dim=1)
    losses = sums.log() - picked
    factor = sums.reciprocal()
    if block.focusing:
        rest = torch.expm1(-losses).neg_().clamp_min_(FOCAL_EPS)  # 1 - p, exact where p is nearly 1
        focal = rest**block.focusing
        slope = block.focusing * (1 - rest) / rest * losses + 1
        losses, factor = focal * losses, focal * slope * factor
    if not block.need_gradient:
        return PixelLoss(losses, None, losses)
    direction = exponentials.scatter_add_(1, channels, -sums[:, None])  # softmax - one-hot, times sums
    return PixelLoss(losses, direction, factor)


def expected_target(block: PixelBlock) -> PixelLoss:
    """Mean of the target row under the softmax over channels: any loss that is linear in probabilities."""
    targets, product = block.targets(), block.buffer("product")
    scores = torch.softmax(block.logits, dim=1, out=block.buffer("scores"))
    losses = torch.mul(scores, targets, out=product).sum(dim=1)
    factor = torch.ones_like(losses)
    if not block.need_gradient:
        return PixelLoss(losses, None, factor)
    return PixelLoss(losses, targets.sub_(losses[:, None]).mul_(scores), factor)


KERNELS: dict[str, Callable[[PixelBlock], PixelLoss]] = {
    function.__name__: function
    for function in (
        sigmoid_cosine,
        cosine,
        sigmoid_squared_error,
        squared_error,
        sigmoid_binary_cross_entropy,
        cross_entropy,
        expected_target,
    )
}

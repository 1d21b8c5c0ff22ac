"""What a recipe trains on, in words: losses, their weights, and what the loss of a pixel counts for."""

from collections.abc import Callable
from typing import Any

LOVASZ_BYTES_PER_PIXEL = 200  # of the labels; measured: benchmarks/region_losses.py
Field = Callable[[str], Any]
"""Gives a value of the recipe by its dotted name, `"config.temperature"` for example."""


def loss_rows(field: Field, crop: tuple[int, int], batch_size: int) -> list[tuple[str, str]]:
    """Rows (what, how much) of a plan: supervision, and what is not the usual.

    Args:
        field: Of the recipe.
        crop: Height and width.
        batch_size: Images per forward pass.
    """
    rows = [("supervision", _supervision(field))]
    further = _further_losses(field, crop[0] * crop[1] * batch_size)
    if further:
        rows.append(("further losses", ", ".join(further)))
    counted = _pixel_weights(field)
    if counted:
        rows.append(("loss of a pixel", ", ".join(counted)))
    return rows


def _supervision(field: Field) -> str:
    normalized = "normalized" if field("config.normalize_pixel_embeddings") else "not normalized"
    return (
        f"property loss x {field('config.property_loss_weight'):g}, class loss x "
        f"{field('config.class_loss_weight'):g}, {_auxiliary_heads(field)}, T {field('config.temperature'):g}, "
        f"{normalized}, void pixels {field('config.void_pixels')!r}"
    )


def _auxiliary_heads(field: Field) -> str:
    """One head with its weight, or several with the map and the weight of each."""
    if not field("config.use_auxiliary_head"):
        return "no auxiliary head"
    places, weights = field("config.auxiliary_in_index"), field("config.auxiliary_loss_weight")
    if isinstance(places, int):
        return f"auxiliary head x {weights}"
    each = weights if isinstance(weights, list | tuple) else [weights] * len(places)
    heads = [f"map {place} x {weight:g}" for place, weight in zip(places, each, strict=True)]
    return f"auxiliary heads on {', '.join(heads)}"


def _further_losses(field: Field, pixels: int) -> list[str]:
    parts = []
    if field("config.focal_gamma"):
        parts.append(f"focal with exponent {field('config.focal_gamma'):g} in the class loss")
    if field("config.dice_loss_weight"):
        parts.append(f"Dice x {field('config.dice_loss_weight'):g}")
    if field("config.lovasz_loss_weight"):
        size = LOVASZ_BYTES_PER_PIXEL * pixels / 2**20
        parts.append(
            f"Lovasz x {field('config.lovasz_loss_weight'):g} (about {size:,.0f} MiB while it sorts)"
        )
    return parts


def _pixel_weights(field: Field) -> list[str]:
    parts = []
    if field("config.boundary_weight") != 1:
        near = f"within {field('config.boundary_width')} pixels of another class"
        parts.append(f"x {field('config.boundary_weight'):g} {near}")
    if field("config.hard_pixel_share") != 1:
        kept = field("config.hard_pixel_threshold")
        beside = "" if kept is None else f" and those with a loss of {kept:g} or more"
        parts.append(f"the hardest {field('config.hard_pixel_share'):.0%}{beside} only")
    return parts


__all__ = ["loss_rows"]

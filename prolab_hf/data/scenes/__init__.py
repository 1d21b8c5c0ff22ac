"""A data set that is drawn, not downloaded: streets and rooms whose classes share visible properties."""

from prolab_hf.data.scenes.drawn_scenes import SPLITS, DrawnScenes
from prolab_hf.data.scenes.words import HELD_OUT_CLASS, SCENE_CLASSES, SCENE_DESCRIPTIONS

__all__ = ["HELD_OUT_CLASS", "SCENE_CLASSES", "SCENE_DESCRIPTIONS", "SPLITS", "DrawnScenes"]

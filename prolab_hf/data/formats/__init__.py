"""Readers of what labeling tools export; each becomes a folder of images, masks and a class list."""

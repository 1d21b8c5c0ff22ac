"""What is shown of a segmentation: the colors of classes, and a view for notebooks."""

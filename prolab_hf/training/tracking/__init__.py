"""What is watched while a run trains: the loss and its parts, predictions, and the trackers that are told."""

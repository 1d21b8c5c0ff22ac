"""What travels with a checkpoint: configuration, network, loss and image processor."""

"""Images and masks in, training examples out."""

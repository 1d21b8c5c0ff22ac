"""Pictures and masks in, training examples out."""

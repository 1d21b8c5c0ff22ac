"""The bundled property spaces: one folder per space, data only (see `PropertySpace.from_pretrained`)."""

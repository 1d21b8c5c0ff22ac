"""The bundled models: one folder per model, data only (see `prolab_hf.bundled_models`)."""

"""How the model of a run lies over its processes: whole on each, or in parts (FSDP2, DeepSpeed ZeRO)."""

"""`python -m prolab_hf` is the `prolab` command."""

from prolab_hf.cli import main

main()

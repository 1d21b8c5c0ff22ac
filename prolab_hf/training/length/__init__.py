"""How long a run is: planned for the time that there is, ended where nothing gets better."""

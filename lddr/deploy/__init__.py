"""What a model costs, counted and timed."""

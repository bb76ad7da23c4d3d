"""The authors' other medical posts, reproduced beside the book: one package each, with its own records and notebooks.

A companion takes data helpers, plotting and records from `lddr`, and records and statistics from `study`. Neither of
the two imports a companion.
"""

"""Scans: read from files, laid on a grid, gathered in cohorts."""

"""Figures and pages about finished and unfinished runs."""

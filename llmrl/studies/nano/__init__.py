"""Nano tasks: policies of a hundred thousand weights that the real trainer trains in a minute or two."""

"""From the text of an answer to a tree: tokens, units, words, brackets, LaTeX; nothing is worked out."""

"""The commands of the console script ``llmrl``, a file each. They may import everything; nothing imports them."""

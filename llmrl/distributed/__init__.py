"""Many processes that train one model: the batch is replicated, the model is sharded, the work is shared."""

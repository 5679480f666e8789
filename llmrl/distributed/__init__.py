"""Many processes that train one model: the batch is replicated, the model is copied or sharded, the work is shared."""

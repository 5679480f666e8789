"""Many processes that train one model: the batch is replicated, the model copied or sharded, the work distributed."""

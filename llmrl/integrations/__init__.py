"""llmrl's losses, advantages and verifiers inside other trainers, one module each."""

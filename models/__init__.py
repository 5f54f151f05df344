"""The networks and the tokenizer, one file a model."""

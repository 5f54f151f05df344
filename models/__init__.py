"""The networks and the tokenizer, one file a model; nothing here knows a corpus or its files."""


class ModelError(ValueError):
    """A setting or a checkpoint that a model cannot use; the message tells the user what to do."""

"""Models of the transformers library behind the interface of a backend.

A `Family` adapts one kind of model, such as BLIP: it encodes images, writes prompts and computes
the logits of the next token. `PublicBackend` runs the searches of this package on a family. The
weights stay in the modules of transformers; its `generate` is not used.
"""

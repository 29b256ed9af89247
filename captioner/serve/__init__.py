"""HTTP and the web page, over `captioner.predict` and nothing deeper; `serve.py` starts them.

A request travels: gate (who, how large, how many, until when) -> a dialect's route (`native`,
`openai`, `huggingface`) or the page -> `Engine` (decode in a worker, batch, model) and back.
"""

"""HTTP server with a web page, on top of `captioner.predict`; started by `serve.py`.

A request passes the middleware (access control, size limit, concurrency limit, deadline), a route
of one API (`native`, `openai`, `huggingface`) or the page, and the `Engine`, which decodes the
image in a worker process, batches requests and runs the model.
"""

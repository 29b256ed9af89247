"""Serve captions and answers over HTTP, with a web page: `captioner serve`.

The web page is at /, the documentation of the API at /docs: the native API (/v1/caption, /v1/vqa,
/v1/score), OpenAI's (/v1/chat/completions) and Hugging Face's (/hf/). Operators use /healthz,
/readyz and /metrics. The server listens on the loopback interface unless --host is given.

A token in --token-file or in the variable CAPTIONER_TOKEN must be sent by clients as a bearer
token; a browser asks for it as the password.

Concurrent requests are batched. On a CPU with several cores, the model runs in two worker
processes, each with half of the cores; --workers sets another number.

Exit status: 0 stopped by SIGTERM, with all accepted requests answered; 130 stopped by Ctrl-C;
1 the model could not be loaded; 2 wrong usage.
"""

from __future__ import annotations

import argparse
import math
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from captioner.checkpoint import pin_checkpoint, resolve_checkpoint
from captioner.checkpoint.hub_names import repository_title
from captioner.cli.parser import (
    Parser,
    add_inference,
    add_renamed_flag,
    port,
    positive,
    select_options,
)
from captioner.cli.process import run_command
from captioner.errors import CaptionerError
from captioner.predict.backend_choice import BackendName, choose_backend, choose_device
from captioner.serve.settings import Settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TOKEN_VARIABLE = "CAPTIONER_TOKEN"


@dataclass(frozen=True)
class ServeOptions:
    """The arguments of the command."""

    checkpoint: str
    host: str
    port: int
    backend: BackendName
    device: str
    dtype: str
    tta: int
    page: bool
    token_file: str | None
    settings: Settings
    """Limits and access rules, without the token."""


def main(argv: list[str] | None = None, *, prog: str = "serve.py") -> int:
    """Run the command; return the exit status."""
    return run_command(parse, run, argv, prog)


def parse(argv: list[str] | None, *, prog: str = "serve.py") -> ServeOptions:
    """Return the options; exit with status 2 if the arguments are wrong."""
    parser = Parser(prog=prog, description=__doc__)
    _add_server_flags(parser)
    _add_access_flags(parser)
    _add_limit_flags(parser)
    args = parser.parse(argv)
    if args.no_page and args.corrections is not None:
        parser.error("--corrections applies to the page and cannot be used with --no-page")
    args.page, args.settings = not args.no_page, _create_settings(args)
    return select_options(ServeOptions, vars(args))


def _create_settings(args: argparse.Namespace) -> Settings:
    # Two processes with half of the cores each are faster than one with all cores, because the
    # operations of the model are too small to be split well.
    on_cpu = args.backend == "onnx" or choose_device(args.device, dtype=args.dtype) == "cpu"
    default_workers = 2 if on_cpu and (os.cpu_count() or 1) > 1 else 1
    # A web page can make its own host name resolve to this machine (DNS rebinding), so a server on
    # the loopback interface accepts only the names of that interface.
    local = ("127.0.0.1", "localhost", "[::1]") if args.host in LOOPBACK else ()
    return Settings(
        workers=args.workers or default_workers,
        max_batch=args.max_batch,
        max_wait=args.max_wait / 1000,
        max_requests=args.max_requests,
        deadline=args.deadline,
        max_body=int(args.max_body * 2**20),
        max_pixels=int(args.max_pixels * 1e6),
        max_audio_seconds=args.max_audio_seconds,
        image_decoders=args.image_decoders,
        hosts=(*(args.allow_host or ()), *local),
        cors=tuple(args.cors or ()),
        fetch=tuple(args.allow_url_fetch or ()),
        corrections=Path("corrections" if args.corrections is None else args.corrections),
    )


def _add_server_flags(parser: Parser) -> None:
    add = parser.add_argument
    text = "Checkpoint: a folder or hf-hub:USER/NAME[@REVISION]. Default: the bundled one."
    add("--checkpoint", default="bundled", metavar="DIR", help=text)
    add("--host", default="127.0.0.1", help="Address to listen on. Default: 127.0.0.1.")
    text = "TCP port to listen on; 0 selects any free port. Default: 7860."
    add("--port", type=port, default=7860, help=text)
    add_inference(parser, dtype="auto")
    add("--no-page", action="store_true", help="Serve the API without the web page.")
    text = "Folder where the page saves corrected captions. Default: corrections."
    add("--corrections", metavar="DIR", help=text)


def _add_access_flags(parser: Parser) -> None:
    add = parser.add_argument_group("access control").add_argument
    text = (
        "File whose first line is the token that clients must send. By default, the token is the"
        f" value of the variable {TOKEN_VARIABLE}; if it is not set, no token is required."
    )
    add("--token-file", metavar="FILE", help=text)
    text = (
        "Accept requests with this Host header; may be repeated. By default, a server on the"
        " loopback interface accepts its own names, and any other server accepts all names."
    )
    add("--allow-host", action="append", metavar="NAME", help=text)
    text = "Let web pages of this origin send requests; may be repeated. Default: none."
    add("--cors", action="append", metavar="ORIGIN", help=text)
    text = (
        "Fetch images and recordings by URL from this host; *.example.org matches all subdomains;"
        " may be repeated. Default: none."
    )
    add("--allow-url-fetch", action="append", metavar="HOST", help=text)


def _add_limit_flags(parser: Parser) -> None:
    group = parser.add_argument_group("limits")
    text = (
        "Processes that run the model, each with its share of the cores. Default: 2 on a CPU with"
        " several cores, otherwise 1."
    )
    group.add_argument("--workers", type=positive, metavar="N", help=text)
    for flag, kind, default, metavar, text in (
        ("--image-decoders", positive, 2, "N", "Processes that decode files."),
        ("--max-batch", positive, 16, "N", "Maximum number of requests in a batch."),
        ("--max-wait", _not_negative, 5.0, "MS", "Milliseconds that a batch waits for others."),
        ("--max-requests", positive, 64, "N", "Maximum of concurrent requests; then status 429."),
        ("--deadline", _not_negative, 30.0, "S", "Seconds for a request; then status 504."),
        ("--max-body", _not_negative, 20.0, "MB", "Size of a request in MB; then status 413."),
        ("--max-pixels", _not_negative, 60.0, "M", "Million pixels of an image; then status 422."),
        ("--max-audio-seconds", _not_negative, 60.0, "S", "Seconds of audio; then status 422."),
    ):
        text = f"{text} Default: {default:g}."
        group.add_argument(flag, type=kind, default=default, metavar=metavar, help=text)
    add_renamed_flag(group, "--lanes", "--workers", type=positive)
    add_renamed_flag(group, "--readers", "--image-decoders", type=positive)


def _not_negative(text: str) -> float:
    """Parse a finite number of 0 or more, for an argparse `type`."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: expected 0 or more")
    return value


_not_negative.__name__ = "number"  # argparse names the type in its messages


def run(options: ServeOptions) -> int:
    """Serve until a signal; return the exit status."""
    from captioner.serve.app import create_app
    from captioner.serve.model_process import RemoteCaptioner, load_in_worker
    from captioner.serve.server import run_server

    settings = replace(options.settings, token=read_token(options.token_file))
    checkpoint = pin_checkpoint(options.checkpoint)  # of all workers
    folder = resolve_checkpoint(checkpoint)
    choice = choose_backend(
        [folder], backend=options.backend, device=options.device, dtype=options.dtype
    )
    load = partial(
        load_in_worker,
        checkpoint,
        workers=settings.workers,
        backend=choice.backend,
        device=choice.device,
        dtype=options.dtype,
        tta=options.tta,
    )
    name = f"captioner-{repository_title(options.checkpoint)}"
    app = create_app(partial(RemoteCaptioner, load), settings, name=name, page=options.page)
    announce = partial(print, flush=True)
    return run_server(app, host=options.host, port=options.port, announce=announce)


def read_token(file: str | None) -> str | None:
    """Return the token from a file or the environment; raises CaptionerError if it is unusable."""
    token = os.environ.get(TOKEN_VARIABLE)
    if file is not None:
        try:
            token = Path(file).read_text(encoding="utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CaptionerError(f"--token-file {file}: {error}") from None
    if token is not None and not token:
        hint = "set a token, or leave it unset"
        raise CaptionerError(f"the token is empty, so no client could send it; {hint}")
    return token

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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.cli.parser import Parser, add_renamed_flag, add_tta, port, positive
from captioner.cli.process import run_command
from captioner.config.decoding_options import DTYPES
from captioner.errors import CaptionerError

if TYPE_CHECKING:
    from captioner.serve.settings import Settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TOKEN_VARIABLE = "CAPTIONER_TOKEN"


@dataclass(frozen=True)
class ServeOptions:
    """The arguments of the command; sizes in bytes, times in seconds."""

    checkpoint: str
    host: str
    port: int
    device: str
    dtype: str
    tta: int
    page: bool
    corrections: Path
    token_file: Path | None
    allowed_hosts: tuple[str, ...]
    cors_origins: tuple[str, ...]
    fetch_hosts: tuple[str, ...]
    workers: int
    image_decoders: int
    max_batch: int
    max_wait: float
    max_requests: int
    deadline: float
    max_body: int
    max_pixels: int


def main(argv: list[str] | None = None, *, prog: str = "serve.py") -> int:
    """Run the command; return the exit status."""
    return run_command(parse, run, argv, prog)


def parse(argv: list[str] | None, *, prog: str = "serve.py") -> ServeOptions:
    """Return the options; exit with status 2 if the arguments are wrong."""
    parser = Parser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _add_model_flags(parser)
    _add_access_flags(parser)
    _add_limit_flags(parser)
    args = parser.parse(argv)
    if args.no_page and args.corrections is not None:
        parser.error("--corrections applies to the page and cannot be used with --no-page")
    # Two processes with half of the cores each are faster than one with all cores, because the
    # operations of the model are too small to be split well.
    default_workers = 2 if args.device == "cpu" and (os.cpu_count() or 1) > 1 else 1
    return ServeOptions(
        checkpoint=args.checkpoint,
        host=args.host,
        port=args.port,
        device=args.device,
        dtype=args.dtype,
        tta=args.tta,
        page=not args.no_page,
        corrections=Path("corrections" if args.corrections is None else args.corrections),
        token_file=None if args.token_file is None else Path(args.token_file),
        allowed_hosts=tuple(args.allow_host or ()),
        cors_origins=tuple(args.cors or ()),
        fetch_hosts=tuple(args.allow_url_fetch or ()),
        workers=args.workers or default_workers,
        image_decoders=args.image_decoders,
        max_batch=args.max_batch,
        max_wait=args.max_wait / 1000,
        max_requests=args.max_requests,
        deadline=args.deadline,
        max_body=int(args.max_body * 2**20),
        max_pixels=int(args.max_pixels * 1e6),
    )


def _add_model_flags(parser: Parser) -> None:
    parser.add_argument(
        "--checkpoint",
        default="bundled",
        metavar="DIR",
        help="Folder of the checkpoint. Default: the bundled checkpoint.",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="Address to listen on. Default: 127.0.0.1."
    )
    parser.add_argument(
        "--port",
        type=port,
        default=7860,
        help="TCP port to listen on; 0 selects any free port. Default: 7860.",
    )
    parser.add_argument(
        "--device",
        default="cpu",
        help="Device of the model: cpu, cuda, cuda:1, mps and so on. Default: cpu.",
    )
    parser.add_argument(
        "--dtype",
        default="auto",
        choices=DTYPES,
        help="Data type of weights and arithmetic; auto selects the fastest on the device."
        " Default: auto.",
    )
    add_tta(parser, default=1)
    parser.add_argument(
        "--no-page", action="store_true", help="Serve the API without the web page."
    )
    parser.add_argument(
        "--corrections",
        metavar="DIR",
        help="Folder where the page saves corrected captions. Default: corrections.",
    )


def _add_access_flags(parser: Parser) -> None:
    group = parser.add_argument_group("access control")
    group.add_argument(
        "--token-file",
        metavar="FILE",
        help="File whose first line is the token that clients must send. By default, the variable"
        f" {TOKEN_VARIABLE} is used; if it is not set, no token is required.",
    )
    group.add_argument(
        "--allow-host",
        action="append",
        metavar="NAME",
        help="Accept requests with this Host header; may be repeated. By default, a server on the"
        " loopback interface accepts its own names, and any other server accepts all names.",
    )
    group.add_argument(
        "--cors",
        action="append",
        metavar="ORIGIN",
        help="Let web pages of this origin send requests; may be repeated. Default: none.",
    )
    group.add_argument(
        "--allow-url-fetch",
        action="append",
        metavar="HOST",
        help="Fetch images by URL from this host; *.example.org matches all subdomains; may be"
        " repeated. Default: none.",
    )


def _add_limit_flags(parser: Parser) -> None:
    group = parser.add_argument_group("limits")
    group.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="Processes that run the model, each with its share of the cores. Default: 2 on a CPU"
        " with several cores, otherwise 1.",
    )
    add_renamed_flag(group, "--lanes", "--workers", type=positive)
    group.add_argument(
        "--image-decoders",
        type=positive,
        default=2,
        metavar="N",
        help="Processes that decode images. Default: 2.",
    )
    add_renamed_flag(group, "--readers", "--image-decoders", type=positive)
    group.add_argument(
        "--max-batch",
        type=positive,
        default=16,
        metavar="N",
        help="The most requests in a batch. Default: 16.",
    )
    group.add_argument(
        "--max-wait",
        type=_not_negative,
        default=5.0,
        metavar="MS",
        help="How long a batch waits for further requests, in milliseconds. Default: 5.",
    )
    group.add_argument(
        "--max-requests",
        type=positive,
        default=64,
        metavar="N",
        help="The most requests in progress; others get status 429. Default: 64.",
    )
    group.add_argument(
        "--deadline",
        type=_not_negative,
        default=30.0,
        metavar="S",
        help="The longest time for a request, in seconds; then status 504. Default: 30.",
    )
    group.add_argument(
        "--max-body",
        type=_not_negative,
        default=20.0,
        metavar="MB",
        help="The largest request body, in MB; a larger one gets status 413. Default: 20.",
    )
    group.add_argument(
        "--max-pixels",
        type=_not_negative,
        default=60.0,
        metavar="M",
        help="The most pixels of an image, in millions; a larger one gets status 422. Default: 60.",
    )


def _not_negative(text: str) -> float:
    """Parse a finite number of 0 or more, for an argparse `type`."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: expected 0 or more")
    return value


_not_negative.__name__ = "number"  # argparse names the type in its messages


def run(options: ServeOptions) -> int:
    """Serve until a signal; return the exit status."""
    try:
        from captioner.serve.app import create_app
        from captioner.serve.model_process import RemoteCaptioner, load_in_worker
        from captioner.serve.server import run_server
    except ImportError as error:
        raise CaptionerError(
            f"{error.name} is missing; run `pip install -r requirements-serve.txt`"
        ) from None

    settings = create_settings(options)
    load = partial(
        load_in_worker,
        options.checkpoint,
        device=options.device,
        dtype=options.dtype,
        tta=options.tta,
        workers=options.workers,
    )
    bundled = options.checkpoint == "bundled"
    name = options.checkpoint if bundled else Path(options.checkpoint).name
    app = create_app(
        partial(RemoteCaptioner, load), settings, name=f"captioner-{name}", page=options.page
    )
    announce = partial(print, flush=True)
    return run_server(app, host=options.host, port=options.port, announce=announce)


def create_settings(options: ServeOptions) -> Settings:
    """Return the settings of the server; raises CaptionerError if the token is invalid."""
    from captioner.serve.settings import Settings

    # A web page can make its own host name resolve to this machine (DNS rebinding), so a server on
    # the loopback interface accepts only the names of that interface.
    local = ("127.0.0.1", "localhost", "[::1]") if options.host in LOOPBACK else ()
    return Settings(
        workers=options.workers,
        max_batch=options.max_batch,
        max_wait=options.max_wait,
        max_requests=options.max_requests,
        deadline=options.deadline,
        max_body=options.max_body,
        max_pixels=options.max_pixels,
        image_decoders=options.image_decoders,
        token=read_token(options.token_file),
        hosts=options.allowed_hosts + local,
        cors=options.cors_origins,
        fetch=options.fetch_hosts,
        corrections=options.corrections,
    )


def read_token(path: Path | None) -> str | None:
    """Return the token from a file or from the environment; None if neither is set.

    Raises:
        CaptionerError: The file cannot be read, or the token is empty.
    """
    token = os.environ.get(TOKEN_VARIABLE)
    if path is not None:
        try:
            token = path.read_text(encoding="utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CaptionerError(f"--token-file {path}: {error}") from None
    if token is not None and not token:
        raise CaptionerError(
            "the token is empty, so no client could send it; set a token, or leave it unset"
        )
    return token

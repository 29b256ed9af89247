"""Captions and answers for a browser and for programs: `python serve.py`, then open the address.

The page is at /, what programs may ask is at /docs: the server's own API (/v1/caption, /v1/vqa,
/v1/score), OpenAI's (/v1/chat/completions) and Hugging Face's (/hf/); /healthz, /readyz and
/metrics are for whoever runs it. It listens on this machine alone unless --host says otherwise.
A token, from --token-file or CAPTIONER_TOKEN, must be shown as a bearer token, or in a browser as
the password.

Requests that come together share a pass of the model. On a CPU of several cores there are two such
lanes, each in a process of its own with half of the cores; --lanes sets another number.

Exit status: 0 stopped by SIGTERM, all requests answered; 130 by Ctrl-C; 1 the model could not be
loaded; 2 usage.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path

from captioner.cli.parser import Parser, add_tta, port, positive
from captioner.cli.process import run_command
from captioner.config.decoding_options import DTYPES
from captioner.errors import CaptionerError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TOKEN = "CAPTIONER_TOKEN"


def main(argv: list[str] | None = None, *, prog: str = "serve.py") -> int:
    """Run the command; return the exit status."""
    return run_command(parse, run, argv, prog)


def parse(argv: list[str] | None, *, prog: str = "serve.py") -> argparse.Namespace:
    """The arguments; exits with status 2 where they are wrong."""
    parser = Parser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="bundled", metavar="DIR", help="default: bundled")
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1")
    parser.add_argument(
        "--port", type=port, default=7860, help="default: 7860; 0: any that is free"
    )
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, mps ...")
    parser.add_argument("--dtype", default="auto", choices=DTYPES, help="default: auto")
    add_tta(parser, default=1)
    parser.add_argument("--no-page", action="store_true", help="the API alone")
    parser.add_argument(
        "--corrections", metavar="DIR", help="where the page saves captions; default: corrections"
    )
    group = parser.add_argument_group("who may ask")
    group.add_argument("--token-file", metavar="FILE", help="its first line is the token")
    group.add_argument("--allow-host", action="append", metavar="NAME", help="that callers may use")
    group.add_argument("--cors", action="append", metavar="ORIGIN", help="whose pages may call")
    group.add_argument(
        "--allow-url-fetch", action="append", metavar="HOST", help="fetch images from there"
    )
    group = parser.add_argument_group("how much")
    group.add_argument("--lanes", type=positive, metavar="N", help="batches at a time (above)")
    group.add_argument("--max-batch", type=positive, metavar="N", help="default: 16")
    group.add_argument("--max-wait", type=float, metavar="MS", help="of a batch; default: 5")
    group.add_argument("--max-requests", type=positive, metavar="N", help="at a time; default: 64")
    group.add_argument("--deadline", type=float, metavar="S", help="of a request; default: 30")
    group.add_argument("--max-body", type=float, metavar="MB", help="of a request; default: 20")
    group.add_argument("--max-pixels", type=float, metavar="M", help="millions; default: 60")
    group.add_argument("--readers", type=positive, metavar="N", help="that decode; default: 2")
    args = parser.parse(argv)
    args.usage = parser.error
    if args.no_page and args.corrections is not None:
        parser.error("--corrections is for the page and cannot be used with --no-page")
    for name in ("max_wait", "deadline", "max_body", "max_pixels"):
        value = getattr(args, name)
        if value is not None and not 0 <= value < float("inf"):
            parser.error(f"--{name.replace('_', '-')} {value}: expected 0 or more")
    return args


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes; returns the exit status."""
    try:
        from captioner.serve.app import create_app
        from captioner.serve.model_process import RemoteCaptioner, opened
        from captioner.serve.server import serve
    except ImportError as error:
        raise CaptionerError(
            f"{error.name} is missing; run `pip install -r requirements-serve.txt`"
        ) from None

    allowed = settings(args)

    options = {"device": args.device, "dtype": args.dtype, "tta": args.tta}
    options["workers"] = allowed.lanes
    load = partial(RemoteCaptioner, partial(opened, args.checkpoint, **options))
    name = args.checkpoint if args.checkpoint == "bundled" else Path(args.checkpoint).name
    app = create_app(load, allowed, name=f"captioner-{name}", page=not args.no_page)
    announce = partial(print, flush=True)
    return serve(app, host=args.host, port=args.port, announce=announce)


def settings(args: argparse.Namespace):
    """What the server allows."""
    from captioner.serve.settings import Settings

    # A page elsewhere may have its own name lead to this machine; it is not let in by that name.
    local = ("127.0.0.1", "localhost", "[::1]") if args.host in LOOPBACK else ()
    # One core is busier with one small product after another than two are with halves of each.
    several = args.device == "cpu" and (os.cpu_count() or 1) > 1
    scaled = {
        "lanes": args.lanes or (2 if several else 1),
        "max_batch": args.max_batch,
        "max_wait": None if args.max_wait is None else args.max_wait / 1000,
        "max_requests": args.max_requests,
        "deadline": args.deadline,
        "max_body": None if args.max_body is None else int(args.max_body * 2**20),
        "max_pixels": None if args.max_pixels is None else int(args.max_pixels * 1e6),
        "readers": args.readers,
    }
    given = {name: value for name, value in scaled.items() if value is not None}
    return Settings(
        token=token(args),
        hosts=tuple(args.allow_host or ()) + local if args.allow_host or local else (),
        cors=tuple(args.cors or ()),
        fetch=tuple(args.allow_url_fetch or ()),
        corrections=Path("corrections" if args.corrections is None else args.corrections),
        **given,
    )


def token(args: argparse.Namespace) -> str | None:
    """What callers must show; raises CaptionerError for an empty one."""
    found = os.environ.get(TOKEN)
    if args.token_file is not None:
        try:
            found = Path(args.token_file).read_text(encoding="utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CaptionerError(f"--token-file {args.token_file}: {error}") from None
    if found is not None and not found:
        raise CaptionerError("an empty token lets nobody in; leave it unset, or set one")
    return found

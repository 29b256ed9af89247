"""Publish a checkpoint on the Hugging Face Hub: `captioner push DIR USER/NAME`.

Uploads the configuration, the weights, ONNX graphs, tokenizers, scores and a model card as one
commit. Paths of this machine in the configuration are reduced to their last part. The card is
README.md of the folder, or is written from the configuration and the scores. Anyone can then use
the checkpoint by the name hf-hub:USER/NAME, which is printed.

Log in before with `hf auth login`, or set HF_TOKEN. --dry-run needs neither network nor token.

Exit status: 0 success, 1 an error, 2 wrong usage, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from captioner.cli.parser import Parser, select_options
from captioner.cli.process import notify, run_command


@dataclass(frozen=True)
class PushOptions:
    """The arguments of the command."""

    folder: str
    repository: str
    private: bool
    revision: str | None
    message: str | None
    license: str
    dry_run: bool


def main(argv: list[str] | None = None, *, prog: str = "captioner push") -> int:
    """Run the command; return the exit status."""
    return run_command(parse, run, argv, prog)


def parse(argv: list[str] | None, *, prog: str = "captioner push") -> PushOptions:
    """Return the options; exit with status 2 if the arguments are wrong."""
    parser = Parser(prog=prog, description=__doc__)
    text = "Folder of the checkpoint, such as the best/ of a training run, or bundled."
    parser.add_argument("folder", metavar="DIR", help=text)
    text = "Repository of the Hub, which is created if it does not exist."
    parser.add_argument("repository", metavar="USER/NAME", help=text)
    text = "Make a new repository private."
    parser.add_argument("--private", action="store_true", help=text)
    text = "Branch to upload to, which is created if it does not exist. Default: main."
    parser.add_argument("--revision", metavar="BRANCH", help=text)
    parser.add_argument("--message", metavar="TEXT", help="Subject of the commit.")
    text = "Identifier of the license in a card that is written, such as mit. Default: other."
    parser.add_argument("--license", metavar="ID", default="other", help=text)
    text = "Print the card and the files with their sizes, and upload nothing."
    parser.add_argument("--dry-run", action="store_true", help=text)
    args = parser.parse(argv)
    for flag in ("license", "revision", "message"):
        value = getattr(args, flag)
        if value is not None and not value.strip():
            parser.error(f"--{flag} {value!r}: is empty; write a value, or leave the flag out")
    return select_options(PushOptions, vars(args))


def run(options: PushOptions) -> int:
    """Upload the checkpoint and print its name, or print the card; return the exit status."""
    from captioner.checkpoint import is_hub_name, resolve_checkpoint
    from captioner.checkpoint.hub_names import HubName, check_repository, parse_hub_name
    from captioner.errors import CheckpointError
    from captioner.export.card import make_card
    from captioner.export.hub_upload import upload_files
    from captioner.export.published_files import CARD, collect_files

    check_repository(options.repository, options.repository)
    name = HubName(options.repository, options.revision)
    parse_hub_name(str(name))  # checks the branch
    if is_hub_name(options.folder):
        raise CheckpointError(f"{options.folder}: is on the Hub already; name a folder")
    files = collect_files(resolve_checkpoint(options.folder))
    if CARD in files.texts:
        notify(f"{options.folder}: its {CARD} is the model card")
    else:
        card = make_card(files, options.repository, options.license)
        files = dataclasses.replace(files, texts=files.texts | {CARD: card})
    sizes = files.sizes()
    if options.dry_run:
        print(files.texts[CARD])
        for file, size in sizes.items():
            print(f"{size / 1e6:10.3f} MB  {file}")
        return 0
    notify(f"{len(sizes)} files with {sum(sizes.values()) / 1e6:.1f} MB for {name}")
    commit = upload_files(files, name, private=options.private, message=options.message)
    print(HubName(options.repository, commit))
    return 0

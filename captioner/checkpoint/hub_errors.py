"""Messages for failed requests to the Hugging Face Hub.

The exceptions of its client differ between versions (those of `httpx` or `httpx2` pass through), so
that they are recognized by their module or by the status of the response.
"""

from __future__ import annotations

import errno
from pathlib import Path

from captioner.checkpoint.hub_names import HubName
from captioner.text import one_line

LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


def is_unreachable(error: BaseException) -> bool:
    """Return whether the Hub did not answer, so that a copy in the cache may be used."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    status = response_status(error)
    if status:
        return status >= 500 or status in (408, 429)
    is_network = type(error).__module__.startswith(("httpx", "httpcore"))
    return is_network or isinstance(error, (ConnectionError, TimeoutError, LocalEntryNotFoundError))


def explain_hub_error(error: BaseException, name: HubName) -> str:
    """Return what happened and what to do, on one line, without the name."""
    from huggingface_hub import constants, errors

    place = f"{constants.ENDPOINT}/{name.repository}"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return (
            "is not complete in the cache, and HF_HUB_OFFLINE forbids downloads; unset it, or copy"
            f" the cache ({_cache()}) from a machine that has it"
        )
    if isinstance(error, errors.GatedRepoError):
        return f"its authors restrict access; accept the conditions at {place}, then {LOG_IN}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{place} does not exist, or it is private; check the name, or {LOG_IN}"
    if isinstance(error, errors.RevisionNotFoundError):
        revision = name.revision or "main"
        return f"the repository has no revision {revision}; name a branch, tag or commit of {place}"
    status = response_status(error)
    if status in (401, 403):
        return f"access was denied (status {status}); {LOG_IN}: the token needs access to {place}"
    if is_unreachable(error):
        return (
            f"{constants.ENDPOINT} cannot be reached ({describe_problem(error)}); check the"
            " network and HF_ENDPOINT, and try again"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of the cache is full ({_cache()}); free space, or set HF_HOME"
    return f"the request failed: {type(error).__name__}: {one_line(error)}; try again"


def describe_problem(error: BaseException) -> str:
    """Return the status of the response, or else what prevented one."""
    cause = error.__cause__ or error
    status = response_status(cause) or response_status(error)
    return f"status {status}" if status else f"{type(cause).__name__}: {one_line(cause)}"


def response_status(error: BaseException) -> int | None:
    """Return the status of the response that an error is about; None without a response."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)

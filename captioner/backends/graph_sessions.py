"""ONNX Runtime sessions of a checkpoint's graphs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import numpy as np

# ONNX Runtime would write a device id to the home folder and report its use to its makers. The
# variable is read when the library is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from captioner.checkpoint import WEIGHTS
from captioner.checkpoint.graph_files import DIGEST_KEY, GraphDtype, graph_path, weights_digest
from captioner.errors import CheckpointError
from captioner.text import one_line

ort.set_default_logger_severity(3)  # errors only; the rest is written to stderr


class GraphSessions:
    """The graphs of a checkpoint, each loaded when it is first used.

    Args:
        folder: The folder of the checkpoint.
        dtype: The arithmetic of the graphs; a graph that does not exist in this type is used in
            float32.
        threads: Threads that compute one graph; 0 for as many as there are physical cores.
    """

    def __init__(self, folder: Path, *, dtype: GraphDtype = "float32", threads: int = 0) -> None:
        self.folder, self.dtype = folder.absolute(), dtype
        self._digest = weights_digest(self.folder)
        self.threads = threads or _threads_of_environment() or count_cores()
        self._sessions: dict[tuple[str, int], ort.InferenceSession] = {}
        self._lock = Lock()

    def __contains__(self, name: str) -> bool:
        return graph_path(self.folder, name).is_file()

    def run(self, name: str, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Return the outputs of a graph for contiguous inputs.

        Raises:
            CheckpointError: The graph cannot be loaded.
        """
        return self.session(name).run(None, inputs)  # type: ignore[no-any-return]

    def run_each(self, name: str, input_name: str, batch: np.ndarray) -> np.ndarray:
        """Return the output of a graph for each element of a batch, joined.

        Each element is computed by one thread, which takes less time than computing each operator
        by all threads, and less memory.
        """
        workers = min(self.threads, len(batch))
        if workers == 1:
            return np.concatenate([self.run(name, {input_name: x[None]})[0] for x in batch])
        session = self.session(name, threads=1)
        with ThreadPoolExecutor(workers) as pool:
            outputs = pool.map(lambda x: session.run(None, {input_name: x[None]})[0], batch)
            return np.concatenate(list(outputs))

    def session(self, name: str, *, threads: int | None = None) -> ort.InferenceSession:
        """Return the session of a graph, by default with the threads of the constructor.

        Raises:
            CheckpointError: The graph cannot be loaded.
        """
        key = name, self.threads if threads is None else threads
        with self._lock:
            if key not in self._sessions:
                self._sessions[key] = self._load(*key)
            return self._sessions[key]

    def _load(self, name: str, threads: int) -> ort.InferenceSession:
        path = graph_path(self.folder, name, self.dtype)
        if not path.is_file():
            path = graph_path(self.folder, name)
        if not path.is_file():
            raise CheckpointError(f"{path}: no such graph; run `captioner export {self.folder}`")
        try:
            options = _session_options(threads)
            session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the errors of ONNX Runtime have no common type
            raise CheckpointError(
                f"{path}: cannot be loaded by ONNX Runtime {ort.__version__}: {one_line(error)};"
                f" run `captioner export {self.folder}` again, or use the backend torch"
            ) from None
        stated = session.get_modelmeta().custom_metadata_map.get(DIGEST_KEY)
        if weights_digest(self.folder) != self._digest:
            raise CheckpointError(
                f"{self.folder}: {WEIGHTS} has changed since it was loaded; load the captioner"
                " again"
            )
        if stated != self._digest:
            raise CheckpointError(
                f"{path}: belongs to other weights than {WEIGHTS}; run `captioner export"
                f" {self.folder}` again"
            )
        return session


def _threads_of_environment() -> int:
    """Return the first number of OMP_NUM_THREADS, which may be a list; 0 if there is none."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(int(first), os.cpu_count() or 1) if first.isdecimal() else 0


def count_cores(topology: Path = Path("/sys/devices/system/cpu")) -> int:
    """Return the number of physical cores that this process may use, as far as it is known.

    ONNX Runtime would count them, too, but then binds its threads to them, where they wait for
    other threads and processes.
    """
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    siblings = set()
    for cpu in os.sched_getaffinity(0):
        path = topology / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        try:
            siblings.add(path.read_text())
        except OSError:
            siblings.add(str(cpu))
    return len(siblings)


def _session_options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # The arena keeps memory for the next batch. A single image needs less memory without it.
    options.enable_cpu_mem_arena = threads == 1
    # By default, idle threads of a session spin for milliseconds, and take the cores from the
    # search and from the other sessions: a caption then takes 2.6 times as long on two cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", "100")
    return options

"""Finding what a command line names: a user's module, the workflow in it, the runtime and engine it brings.

A module may hold `runtime` (a Runtime) for the services of its workflows, or `engine` (an Engine) that also says
which store to use, which observers, and where secrets come from.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from holdfast import registry as registries
from holdfast.cli.failures import ModuleNotThere, UsageError
from holdfast.core.nesting import is_workflow
from holdfast.core.program import Workflow
from holdfast.engine import Engine
from holdfast.errors import DefinitionError, HoldfastError, WorkflowNotFound
from holdfast.patterns.graph.builder import StateGraph
from holdfast.registry import Registry, as_workflow
from holdfast.services import Runtime
from holdfast.settings import store_url
from holdfast.store.port import Store

_EXAMPLE: Final = "Give it as MODULE:WORKFLOW, as in shop.flows:checkout or flows.py:checkout."


class App:
    """A user's module, imported, with everything that a command needs of it."""

    def __init__(self, spec: str) -> None:
        """Import what `spec` (MODULE or MODULE:NAME) names. Raises ModuleNotThere, DefinitionError."""
        self.module_name, self.name = _split(spec)
        self.module: Final = _import(self.module_name)
        self.engine: Final = _engine_in(self.module, self.name) or _engine_in(self.module, "engine")
        self.registry: Final[Registry] = registries.default if self.engine is None else self.engine.registry
        self._register()

    @property
    def runtime(self) -> Runtime | None:
        """The services that the module brings, if any."""
        if self.engine is not None:
            return self.engine.runtime
        given = getattr(self.module, "runtime", None)
        return given if isinstance(given, Runtime) else None

    def url(self, given: str | None) -> str:
        """Return the store's URL: the given one, else that of the module's engine, else the default."""
        return store_url(given) if given is not None or self.engine is None else self.engine.url

    def make_engine(self, url: str | None, store: Store, **changes: Any) -> Engine:
        """Return an engine on `store` with everything else as the module's engine has it, but for `changes`."""
        if self.engine is not None:
            return self.engine.on(self.url(url), store, **changes)
        given = {"runtime": self.runtime, "registry": self.registry, "observers": (), **changes}
        return Engine(self.url(url), store=store, **given)

    def served(self) -> list[str]:
        """Return the workflows that a worker of this app serves. Raises UsageError when there is none, or no engine."""
        if self.name and _engine_in(self.module, self.name) is None:
            self.workflow()
        names = sorted(self.registry.all())
        if not names:
            raise UsageError(
                f"{self.module_name} registers no workflow, so a worker has nothing to serve",
                fix="Decorate a factory with @workflow_factory, or import the modules that have some.",
            )
        return names

    @property
    def spec(self) -> str:
        """How to name this app once more: with the workflow where importing alone does not register it."""
        return f"{self.module_name}:{self.name}" if self.name else self.module_name

    def spec_for(self, workflow: str) -> str:
        """Return the shortest `--app` that knows a workflow."""
        known = self.registry.find(workflow) is not None and workflow in self._registered
        return self.module_name if known else self.spec

    def workflow(self) -> Workflow:
        """Return the workflow that was named, registered; the only one when none was. Raises WorkflowNotFound."""
        if not self.name:
            if len(self._own) == 1:
                return self.registry.get(self._own[0])
            raise UsageError(
                f"which workflow of {self.module_name}?", fix=f"{_EXAMPLE} It has: {self._listed()}."
            )
        found = self.registry.find(self.name)
        if found is None:
            found = self._attribute(self.name)
            if self.registry.find(found.name) is not found:
                self.registry.add(found)
        return found

    def knows(self, workflow: str) -> None:
        """Raise WorkflowNotFound unless the app has that workflow."""
        if self.name and self.registry.find(workflow) is None:
            with contextlib.suppress(HoldfastError):
                self.workflow()
        if self.registry.find(workflow) is None:
            raise WorkflowNotFound(
                f"{self.module_name} has no workflow {workflow!r}",
                fix=f"It has: {self._listed()}. Give the right --app.",
            )

    # --- what the module holds

    def _register(self) -> None:
        """Register the workflows that were built in the module and are not registered yet, under their names."""
        for attribute, thing in vars(self.module).items():
            if _is_built(thing):
                name = thing.name or attribute
                if self.registry.find(name) is None:
                    self.registry.add(as_workflow(thing, name))
        self._registered = frozenset(self.registry.all())
        self._own = sorted(self._registered)

    def _attribute(self, name: str) -> Workflow:
        thing: Any = self.module
        for part in name.split("."):
            thing = getattr(thing, part, None)
        if _is_built(thing):
            return self.registry.get(thing.name or name)
        thing = getattr(thing, "workflow", thing)
        if callable(thing) or hasattr(thing, "open"):
            with contextlib.suppress(DefinitionError):
                return as_workflow(thing) if hasattr(thing, "name") else as_workflow(thing, name)
        if thing is not None:
            raise DefinitionError(
                f"{self.module_name}:{name} is no workflow: {thing!r:.80}",
                fix="Name a registered workflow, a StateGraph, a DAGWorkflow, or a workflow factory.",
            )
        close = difflib.get_close_matches(name, self._own, 1)
        raise WorkflowNotFound(
            f"{self.module_name} has no workflow {name!r}",
            fix=f"Did you mean {close[0]}?" if close else f"It has: {self._listed()}.",
        )

    def _listed(self) -> str:
        return ", ".join(self._own) or "none; decorate a factory with @workflow_factory"


def _is_built(thing: Any) -> bool:
    """Tell whether a builder made it: a graph, or what is a workflow by itself."""
    return isinstance(thing, StateGraph) or (is_workflow(thing) and hasattr(thing, "renamed"))


def _engine_in(module: ModuleType, name: str) -> Engine | None:
    """Return the engine of that name, also the one inside of a blocking one."""
    found = getattr(module, name, None)
    found = getattr(found, "_of", found)
    return found if isinstance(found, Engine) else None


def _split(spec: str) -> tuple[str, str]:
    """Return (module, name) of MODULE:NAME. A colon may also stand in a Windows path."""
    module, colon, name = spec.rpartition(":")
    if not colon or "/" in name or "\\" in name:
        module, name = spec, ""
    if not module:
        raise UsageError(f"no module in {spec!r}", fix=_EXAMPLE)
    return module, name


# --- how a module is imported


def _import(name: str) -> ModuleType:
    _put_on_path(str(Path.cwd()))
    if name.endswith(".py") or "/" in name or "\\" in name:
        name = _module_of_file(Path(name))
    with _explained(name):
        return importlib.import_module(name)


def _put_on_path(folder: str) -> None:
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)


def _module_of_file(path: Path) -> str:
    """Return the dotted name of a file, with what it is relative to on sys.path."""
    if not path.is_file():
        raise ModuleNotThere(f"there is no file {path}", fix=f"Give the path of a Python file. {_EXAMPLE}")
    if path.suffix != ".py":
        raise ModuleNotThere(f"{path} is no Python file", fix=f"Give one that ends with .py. {_EXAMPLE}")
    file = path.resolve()
    parts, folder = [file.stem], file.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    loaded = getattr(sys.modules.get(name), "__file__", None) or _origin(name)
    if loaded is not None and Path(loaded).resolve() == file:
        return name
    alias = f"app_{name.replace('.', '_')}"  # the name is another module's, json.py's for instance
    if alias not in sys.modules:
        _load_as(alias, file)
    return alias


def _origin(name: str) -> str | None:
    """Return the file that importing `name` would load."""
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(name)
        return None if spec is None else spec.origin
    return None


def _load_as(name: str, file: Path) -> None:
    """Load a file under a name of its own."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # noqa: S101 - a .py file has one
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _explained(file.name):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn whatever importing raises into an error that tells where it rose."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and _is_part(error.name, name):
            raise ModuleNotThere(
                f"there is no module {error.name!r}",
                fix=f"The current directory and sys.path were searched. {_EXAMPLE}",
            ) from error
        text, fix = _reason(error)
        raise DefinitionError(
            f"module {name!r} fails to import: {text}{_place(error)}",
            fix=f"{fix.rstrip('.')}; --traceback shows the whole way there.",
        ) from error


def _reason(error: BaseException) -> tuple[str, str]:
    """Return what an import failed with, and what to do."""
    kind = type(error).__name__
    match error:
        case HoldfastError():
            return error.message, error.fix or "Mend the module"
        case ModuleNotFoundError():
            return f"{kind}: {error}", f"Install {error.name}, or use the environment that has it"
        case SyntaxError():
            return f"{kind}: {error.msg}", "Mend the module"
        case _:
            return f"{kind}: {error}", "Mend the module"


def _is_part(missing: str, name: str) -> bool:
    return name == missing or name.startswith(f"{missing}.")


def _place(error: BaseException) -> str:
    """Return where in a user's file an error rose."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    ours = str(Path(__file__).resolve().parents[1])
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((ours, "<frozen"))
    ]
    files = [frame for frame in frames if f"{Path(importlib.__file__).parent}" not in frame.filename]
    return f" ({files[-1].filename}:{files[-1].lineno})" if files else ""

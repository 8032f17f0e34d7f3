"""A ledger on the disk: entries appear whole, and every change of it is one replaced file.

The folder of an entry is complete before ``ledger.json`` names it, so that
whatever ends a process, at whatever point, leaves the ledger as it was before
or as it was to become. A folder that no entry names is the rest of such an end:
readers ignore it, and an entry of that name replaces it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from readwrite_edit.durable import finite_or_none, try_writing, whole_folder
from readwrite_edit.edit.ledger.agreement import check_facts, same_change
from readwrite_edit.edit.ledger.document import FILE, Document, read_document, write_document
from readwrite_edit.edit.ledger.entries import Entry, Fact, adapter_hash, as_facts, utc_now
from readwrite_edit.edit.ledger.exclusive import exclusively, unwritable
from readwrite_edit.edit.ledger.naming import check_name, free_name, is_taken, listed, meant
from readwrite_edit.edit.ledger.sameness import same_adapter
from readwrite_edit.errors import EditError
from readwrite_edit.models.identity import Base
from readwrite_edit.runs.folder import FolderError, RunFolder

if TYPE_CHECKING:
    from readwrite_edit.interventions.changes import Change
    from readwrite_edit.models.pathways import Pathways

ENTRIES = "entries"
_OTHERS = "undo it, or put its folder back from a copy (other edits are not affected)"


class Ledger:
    """The edits of one model.

    Attributes:
        folder: Of the ledger.
        base: The model.
        entries: All edits, in the order in which they were entered, as last read.
    """

    def __init__(self, folder: Path, document: Document) -> None:
        """Take what was read; nothing is written before the first entry."""
        self.folder, self.base, self.entries = folder, document.base, document.entries

    @property
    def active(self) -> tuple[Entry, ...]:
        """The edits in force."""
        return tuple(entry for entry in self.entries if entry.active)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all edits, in their order."""
        return tuple(entry.name for entry in self.entries)

    def entry(self, name: str) -> Entry:
        """An edit by its name.

        Raises:
            EditError: There is none of this name.
        """
        for entry in self.entries:
            if entry.name == name:
                return entry
        hint = meant(name, self.names)
        there = f"it has {listed(self.names)}; readwrite-edit edit ls shows them" if self.entries else "it is empty"
        raise EditError(f"no edit '{name}' in the ledger {self.folder}; {hint}{there}")

    def check_free(self, name: str) -> None:
        """Refuse a name that an edit has, or that none may have.

        Raises:
            EditError: It is taken, or not of the form.
        """
        check_name(name)
        if is_taken(name, self.names):
            raise EditError(
                f"an edit '{name}' is in the ledger {self.folder}: give another name, or none (ledger.name)"
            )

    def check_facts(self, facts: Iterable[Fact | Mapping[str, str]], otherwise: str = "") -> None:
        """Refuse facts that an edit in force contradicts, or makes already.

        Args:
            facts: Of an edit that is to be in force too.
            otherwise: What else the user can do, for the message.

        Raises:
            EditError: They can not be in force together.
        """
        check_facts(self.active, as_facts(facts), otherwise)

    def check_writable(self) -> None:
        """Refuse a ledger that can not be written, by trying; nothing is left behind.

        Raises:
            EditError: The disk refuses.
        """
        try:
            try_writing(self.folder)
        except OSError as error:
            raise unwritable(self.folder, error) from error

    def path_of(self, entry: Entry) -> Path:
        """Folder of an edit: ``adapter/``, ``recipe.yaml``, ``summary.json``."""
        return self.folder / ENTRIES / entry.name

    def adapter_of(self, entry: Entry) -> Path:
        """Adapter folder of an edit, once its bytes are known to be those that were entered.

        Raises:
            EditError: They are not.
        """
        folder = self.path_of(entry) / "adapter"
        try:
            found = adapter_hash(folder)
        except OSError as error:
            raise EditError(f"edit '{entry.name}' is damaged: {folder} {error.strerror or error}; {_OTHERS}") from None
        if found != entry.adapter_sha256:
            raise EditError(f"edit '{entry.name}' is damaged: {folder} is not what was entered; {_OTHERS}")
        return folder

    def changes_of(self, entry: Entry, pathways: Pathways) -> tuple[Change, ...]:
        """What an edit changes, read from its adapter.

        Raises:
            EditError: Its adapter is damaged.
            AdapterError: It does not fit the model.
        """
        from readwrite_edit.edit.files import read_changes

        return read_changes(self.adapter_of(entry), pathways)

    def add(
        self,
        *,
        kind: str,
        title: str,
        run: RunFolder,
        name: str | None = None,
        facts: Iterable[Fact | Mapping[str, str]] = (),
        statistics_sha256: str | None = None,
        predicted_damage: float | None = None,
        measured: Mapping[str, float | None] | None = None,
    ) -> Entry:
        """Enter a finished edit; its adapter, recipe and summary are copied.

        Args:
            kind: The intervention.
            title: What it does in a few words.
            run: Its run folder.
            name: Of the entry; ``<kind>-<number>`` by default.
            facts: Associations that it makes.
            statistics_sha256: Hash of the statistics that it was computed with; None where it needed none.
            predicted_damage: Price that was computed beforehand.
            measured: Name to main figure.

        Returns:
            The entry.

        Raises:
            EditError: The name is taken, the edit contradicts one in force or is the same, or the ledger can not be
                written; it is as it was then.
        """
        given = as_facts(facts)
        with self._changing():
            if name is not None:
                self.check_free(name)
            self._check_agreement(given, run.adapter)
            entry = Entry(
                name=name or free_name(kind, self.names),
                kind=kind,
                title=title,
                created=utc_now(),
                active=True,
                adapter_sha256=adapter_hash(run.adapter),
                run=str(run.path.absolute()),
                statistics_sha256=statistics_sha256,
                predicted_damage=finite_or_none({"": predicted_damage})[""],
                measured=finite_or_none(measured or {}),
                facts=given,
            )
            self._keep(entry, run)
        return entry

    def undo(self, name: str) -> Entry:
        """Take an edit out of force; its files stay.

        Raises:
            EditError: There is none of this name, or it is undone already.
        """
        with self._changing():
            if not self.entry(name).active:
                raise EditError(
                    f"'{name}' is undone already: readwrite-edit edit redo {name} puts it back{self._others()}"
                )
            return self._set_active(name, False)

    def redo(self, name: str) -> Entry:
        """Put an edit back in force.

        Raises:
            EditError: There is none of this name, it is in force, is damaged, contradicts one in force or is the same.
        """
        with self._changing():
            entry = self.entry(name)
            if entry.active:
                raise EditError(f"'{name}' is in force already: readwrite-edit edit undo {name} takes it out")
            self._check_agreement(entry.facts, self.adapter_of(entry))
            return self._set_active(name, True)

    def _set_active(self, name: str, active: bool) -> Entry:
        self._write(
            entry.model_copy(update={"active": active}) if entry.name == name else entry for entry in self.entries
        )
        return self.entry(name)

    def _check_agreement(self, facts: Iterable[Fact], adapter: Path) -> None:
        self.check_facts(facts)
        for entry in self.active:
            if same_adapter(adapter, self.path_of(entry) / "adapter"):
                raise same_change(entry)

    def _others(self) -> str:
        return f"; in force: {listed(entry.name for entry in self.active)}" if self.active else "; no edit is in force"

    def _keep(self, entry: Entry, run: RunFolder) -> None:
        """Folder first, then the file that names it; without the second, the first is taken back."""
        folder = self.path_of(entry)
        try:
            with whole_folder(folder) as temporary:
                (temporary / "adapter").mkdir()
                for path in filter(Path.is_file, run.adapter.iterdir()):
                    shutil.copyfile(path, temporary / "adapter" / path.name)
                shutil.copyfile(run.recipe, temporary / "recipe.yaml")
                shutil.copyfile(run.summary, temporary / "summary.json")
            self._write((*self.entries, entry))
        except BaseException:
            if not any(known.name == entry.name for known in self.entries):
                shutil.rmtree(folder, ignore_errors=True)
            raise

    def _write(self, entries: Iterable[Entry]) -> None:
        document = Document(base=self.base, entries=tuple(entries))
        write_document(self.folder / FILE, document)
        self.entries = document.entries

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """The ledger to oneself, as it is now; what the disk says is said in one line."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with exclusively(self.folder):
                self._refresh()
                self._sweep()
                yield
        except (OSError, FolderError) as error:
            raise unwritable(self.folder, error, "; it is as it was") from error

    def _refresh(self) -> None:
        if (self.folder / FILE).exists():
            document = read_document(self.folder / FILE)
            check_base(self.folder, document.base, self.base)
            self.entries = document.entries

    def _sweep(self) -> None:
        """Remove what writers that were killed left half done: nobody else writes while the lock is held."""
        for path in (self.folder / ENTRIES).glob(".*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self.folder.glob(f".{FILE}.*"):
            path.unlink(missing_ok=True)


def read_ledger(folder: Path) -> Ledger:
    """The ledger in a folder.

    Raises:
        EditError: It is damaged, or of a newer version.
    """
    return Ledger(folder, read_document(folder / FILE))


def check_base(folder: Path, recorded: Base, base: Base) -> None:
    """Refuse a ledger of another model.

    Raises:
        EditError: The hashes of the weights differ.
    """
    if recorded.weights_hash != base.weights_hash:
        raise EditError(
            f"the ledger {folder} is of another base: {recorded.source} with weights hash "
            f"{str(recorded.weights_hash)[:12]}, not {base.source} with {str(base.weights_hash)[:12]}; "
            "name another folder (--ledger)"
        )

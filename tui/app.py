"""The application: its first screen, what works everywhere, its style sheet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeGuard

from textual import events
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.screen import ModalScreen, Screen

from readwrite_edit.terminal import printable
from readwrite_edit.tui.actions import ACTIONS, BY_ID, EVERYWHERE, MODAL, Action, bindings_of
from readwrite_edit.tui.dialogs import HelpDialog, ask_to_lose
from readwrite_edit.tui.frame import CommandLine, Performing, WorkScreen, is_too_small
from readwrite_edit.tui.home.runs_screen import RunsScreen
from readwrite_edit.tui.home.stopping import Stops
from readwrite_edit.tui.keys import character_of
from readwrite_edit.tui.launches import Launches
from readwrite_edit.tui.settings import TuiSettings, settings_path
from readwrite_edit.tui.themes import THEMES
from readwrite_edit.tui.wording import legend

_REFUSAL_S = 2.5
_MOST_PLACES = 3
_CURSOR_KEYS = {"up", "down", "left", "right", "home", "end", "pageup", "pagedown", "tab", "shift+tab", "enter"}


class RunsApp(App[None], inherit_bindings=False):
    """Shows the runs under a root folder.

    Args:
        root: Folder of runs; need not exist yet.
        readonly: Refuse every action that starts, stops or changes something.
        settings: Theme and keys of the user.
        clock: Gives unix seconds; ages count to it.
    """

    CSS_PATH = "app.tcss"
    TITLE = "readwrite-edit"
    ENABLE_COMMAND_PALETTE = False  # it would bind ctrl+p beside the table of actions
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of(EVERYWHERE)]

    def __init__(
        self,
        root: Path,
        *,
        readonly: bool = False,
        settings: TuiSettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self.use_command_palette = True
        self.root, self.readonly, self.clock = root, readonly, clock
        self.settings = settings or TuiSettings()
        self.stops, self.launches = Stops(), Launches(self)
        for theme in THEMES:
            self.register_theme(theme)

    def get_default_screen(self) -> Screen[None]:
        """The list of runs."""
        return RunsScreen(self.root)

    def on_mount(self) -> None:
        """Put the user's theme and keys in place."""
        if self.settings.theme:
            self.theme = self.settings.theme
        self.set_keymap(dict(self.settings.keys))

    def refusal(self, action: Action) -> str | None:
        """Why an action is not allowed just now, wherever it stands; None where it is."""
        if is_too_small(*self.size) and action.id not in ("confirm.no", "typed.no", "help.close", "note.leave"):
            return "the terminal is too small to see what it does"
        return "this session is --readonly" if self.readonly and action.writes else None

    def warn(self, text: str) -> None:
        """A short message about what can not be done; its text is made safe here."""
        self.notify(printable(text), severity="warning", markup=False)

    def refuse(self, text: str) -> None:
        """Say of a key why it does nothing; soon gone, and said once however often the key is pressed."""
        shown = printable(text)
        for said in [note for note in self._notifications if note.message == shown]:
            self._unnotify(said)
        self.notify(shown, severity="warning", markup=False, timeout=_REFUSAL_S)

    def tell(self, text: str) -> None:
        """A short message about what was done; its text is made safe here."""
        self.notify(printable(text), markup=False)

    def action_perform(self, action_id: str) -> None:
        """Carry out an action that works everywhere."""
        action = BY_ID[action_id]
        reason = None if action_id == "everywhere.quit" else self.refusal(action)
        if reason is None:
            getattr(self, action.method)()
        else:
            self.refuse(f"{action.label}: {reason}")

    async def on_event(self, event: events.Event) -> None:
        """Hand out an event, unless the screen keeps a key back for now."""
        # A key that is on its way up again has been handed out.
        fresh = isinstance(event, events.Key) and not event.is_forwarded and bool(self.screen_stack)
        if not (fresh and isinstance(self.screen, WorkScreen) and self.screen.holds(event)):
            await super().on_event(event)

    def on_key(self, event: events.Key) -> None:
        """A key that nothing takes: say where it would do something, or where the keys stand."""
        # Textual calls this before it looks at the bindings.
        taken = event.key in _CURSOR_KEYS or event.key in self.screen.active_bindings
        if taken or isinstance(self.screen, ModalScreen):
            return
        others = [action for action in ACTIONS if action.place not in MODAL and event.key in self.keys_of(action)]
        places = list(dict.fromkeys(action.place for action in others))
        if places:
            more = ", …" if len(places) > _MOST_PLACES else ""
            self.refuse(f"{self.shown_key(event.key)} works in {', '.join(places[:_MOST_PLACES])}{more}, not here")
        elif event.is_printable:
            help_key = self.key_text(BY_ID["everywhere.help"], first=True)
            self.refuse(f"{self.shown_key(event.key)} does nothing; {help_key} lists the keys")

    def keys_of(self, action: Action) -> list[str]:
        """The keys of an action, those of the user where set, in Textual's names."""
        return [key.strip() for key in self.settings.keys.get(action.id, action.keys).split(",")]

    def key_text(self, action: Action, *, first: bool = False) -> str:
        """The keys of an action, or only the first of them, as they stand on a keyboard."""
        return " ".join(map(self.shown_key, self.keys_of(action)[: 1 if first else None]))

    def shown_key(self, key: str) -> str:
        """A key, by Textual's name, as it stands on a keyboard."""
        return self.get_key_display(Binding(key, ""))

    def actions_here(self, screen: Screen[Any] | None = None) -> list[Action]:
        """The actions of what has the focus and of a screen, nearest first; a nearer one takes its keys alone.

        Args:
            screen: The open one by default.
        """
        looked_at = self.screen if screen is None else screen
        owners: dict[str, object] = dict(_owners(looked_at))
        if not isinstance(looked_at, ModalScreen):
            owners[EVERYWHERE] = self
        here: list[Action] = []
        taken: set[str] = set()
        for place, owner in owners.items():
            fitting = [action for action in ACTIONS if action.place == place and hasattr(owner, action.method)]
            here += [action for action in fitting if not taken.issuperset(self.keys_of(action))]
            taken.update(key for action in fitting for key in self.keys_of(action))
        return here

    def heard(self, action: Action) -> list[str]:
        """The keys of an action that get past what is being typed into."""
        focused = self.screen.focused
        return [
            key
            for key in self.keys_of(action)
            if focused is None or not focused.check_consume_key(key, character_of(key))
        ]

    def do_help(self) -> None:
        """List the keys of the open screen."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for action in sorted(self.actions_here(), key=lambda action: action.place in ("table", EVERYWHERE)):
            sections.setdefault(action.place, []).append((self.key_text(action), action.text))
        self.push_screen(HelpDialog(list(sections.items()), legend(printable(str(settings_path())))))

    def do_palette(self) -> None:
        """Find an action by its name."""
        self.action_command_palette()

    def do_copy(self) -> None:
        """Put the command on the clipboard (of the terminal: OSC 52, over ssh too)."""
        lines = self.screen.query(CommandLine)
        command = lines.first().command if lines else ""
        if command:
            self.copy_to_clipboard(command)
            self.tell(f"copied: {command}")
        else:
            self.warn("copy: no action has named a command yet")

    def do_back(self) -> None:
        """Close the open screen, unless it is the first."""
        if isinstance(self.screen, RunsScreen):
            self.warn(f"back: this is the first screen; {self.key_text(BY_ID['everywhere.quit'], first=True)} quits")
        else:
            self.pop_screen()

    def do_quit(self) -> None:
        """Leave; ask first where a form's changes would be lost. Runs are processes of their own and go on."""
        if is_too_small(*self.size):
            self.exit()  # a question could not be read
        else:
            ask_to_lose(self, "Quit?", self.screen_stack, self.exit)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: the actions that apply on the screen under it, themes, and a screenshot."""
        owners = _owners(screen)
        for action in self.actions_here(screen):
            title = action.label if action.place == EVERYWHERE else f"{action.place}: {action.label}"
            help_text = f"{action.text}  ({self.key_text(action)})"
            yield SystemCommand(title, help_text, partial(owners.get(action.place, self).action_perform, action.id))
        for command in super().get_system_commands(screen):
            if command.title in ("Theme", "Screenshot"):
                yield command


def _owners(screen: Screen[Any]) -> dict[str, Performing]:
    """What carries out the actions of each place: what has the focus, what is around it, the screen."""
    nodes: list[DOMNode] = [] if screen.focused is None else list(screen.focused.ancestors_with_self)
    return {node.NAME: node for node in (*nodes, screen) if _performs(node)}


def _performs(node: object) -> TypeGuard[Performing]:
    return isinstance(node, Performing) and hasattr(node, "NAME")

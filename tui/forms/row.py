"""One key of a recipe as a row of a form: its name, a widget to give it, its default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widget import Widget
from textual.widgets import Input, Select, Static, Switch, TextArea

from readwrite_edit.terminal import printable
from readwrite_edit.tui.forms.schema import Field

if TYPE_CHECKING:
    from readwrite_edit.tui.forms.draft import Draft

CHANGED = "•"
_NONE = "none"


class Line(Input):
    """One line of text; a control character that was pasted is seen as its escape."""

    def validate_value(self, value: str) -> str:
        """Make what is typed or pasted safe to show."""
        return printable(value)


class Lines(TextArea):
    """Several lines of text; control characters as in ``Line``."""

    async def _on_paste(self, event: events.Paste) -> None:
        event.text = printable(event.text, keep_newlines=True)
        await super()._on_paste(event)


class Choice(Select[str], inherit_bindings=False):
    """One of several; up and down go to the next row, as everywhere in a form."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,space", "show_overlay", show=False)]


class Row(Horizontal):
    """A key of a draft; what is typed goes into the draft at once."""

    @dataclass
    class Edited(Message):
        """The draft has another value for a key."""

        field: Field

    def __init__(self, field: Field, draft: Draft, suggestions: Sequence[str] = ()) -> None:
        """Show a key of a draft; ``suggestions`` complete what is typed."""
        super().__init__()
        self.field, self._draft = field, draft
        self.editor = _editor(field, draft.text(field), suggestions)
        self._heading, self._aside = Static(classes="key"), Static(classes="aside")

    def compose(self) -> ComposeResult:
        """Name, widget, default."""
        yield self._heading
        yield self.editor
        yield self._aside

    def on_mount(self) -> None:
        """Write name and default."""
        self._describe()

    def on_input_changed(self, event: Input.Changed) -> None:
        """A line was typed."""
        event.stop()
        self._take(event.value)

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Lines were typed."""
        event.stop()
        self._take(event.text_area.text)

    def on_select_changed(self, event: Select.Changed) -> None:
        """One of several was chosen."""
        event.stop()
        self._take("" if event.value is Select.NULL else str(event.value))

    def on_switch_changed(self, event: Switch.Changed) -> None:
        """Yes or no."""
        event.stop()
        self._take("true" if event.value else "false")

    def _take(self, text: str) -> None:
        if text == self._draft.text(self.field):
            return
        self._draft.write(self.field, text)
        self._describe()
        self.post_message(self.Edited(self.field))

    def write(self, text: str) -> None:
        """Put a text into the widget, as if it were typed."""
        if isinstance(self.editor, Switch):
            self.editor.value = text == "true"
        elif isinstance(self.editor, TextArea):
            self.editor.text = text
        elif isinstance(self.editor, Select):
            self.editor.value = text or Select.NULL
        elif isinstance(self.editor, Input):
            self.editor.value = text

    def _describe(self) -> None:
        changed = self.field.key in self._draft.changes
        mark, style = (CHANGED, "bold") if changed else (" ", "")
        self._heading.update(Text(f"{mark} {self.field.label}", style), layout=False)
        self._aside.update(Text(self._default(), "dim"), layout=False)

    def _default(self) -> str:
        """What stands beside the widget: for a switch its value in words, and the default where it is another."""
        text = self._draft.text(self.field)
        word = f"{text}  " if self.field.kind == "switch" else ""
        if self.field.required:
            return word + ("" if text else "required")
        return word + default_text(self.field, self._draft, text)


def default_text(field: Field, draft: Draft, text: str) -> str:
    """The default of a key, where the text says otherwise."""
    default = draft.default_text(field).replace("\n", " | ")
    return f"default {default}" if default and default != text.replace("\n", " | ") else ""


def _editor(field: Field, text: str, suggestions: Sequence[str]) -> Widget:
    if field.kind == "switch" and text in ("true", "false"):
        return Switch(text == "true", animate=False)
    if field.kind in ("switch", "choice"):
        return _choice(field, text)
    if field.kind in ("texts", "items"):
        return Lines(text, compact=True, tab_behavior="focus", highlight_cursor_line=False)
    suggester = SuggestFromList(suggestions) if suggestions else None
    return Line(text, compact=True, suggester=suggester, select_on_focus=False)


def _choice(field: Field, text: str) -> Choice:
    """What a file says is among the choices even where it is none of them: the recipe's own account tells that."""
    names = field.choices or ("true", "false")
    shown = [*names, *([text] if text and text not in names else [])]
    blank = field.nullable or not text
    options = [(Text(printable(name)), name) for name in shown]
    return Choice(options, value=text or Select.NULL, allow_blank=blank, prompt=_NONE, compact=True)

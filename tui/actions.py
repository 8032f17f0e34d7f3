"""Every action of the TUI, in one table: keys, footer, help, palette and what ``--readonly`` refuses come from it.

An action ``run.stop`` is carried out by the method ``do_stop`` of the open
pane, or else of the screen, that the table names; see ``tui.frame``.
"""

from __future__ import annotations

from dataclasses import dataclass

from textual.binding import Binding

EVERYWHERE = "everywhere"


@dataclass(frozen=True, kw_only=True)
class Action:
    """One thing that a user can do.

    Attributes:
        id: ``<place>.<name>``; stable, since keymaps of users name it. ``place`` is a screen's or pane's NAME.
        keys: Keys, separated by commas, in Textual's names.
        label: Word in the footer.
        text: Sentence for help and palette.
        shown: Whether the footer has room for it.
        writes: Whether it starts, stops or changes something; ``--readonly`` refuses it.
        typing: Whether the key works while text is being typed (a function or control key).
    """

    id: str
    keys: str
    label: str
    text: str
    shown: bool = True
    writes: bool = False
    typing: bool = False

    @property
    def place(self) -> str:
        """The screen or pane that carries it out, or ``everywhere``."""
        return self.id.split(".", 1)[0]

    @property
    def method(self) -> str:
        """Name of the method that carries it out."""
        return "do_" + self.id.split(".", 1)[1].replace("-", "_")


ACTIONS: tuple[Action, ...] = (
    Action(id="everywhere.help", keys="question_mark,f1", label="help", text="What each key does here", typing=True),
    Action(id="everywhere.copy", keys="y", label="copy command", text="Copy the command that stands above the footer"),
    Action(
        id="everywhere.palette",
        keys="ctrl+p",
        label="palette",
        shown=False,
        typing=True,
        text="All actions by name, the themes and a screenshot",
    ),
    Action(id="everywhere.back", keys="escape", label="back", text="Back to where this was opened from", typing=True),
    Action(id="everywhere.quit", keys="q,ctrl+q", label="quit", text="Leave; what runs goes on running"),
    # ---- Tables, lists and dialogs
    Action(id="table.up", keys="up,k", label="up", text="Move up", shown=False),
    Action(id="table.down", keys="down,j", label="down", text="Move down", shown=False),
    Action(id="table.left", keys="left", label="left", text="Move left", shown=False),
    Action(id="table.right", keys="right", label="right", text="Move right", shown=False),
    Action(id="table.page-up", keys="pageup", label="page up", text="Move up a page", shown=False),
    Action(id="table.page-down", keys="pagedown", label="page down", text="Move down a page", shown=False),
    Action(id="table.first", keys="home", label="first", text="Move to the first row", shown=False),
    Action(id="table.last", keys="end", label="last", text="Move to the last row", shown=False),
    Action(id="help.close", keys="escape,q,question_mark,f1", label="close", text="Close the help"),
    Action(id="confirm.yes", keys="y", label="yes", text="Do it"),
    Action(id="confirm.no", keys="n,escape,q", label="no", text="Leave it"),
    Action(id="typed.yes", keys="enter", label="do it", text="Do it, where the words are right", typing=True),
    Action(id="typed.no", keys="escape", label="leave it", text="Leave it", typing=True),
    # ---- Runs
    Action(id="runs.open", keys="enter", label="open", text="Open the run under the cursor"),
    Action(id="runs.new", keys="n", label="new", text="Fill in a recipe and start or queue it"),
    Action(id="runs.edit", keys="e", label="edit", text="Edit a model in closed form, and its ledger"),
    Action(id="runs.compare", keys="c", label="compare", text="Compare the marked runs, two to four"),
    Action(id="runs.filter", keys="slash", label="filter", text="Show only runs that hold these words"),
    Action(id="runs.mark", keys="space", label="mark", text="Mark the run under the cursor"),
    Action(id="runs.unmark", keys="a", label="unmark", text="Take all marks away, or mark all shown", shown=False),
    Action(id="runs.sort", keys="o", label="sort", text="Sort by the next column", shown=False),
    Action(id="runs.reverse", keys="O", label="reverse", text="Sort the other way round", shown=False),
    Action(id="runs.stop", keys="s", label="stop", text="Ask the run to save and end", writes=True),
    Action(id="runs.resume", keys="u", label="resume", text="Go on with a stopped or failed run", writes=True),
    Action(id="runs.export", keys="x", label="export", text="Export the run's adapter", shown=False),
    Action(id="runs.note", keys="t", label="note", text="Write a note and tags on the run", shown=False, writes=True),
    Action(id="runs.delete", keys="d", label="delete", text="Delete the marked runs, or this one", writes=True),
    Action(id="runs.pause", keys="p", label="pause", text="Pause the queue, or let it go on", shown=False, writes=True),
    Action(id="runs.refresh", keys="r", label="again", text="Read the folders again", shown=False),
    Action(id="filter.keep", keys="enter", label="keep", text="Back to the list, with the filter", typing=True),
    Action(id="filter.clear", keys="escape", label="clear", text="Back to the list, without a filter", typing=True),
    Action(id="note.save", keys="enter", label="save", text="Write note and tags", writes=True, typing=True),
    Action(id="note.leave", keys="escape", label="leave it", text="Close without writing", typing=True),
    # ---- One run
    Action(id="run.curves", keys="c", label="curves", text="The curves of its metrics"),
    Action(id="run.geometry", keys="g", label="geometry", text="The geometry of its update, layer by layer"),
    Action(id="run.console", keys="l", label="log", text="What it printed"),
    Action(id="run.recipe", keys="i", label="recipe", text="Its recipe beside the default"),
    Action(id="run.report", keys="p", label="report", text="Its end table, certificate, tables and answers"),
    Action(id="run.stop", keys="s", label="stop", text="Ask the run to save and end", writes=True),
    Action(id="run.resume", keys="u", label="resume", text="Go on with it where it stopped", writes=True, shown=False),
    Action(id="run.export", keys="x", label="export", text="Export its adapter", shown=False),
    # ---- Panes of one run
    Action(id="curves.zoom-in", keys="plus,equals_sign", label="zoom", text="Show fewer steps"),
    Action(id="curves.zoom-out", keys="minus", label="zoom out", text="Show more steps", shown=False),
    Action(id="curves.whole", keys="0", label="whole", text="Show all steps", shown=False),
    Action(id="curves.left", keys="left", label="left", text="Move the cursor to the value before", shown=False),
    Action(id="curves.right", keys="right", label="right", text="Move the cursor to the next value", shown=False),
    Action(id="curves.start", keys="home", label="first", text="Move the cursor to the first value", shown=False),
    Action(id="curves.end", keys="end", label="last", text="Move the cursor to the last value", shown=False),
    Action(id="curves.earlier", keys="comma", label="earlier", text="Show earlier steps", shown=False),
    Action(id="curves.later", keys="full_stop", label="later", text="Show later steps", shown=False),
    Action(id="curves.smooth", keys="m", label="smooth", text="Smooth the curves more, then not at all"),
    Action(id="curves.log", keys="o", label="log axis", text="Draw values on a logarithmic axis, or on a plain one"),
    Action(id="curves.next", keys="down,j", label="next", text="Go to the next curve", shown=False),
    Action(id="curves.previous", keys="up,k", label="previous", text="Go to the curve before", shown=False),
    Action(id="curves.next-page", keys="pagedown", label="more", text="Show further curves", shown=False),
    Action(id="curves.previous-page", keys="pageup", label="before", text="Show the curves before", shown=False),
    Action(id="curves.large", keys="enter", label="large", text="Show one curve alone, or all again"),
    Action(id="geometry.quantity", keys="v", label="quantity", text="Show the next quantity in the cells"),
    Action(id="geometry.quantity-back", keys="V", label="before", text="Show the quantity before", shown=False),
    Action(id="geometry.earlier", keys="comma", label="earlier", text="Go to the snapshot before"),
    Action(id="geometry.later", keys="full_stop", label="later", text="Go to the snapshot after"),
    Action(id="geometry.play", keys="a", label="play", text="Play the snapshots of training, or halt", shown=False),
    Action(id="geometry.open", keys="enter", label="matrix", text="Open the matrix under the cursor"),
    Action(id="console.search", keys="slash", label="search", text="Find words in what was printed"),
    Action(id="console.next", keys="n", label="next", text="Go to the next place that holds them"),
    Action(id="console.previous", keys="N", label="before", text="Go to the place before", shown=False),
    Action(id="console.follow", keys="f", label="follow", text="Follow the end, or stay here"),
    Action(id="search.find", keys="enter", label="find", text="Find the words", typing=True),
    Action(id="search.leave", keys="escape", label="leave it", text="Back to the lines, without a search", typing=True),
    Action(id="recipe.changes", keys="v", label="changes", text="Show only what differs from the default, or all"),
    Action(id="recipe.provenance", keys="o", label="provenance", text="Show versions and hashes, or fold them"),
    Action(id="report.table", keys="v", label="table", text="Show the next table of the result"),
    Action(id="report.table-back", keys="V", label="before", text="Show the table before", shown=False),
    # ---- One matrix
    Action(id="matrix.next", keys="right,n", label="next", text="Go to the next matrix"),
    Action(id="matrix.previous", keys="left,N", label="before", text="Go to the matrix before"),
    Action(id="matrix.part", keys="v", label="part", text="Show the next part: over k, over training, numbers"),
    Action(id="matrix.down", keys="down,j", label="down", text="Move down in the numbers", shown=False),
    Action(id="matrix.up", keys="up,k", label="up", text="Move up in the numbers", shown=False),
    Action(id="matrix.earlier", keys="comma", label="earlier", text="Go to the snapshot before"),
    Action(id="matrix.later", keys="full_stop", label="later", text="Go to the snapshot after"),
    # ---- Compare
    Action(id="compare.curves", keys="c", label="curves", text="Their curves over each other"),
    Action(id="compare.recipes", keys="i", label="recipes", text="Where their recipes differ"),
    Action(id="compare.geometry", keys="g", label="geometry", text="Their geometry and its difference"),
    Action(id="compare.answers", keys="p", label="answers", text="Their answers before and after, side by side"),
    Action(id="compare.plane", keys="e", label="plane", text="What they gained against what it cost"),
    Action(id="compare.next", keys="v", label="quantity", text="Show the next quantity of the geometry"),
    Action(id="compare.previous", keys="V", label="before", text="Show the quantity before", shown=False),
    Action(id="compare.pair", keys="n", label="runs", text="Show the geometry of the next run or difference"),
    Action(id="compare.text", keys="t", label="text", text="Show the cost on the next text in the plane"),
    Action(id="compare.gain", keys="w", label="gain", text="Show margins in the plane, or the fall of the loss"),
    # ---- New
    Action(id="new.start", keys="f5", label="start", text="Start the run now", writes=True, typing=True),
    Action(id="new.queue", keys="f6", label="queue", text="Add it to the queue", writes=True, typing=True),
    Action(id="new.find", keys="f3", label="find", text="Find keys by words; the form shows only those", typing=True),
    Action(id="new.default", keys="f8", label="undo", text="Set the field back to what the recipe says", typing=True),
    Action(id="new.copy", keys="f2", label="copy", text="Copy the command", typing=True),
    Action(
        id="new.back", keys="escape", label="back", text="Back; asks where changes are lost", shown=False, typing=True
    ),
    # ---- Edit
    Action(id="edit.price", keys="f4", label="price", text="What the edit would cost; nothing is written", typing=True),
    Action(id="edit.start", keys="f5", label="edit", text="Make the edit", writes=True, typing=True),
    Action(id="edit.queue", keys="f6", label="queue", text="Add it to the queue", writes=True, typing=True),
    Action(id="edit.ledger", keys="f7", label="ledger", text="The edits of the model", typing=True),
    Action(id="edit.find", keys="f3", label="find", text="Find keys by words; the form shows only those", typing=True),
    Action(id="edit.default", keys="f8", label="undo", text="Set the field back to what it was", typing=True),
    Action(id="edit.copy", keys="f2", label="copy", text="Copy the command", typing=True),
    Action(id="edit.effect", keys="f9", label="effect", text="The edit's effect beside its controls", typing=True),
    Action(id="edit.back", keys="escape", label="back", text="To the form, then back", shown=False, typing=True),
    Action(id="ledger.undo", keys="u", label="undo", text="Undo the edit under the cursor", writes=True),
    Action(id="ledger.redo", keys="r", label="redo", text="Redo the edit under the cursor", writes=True),
    Action(id="ledger.mark", keys="space", label="mark", text="Mark the edit under the cursor"),
    Action(id="ledger.stack", keys="s", label="stack", text="Write the marked edits as one adapter", writes=True),
    Action(id="ledger.show", keys="enter", label="show", text="Open the edit's run"),
    Action(id="folder.yes", keys="enter", label="go on", text="Take the folder that is named", typing=True),
    Action(id="folder.no", keys="escape", label="leave it", text="Leave it", typing=True),
    # ---- Export
    Action(id="export.dry-run", keys="f4", label="dry run", text="Check everything; nothing is written", typing=True),
    Action(id="export.start", keys="f5", label="export", text="Write the export", writes=True, typing=True),
    Action(id="export.push", keys="f9", label="push", text="Upload it, after a confirmation", writes=True, typing=True),
    Action(id="export.copy", keys="f2", label="copy", text="Copy the command", typing=True),
)
BY_ID = {action.id: action for action in ACTIONS}
MODAL = ("help", "confirm", "typed", "note")
WITHIN = {
    "table": "runs",
    "filter": "runs",
    "curves": "run",
    "geometry": "run",
    "console": "run",
    "recipe": "run",
    "report": "run",
}


def places_heard(place: str) -> tuple[str, ...]:
    """The places whose keys act while one has the focus, nearest first; a dialog hears its own alone."""
    if place in MODAL:
        return (place,)
    around = (WITHIN[place],) if place in WITHIN else ()
    return tuple(dict.fromkeys((place, *around, EVERYWHERE)))


def bindings_of(*places: str) -> list[Binding]:
    """Bindings for the actions of screens and panes, by their NAMEs."""
    return [
        Binding(action.keys, f"perform('{action.id}')", action.label, show=action.shown, id=action.id)
        for place in places
        for action in ACTIONS
        if action.place == place
    ]

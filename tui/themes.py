"""A theme whose colours are told apart in any kind of colour blindness, beside those of Textual.

The colours are those of Okabe and Ito, "Color Universal Design" (2008). States never
rest on colour alone: each has a glyph and a word.
"""

from textual.theme import BUILTIN_THEMES, Theme

OKABE_ITO = Theme(
    name="okabe-ito",
    primary="#56B4E9",
    secondary="#009E73",
    accent="#F0E442",
    foreground="#F2F2F2",
    background="#101418",
    surface="#181E24",
    panel="#202830",
    success="#009E73",
    warning="#E69F00",
    error="#D55E00",
    dark=True,
)
THEMES = (OKABE_ITO,)


def theme_names() -> tuple[str, ...]:
    """The names of all themes there are."""
    return tuple(BUILTIN_THEMES) + tuple(theme.name for theme in THEMES)

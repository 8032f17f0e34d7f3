"""The user's settings: theme and keys."""

import pytest

from readwrite_edit.errors import RecipeError
from readwrite_edit.tui.actions import BY_ID
from readwrite_edit.tui.keys import character_of, key_name
from readwrite_edit.tui.settings import TuiSettings, clashes, read_settings, settings_path
from readwrite_edit.tui.themes import OKABE_ITO, theme_names
from tests.tui.screens import drive, notes, says, settle, still_run


def read(folder, text):
    path = folder / "tui.toml"
    path.write_text(text)
    return read_settings(path, themes=theme_names())


def test_theme_and_keys_are_read_and_keys_get_textual_s_names(tmp_path):
    found = read(tmp_path, 'theme = "okabe-ito"\n[keys]\n"runs.stop" = "ctrl+k"\n"runs.filter" = "f, /"\n')
    assert found == TuiSettings("okabe-ito", {"runs.stop": "ctrl+k", "runs.filter": "f,slash"})


def test_the_file_need_not_exist_but_one_that_was_named_must(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert settings_path() == tmp_path / "readwrite-edit" / "tui.toml"
    assert read_settings() == TuiSettings()
    with pytest.raises(RecipeError, match="no such file"):
        read_settings(tmp_path / "none.toml")
    with pytest.raises(RecipeError, match="name a file"):
        read_settings(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("theme = ", "not valid TOML"),
        ('them = "nord"', "did you mean 'theme'"),
        ('theme = "nrod"', "did you mean 'nord'"),
        ("theme = 3", "found 3"),
        ("keys = 3", "expected a table"),
        ('[keys]\n"runs.stopp" = "k"', "did you mean 'runs.stop'"),
        ('[keys]\nruns.stop = "k"', "in quotation marks"),
        ('[keys]\n"runs.stop" = ""', "expected a key"),
        ('[keys]\n"runs.stop" = ["k"]', "expected a key"),
        ('[keys]\n"runs.stop" = "cntrl+k"', "no key 'cntrl\\+k'"),
        ('[keys]\n"runs.stop" = "f99"', "no key 'f99'"),
        ('[keys]\n"runs.stop" = "u"', "u would be both runs.stop and runs.resume"),
        ('[keys]\n"runs.stop" = "?"', "question_mark would be both runs.stop and everywhere.help"),
        ('[keys]\n"curves.smooth" = "g"', "g would be both curves.smooth and run.geometry"),
        ('[keys]\n"new.start" = "x"', "would be typed into a field"),
    ],
)
def test_what_is_wrong_is_said_with_the_file_and_the_remedy(tmp_path, text, said):
    with pytest.raises(RecipeError, match=said) as caught:
        read(tmp_path, text)
    assert str(tmp_path / "tui.toml") in str(caught.value)


def test_two_keys_may_change_places_and_one_key_may_serve_two_places(tmp_path):
    read(tmp_path, '[keys]\n"runs.stop" = "u"\n"runs.resume" = "s"\n"console.search" = "m"\n')


def test_no_place_of_the_table_gives_one_key_to_two_actions():
    assert [clash for clash in clashes({}) if BY_ID[clash[1]].place == BY_ID[clash[2]].place] == []


@pytest.mark.parametrize(
    ("written", "name", "character"),
    [("s", "s", "s"), ("/", "slash", "/"), ("-", "minus", "-"), ("space", "space", " "), ("é", "é", "é"),
     ("ctrl+shift+a", "ctrl+shift+a", None), ("shift+f3", "shift+f3", None), ("ctrl+/", "ctrl+slash", None),
     ("full_stop", "full_stop", "."), ("f5", "f5", None)],
)  # fmt: skip
def test_names_of_keys(written, name, character):
    assert key_name(written) == name and character_of(name) == character


@pytest.mark.parametrize("written", ["ab", "ctrl+", "cntrl+k", "\x01", "f99", "ctrl+ab", " "])
def test_what_is_no_key(written):
    assert key_name(written) is None


def test_a_user_s_key_acts_is_shown_and_the_old_one_is_free(tmp_path):
    still_run(tmp_path, "a")
    settings = TuiSettings("okabe-ito", {"runs.stop": "w,ctrl+t", "runs.sort": "s"})

    async def steps(app, pilot):
        assert app.theme == OKABE_ITO.name
        assert says(app, "w stop") and not says(app, "s stop")
        await pilot.press("w")
        assert "nothing to stop" in notes(app)[-1]
        app.clear_notifications()
        await pilot.press("ctrl+t")
        assert "nothing to stop" in notes(app)[-1]
        await pilot.press("s")
        await settle(app, pilot)
        assert notes(app)[-1] == "sorted by status"
        await pilot.press("o")
        assert notes(app)[-1] == "o works in curves, recipe, not here"
        await pilot.press("question_mark")
        await settle(app, pilot)
        assert says(app, "w ^t  Ask the run to save and end")

    drive(tmp_path, steps, (120, 34), settings=settings)


def test_every_theme_shows_the_list(tmp_path):
    still_run(tmp_path, "a", status="failed")

    async def steps(app, pilot):
        assert app.theme == "nord"
        for theme in theme_names():
            app.theme = theme
            await pilot.pause()
            assert says(app, "✗ failed")

    drive(tmp_path, steps, settings=TuiSettings("nord"))

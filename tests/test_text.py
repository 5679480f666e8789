"""Foreign text on terminals and pictures: shown as text, never obeyed."""

import io
import logging
import os
import subprocess
import sys
import unicodedata
import warnings

import pytest
from hostile import HOSTILE
from hypothesis import example, given
from hypothesis import strategies as st
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from llmrl import text as module
from llmrl.terminal import Lasting, Terminal, messages_as_text, show_traceback
from llmrl.text import JOINERS, DamagedFile, one_line, parse_yaml, read_lines, read_whole, real_path, visible
from llmrl.training.display import Display


def harmless(shown):
    """No sign that a terminal obeys or hides, but line breaks; blanks and joiners of other scripts are letters."""
    fine = {"Zs"}
    return all(s.isprintable() or s in "\n" + JOINERS or unicodedata.category(s) in fine for s in shown)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_is_harmless_however_it_is_printed(name):
    text = HOSTILE[name]
    out = io.StringIO()
    terminal = Terminal(file=out, width=100)
    table = Table("a", text, title=text)
    table.add_row(text, "b")
    terminal.say(text)
    terminal.print(Panel(text, title=Text(text)), table)
    terminal.print(text)
    assert harmless(out.getvalue())
    if name.startswith("markup"):
        assert out.getvalue().count(text) >= 4  # no part of it is taken for markup


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_is_no_markup_on_a_real_terminal_either(name):
    out = io.StringIO()
    with Display(Terminal(file=out, force_terminal=True, width=200)) as display:
        display.panel(HOSTILE[name], HOSTILE[name])
        display.bar(HOSTILE[name], 2)(1)
        display.progress.refresh()
    if name.startswith("markup"):
        assert HOSTILE[name] in out.getvalue()


@pytest.mark.parametrize("name", HOSTILE)
def test_what_libraries_log_is_harmless(name, capsys):
    text = HOSTILE[name]
    logger = logging.getLogger("a library")
    logger.propagate, handler = False, logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)
    with messages_as_text():
        logger.warning("it says %s", text)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            sys.stderr.write(warnings.formatwarning(text, UserWarning, __file__, 1))
    logger.removeHandler(handler)
    assert harmless(capsys.readouterr().err.replace("\t", ""))


def test_a_traceback_is_harmless(capsys):
    try:
        raise ValueError("5\x1b[2J6")
    except ValueError as error:
        show_traceback(type(error), error, error.__traceback__)
    assert "ValueError: 5\\x1b[2J6" in capsys.readouterr().err


def test_a_file_is_read_if_it_is_one_and_of_a_size_that_llmrl_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 20)
    file = tmp_path / "x"
    file.write_bytes(b"1234\n" * 9)
    assert list(read_lines(file)) == [b"1234\n"] * 9
    with pytest.raises(DamagedFile, match="x is larger than"):
        read_whole(file)
    file.write_bytes(b"1" * 20)
    assert (read_whole(file), list(read_lines(file))) == (b"1" * 20, [b"1" * 20])
    file.write_bytes(b"1" * 21)
    with pytest.raises(DamagedFile, match="x has a line of more than"):
        list(read_lines(file))
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(DamagedFile, match="a folder, a pipe or a device"):
            read_whole(path)


def test_a_yaml_text_has_a_largest_size(monkeypatch):
    monkeypatch.setattr(module, "LARGEST_YAML", 10)
    assert parse_yaml("a: 1") == {"a": 1}
    with pytest.raises(ValueError, match="more than 10 characters"):
        parse_yaml("a: 1" + " " * 10)


def test_a_loop_of_links_is_a_path(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link").symlink_to("x")
    assert real_path(tmp_path / "loop") == tmp_path / "loop"
    assert real_path(tmp_path / "link") == tmp_path / "x"


@given(st.text())
@example("\xa0")
@example("a\u200db")
def test_any_text_is_made_harmless_and_a_plain_one_is_kept(text):
    assert harmless(visible(text).replace("\t", ""))
    assert "\n" not in one_line(text)
    if text.isprintable():
        assert visible(text) == text


def test_printing_never_ends_a_run():
    class Broken(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    terminal = Terminal(file=Broken())
    terminal.say("to nobody")
    terminal.print(Table("x"))
    closed = io.StringIO()
    closed.close()
    Terminal(file=closed).say("to nobody")


def test_what_an_encoding_lacks_is_escaped():
    raw = io.BytesIO()
    ascii_only = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    Lasting(ascii_only).write("é")
    assert raw.getvalue() == b"\\xe9"


def test_a_standard_output_that_has_gone_leaves_no_error_at_the_end():
    code = (
        "import sys\nfrom llmrl.terminal import Terminal\n"
        "t = Terminal()\nfor i in range(20000): t.say('x' * 100)\n"
        "print('finished', file=sys.stderr)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        run.stdout.close()
        assert run.stderr.read() == b"finished\n"
    assert run.returncode == 0

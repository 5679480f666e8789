"""Names are found, and a name that is not says what is near."""

import pytest

from llmrl.registry import Registry, UnknownName, load_object


def test_a_name_that_is_taken_is_not_overwritten():
    registry = Registry[int]("thing")
    registry.add("one", 1)
    with pytest.raises(ValueError, match="'one' is taken by 1"):
        registry.add("one", 2)
    assert registry["one"] == 1


def test_module_colon_name_needs_no_registration():
    assert Registry[object]("thing")["math:pi"] == pytest.approx(3.14159, abs=1e-4)


def test_a_module_that_does_not_exist_is_named():
    with pytest.raises(UnknownName, match="'no_such_module', which cannot be found"):
        load_object("no_such_module:thing")


def test_an_attribute_that_does_not_exist_suggests_the_nearest():
    with pytest.raises(UnknownName, match=r"has no 'sqrtt'\. Did you mean 'sqrt'"):
        load_object("math:sqrtt")


def test_a_module_that_breaks_on_import_shows_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "broken_on_import.py").write_text("import a_library_that_is_missing\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_missing"):
        load_object("broken_on_import:thing")
